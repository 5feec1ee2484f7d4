"""What can't be a study's storage is refused, and nothing is written to it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from rnatracker.errors import StudyError
from rnatracker.search import storage


def _tables(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_database_of_mlflow_is_refused_and_left_as_it_is(tmp_path: Path, mlflow_store: Path) -> None:
    database = mlflow_store / "mlflow.db"
    before = _tables(database)
    with pytest.raises(StudyError, match="MLflow keeps runs in this database, and studies can't be in the same"):
        storage.open_storage(f"sqlite:///{database}", tmp_path)
    assert _tables(database) == before
    assert "studies" not in before


def test_database_of_studies_is_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        storage.open_storage(f"sqlite:///{tmp_path}/studies.db", tmp_path)
    assert "studies" in _tables(tmp_path / "studies.db")


def test_proxy_of_optuna_is_refused_with_what_to_give_instead(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="neither the locks nor the signs of life") as raised:
        storage.open_storage("grpc://u:secret@host:13000", tmp_path)
    assert "secret" not in str(raised.value)
    assert "the database behind it" in raised.value.remedy
