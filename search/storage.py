"""Where studies are kept, and the lock under which their trials are handed out.

Owns opening the storage, and its locks. Must not know torch, mlflow or what a study searches. Read next: `study.py`,
`faults/journal.py` for what a journal may hold.

The storage is Optuna's journal, one file that is appended to, or any database Optuna takes; never MLflow's. A worker
that is killed must leave no lock behind, so that locks are the system's (released with their process) or, on a database
server, the server's (released with their connection), not files.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import filelock
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from sqlalchemy.exc import SQLAlchemyError

from rnatracker.errors import StudyError
from rnatracker.processes import scratch
from rnatracker.search.faults.journal import STUMBLES, CheckedJournal, cut_torn_line
from rnatracker.search.optuna_private import JournalFileLock, silence_gp
from rnatracker.search.remote import database, heartbeat
from rnatracker.search.remote.patience import patiently
from rnatracker.search.remote.patient_storage import PatientStorage, is_away
from rnatracker.tracking import store
from rnatracker.tracking.names import masked

JOURNAL = "optuna.journal"
STUDIES = "studies"

OPENING_SECONDS = 20.0
"""How long a command waits for a server that is away: it may be restarted, or the address may be wrong."""
_LOCK_SECONDS = 120.0
_POLL_SECONDS = 0.002
"""The journal is held for about a millisecond at a time."""


class _SystemLock(JournalFileLock):
    """The journal's lock, gone with its process: Optuna's own blocks all others for 30 s after a kill."""

    def __init__(self, path: Path, shown: Path) -> None:
        self._path, self._shown = path, shown
        self._lock = filelock.FileLock(f"{path}.lock", timeout=_LOCK_SECONDS)

    def acquire(self) -> bool:
        """Take it, each time with a journal whose last line is whole."""
        self._lock.acquire(poll_interval=_POLL_SECONDS)
        try:
            cut_torn_line(self._path, self._shown)
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        self._lock.release()


def open_storage(url: str | None, folder: Path, *, limit: float | None = OPENING_SECONDS) -> BaseStorage:
    """Open a storage, made where there is none.

    Args:
        url: a database's address, a journal file's path, or None for `optuna.journal` in the store.
        folder: the store.
        limit: seconds to wait for a server that is away; None: as the environment says.

    Raises:
        StudyError: if it can't be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.CRITICAL)  # it tells of each migration of a new database
    silence_gp()
    if url is None or "://" not in url:
        path = folder / JOURNAL if url is None else Path(url).expanduser().resolve()
        return _open_journal(path if _is_writable(path) else _copied(path), path)
    shown = masked(url)
    if url.startswith("grpc"):
        raise StudyError(
            f"--storage {shown}: Optuna's proxy has neither the locks nor the signs of life that workers need",
            "give the database behind it, as in postgresql://USER:PASSWORD@HOST/NAME",
        )
    try:
        with lock(url, folder, "storage", limit=limit):  # two that make tables at once get in each other's way
            return patiently(lambda: _open_database(url), is_away, shown, limit=limit)
    except (ImportError, ModuleNotFoundError) as error:
        raise StudyError(f"--storage {shown}: {store.first_line(error)}", _driver_remedy(url)) from None
    except (SQLAlchemyError, ValueError, RuntimeError) as error:
        raise StudyError(
            f"--storage {shown}: can't be opened ({masked(store.first_line(error))})",
            "give a database as in postgresql://USER:PASSWORD@HOST/NAME or sqlite:////path/studies.db, or the path of "
            "a journal file",
        ) from None


def _open_database(url: str) -> BaseStorage:
    """Open a database, with a cache as Optuna's studies have it: one for both."""
    database.check_no_runs(url)
    if not database.is_server(url):
        return get_storage(RDBStorage(url))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        beat = heartbeat.interval()
        options, grace = database.engine_options(url), heartbeat.GRACE * beat
        return get_storage(PatientStorage(url, options, heartbeat_interval=beat, grace_period=grace))


def _driver_remedy(url: str) -> str:
    kind = "mysql" if url.startswith(("mysql", "mariadb")) else "postgresql"
    return f"install its driver with: pip install 'rnatracker[{kind}]'"


def _is_writable(path: Path) -> bool:
    """Tell whether a journal can be written, and its lock beside it; where there is no folder yet it is to be made."""
    return all(os.access(place, os.W_OK) for place in (path, path.parent) if place.exists())


def _copied(path: Path) -> Path:
    """Return a copy, for this process's time, of a journal that can be read only; a new one where there is none."""
    made = scratch.make()
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    if path.exists():
        try:
            shutil.copyfile(path, made / path.name)
        except OSError as error:
            raise StudyError(f"{path}: can't be read ({error.strerror or error})", "allow it") from None
    return made / path.name


def _open_journal(path: Path, shown: Path) -> BaseStorage:
    guard = _SystemLock(path, shown)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        guard.acquire()  # what a full disk has left of a last line is cut off
        guard.release()
        return JournalStorage(CheckedJournal(path, shown, guard))
    except STUMBLES as error:
        raise StudyError(
            f"{shown}: not a journal of Optuna's ({store.first_line(error) or type(error).__name__})",
            "choose another --storage",
        ) from None
    except OSError as error:
        raise StudyError(
            f"{shown}: studies can't be kept there ({error.strerror or error})",
            "free or allow it, or choose another place with --storage or --store",
        ) from None


def together(storage: BaseStorage) -> AbstractContextManager[None]:
    """Return a context in which settings and attributes of trials are set all at once at its end, on a server."""
    backend = getattr(storage, "_backend", None)
    return backend.together() if isinstance(backend, PatientStorage) else nullcontext()


@contextmanager
def lock(
    url: str | None, folder: Path, name: str, *, storage: BaseStorage | None = None, limit: float | None = None
) -> Iterator[None]:
    """Hold a study's lock; among processes (on a database server among hosts) one at a time. Not to be taken twice.

    Args:
        url: where studies are kept.
        folder: the store, where the lock is if that is no server.
        name: the study's.
        storage: of that address, if it is open: it then needs no connection but that which holds the lock.
        limit: seconds to wait for a server that is away; None: as the environment says.

    Raises:
        StudyError: if the server can't be reached, or another worker keeps the lock for two minutes.
        TrackingError: if another process keeps it for a minute, or the folder can't be written.
    """
    if url is None or not database.is_server(url):
        with store.lock(folder / STUDIES / store.slug(name)):
            yield
        return
    backend = getattr(storage, "_backend", None)
    connect = backend.on_one_connection if isinstance(backend, PatientStorage) else None
    with database.lock(url, name, connect=connect, limit=limit):
        yield
