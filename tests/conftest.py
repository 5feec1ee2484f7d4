"""What tests share: an MLflow store that is made once and copied, and an environment without a user's settings."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from rnatracker.data import similarity
from rnatracker.tracking import places, store


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, but for what MLflow and psycopg do themselves. Commands under test heed Ctrl-C."""
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy:DeprecationWarning")
    # Connections that a study keeps for a process's time.
    config.addinivalue_line(
        "filterwarnings", "ignore:.*psycopg.Connection.* was deleted while still open:ResourceWarning"
    )
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what it puts into the background
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_user_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "RNATRACKER_STORE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def relatives_found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of similar transcripts, so that the same toys are searched once and not in a user's cache."""
    return tmp_path_factory.mktemp("relatives")


@pytest.fixture(autouse=True)
def _no_user_cache(monkeypatch: pytest.MonkeyPatch, relatives_found: Path) -> None:
    monkeypatch.setattr(similarity, "cache_folder", lambda: relatives_found)


@pytest.fixture(scope="session")
def empty_mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's folder with a new database, which takes seconds to make: to be copied, not to be used."""
    folder = tmp_path_factory.mktemp("template") / "mlruns"
    store.prepare(folder / places.DATABASE, folder)
    return folder


@pytest.fixture
def mlflow_store(empty_mlflow_store: Path, tmp_path: Path) -> Path:
    """A store of this test's own, its artifact paths rewritten."""
    folder = tmp_path / "mlruns"
    shutil.copytree(empty_mlflow_store, folder)
    store.mend_paths(folder / places.DATABASE, folder)
    return folder
