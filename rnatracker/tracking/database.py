"""MLflow's SQLite database, read and mended with SQL where MLflow's own interface is too slow or can't.

Owns every use of sqlite3 and every string of SQL. Must not import mlflow, nor know what a user is advised to do. Read
next: `store.py`, which prepares the file, and `mlflow_tracker.py`, which lists runs from it.

MLflow's own search takes 5 to 20 ms a run, minutes for ten thousand; a few queries here take a second, and without
importing MLflow.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from rnatracker.errors import TrackingError
from rnatracker.processes import identity
from rnatracker.tracking.filters import Condition
from rnatracker.tracking.listing import HEADLINES, SO_FAR, TAGS, Listed
from rnatracker.tracking.names import run_number
from rnatracker.tracking.tags import Tag

_AT_A_TIME = 500
"""Runs in one query: SQLite takes a limited number of question marks."""
_BUSY_SECONDS = 20.0
_SHORT_BUSY_SECONDS = 2.0
_ARTIFACT_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
_REFERENCES = (*_ARTIFACT_COLUMNS[1:], ("model_versions", "source"))
_TABLES = {"metric": "latest_metrics", "parameter": "params", "tag": "tags"}
_COLUMNS = {"run_id": "run_uuid", "run_name": "name"}
_DATASET = (
    "SELECT 1 FROM inputs AS i JOIN datasets AS d ON i.source_id = d.dataset_uuid {join} "
    "WHERE i.destination_id = r.run_uuid AND {condition}"
)
_CONTEXT = f"JOIN input_tags AS c ON c.input_uuid = i.input_uuid AND c.name = '{Tag.DATA_CONTEXT}'"


class DatabaseError(TrackingError):
    """SQLite can't read or write a database.

    Attributes:
        reason: what SQLite says.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database; nothing can be written to it, and `LIKE` tells capitals from small letters."""
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA query_only = true")
            connection.execute("PRAGMA case_sensitive_like = true")
            yield connection
    except sqlite3.Error as error:
        raise DatabaseError(path, str(error)) from None


@contextmanager
def _writing(path: Path, seconds: float = _BUSY_SECONDS) -> Iterator[sqlite3.Connection]:
    """Open a database for one transaction, waiting so long where another writes."""
    try:
        with closing(sqlite3.connect(path, timeout=seconds)) as connection, connection:
            yield connection
    except sqlite3.Error as error:
        raise DatabaseError(path, str(error)) from None


def schema_version(path: Path) -> str:
    """Return the version of the schema of a database of MLflow.

    Raises:
        DatabaseError: if it is none.
    """
    with _reading(path) as connection:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        connection.execute("SELECT 1 FROM experiments LIMIT 1")
    if row is None:
        raise DatabaseError(path, "its schema has no version")
    return str(row[0])


def write_ahead(path: Path) -> None:
    """Set a database to write-ahead logging, for good.

    Raises:
        DatabaseError: if it can't be written.
    """
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.Error as error:
        raise DatabaseError(path, str(error)) from None


def damage(path: Path) -> str:
    """Return what SQLite finds wrong in a database; empty: nothing."""
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return str(error)
    return "" if answer == "ok" else str(answer)


def move_paths(path: Path, folder: Path, artifacts: str) -> str:
    """Rewrite all artifact paths of a store's database, if they are those of another folder than its own.

    Args:
        path: the database.
        folder: the store.
        artifacts: name of its folder of artifacts.

    Returns:
        Where the store was before; empty: nothing was rewritten.

    Raises:
        DatabaseError: if it can't be read or written.
    """
    with _writing(path) as connection:
        row = connection.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0").fetchone()
        suffix = f"/{artifacts}/0"
        if not row or not row[0].endswith(suffix) or row[0] == f"{folder}{suffix}":
            return ""
        old = str(row[0].removesuffix(suffix))
        for table, column in _ARTIFACT_COLUMNS:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 (our own names)
                f"WHERE substr({column}, 1, ?) = ?",
                (str(folder), len(old) + 1, len(old) + 1, f"{old}/"),
            )
    return old


def artifact_places(path: Path) -> set[str]:
    """Return all places of artifacts that runs (deleted ones too), models and registered versions name.

    Raises:
        DatabaseError: if it can't be read.
    """
    places: set[str] = set()
    with _reading(path) as connection:
        for table, column in _REFERENCES:
            query = f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608 (our own names)
            places |= {text for (text,) in connection.execute(query)}
    return places


def clear_end_time(path: Path, run_id: str) -> None:
    """Make a run have no end again, which MLflow's own interface can't.

    Raises:
        DatabaseError: if it can't be written.
    """
    with _writing(path) as connection:
        connection.execute("UPDATE runs SET end_time = NULL WHERE run_uuid = ?", (run_id,))


def end_dead_runs(path: Path, message: Callable[[str, str, str | None], str]) -> None:
    """End as FAILED the runs, of all experiments, that this machine's dead processes left RUNNING.

    Args:
        path: the database.
        message: what to tag a run with: of the name of its parent, or its own where it has none; of its experiment's
            name; and of its kind.

    Raises:
        DatabaseError: if it can't be read or written, or another writes for longer than 2 s.
    """
    keys = (identity.HOST, identity.PID, identity.BOOT_ID, identity.PROCESS_START, identity.PID_NAMESPACE)
    tag = "(SELECT value FROM tags WHERE tags.run_uuid = r.run_uuid AND tags.key = ?)"
    query = (
        f"SELECT run_uuid, COALESCE((SELECT name FROM runs WHERE run_uuid = {tag}), name), "  # noqa: S608 (our own)
        "(SELECT name FROM experiments WHERE experiment_id = r.experiment_id), "
        f"{', '.join([tag] * (1 + len(keys)))} "
        "FROM runs AS r WHERE status = 'RUNNING' AND lifecycle_stage = 'active'"
    )
    with _writing(path, _SHORT_BUSY_SECONDS) as connection:
        for run_id, name, experiment, kind, *values in connection.execute(
            query, (Tag.PARENT, Tag.KIND, *keys)
        ).fetchall():
            tags = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
            if identity.is_dead(tags):
                _end_as_failed(connection, run_id, tags[identity.PID], message(name, experiment, kind))


def _end_as_failed(connection: sqlite3.Connection, run_id: str, pid: str, message: str) -> None:
    """End a run, unless since it was looked at its process has ended it, or another has resumed it."""
    changed = connection.execute(
        "UPDATE runs SET status = 'FAILED', end_time = ? WHERE run_uuid = ? AND status = 'RUNNING' AND EXISTS "
        "(SELECT 1 FROM tags WHERE run_uuid = runs.run_uuid AND key = ? AND value = ?)",
        (int(time.time() * 1000), run_id, identity.PID, pid),
    )
    if changed.rowcount:
        tag = (Tag.MESSAGE, message, run_id)
        connection.execute("INSERT OR REPLACE INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", tag)


def next_number(path: Path, experiment: str) -> int:
    """Return N of the next `exp<N>` of an experiment; 1 where there is no such experiment.

    Raises:
        DatabaseError: if it can't be read.
    """
    with _reading(path) as connection:
        row = connection.execute("SELECT experiment_id FROM experiments WHERE name = ?", (experiment,)).fetchone()
        if row is None:
            return 1
        kept = connection.execute(
            "SELECT value FROM experiment_tags WHERE experiment_id = ? AND key = ?", (row[0], Tag.NEXT_NUMBER)
        ).fetchone()
        if kept and str(kept[0]).isdigit():
            return int(kept[0])
        names = connection.execute("SELECT COALESCE(name, '') FROM runs WHERE experiment_id = ?", row)
        return 1 + max((run_number(name) for (name,) in names), default=0)


def experiments(path: Path) -> dict[str, int]:
    """Return the numbers of all experiments by name.

    Raises:
        DatabaseError: if it can't be read.
    """
    with _reading(path) as connection:
        return dict(connection.execute("SELECT name, experiment_id FROM experiments"))


def list_runs(path: Path, experiment_id: int, conditions: Sequence[Condition] | None) -> list[Listed]:
    """Return an experiment's runs that are not deleted, the latest first, with what a list needs of each.

    Args:
        path: the database.
        experiment_id: the experiment.
        conditions: what a run must meet to match; None: all match.

    Raises:
        DatabaseError: if it can't be read.
    """
    condition, values = _where(conditions or ())
    of_experiment = "r.experiment_id = ? AND r.lifecycle_stage = 'active'"
    with _reading(path) as connection:
        columns = "r.run_uuid, COALESCE(r.name, r.run_uuid), r.status, COALESCE(r.start_time, 0), r.end_time"
        rows = connection.execute(
            f"SELECT {columns} FROM runs AS r WHERE {of_experiment} ORDER BY r.start_time DESC",  # noqa: S608
            (experiment_id,),
        )
        listed = {row[0]: Listed(*row) for row in rows}
        if conditions is not None:
            query = f"SELECT r.run_uuid FROM runs AS r WHERE {of_experiment} AND {condition}"  # noqa: S608
            matching = {row[0] for row in connection.execute(query, (experiment_id, *values))}
            for run_id, run in listed.items():
                run.matches = run_id in matching
        _add_texts(connection, "tags", TAGS, listed)
        _add_texts(connection, "params", ("data.path",), listed)
        _add_headlines(connection, listed)
    return list(listed.values())


def fill(path: Path, runs: Sequence[Listed]) -> None:
    """Fill in all parameters and metrics of these runs.

    Raises:
        DatabaseError: if it can't be read.
    """
    with _reading(path) as connection:
        for some in _chunks(runs):
            by_id = {run.run_id: run for run in some}
            among = f"run_uuid IN ({', '.join('?' * len(some))})"
            query = f"SELECT run_uuid, key, value FROM params WHERE {among} ORDER BY rowid"  # noqa: S608
            for run_id, key, value in connection.execute(query, list(by_id)):
                by_id[run_id].params[key] = value
            query = f"SELECT run_uuid, key, value FROM latest_metrics WHERE is_nan = 0 AND {among}"  # noqa: S608
            for run_id, key, number in connection.execute(query, list(by_id)):
                by_id[run_id].metrics[key] = number


def _chunks(runs: Sequence[Listed]) -> Iterator[Sequence[Listed]]:
    for start in range(0, len(runs), _AT_A_TIME):
        yield runs[start : start + _AT_A_TIME]


def _add_texts(connection: sqlite3.Connection, table: str, keys: Sequence[str], listed: dict[str, Listed]) -> None:
    """Add these tags or parameters to the runs that have them."""
    query = f"SELECT run_uuid, key, value FROM {table} WHERE key IN ({', '.join('?' * len(keys))})"  # noqa: S608
    for run_id, key, value in connection.execute(query, keys):
        run = listed.get(run_id)
        if run is not None:
            (run.tags if table == "tags" else run.params)[key] = value


def _add_headlines(connection: sqlite3.Connection, listed: dict[str, Listed]) -> None:
    """Add the headline figures; for a run that has none at its end, the best of its epochs."""
    of_keys = f"is_nan = 0 AND key IN ({', '.join('?' * len(HEADLINES))})"
    query = f"SELECT run_uuid, key, value FROM latest_metrics WHERE {of_keys}"  # noqa: S608
    for run_id, key, value in connection.execute(query, list(HEADLINES)):
        if run_id in listed:
            listed[run_id].metrics[key] = value
    for some in _chunks([run for run in listed.values() if not run.metrics]):
        among = ", ".join("?" * len(some))
        query = (
            "SELECT run_uuid, MAX(value) FROM metrics WHERE is_nan = 0 AND key = ? "  # noqa: S608 (our own)
            f"AND run_uuid IN ({among}) GROUP BY run_uuid"
        )
        for run_id, value in connection.execute(query, (SO_FAR, *(run.run_id for run in some))):
            listed[run_id].so_far = value


def _where(conditions: Sequence[Condition]) -> tuple[str, list[object]]:
    """Return conditions as SQL on the table of runs, named `r`, and the values of its question marks."""
    texts, values = ["1"], []
    for each in conditions:
        text, own = _one(each)
        texts.append(text)
        values += own
    return " AND ".join(texts), values


def _one(condition: Condition) -> tuple[str, list[object]]:
    kind, key, comparator, value = condition.kind, condition.key, condition.comparator, condition.value
    if kind == "attribute":
        return _compare(f"r.{_COLUMNS.get(key, key)}", comparator, value)
    if kind == "dataset":
        test, values = _compare("c.value" if key == "context" else f"d.{key}", comparator, value)
        return f"EXISTS ({_DATASET.format(join=_CONTEXT if key == 'context' else '', condition=test)})", values
    having = f"SELECT 1 FROM {_TABLES[kind]} AS t WHERE t.run_uuid = r.run_uuid AND t.key = ?"  # noqa: S608 (our own)
    if comparator in ("IS NULL", "IS NOT NULL"):
        return f"{'NOT ' if comparator == 'IS NULL' else ''}EXISTS ({having})", [key]
    test, values = _compare("t.value", comparator, value)
    is_number = " AND t.is_nan = 0" if kind == "metric" else ""
    return f"EXISTS ({having} AND {test}{is_number})", [key, *values]


def _compare(column: str, comparator: str, value: object) -> tuple[str, list[object]]:
    if isinstance(value, tuple):
        return f"{column} {comparator} ({', '.join('?' * len(value))})", list(value)
    if comparator == "ILIKE":
        return f"lower({column}) LIKE lower(?)", [value]
    return f"{column} {comparator} ?", [value]
