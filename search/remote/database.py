"""A database server's own means by which something happens once among workers on any number of hosts.

Owns locks in the database, and what else is said to a server before Optuna opens it. A lock belongs to a connection, so
it is gone with its process or host. Must not know studies. Read next: `search/storage.py`, which uses it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from rnatracker.errors import StudyError
from rnatracker.search.remote.patience import patiently
from rnatracker.search.remote.patient_storage import is_away
from rnatracker.tracking.names import masked

_SERVERS = ("postgresql", "mysql", "mariadb")
_LOCK_SECONDS = 120

Connect = Callable[[], AbstractContextManager[Connection]]
"""Opens a connection."""


def is_server(url: str | None) -> bool:
    """Tell whether an address is that of a database server, which hosts may share; an SQLite file is none."""
    return url is not None and "://" in url and _kind(url) in _SERVERS


def engine_options(url: str) -> dict[str, Any]:
    """Return how SQLAlchemy is to connect to a server for Optuna: by as few connections as can be.

    A server has a hundred, if it isn't told otherwise: each worker keeps one, and has others only for moments, as for a
    sign of life. On another connection where one was lost.
    """
    return {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 4, "connect_args": _connect_args(url)}


def _connect_args(url: str) -> dict[str, Any]:
    """Return what connections have in common: times of signs of life are kept without a zone, so that is UTC."""
    return {"options": "-c timezone=utc"} if _kind(url) == "postgresql" else {}


def check_no_runs(url: str) -> None:
    """Check that a database isn't the one in which MLflow keeps runs.

    Optuna would add its tables to MLflow's, and then take the version of those for its own.

    Raises:
        StudyError: if it is.
        sqlalchemy.exc.SQLAlchemyError: if it can't be read.
    """
    engine = create_engine(url, poolclass=NullPool)
    tables = set(inspect(engine).get_table_names())
    if {"experiments", "runs"} <= tables and "studies" not in tables:
        raise StudyError(
            f"--storage {masked(url)}: MLflow keeps runs in this database, and studies can't be in the same",
            "give another; on a server make one with: CREATE DATABASE studies",
        )


@contextmanager
def lock(url: str, name: str, *, connect: Connect | None = None, limit: float | None = None) -> Iterator[None]:
    """Hold a lock in the database; among all who use it, one at a time. Not to be taken twice.

    Args:
        url: the server's address.
        name: the lock's.
        connect: gives the connection that is to hold it; None: a new one does.
        limit: seconds to wait for a server that is away; None: as the environment says.

    Raises:
        StudyError: if another keeps it for two minutes, or the server stays away.
        sqlalchemy.exc.SQLAlchemyError: if it refuses.
    """
    take, free = (_take_postgresql, _free_postgresql) if _kind(url) == "postgresql" else (_take_mysql, _free_mysql)
    opened = connect or _engine(url).connect
    with ExitStack() as held:
        connection, is_taken = patiently(lambda: _taken(opened, name, take, held), is_away, masked(url), limit=limit)
        if not is_taken:
            raise StudyError(
                f"{masked(url)}: another worker has held the lock of {name} for {_LOCK_SECONDS} s",
                "see which one hangs, with: rnatracker study NAME --workers",
            )
        try:
            yield
        finally:
            try:
                free(connection, name)
                connection.commit()
            except SQLAlchemyError:  # the connection was lost, and the lock with it
                connection.invalidate()


def _taken(
    connect: Connect, name: str, take: Callable[[Connection, str], bool], held: ExitStack
) -> tuple[Connection, bool]:
    """Return a connection, left open until what holds it is left, and whether the lock is its own."""
    with ExitStack() as trying:
        connection = trying.enter_context(connect())
        try:
            is_taken = take(connection, name)
            connection.commit()  # the lock stays: it is the connection's, not the transaction's
        except BaseException:
            connection.invalidate()
            raise
        held.push(trying.pop_all())
    return connection, is_taken


def _take_postgresql(connection: Connection, name: str) -> bool:
    try:
        connection.execute(text(f"SET lock_timeout = '{_LOCK_SECONDS}s'"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _number(name)})
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "55P03":  # lock_not_available
            connection.rollback()
            return False
        raise
    return True


def _free_postgresql(connection: Connection, name: str) -> None:
    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _number(name)})


def _take_mysql(connection: Connection, name: str) -> bool:
    arguments = {"name": _short(name), "seconds": _LOCK_SECONDS}
    return connection.execute(text("SELECT GET_LOCK(:name, :seconds)"), arguments).scalar() == 1


def _free_mysql(connection: Connection, name: str) -> None:
    connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": _short(name)})


@cache
def _engine(url: str) -> Engine:
    """Return connections for locks that are taken before Optuna has any; each is closed with its lock."""
    return create_engine(url, poolclass=NullPool, connect_args=_connect_args(url))


def _kind(url: str) -> str:
    return make_url(url).get_backend_name()


def _number(name: str) -> int:
    """Return the signed 64-bit number by which PostgreSQL knows a lock."""
    return int.from_bytes(hashlib.sha256(f"rnatracker {name}".encode()).digest()[:8], "big", signed=True)


def _short(name: str) -> str:
    """Return the name by which MySQL knows a lock: 64 characters at most."""
    return f"rnatracker {hashlib.sha256(name.encode()).hexdigest()[:48]}"
