"""Where a list of runs comes from: the store's own database, read with SQL, or a server, asked through MLflow.

Owns reading many runs fast. Must not write, nor know how runs are shown. Read next: `listing.py`.

MLflow's own search takes 5 to 20 ms a run, minutes for ten thousand; a few queries of the store's SQLite database take
a second, and without importing MLflow. A server can only be asked page by page, so that there the search
ends as soon as enough runs have come.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rnatracker.errors import TrackingError
from rnatracker.tracking import filters, listing, store
from rnatracker.tracking.listing import HEADLINES, SO_FAR, TAGS, Listed, Row
from rnatracker.tracking.names import masked
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.store import mlflow_errors, reach

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_AT_A_TIME = 500
"""Runs in one query: SQLite takes a limited number of question marks."""
_PAGE = 200
"""Runs that are asked of a server at a time."""
_BUSY_SECONDS = 20.0


class Source(Protocol):
    """An experiment's runs.

    Attributes:
        location: what to call the place in messages.
        is_partial: whether there are more runs than were last returned.
    """

    location: str
    is_partial: bool

    def runs(self, where: str | None = None, enough: int | None = None) -> list[Listed]:
        """Return the runs that are not deleted, the latest first, with what a list needs of each.

        Args:
            where: a filter; all runs are returned, with whether each matches.
            enough: so many that are nobody's child will do, the latest; all that were started under them are there.

        Raises:
            TrackingError: if the filter is bad, or the place can't be read.
        """

    def fill(self, runs: Sequence[Listed]) -> None:
        """Fill in all parameters and metrics of these runs.

        Raises:
            TrackingError: if the place can't be read.
        """


def open_source(settings: TrackingSettings) -> Source | None:
    """Open the place where runs are kept, for reading; None if there is none yet.

    Raises:
        TrackingError: if it can't be reached or used, or has no such experiment.
    """
    named = settings.tracking_uri
    if named is None and not (settings.store / store.DATABASE).exists():
        return None
    uri, database = reach(settings)
    location = masked(named or str(settings.store))
    if database is not None:
        return Database(database, settings.experiment, location)
    with mlflow_errors("opening it", location):
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(settings.experiment)
        if found is None:
            names = [each.name for each in client.search_experiments()]
            raise _no_experiment(settings.experiment, location, names)
    return Server(client, found.experiment_id, location)


@dataclass(frozen=True)
class Selection:
    """The rows that were asked for.

    Attributes:
        rows: filled in.
        total: how many there are, as far as was looked.
        is_partial: whether there may be more than that.
    """

    rows: list[Row]
    total: int
    is_partial: bool


def select(
    source: Source,
    *,
    where: str | None = None,
    study: str | None = None,
    sort: str = "when",
    reverse: bool = False,
    limit: int = 0,
    unfold: bool = False,
) -> Selection:
    """Return the rows of an experiment's runs that are asked for, filled in.

    Args:
        source: the runs.
        where: a filter.
        study: only runs of this study.
        sort: see `listing.sort`.
        reverse: sort the other way round.
        limit: the first so many; 0: all.
        unfold: a row for each fold and trial too.

    Raises:
        TrackingError: if the filter or the key is bad, or the runs can't be read.
    """
    latest_will_do = sort == "when" and not (reverse or unfold or study) and limit
    found = listing.rows(source.runs(where, enough=limit if latest_will_do else None), unfold=unfold, study=study)
    if sort.startswith(("metric", "param")):
        source.fill([row.run for row in found])
    shown = listing.sort(found, sort, reverse=reverse)[: limit or None]
    source.fill([row.run for row in shown])
    return Selection(shown, len(found), source.is_partial)


def _no_experiment(name: str, location: str, names: list[str]) -> TrackingError:
    known = ", ".join(sorted(names)[:10]) or "none"
    return TrackingError(f"{location}: no experiment {name!r}; there are: {known}", "choose one with --experiment")


class Database:
    """An experiment in an SQLite database; see `Source` for what its methods promise."""

    def __init__(self, path: Path, experiment: str, location: str) -> None:
        """Find the experiment.

        Raises:
            TrackingError: if there is none of that name.
        """
        self.location = location
        self.is_partial = False
        self._path = path
        with self._open() as connection:
            names = dict(connection.execute("SELECT name, experiment_id FROM experiments"))
        if experiment not in names:
            raise _no_experiment(experiment, location, list(names))
        self._experiment = names[experiment]

    def runs(self, where: str | None = None, enough: int | None = None) -> list[Listed]:  # noqa: ARG002
        """See `Source.runs`. All are read: that is fast here."""
        conditions, values = filters.sql(filters.parse(where) if where else [])
        of_experiment = "r.experiment_id = ? AND r.lifecycle_stage = 'active'"
        with self._open() as connection:
            columns = "r.run_uuid, COALESCE(r.name, r.run_uuid), r.status, COALESCE(r.start_time, 0), r.end_time"
            found = connection.execute(
                f"SELECT {columns} FROM runs AS r WHERE {of_experiment} ORDER BY r.start_time DESC",  # noqa: S608
                (self._experiment,),
            )
            listed = {row[0]: Listed(*row) for row in found}
            if where:
                query = f"SELECT r.run_uuid FROM runs AS r WHERE {of_experiment} AND {conditions}"  # noqa: S608
                matching = {row[0] for row in connection.execute(query, (self._experiment, *values))}
                for run_id, run in listed.items():
                    run.matches = run_id in matching
            _add_texts(connection, "tags", TAGS, listed)
            _add_texts(connection, "params", ("data.path",), listed)
            _add_headlines(connection, listed)
        return list(listed.values())

    def fill(self, runs: Sequence[Listed]) -> None:
        """See `Source.fill`."""
        with self._open() as connection:
            for some in _chunks(runs):
                by_id = {run.run_id: run for run in some}
                among = f"run_uuid IN ({', '.join('?' * len(some))})"
                query = f"SELECT run_uuid, key, value FROM params WHERE {among} ORDER BY rowid"  # noqa: S608
                for run_id, key, value in connection.execute(query, list(by_id)):
                    by_id[run_id].params[key] = value
                query = f"SELECT run_uuid, key, value FROM latest_metrics WHERE is_nan = 0 AND {among}"  # noqa: S608
                for run_id, key, number in connection.execute(query, list(by_id)):
                    by_id[run_id].metrics[key] = number

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the database; nothing can be written to it."""
        try:
            with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)) as connection:
                connection.execute("PRAGMA query_only = true")
                connection.execute("PRAGMA case_sensitive_like = true")
                yield connection
        except sqlite3.Error as error:
            raise TrackingError(
                f"{self.location}: reading the runs failed: {error}", "see what is wrong with: rnatracker doctor"
            ) from None


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


class Server:
    """An experiment on a server, or in a database that isn't SQLite; see `Source` for what its methods promise."""

    def __init__(self, client: MlflowClient, experiment_id: str, location: str) -> None:
        """Take an experiment."""
        self.location = location
        self.is_partial = False
        self._client = client
        self._experiment_id = experiment_id

    def runs(self, where: str | None = None, enough: int | None = None) -> list[Listed]:
        """See `Source.runs`. Parameters and metrics come with it.

        Children are started after their parents and so come before them: when enough runs that are nobody's child
        have come, so have all of theirs.
        """
        matching = None
        if where:
            filters.parse(where)  # so that what is wrong with it is said as elsewhere
            matching = {run.run_id for run in self._pages(filters.quoted(where), None)}
        found = self._pages("", None if where else enough)
        for run in found:
            run.matches = matching is None or run.run_id in matching
        return found

    def fill(self, runs: Sequence[Listed]) -> None:
        """See `Source.fill`; of a run that hasn't ended the best value so far is looked up."""
        with mlflow_errors("listing runs", self.location):
            for run in runs:
                if run.so_far is not None:
                    history = self._client.get_metric_history(run.run_id, SO_FAR)
                    run.so_far = max((each.value for each in history if each.value == each.value), default=run.so_far)

    def _pages(self, filter_string: str, enough: int | None) -> list[Listed]:
        found: list[Listed] = []
        token = None
        with mlflow_errors("listing runs", self.location):
            while True:
                page = self._client.search_runs(
                    [self._experiment_id],
                    filter_string,
                    max_results=_PAGE,
                    order_by=["attributes.start_time DESC"],
                    page_token=token,
                )
                found += map(_listed, page)
                token = page.token
                tops = sum(run.parent_id is None for run in found)
                if not token or (enough is not None and tops >= enough):
                    self.is_partial = bool(token)
                    return found


def _listed(run: Run) -> Listed:
    info, data = run.info, run.data
    tags = {key: data.tags[key] for key in TAGS if key in data.tags}
    metrics = {key: value for key, value in data.metrics.items() if value == value}
    listed = Listed(info.run_id, info.run_name or info.run_id, info.status, info.start_time or 0, info.end_time)
    listed.tags, listed.params, listed.metrics = tags, dict(data.params), metrics
    listed.so_far = None if HEADLINES.keys() & metrics.keys() else metrics.get(SO_FAR)
    return listed
