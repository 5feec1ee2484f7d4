"""Runs in an SQLite database of MLflow's: listing, numbering and ending them.

Owns that SQL. Must not import mlflow, nor know what a user is advised to do. Read next:
`rnatracker/tracking/mlflow_tracker.py`, which lists runs from it.

MLflow's own search takes 5 to 20 ms a run, minutes for ten thousand; a few queries here take a second, and without
importing MLflow.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rnatracker.processes import identity
from rnatracker.tracking.database.connection import reading, writing
from rnatracker.tracking.filters import Condition, Kind
from rnatracker.tracking.listing import HEADLINES, SO_FAR, TAGS, Listed
from rnatracker.tracking.names import run_number
from rnatracker.tracking.tags import Tag

_AT_A_TIME = 500
"""Runs in one query: SQLite takes a limited number of question marks."""
_SHORT_BUSY_SECONDS = 2.0
_TABLES: dict[Kind, str] = {"metric": "latest_metrics", "parameter": "params", "tag": "tags"}
_COLUMNS = {"run_id": "run_uuid", "run_name": "name"}
_DATASET = (
    "SELECT 1 FROM inputs AS i JOIN datasets AS d ON i.source_id = d.dataset_uuid {join} "
    "WHERE i.destination_id = r.run_uuid AND {condition}"
)
_CONTEXT = f"JOIN input_tags AS c ON c.input_uuid = i.input_uuid AND c.name = '{Tag.DATA_CONTEXT}'"


def clear_end_time(path: Path, run_id: str) -> None:
    """Make a run have no end again, which MLflow's own interface can't.

    Raises:
        DatabaseError: if it can't be written.
    """
    with writing(path) as connection:
        connection.execute("UPDATE runs SET end_time = NULL WHERE run_uuid = ?", (run_id,))


def end_dead_runs(path: Path, message: Callable[[str, str, str | None, str], str]) -> None:
    """End as FAILED the runs, of all experiments, that this machine's dead processes left RUNNING.

    Args:
        path: the database.
        message: what to tag a run with: of the name of its parent, or its own where it has none; of its experiment's
            name; of its kind; and of where the files of the former lie.

    Raises:
        DatabaseError: if it can't be read or written, or another writes for longer than 2 s.
    """
    keys = (identity.HOST, identity.PID, identity.BOOT_ID, identity.PROCESS_START, identity.PID_NAMESPACE)
    tag = "(SELECT value FROM tags WHERE tags.run_uuid = r.run_uuid AND tags.key = ?)"
    query = (
        f"SELECT run_uuid, COALESCE((SELECT name FROM runs WHERE run_uuid = {tag}), name), "  # noqa: S608 (our own)
        f"COALESCE((SELECT artifact_uri FROM runs WHERE run_uuid = {tag}), artifact_uri), "
        "(SELECT name FROM experiments WHERE experiment_id = r.experiment_id), "
        f"{', '.join([tag] * (1 + len(keys)))} "
        "FROM runs AS r WHERE status = 'RUNNING' AND lifecycle_stage = 'active'"
    )
    with writing(path, _SHORT_BUSY_SECONDS) as connection:
        found = connection.execute(query, (Tag.PARENT, Tag.PARENT, Tag.KIND, *keys)).fetchall()
        for run_id, name, place, experiment, kind, *values in found:
            tags = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
            if identity.is_dead(tags):
                _end_as_failed(connection, run_id, tags[identity.PID], message(name, experiment, kind, place))


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
    with reading(path) as connection:
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
    with reading(path) as connection:
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
    with reading(path) as connection:
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


def known_names(path: Path, experiment_id: int) -> dict[Kind, set[str]]:
    """Return the names of all metrics, parameters and tags of an experiment's runs.

    Raises:
        DatabaseError: if it can't be read.
    """
    of_runs = "run_uuid IN (SELECT run_uuid FROM runs WHERE experiment_id = ? AND lifecycle_stage = 'active')"
    found: dict[Kind, set[str]] = {}
    with reading(path) as connection:
        for kind, table in _TABLES.items():
            query = f"SELECT DISTINCT key FROM {table} WHERE {of_runs}"  # noqa: S608 (our own)
            found[kind] = {key for (key,) in connection.execute(query, (experiment_id,))}
    return found


def fill(path: Path, runs: Sequence[Listed]) -> None:
    """Fill in all parameters and metrics of these runs.

    Raises:
        DatabaseError: if it can't be read.
    """
    with reading(path) as connection:
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
