"""Servers that several hosts would share: made once for all tests of this folder, a database for each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.support import postgresql


@pytest.fixture(scope="session")
def server() -> Iterator[postgresql.Server]:
    """A PostgreSQL server."""
    if postgresql.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    made = postgresql.new_server()
    yield made
    made.close()


@pytest.fixture
def database(server: postgresql.Server) -> str:
    """The address of an empty database."""
    return server.new_database(f"studies-{uuid.uuid4().hex[:12]}")
