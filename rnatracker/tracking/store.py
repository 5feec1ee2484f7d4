"""Where runs are kept: MLflow's SQLite database and its folder, or a server that answers.

Owns locating, creating and checking the store, its lock, mending the artifact paths of a store that was moved,
ending what dead processes left RUNNING in it, and the wording of MLflow's failures. Must not know how runs are
kept. Read next: `rnatracker/tracking/mlflow_tracker.py`, which keeps runs in it.

A store is one folder: `mlflow.db`, `artifacts/` (runs' files), `untracked/` (runs of `--no-track`), `work/`
(files of runs whose records are on a server) and `.lock`. MLflow breaks its database for good when several
processes create it at once: so it is created under the lock, beside its place, and moved there when done.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rnatracker.errors import TrackingError
from rnatracker.processes import identity
from rnatracker.tracking import store
from rnatracker.tracking.names import masked
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag

if TYPE_CHECKING:
    pass

import importlib.util
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote

DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"
UNTRACKED = "untracked"
WORK = "work"

_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "9p", "afs", "fuse.sshfs")
_ARTIFACT_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
_LOST = {
    "Connection refused": "connection refused",
    "NameResolutionError": "no host of that name",
    "timed out": "no answer in time",
    "Max retries exceeded": "no answer",
}
_DRIVERS = {"psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
_RESUMABLE = ("train", "cross-validation", "fold", None)
_LOCK_SECONDS = 60.0
_POLL_SECONDS = 0.01
_BUSY_SECONDS = 20.0
_REAP_SECONDS = 2.0
_REACH_SECONDS = 8.0

_log = logging.getLogger("rnatracker")


class ServerLostError(TrackingError):
    """A server gave no answer: asking it more would be waiting again."""


def quiet_mlflow() -> None:
    """Make MLflow silent, private and quick to give up, before it is imported; a user's own settings stand."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    }.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow.store.db.utils", "mlflow.store.model_registry.abstract_store", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they log what is raised as well, and each migration


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the store's lock; among processes and threads, one at a time.

    Raises:
        TrackingError: if another process keeps it for a minute, or the folder can't be written.
    """
    import filelock

    path = folder / ".lock"
    held = filelock.FileLock(path, timeout=_LOCK_SECONDS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held.acquire(poll_interval=_POLL_SECONDS)
    except filelock.Timeout:
        raise TrackingError(
            f"{path}: another process has held the lock for {_LOCK_SECONDS:.0f} s", "end it, or wait for it"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise unwritable(folder, error) from None
    try:
        yield
    finally:
        held.release()


def unwritable(place: Path, error: BaseException | str) -> TrackingError:
    """Word that a store can't be written."""
    reason = getattr(error, "strerror", None) or error
    return TrackingError(
        f"{place}: runs can't be kept there ({reason})",
        "free or allow it, or choose another folder with --store or RNATRACKER_STORE",
    )


def database_uri(database: Path) -> str:
    """Return a database's address for MLflow.

    Raises:
        TrackingError: if the path has a character that changes its meaning in an address.
    """
    if {"?", "%"} & set(str(database)):
        raise TrackingError(f"{database}: MLflow takes ? and % in a path for something else", "use a folder without")
    return f"sqlite:///{database}"


def prepare(database: Path, folder: Path) -> str:
    """Make a database ready for use, created where it isn't there yet; return its address for MLflow.

    Args:
        database: the SQLite file.
        folder: the store; its `artifacts/` is where a new database puts files.

    Raises:
        TrackingError: if it isn't MLflow's, is of another version of MLflow, or can't be written.
    """
    quiet_mlflow()
    uri = database_uri(database)
    with lock(folder):
        if not database.exists() or not database.stat().st_size:
            _create(database, folder)
        _check(database)
        if database == folder / DATABASE:
            mend_paths(database, folder)
        end_dead_runs(database)
    return uri


def _create(database: Path, folder: Path) -> None:
    """Create the database beside its place, set it to write-ahead logging for good, and move it there."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.exc import SQLAlchemyError

    temporary = database.with_name(f"{database.name}.{os.getpid()}.tmp")
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        made = SqlAlchemyStore(database_uri(temporary), str(folder / ARTIFACTS))  # type: ignore[no-untyped-call]
        made.engine.dispose()
        if not is_on_network(database.parent):
            with closing(sqlite3.connect(temporary)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        temporary.replace(database)
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise unwritable(database, first_line(error)) from error
    finally:  # a killed process's too: none but us creates, under the lock
        for leftover in database.parent.glob(f"{database.name}.*.tmp*"):
            leftover.unlink()


def _check(database: Path) -> None:
    """Hold that the file is a database of MLflow, and of no newer one than is installed."""
    if not os.access(database, os.W_OK) or not os.access(database.parent, os.W_OK):
        raise unwritable(database, PermissionError(13, "no permission to write"))
    try:
        with closing(sqlite3.connect(database, timeout=_BUSY_SECONDS)) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            connection.execute("SELECT 1 FROM experiments LIMIT 1")
    except sqlite3.Error as error:
        raise TrackingError(
            f"{database}: not a database of MLflow ({error})",
            "move that file away, or choose another folder with --store",
        ) from None
    spec = importlib.util.find_spec("mlflow")
    places = [Path(place) for place in spec.submodule_search_locations or ()] if spec else []
    known = [place for place in places if list((place / "store/db_migrations/versions").glob(f"{row[0]}_*.py"))]
    if not known:
        raise TrackingError(
            f"{database}: written by a newer MLflow than is installed (its schema {row[0]} is unknown)",
            "upgrade with: pip install --upgrade mlflow",
        )


def mend_paths(database: Path, folder: Path) -> None:
    """Rewrite artifact paths if the store has been moved or copied: MLflow keeps them absolute.

    Where the store was is read off its first experiment, whose files are `artifacts/0`.
    """
    try:
        with closing(sqlite3.connect(database, timeout=_BUSY_SECONDS)) as connection, connection:
            row = connection.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0").fetchone()
            suffix = f"/{ARTIFACTS}/0"
            if not row or not row[0].endswith(suffix) or row[0] == f"{folder}{suffix}":
                return
            old = row[0].removesuffix(suffix)
            for table, column in _ARTIFACT_COLUMNS:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 (our own names)
                    f"WHERE substr({column}, 1, ?) = ?",
                    (str(folder), len(old) + 1, len(old) + 1, f"{old}/"),
                )
    except sqlite3.Error as error:
        raise unwritable(database, error) from None
    _log.info("%s was at %s before: its artifact paths are mended", folder, old)


def clear_end_time(database: Path, run_id: str) -> None:
    """Make a run have no end again, which MLflow's own interface can't."""
    with closing(sqlite3.connect(database, timeout=_BUSY_SECONDS)) as connection, connection:
        connection.execute("UPDATE runs SET end_time = NULL WHERE run_uuid = ?", (run_id,))


def end_dead_runs(database: Path) -> None:
    """End as FAILED the runs that this machine's dead processes left RUNNING; they can be resumed as before.

    Of runs of other hosts and of containers nothing is known, so they stay. Never the end of opening a store.
    """
    keys = (identity.HOST, identity.PID, identity.BOOT_ID, identity.PROCESS_START, identity.PID_NAMESPACE)
    tag = "(SELECT value FROM tags WHERE tags.run_uuid = r.run_uuid AND tags.key = ?)"
    query = (
        f"SELECT run_uuid, COALESCE((SELECT name FROM runs WHERE run_uuid = {tag}), name), "  # noqa: S608 (our own)
        f"{', '.join([tag] * (1 + len(keys)))} "
        "FROM runs AS r WHERE status = 'RUNNING' AND lifecycle_stage = 'active'"
    )
    try:
        with closing(sqlite3.connect(database, timeout=_REAP_SECONDS)) as connection, connection:
            rows = connection.execute(query, (Tag.PARENT, Tag.KIND, *keys)).fetchall()
            for run_id, name, kind, *values in rows:
                tags = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
                if identity.is_dead(tags):
                    advice = f"; go on with: rnatracker train --resume {name}" if kind in _RESUMABLE else ""
                    _end_as_failed(connection, run_id, tags[identity.PID], f"its process died{advice}")
    except sqlite3.Error as error:
        _log.debug("%s: what dead processes left there is not ended: %s", database, error)


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


def is_on_network(folder: Path) -> bool:
    """Tell whether a folder is on a network file system, where SQLite's write-ahead log must not be used."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return False
    above = [(len(point), kind) for _, point, kind, *_ in mounts if folder.is_relative_to(point)]
    return max(above, default=(0, ""))[1].startswith(_NETWORK_FILE_SYSTEMS)


def check_server(uri: str) -> None:
    """Hold that a server answers, whatever it says: MLflow itself would try for minutes.

    Raises:
        TrackingError: within 10 s, if none does.
    """
    import requests

    failure: list[str] = ["no answer"]

    def ask() -> None:
        try:
            requests.get(f"{uri.rstrip('/')}/health", timeout=_REACH_SECONDS / 2).close()
            failure.clear()
        except requests.RequestException as error:
            failure[:] = [first_line(error)]

    # In a thread, since the time limit of a request doesn't cover looking up the host's name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_REACH_SECONDS)
    if failure:
        raise ServerLostError(
            f"tracking server {masked(uri)} can't be reached ({failure[0]})",
            "start it, correct --tracking-uri or MLFLOW_TRACKING_URI, or train without it: --no-track",
        )


def first_line(error: BaseException | str) -> str:
    """Return an error's first line that says something, at most 300 characters of it, and short for a lost server."""
    for sign, short in _LOST.items():
        if sign in str(error):
            return short
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def slug(name: str) -> str:
    """Return a name as it can stand in a path and in an address, unchanged where it can already."""
    return quote(name, safe=" ").replace("%", "_")


@contextmanager
def mlflow_errors(doing: str, location: str) -> Iterator[None]:
    """Turn MLflow's failures inside into a `TrackingError` that says what to do.

    Args:
        doing: what failed, as in `starting a run`.
        location: the store or server.

    Raises:
        ServerLostError: if a server gave no answer.
        TrackingError: in place of any other failure of MLflow's, and for a missing driver of a database.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, RequestException) as error:
        reason = first_line(error).rstrip(".")
        kind = ServerLostError if reason in _LOST.values() else TrackingError
        raise kind(masked(f"{location}: {doing} failed: {reason}; {_remedy(str(error))}")) from error
    except ModuleNotFoundError as error:
        package = _DRIVERS.get(error.name or "", error.name)
        raise TrackingError(
            masked(
                f"{location}: {doing} failed: it needs the package {error.name}; install it with: pip install {package}"
            )
        ) from error


def _remedy(reason: str) -> str:
    """Return what to do about a failure of MLflow's."""
    for sign, remedy in {
        "out-of-date database schema": "keep a copy of mlflow.db, then: mlflow db upgrade sqlite:///PATH/mlflow.db",
        "disk is full": "free some space",
        "disk I/O error": "see whether the disk is full",
        "readonly database": "allow writing to that folder, or choose another with --store",
        "database is locked": "end the program that keeps it locked",
        "API request to": "see whether the server is still up",
    }.items():
        if sign in reason:
            return remedy
    return "see whether the store is whole, or choose another with --store"


_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def reach(settings: TrackingSettings) -> tuple[str, Path | None]:
    """Make the place ready; return its address for MLflow, and the file if it is an SQLite database.

    Raises:
        TrackingError: if it can't be reached or used; within 10 s for a server.
    """
    uri = settings.tracking_uri
    if uri is None or uri.startswith("sqlite:///"):
        named = Path(uri.removeprefix("sqlite:///")).resolve() if uri else settings.store / store.DATABASE
        return store.prepare(named, settings.store), named
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file") and uri != "databricks":
        raise TrackingError(
            f"tracking address {masked(uri)}: MLflow no longer keeps runs in plain files",
            "leave out --tracking-uri and MLFLOW_TRACKING_URI, and name a folder with --store",
        )
    if scheme in ("http", "https"):
        store.check_server(uri)
    return uri, None


def is_database(uri: str) -> bool:
    """Tell whether an address is that of a database that MLflow would open itself."""
    return urlsplit(uri).scheme.partition("+")[0] in _DATABASES
