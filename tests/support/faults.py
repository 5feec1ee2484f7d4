"""Faults of disk and database at a chosen point of a command, and commands in forked processes.

Operations below a folder are counted, over all processes of a command: opening a file to write, its first write and its
closing (between them a buffer takes what is written), flush to the disk, rename, new folder, and each SQL statement. At
the chosen one the operation fails as on a full or broken disk or a locked database, or the process is killed. The
command runs in a fork of this process, which has imported everything already; the workers that it starts are forks too,
so that they count as well.
"""

from __future__ import annotations

import builtins
import errno
import io
import multiprocessing
import os
import pickle
import select
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["full", "broken", "locked", "killed"]
"""`full`: from then on no space is left. `broken`, `locked`: this once it fails. `killed`: the process is."""
KINDS: tuple[Kind, ...] = ("full", "broken", "locked", "killed")
_SECONDS = 120.0
_FILES = {"full": errno.ENOSPC, "broken": errno.EIO, "locked": errno.EIO}
_SQL = {
    "full": ("database or disk is full", sqlite3.SQLITE_FULL),
    "broken": ("disk I/O error", sqlite3.SQLITE_IOERR),
    "locked": ("database is locked", sqlite3.SQLITE_BUSY),
}


@dataclass
class Ended:
    """How something in a fork ended.

    Attributes:
        code: its exit code; -9 if it was killed, -1 if it hung.
        out: what it printed on stdout.
        err: what it printed on stderr.
    """

    code: int
    out: str = ""
    err: str = ""


class Faults:
    """Counts operations below a folder, and lets one fail.

    Args:
        folder: the folder.
        target: the number of the operation that fails; 0: none.
        kind: how.
    """

    def __init__(self, folder: Path, target: int = 0, kind: Kind = "full") -> None:
        self._folder, self._target, self._kind = f"{folder}/", target, kind
        self._count = multiprocessing.get_context("fork").Value("i", 0)
        self._read, self._write = os.pipe()

    @property
    def count(self) -> int:
        """Operations so far."""
        return int(self._count.value)

    def last(self) -> str:
        """Return what failed."""
        os.close(self._write)
        with os.fdopen(self._read, "rb") as pipe:
            return pipe.read().decode()

    def step(self, what: str, path: object = "") -> None:
        """Count an operation; fail or be killed at the chosen one."""
        if path and not self._is_below(path):
            return
        with self._count.get_lock():
            self._count.value += 1
            number = self._count.value
        is_chosen = number == self._target
        if not is_chosen and not (self._kind == "full" and 0 < self._target < number):
            return
        if is_chosen:
            os.write(self._write, f"{what} {Path(str(path)).name}".encode())
        if self._kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if what.startswith("SQL"):
            text, code = _SQL[self._kind]
            error = sqlite3.OperationalError(text)
            error.sqlite_errorcode = code
            raise error
        number = _FILES[self._kind]
        raise OSError(number, os.strerror(number), str(path))

    def _is_below(self, path: object) -> bool:
        return str(Path(os.fspath(path)).absolute()).startswith(self._folder)  # type: ignore[call-overload]

    def install(self) -> None:
        """Put the counting in place of the system's functions, in this process and its forks for good."""
        self._install_files()
        self._install_sql()

    def _install_files(self) -> None:
        faults, real_open = self, io.open

        def opening(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            writes = isinstance(mode, str) and set(mode) & set("wax+") and not isinstance(path, int)
            if not writes or not faults._is_below(path):
                return real_open(path, mode, *args, **options)
            faults.step("open", path)
            return _Written(real_open(path, mode, *args, **options), path, faults)

        def counted(what: str, function: Callable[..., Any], at: int) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                faults.step(what, args[at] if not isinstance(args[at], int) else _name_of(args[at]))
                return function(*args, **options)

            return call

        builtins.open = io.open = opening  # type: ignore[assignment]
        os.replace, os.rename = counted("rename", os.replace, 1), counted("rename", os.rename, 1)
        os.fsync, os.mkdir = counted("fsync", os.fsync, 0), counted("mkdir", os.mkdir, 0)

    def _install_sql(self) -> None:
        faults, connect = self, sqlite3.connect

        class Cursor(sqlite3.Cursor):
            def execute(self, sql: str, *args: Any) -> Any:
                if not sql.startswith("PRAGMA"):  # a setting of the connection: no disk is asked
                    faults.step(f"SQL {sql[:60]!r}")
                return super().execute(sql, *args)

            def executemany(self, sql: str, *args: Any) -> Any:
                faults.step(f"SQL {sql[:60]!r}")
                return super().executemany(sql, *args)

        class Connection(sqlite3.Connection):
            def cursor(self, *args: Any, **options: Any) -> Any:
                return super().cursor(Cursor)

            def execute(self, sql: str, *args: Any) -> Any:
                return self.cursor().execute(sql, *args)

            def commit(self) -> None:
                faults.step("SQL COMMIT")
                super().commit()

        def connecting(*args: Any, **options: Any) -> Any:
            return connect(*args, **({"factory": Connection} | options))

        sqlite3.connect = sqlite3.dbapi2.connect = connecting  # type: ignore[attr-defined]


class _Written:
    """A file that is written to, and counted."""

    def __init__(self, file: Any, path: object, faults: Faults) -> None:
        self.__dict__.update(_file=file, _path=path, _faults=faults, _has_written=False)

    def write(self, data: Any) -> Any:
        if not self._has_written:
            self.__dict__["_has_written"] = True
            self._faults.step("write", self._path)
        return self._file.write(data)

    def close(self) -> None:
        is_last = self._has_written and not self._file.closed
        self._file.close()
        if is_last:
            self._faults.step("close", self._path)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Any:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __iter__(self) -> Any:
        return iter(self._file)


def _name_of(number: int) -> str:
    """Return the path of an open file."""
    try:
        return str(Path(f"/proc/self/fd/{number}").readlink())
    except OSError:
        return ""


def fork_workers() -> None:
    """Let the workers that this process and its forks start be forks too, instead of processes that begin afresh."""
    real = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: real("fork")  # type: ignore[assignment]


def in_fork(work: Callable[[], Ended], faults: Faults | None = None) -> Ended:
    """Do something in a fork of this process, with a fault if given one; one that hangs is killed."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        os.setpgid(0, 0)
        try:
            if faults is not None:
                faults.install()
            ended = work()
        except BaseException as error:
            ended = Ended(99, "", f"Traceback: {error!r}")
        os.write(write, pickle.dumps(ended))
        os._exit(0)
    os.close(write)
    content = b""
    while True:
        if not select.select([read], [], [], _SECONDS)[0]:
            os.killpg(pid, signal.SIGKILL)
            content = pickle.dumps(Ended(-1, "", "it hung"))
            break
        block = os.read(read, 1 << 20)
        if not block:
            break
        content += block
    os.close(read)
    os.waitpid(pid, 0)
    return pickle.loads(content) if content else Ended(-9)
