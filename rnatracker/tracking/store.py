"""Where runs are kept: MLflow's SQLite database and its folder, or a server that answers.

Owns locating, creating and checking the store, its lock, what is to be done when a store is opened (paths of one that
was moved, runs of dead processes), and the wording of MLflow's failures. Must not know how runs are kept. Read next:
`database/` for its SQL, and `mlflow_tracker.py`, which keeps runs in it.

A store is one folder: `mlflow.db`, `artifacts/` (runs' files), `untracked/` (runs of `--no-track`), `work/`
(files of runs whose records are on a server) and `.lock`. MLflow breaks its database for good when several
processes create it at once: so it is created under the lock, beside its place, and moved there when done.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import shlex
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from urllib.parse import quote, urlsplit

from rnatracker.errors import TrackingError
from rnatracker.processes import scratch
from rnatracker.tracking import hints, mlflow_private, places
from rnatracker.tracking.database import connection, runs
from rnatracker.tracking.database.connection import DatabaseError, Fault, fault_of
from rnatracker.tracking.names import masked
from rnatracker.tracking.places import ARTIFACTS, DATABASE
from rnatracker.tracking.run_files import RunFiles
from rnatracker.tracking.settings import TrackingSettings

UNTRACKED = "untracked"
WORK = "work"

_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "9p", "afs", "fuse.sshfs")
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
_REACH_SECONDS = 8.0

REMEDIES = {
    Fault.LOCKED: "another program writes to it: wait, or end that program, then try again",
    Fault.NO_SPACE: "free some space on that disk, then try again",
    Fault.DISK: "see whether that disk is full, or its connection lost, then try again",
    Fault.FORBIDDEN: "allow it, or choose another folder with --store or RNATRACKER_STORE",
    Fault.DAMAGED: "go back to a copy of it",
    Fault.NONE: "move that file away, or choose another folder with --store",
    Fault.OTHER: "see what is wrong with: rnatracker doctor",
}
"""What to do about each kind of failure of a database."""

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
    for name in mlflow_private.CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


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


def read_only(location: str) -> TrackingError:
    """Word that a store was opened for reading, since it can't be written."""
    return TrackingError(
        f"{location}: it can be read, but not written by you",
        "allow it, or choose another folder with --store or RNATRACKER_STORE",
    )


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


def prepare(path: Path, folder: Path, settings: TrackingSettings | None = None) -> str:
    """Make a database ready for use, created where it isn't there yet; return its address for MLflow.

    Args:
        path: the SQLite file.
        folder: the store; its `artifacts/` is where a new database puts files.
        settings: how the user named the store, for what they are advised to type.

    Raises:
        TrackingError: if it isn't MLflow's, is of another version of MLflow, is gone from beside the files of its runs,
            or can't be written.
    """
    quiet_mlflow()
    uri = database_uri(path)
    with lock(folder):
        if not is_there(path):
            if path == folder / DATABASE:
                _check_new(path, folder)
            _create(path, folder)
        check_database(path)
        if path == folder / DATABASE:
            mend_paths(path, folder)
        end_dead_runs(path, settings or TrackingSettings(folder))
    return uri


def is_there(path: Path) -> bool:
    """Tell whether there is a database, and not an empty file in its place."""
    return path.exists() and path.stat().st_size > 0


def _check_new(path: Path, folder: Path) -> None:
    """Check that a new database doesn't take the place of one that knew of the files in the store."""
    lying = places.lost_runs(folder)
    if lying:
        raise TrackingError(
            f"{path}: {'it is empty' if path.exists() else 'it is gone'}, but {folder / ARTIFACTS} holds the files of "
            f"{lying} run{'s' if lying > 1 else ''} or models that it knew",
            f"put a copy of the database back, or to begin a new store move {folder / ARTIFACTS} away first",
        )


def _create(path: Path, folder: Path) -> None:
    """Create the database beside its place, set it to write-ahead logging for good, and move it there."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mlflow_private.create_database(database_uri(temporary), folder / ARTIFACTS)
        if not is_on_network(path.parent):
            connection.write_ahead(temporary)
        temporary.replace(path)
    except DatabaseError as error:
        raise failed(error, "made") from error
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise unwritable(path, first_line(error)) from error
    finally:  # a killed process's too: none but us creates, under the lock
        for leftover in path.parent.glob(f"{path.name}.*.tmp*"):
            leftover.unlink()


def check_database(path: Path) -> None:
    """Check that the file is a database of MLflow, and of no newer one than is installed.

    Raises:
        TrackingError: if it is none, or can't be read.
    """
    try:
        version = connection.schema_version(path)
    except DatabaseError as error:
        raise failed(error, "read") from None
    if not mlflow_private.knows_schema(version):
        raise TrackingError(
            f"{path}: written by a newer MLflow than is installed (its schema {version} is unknown)",
            "upgrade with: pip install --upgrade mlflow",
        )


def failed(error: DatabaseError, doing: str) -> TrackingError:
    """Word a failure of SQLite's, and what to do about it.

    Args:
        error: the failure.
        doing: what could not be done with the database: `read`, `written`.
    """
    if error.fault is Fault.NONE:
        return TrackingError(f"{error.path}: not a database of MLflow ({error.reason})", REMEDIES[Fault.NONE])
    return TrackingError(f"{error.path}: it can't be {doing} ({error.reason})", REMEDIES[error.fault])


def mend_paths(path: Path, folder: Path) -> None:
    """Rewrite artifact paths if the store has been moved or copied: MLflow keeps them absolute.

    Raises:
        TrackingError: if the database or the store can't be written.
    """
    try:
        former = places.mend(path, folder)
    except DatabaseError as error:
        raise failed(error, "written") from None
    except OSError as error:
        raise unwritable(folder, error) from None
    for old in former:
        _log.info("%s was at %s before: its artifact paths are mended", folder, old)


def end_dead_runs(path: Path, settings: TrackingSettings) -> None:
    """End as FAILED the runs that this machine's dead processes left RUNNING; they can be resumed as before.

    Of runs of other hosts and of containers nothing is known, so they stay. Never the end of opening a store.

    Args:
        path: the database.
        settings: how the user named the store, for what they are advised to type.
    """

    def message(name: str, experiment: str, kind: str | None, place: str) -> str:
        resume = hints.command(["train", "--resume", name], replace(settings, experiment=experiment))
        return message_of_death(kind, resume, places.local(place))

    try:
        runs.end_dead_runs(path, message)
    except DatabaseError as error:
        _log.debug("%s: what dead processes left there is not ended: %s", path, error.reason)


def message_of_death(kind: str | None, resume: str, folder: Path) -> str:
    """Word why a run whose process died has ended, and what can be done.

    Args:
        kind: the run's kind.
        resume: the command that resumes it.
        folder: its files, or its parent's.
    """
    if kind not in _RESUMABLE:
        return "its process died"
    if not RunFiles(folder).config.exists():
        return "its process died before there was anything to resume; start it again"
    return f"its process died; resume it with: {resume}"


def is_on_network(folder: Path) -> bool:
    """Tell whether a folder is on a network file system, where SQLite's write-ahead log must not be used."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return False
    above = [(len(point), kind) for _, point, kind, *_ in mounts if folder.is_relative_to(point)]
    return max(above, default=(0, ""))[1].startswith(_NETWORK_FILE_SYSTEMS)


def check_server(uri: str) -> None:
    """Check that a server answers, whatever it says: MLflow itself would try for minutes.

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


def check_version(uri: str) -> None:
    """Check that a server's MLflow has the same first number as this host's, where the server tells.

    Raises:
        TrackingError: if it hasn't.
    """
    import requests

    try:
        answer = requests.get(f"{uri.rstrip('/')}/version", timeout=_REACH_SECONDS).text.strip()
    except requests.RequestException:
        return  # the next request says what is wrong
    own = metadata.version("mlflow")
    if re.fullmatch(r"\d+\.\d+[\w.+-]{0,20}", answer) and answer.split(".")[0] != own.split(".")[0]:
        raise TrackingError(
            f"tracking server {masked(uri)} has MLflow {answer}, and this host {own}: they don't understand each other",
            f"install on both what is alike, as with: pip install 'mlflow=={own}'",
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
        raise kind(masked(f"{location}: {doing} failed: {reason}"), _remedy(error, location)) from error
    except ModuleNotFoundError as error:
        package = _DRIVERS.get(error.name or "", error.name)
        raise TrackingError(
            masked(f"{location}: {doing} failed: it needs the package {error.name}"),
            f"install it with: pip install {package}",
        ) from error


def _remedy(error: BaseException, location: str) -> str:
    """Return what to do about a failure of MLflow's."""
    fault = fault_of(error)
    if fault is not Fault.OTHER:
        return REMEDIES[fault]
    is_address = "://" in location
    database_address = location if is_address else database_uri(Path(location) / DATABASE)
    for sign, remedy in {
        "out-of-date database schema": f"keep a copy of the database, then: mlflow db upgrade {database_address}",
        "API request to": "see whether the server is still up",
    }.items():
        if sign in str(error):
            return remedy
    place = TrackingSettings(*((Path("mlruns"), location) if is_address else (Path(location), None)))
    return f"see what is wrong with: {hints.command(['doctor'], place)}"


_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def database_of(settings: TrackingSettings) -> Path | None:
    """Return the SQLite file in which runs are kept, there or not; None: they are kept elsewhere."""
    uri = settings.tracking_uri
    if uri is None:
        return settings.store / DATABASE
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None


@dataclass(frozen=True)
class Place:
    """A place that is ready for use.

    Attributes:
        uri: its address for MLflow.
        database: the file, if it is an SQLite database.
        is_copy: whether that is a temporary copy, since the store can't be written: it can be read only.
    """

    uri: str
    database: Path | None
    is_copy: bool = False


def reach(settings: TrackingSettings) -> Place:
    """Make the place where runs are kept ready; one that can't be written is read from a copy of its database.

    Raises:
        TrackingError: if it can't be reached or used; within 10 s for a server.
    """
    path = database_of(settings)
    if path is not None:
        if is_there(path) and not is_writable(path, settings.store):
            copied = _copied(path, settings.store)
            return Place(database_uri(copied), copied, is_copy=True)
        return Place(prepare(path, settings.store, settings), path)
    uri = str(settings.tracking_uri)
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file") and uri != "databricks":
        raise TrackingError(
            f"tracking address {masked(uri)}: MLflow no longer keeps runs in plain files",
            "leave out --tracking-uri and MLFLOW_TRACKING_URI, and name a folder with --store",
        )
    if scheme in ("http", "https"):
        check_server(uri)
        check_version(uri)
    return Place(uri, None)


def is_writable(path: Path, folder: Path) -> bool:
    """Tell whether a database can be written: SQLite needs its folder for that too, and the store's lock is a file."""
    return all(os.access(place, os.W_OK) for place in (path, path.parent, folder) if place.exists())


def _copied(path: Path, folder: Path) -> Path:
    """Return a copy of a database, for this process's time, with the artifact paths that the store has now."""
    made = scratch.make()
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    copied = made / path.name
    try:
        connection.copy(path, copied)
        check_database(copied)
        if path == folder / DATABASE:
            places.rewrite(copied, folder)
    except DatabaseError as error:
        raise failed(error, "read") from None
    return copied


def mlflow_command(words: list[str], uri: str) -> str:
    """Return what to type: these words after `mlflow`, on the runs at this address."""
    return f"MLFLOW_TRACKING_URI={shlex.quote(masked(uri))} {shlex.join(['mlflow', *words])}"


def address_of(settings: TrackingSettings) -> str:
    """Return MLflow's address of the place where runs are kept.

    Raises:
        TrackingError: if its path has a character that changes its meaning in an address.
    """
    path = database_of(settings)
    return str(settings.tracking_uri) if path is None else database_uri(path)


def is_database(uri: str) -> bool:
    """Tell whether an address is that of a database that MLflow would open itself."""
    return urlsplit(uri).scheme.partition("+")[0] in _DATABASES
