"""Opening an SQLite database of MLflow's, and what keeps it from being used.

Owns every connection, and which kind each failure of SQLite's is. Must not import mlflow, nor know what a user is
advised to do. Read next: `runs.py` and `places.py`, which ask; `rnatracker/tracking/store.py`, which prepares the file.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import Enum, auto
from pathlib import Path

from rnatracker.errors import TrackingError

BUSY_SECONDS = 20.0
"""How long is waited where another process writes."""


class Fault(Enum):
    """What keeps a database from being read or written."""

    LOCKED = auto()
    """Another process writes; later it works."""
    NO_SPACE = auto()
    """The disk is full."""
    DISK = auto()
    """The disk can't be read or written, which a full one is told as, too."""
    FORBIDDEN = auto()
    """No permission, or the file can't be opened."""
    DAMAGED = auto()
    """It is a database, with something wrong in it."""
    NONE = auto()
    """The file is no database, or not one of MLflow's: it has not its tables."""
    OTHER = auto()


_FAULTS = {
    sqlite3.SQLITE_BUSY: Fault.LOCKED,
    sqlite3.SQLITE_LOCKED: Fault.LOCKED,
    sqlite3.SQLITE_PROTOCOL: Fault.LOCKED,
    sqlite3.SQLITE_FULL: Fault.NO_SPACE,
    sqlite3.SQLITE_IOERR: Fault.DISK,
    sqlite3.SQLITE_READONLY: Fault.FORBIDDEN,
    sqlite3.SQLITE_PERM: Fault.FORBIDDEN,
    sqlite3.SQLITE_CANTOPEN: Fault.FORBIDDEN,
    sqlite3.SQLITE_CORRUPT: Fault.DAMAGED,
    sqlite3.SQLITE_NOTADB: Fault.NONE,
}
_NUMBERS = {
    errno.ENOSPC: Fault.NO_SPACE,
    errno.EDQUOT: Fault.NO_SPACE,
    errno.EIO: Fault.DISK,
    errno.EACCES: Fault.FORBIDDEN,
    errno.EPERM: Fault.FORBIDDEN,
    errno.EROFS: Fault.FORBIDDEN,
}
_PRIMARY = 0xFF
"""The bits of an error's code that say its kind; the others say more of it."""


class DatabaseError(TrackingError):
    """SQLite can't read or write a database.

    Attributes:
        path: the file.
        reason: what SQLite says.
        fault: of which kind that is.
    """

    def __init__(self, path: Path, reason: str, fault: Fault = Fault.OTHER) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.fault = fault


def fault_of(error: BaseException) -> Fault:
    """Return of which kind a failure is that came of SQLite or of the disk, however it was wrapped since."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, sqlite3.Error):
            return _FAULTS.get(getattr(seen, "sqlite_errorcode", -1) & _PRIMARY, Fault.OTHER)
        if isinstance(seen, OSError) and seen.errno in _NUMBERS:
            return _NUMBERS[seen.errno]
        original = getattr(seen, "orig", None)  # SQLAlchemy keeps the driver's error there
        seen = original if isinstance(original, BaseException) else seen.__cause__
    return Fault.OTHER


def _worded(path: Path, error: sqlite3.Error) -> DatabaseError:
    return DatabaseError(path, str(error), fault_of(error))


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database; nothing can be written to it, and `LIKE` tells capitals from small letters.

    Raises:
        DatabaseError: if it can't be read.
    """
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA query_only = true")
            connection.execute("PRAGMA case_sensitive_like = true")
            yield connection
    except sqlite3.Error as error:
        raise _worded(path, error) from None


@contextmanager
def writing(path: Path, seconds: float = BUSY_SECONDS) -> Iterator[sqlite3.Connection]:
    """Open a database for one transaction, waiting so long where another writes.

    Raises:
        DatabaseError: if it can't be written.
    """
    try:
        with closing(sqlite3.connect(path, timeout=seconds)) as connection, connection:
            yield connection
    except sqlite3.Error as error:
        raise _worded(path, error) from None


def schema_version(path: Path) -> str:
    """Return the version of the schema of a database of MLflow.

    Raises:
        DatabaseError: if it is none, or can't be read.
    """
    with reading(path) as connection:
        known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        missing = {"alembic_version", "experiments", "runs"} - known
        if missing:
            raise DatabaseError(path, f"no such table: {min(missing)}", Fault.NONE)
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None:
        raise DatabaseError(path, "its schema has no version", Fault.NONE)
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
        raise _worded(path, error) from None


def damage(path: Path) -> str:
    """Return what SQLite finds wrong in a database; empty: nothing."""
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return str(error)
    return "" if answer == "ok" else str(answer)


def copy(path: Path, target: Path) -> None:
    """Copy a database that may not be written, nor its folder, as it stands.

    Another user may be writing to it: then SQLite's own copying needs that user's files beside it. Where there are
    none, nobody writes, and the file is copied.

    Raises:
        DatabaseError: if it can't be read.
    """
    if not path.with_name(f"{path.name}-wal").exists():
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            raise DatabaseError(path, error.strerror or str(error), fault_of(error)) from None
        return
    try:
        source = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)
        with closing(source), closing(sqlite3.connect(target)) as made:
            source.backup(made)
    except sqlite3.Error as error:
        raise _worded(path, error) from None
