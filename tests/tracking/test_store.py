"""Making, moving and opening stores, and refusing what is none."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from rnatracker import doctor
from rnatracker.errors import TrackingError
from rnatracker.registry.registry import Registry
from rnatracker.search.trial_runs import drop_weights
from rnatracker.tracking import places, store
from rnatracker.tracking.database import connection as connection_module
from rnatracker.tracking.mlflow_tracker import MlflowTracker
from rnatracker.tracking.open import existing_trackers, open_tracker, select
from rnatracker.tracking.settings import TrackingSettings, settings_from
from tests.support import paths
from tests.support.trackers import begin


@pytest.fixture
def mlflow_tracker(mlflow_store: Path) -> MlflowTracker:
    tracker = open_tracker(TrackingSettings(mlflow_store))
    assert isinstance(tracker, MlflowTracker)
    return tracker


class TestSettings:
    def test_store_is_the_options_then_the_environments_then_mlruns(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert settings_from(None, None, "x", False) == TrackingSettings(tmp_path / "mlruns", None, "x", True)
        monkeypatch.setenv("RNATRACKER_STORE", "env")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
        assert settings_from(None, None, "x", True) == TrackingSettings(
            tmp_path / "env", "http://localhost:1", "x", enabled=False
        )
        assert settings_from("opt", "sqlite:///y.db", "x", False) == TrackingSettings(
            tmp_path / "opt", "sqlite:///y.db", "x"
        )

    def test_settings_can_be_pickled_for_a_worker(self, tmp_path: Path) -> None:
        settings = TrackingSettings(tmp_path, "http://localhost:1", "x")
        assert pickle.loads(pickle.dumps(settings)) == settings


class TestStore:
    def test_open_says_how_to_restore_when_the_experiment_was_deleted(
        self, mlflow_tracker: MlflowTracker, mlflow_store: Path
    ) -> None:
        backend = mlflow_tracker._backend
        backend.client.delete_experiment(backend.experiment_id)
        with pytest.raises(TrackingError) as caught:
            open_tracker(TrackingSettings(mlflow_store))
        assert "'rnatracker' was deleted" in caught.value.problem
        restore = f"MLFLOW_TRACKING_URI=sqlite:///{mlflow_store}/mlflow.db mlflow experiments restore -x 1"
        assert caught.value.remedy == f"choose another with --experiment, or restore it: {restore}"

    def test_artifacts_are_found_when_the_store_was_moved(
        self, mlflow_tracker: MlflowTracker, mlflow_store: Path
    ) -> None:
        run = begin(mlflow_tracker)
        (run.folder / "log.txt").write_text("hello")
        moved = mlflow_store.with_name("mo ved#1")
        mlflow_store.rename(moved)
        found = open_tracker(TrackingSettings(moved)).find(run.id)
        assert (found.folder / "log.txt").read_text() == "hello"
        assert found.folder.is_relative_to(moved)

    def test_artifacts_are_its_own_when_the_store_was_copied(
        self, mlflow_tracker: MlflowTracker, mlflow_store: Path
    ) -> None:
        run = begin(mlflow_tracker)
        copy = mlflow_store.with_name("copy")
        shutil.copytree(mlflow_store, copy)
        assert open_tracker(TrackingSettings(copy)).find(run.id).folder.is_relative_to(copy)
        assert open_tracker(TrackingSettings(mlflow_store)).find(run.id).folder == run.folder

    def test_a_copy_keeps_off_the_original_when_mlflow_made_the_database(self, tmp_path: Path) -> None:
        original = _made_by_mlflow(tmp_path / "original" / "mlruns")
        run = begin(open_tracker(TrackingSettings(original)))
        copy = tmp_path / "copy"
        shutil.copytree(original, copy)
        (copy / places.NOTE).unlink()  # as one of before there were notes
        found = open_tracker(TrackingSettings(copy)).find(run.id)
        assert found.folder == copy / run.folder.relative_to(original)
        assert begin(open_tracker(TrackingSettings(copy))).folder.is_relative_to(copy)

    @pytest.mark.parametrize("keeps_note", [True, False])
    def test_a_moved_store_is_known_when_its_default_experiment_was_purged(
        self, mlflow_store: Path, keeps_note: bool
    ) -> None:
        begin(open_tracker(TrackingSettings(mlflow_store)))
        with closing(sqlite3.connect(mlflow_store / places.DATABASE)) as connection, connection:
            connection.execute("DELETE FROM experiments WHERE experiment_id = 0")
            connection.execute("DELETE FROM runs")
        moved = mlflow_store.with_name("moved")
        mlflow_store.rename(moved)
        if not keeps_note:
            (moved / places.NOTE).unlink()
        assert begin(open_tracker(TrackingSettings(moved))).folder.is_relative_to(moved)
        assert not mlflow_store.exists()

    def test_nothing_is_written_or_deleted_when_it_lies_in_another_store(
        self, mlflow_tracker: MlflowTracker, mlflow_store: Path, tmp_path: Path
    ) -> None:
        run = begin(mlflow_tracker)
        run.finish("KILLED")
        (run.folder / "checkpoints").mkdir()
        other = tmp_path / "other"
        other.mkdir()
        with closing(sqlite3.connect(mlflow_store / places.DATABASE)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(mlflow_store / places.DATABASE, other)  # without the files, so that it says what it can't mend
        settings = TrackingSettings(other)
        (finding,) = (each for each in doctor.check_places(settings) if each.id == "places.outside")
        assert str(run.folder) in finding.text
        with pytest.raises(TrackingError) as caught:
            open_tracker(settings)
        assert f"it is in another store, {mlflow_store}" in caught.value.problem
        assert caught.value.remedy == f"use that store: --store {mlflow_store}"
        lone = existing_trackers(settings)[0].find(run.id)
        for act in (lone.reopen, lambda: drop_weights(lone)):
            with pytest.raises(TrackingError, match="in another store"):
                act()
        assert (run.folder / "checkpoints").is_dir()

    def test_an_experiments_own_place_is_used_when_it_is_no_stores(self, mlflow_store: Path, tmp_path: Path) -> None:
        settings = TrackingSettings(mlflow_store, experiment="big")
        backend = open_tracker(TrackingSettings(mlflow_store))._backend  # type: ignore[attr-defined]
        backend.client.create_experiment("big", str(tmp_path / "disk" / "big"))
        run = begin(open_tracker(settings))
        assert run.folder.is_relative_to(tmp_path / "disk" / "big")
        assert begin(open_tracker(settings)).folder.is_relative_to(tmp_path / "disk" / "big")
        assert "disk/big" in doctor.check_places(settings)[0].text

    def test_what_a_copy_and_its_original_both_name_is_the_originals(self, mlflow_store: Path, tmp_path: Path) -> None:
        settings = TrackingSettings(mlflow_store, experiment="big")
        backend = open_tracker(TrackingSettings(mlflow_store))._backend  # type: ignore[attr-defined]
        backend.client.create_experiment("big", str(tmp_path / "disk" / "big"))
        run = begin(open_tracker(settings))
        run.finish("KILLED")
        (run.folder / "checkpoints").mkdir()
        copy = mlflow_store.with_name("copy")
        shutil.copytree(mlflow_store, copy)
        copied = open_tracker(replace(settings, store=copy))
        theirs = copied.find(run.id)
        for act in (theirs.reopen, lambda: drop_weights(theirs)):
            with pytest.raises(TrackingError) as caught:
                act()
            assert caught.value.remedy == f"use that store: --store {mlflow_store}"
        assert (run.folder / "checkpoints").is_dir()
        begin(copied).finish("FINISHED")  # a run of its own has a folder of its own
        shutil.rmtree(mlflow_store)  # so that it was moved, as it turns out
        theirs.reopen()

    def test_database_writes_ahead(self, mlflow_store: Path) -> None:
        with closing(sqlite3.connect(mlflow_store / places.DATABASE)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_another_database_is_used_when_the_address_names_one(self, mlflow_store: Path, tmp_path: Path) -> None:
        shutil.copy(mlflow_store / places.DATABASE, tmp_path / "team.db")
        settings = TrackingSettings(tmp_path / "mine", f"sqlite:///{tmp_path}/team.db")
        run = begin(open_tracker(settings))
        assert run.folder.is_relative_to(tmp_path / "mine" / "artifacts")
        assert open_tracker(settings).find("exp1").id == run.id
        assert begin(open_tracker(TrackingSettings(tmp_path / "mine"))).name == "exp1", "its own database is new"


class TestUnusableDatabase:
    """Each of SQLite's failures has its own remedy: only what is no database may be moved away."""

    def test_a_locked_database_is_waited_for(self, mlflow_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection_module, "BUSY_SECONDS", 0.01)
        path = mlflow_store / places.DATABASE
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA journal_mode=DELETE")
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(TrackingError) as caught:
                open_tracker(TrackingSettings(mlflow_store))
        assert caught.value.problem == f"{path}: it can't be read (database is locked)"
        assert caught.value.remedy.startswith("another program writes to it: wait")

    @pytest.mark.parametrize(
        ("code", "remedy"),
        [
            (sqlite3.SQLITE_BUSY, "wait"),
            (sqlite3.SQLITE_FULL, "free some space"),
            (sqlite3.SQLITE_IOERR | 10 << 8, "whether that disk is full"),
            (sqlite3.SQLITE_READONLY, "allow it"),
            (sqlite3.SQLITE_CANTOPEN, "allow it"),
            (sqlite3.SQLITE_CORRUPT, "go back to a copy"),
            (sqlite3.SQLITE_NOTADB, "move that file away"),
        ],
    )
    def test_remedy_is_that_of_the_kind_however_the_error_was_wrapped(self, code: int, remedy: str) -> None:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import OperationalError

        told = sqlite3.OperationalError("words that nobody reads")
        told.sqlite_errorcode = code
        fault = connection_module.fault_of(told)
        assert remedy in store.failed(connection_module.DatabaseError(Path("x"), "", fault), "read").remedy
        with pytest.raises(TrackingError) as caught, store.mlflow_errors("asking", "here"):
            raise MlflowException("wrapped") from OperationalError("SELECT", {}, told)
        assert remedy in caught.value.remedy


class TestReadOnlyStore:
    """A store that can't be written, of another user or on a disk mounted so, can be read."""

    @pytest.fixture
    def settings(self, mlflow_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackingSettings:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        settings = TrackingSettings(mlflow_store)
        run = begin(open_tracker(settings))
        run.log_metrics({"best/pcc_mean": 0.5}, 1)
        run.finish("FINISHED")
        may = os.access
        monkeypatch.setattr(
            os,
            "access",
            lambda path, mode: may(path, mode) and not (mode & os.W_OK and str(path).startswith(str(mlflow_store))),
        )
        monkeypatch.setattr(store, "lock", _refuse)
        return settings

    def test_its_runs_are_read_and_nothing_is_made_in_it(self, settings: TrackingSettings) -> None:
        before = {path: path.stat().st_mtime_ns for path in settings.store.rglob("*")}
        (row,) = select(existing_trackers(settings)).rows
        assert row.run.metrics["best/pcc_mean"] == 0.5
        run = open_tracker(settings).find("exp1")
        assert run.metrics()["best/pcc_mean"] == 0.5
        assert run.folder.is_dir()
        assert Registry(settings).versions() == []
        assert "store.read-only" in {each.id for each in doctor.examine(settings)}
        assert not any(each.level == "broken" for each in doctor.examine(settings))
        assert {path: path.stat().st_mtime_ns for path in settings.store.rglob("*")} == before

    def test_its_files_are_found_where_it_is_mounted_now(self, settings: TrackingSettings) -> None:
        moved = settings.store.with_name(f"{settings.store.name}_elsewhere")
        settings.store.rename(moved)
        run = open_tracker(TrackingSettings(moved)).find("exp1")
        assert run.folder.is_relative_to(moved)

    def test_writing_to_it_is_refused(self, settings: TrackingSettings) -> None:
        tracker = open_tracker(settings)
        run = tracker.find("exp1")
        for act in (
            lambda: begin(tracker),
            lambda: run.reopen(even_finished=True),
            lambda: run.set_tags({"a": "b"}),
            lambda: drop_weights(run),
            lambda: tracker.end_stale(run.id, ""),
            lambda: Registry(settings).set_model_tags({"a": "b"}),
        ):
            with pytest.raises(TrackingError) as caught:
                act()
            assert "it can be read, but not written by you" in caught.value.problem


class TestBadStore:
    @pytest.mark.parametrize("content", [b"no database at all " * 100, b"SQLite format 3\0 torn"])
    def test_open_refuses_a_file_when_it_is_no_database(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "mlflow.db").write_bytes(content)
        with pytest.raises(TrackingError) as caught:
            open_tracker(TrackingSettings(tmp_path))
        assert caught.value.problem.startswith(f"{tmp_path}/mlflow.db: not a database of MLflow ")
        assert "move that file away" in caught.value.remedy
        assert (tmp_path / "mlflow.db").read_bytes() == content

    def test_open_refuses_a_database_when_it_is_not_mlflows(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
            connection.execute("CREATE TABLE trials (x)")
        with pytest.raises(TrackingError) as caught:
            open_tracker(TrackingSettings(tmp_path))
        assert caught.value.problem.startswith(f"{tmp_path}/mlflow.db: not a database of MLflow ")

    @pytest.mark.parametrize(
        ("revision", "remedy"),
        [
            ("ffffffffffff", "upgrade with: pip install --upgrade mlflow"),
            ("451aebb31d03", "keep a copy of the database, then: mlflow db upgrade sqlite:///{store}/mlflow.db"),
        ],
    )
    def test_open_says_what_to_upgrade_when_the_schema_is_another(
        self, mlflow_store: Path, revision: str, remedy: str
    ) -> None:
        with closing(sqlite3.connect(mlflow_store / places.DATABASE)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        with pytest.raises(TrackingError) as caught:
            open_tracker(TrackingSettings(mlflow_store))
        assert caught.value.remedy == remedy.format(store=mlflow_store)
        assert ("newer MLflow" in caught.value.problem) == (revision == "ffffffffffff")

    def test_store_is_made_when_a_killed_process_left_half_of_one(self, tmp_path: Path) -> None:
        (tmp_path / "mlflow.db.999.tmp").write_bytes(b"half")
        (tmp_path / "mlflow.db").touch()
        assert begin(open_tracker(TrackingSettings(tmp_path))).name == "exp1"
        assert not list(tmp_path.glob("*.tmp*"))

    @pytest.mark.parametrize("enabled", [True, False])
    def test_store_is_refused_when_it_cant_be_written(self, tmp_path: Path, enabled: bool) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(TrackingError) as caught:
            begin(open_tracker(TrackingSettings(tmp_path / "file" / "mlruns", enabled=enabled)))
        assert "runs can't be kept there (Not a directory)" in caught.value.problem
        assert "--store" in caught.value.remedy

    def test_store_is_refused_when_its_path_would_be_misread(self, tmp_path: Path) -> None:
        with pytest.raises(TrackingError) as caught:
            open_tracker(TrackingSettings(tmp_path / "100%"))
        assert caught.value.problem.startswith(f"{tmp_path}/100%/mlflow.db: ")
        assert "? and %" in caught.value.problem

    @pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns"])
    def test_open_refuses_plain_files_as_an_address(self, tmp_path: Path, uri: str) -> None:
        with pytest.raises(TrackingError) as caught:
            open_tracker(TrackingSettings(tmp_path, uri))
        assert f"{uri}: MLflow no longer keeps runs in plain files" in caught.value.problem

    def test_open_refuses_an_address_of_a_kind_that_mlflow_has_not(self, tmp_path: Path) -> None:
        with pytest.raises(TrackingError) as caught:
            open_tracker(TrackingSettings(tmp_path, "ftp://x"))
        assert "ftp://x" in caught.value.problem


@pytest.mark.slow
class TestProcesses:
    def test_importing_is_cheap_and_a_new_store_is_made_in_silence(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from rnatracker.tracking.open import open_tracker\n"
            "from rnatracker.tracking.settings import TrackingSettings\n"
            "assert not {'mlflow', 'torch', 'pandas', 'sqlalchemy', 'requests'} & set(sys.modules), 'heavy import'\n"
            "tracker = open_tracker(TrackingSettings(Path(sys.argv[1])))\n"
            "run = tracker.start(log_name=None, params={}, tags={}, dataset=None)\n"
            "run.log_metrics({'a': 1.0}, 1); run.finish('FINISHED')\n"
        )
        done = python(code, tmp_path / "new", cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert {path.name for path in tmp_path.iterdir()} == {"new"}
        assert {path.name for path in (tmp_path / "new").iterdir()} - {"mlflow.db-wal", "mlflow.db-shm"} == {
            ".lock",
            "mlflow.db",
            "place",
            "artifacts",
        }

    def test_nothing_is_left_when_the_disk_is_full(self, tmp_path: Path) -> None:
        code = (
            "import sys, resource; from pathlib import Path; from rnatracker import errors\n"
            "from rnatracker.tracking.open import open_tracker\n"
            "from rnatracker.tracking.settings import TrackingSettings\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "try:\n    open_tracker(TrackingSettings(Path(sys.argv[1])))\n"
            "except errors.TrackingError as error:\n    print(error)\n"
        )
        done = python(code, tmp_path / "new", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "mlflow.db: runs can't be kept there" in done.stdout
        assert [path.name for path in (tmp_path / "new").iterdir()] == [".lock"]

    @pytest.mark.slow
    def test_first_use_works_when_four_processes_come_at_once(self, tmp_path: Path) -> None:
        settings = TrackingSettings(tmp_path / "mlruns")
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            names = pool.map(_start_three, [settings] * 4, chunksize=1)
        assert sorted(chain(*names)) == sorted(f"exp{n}" for n in range(1, 13))
        assert begin(open_tracker(replace(settings, experiment="second"))).name == "exp1"


def _refuse(folder: Path) -> None:
    raise AssertionError(f"{folder} is locked, which writes to it")


def _made_by_mlflow(folder: Path) -> Path:
    """Return a store whose database was made by MLflow itself, which puts its default experiment elsewhere."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder.mkdir(parents=True)
    made = SqlAlchemyStore(f"sqlite:///{folder / places.DATABASE}", str(folder.parent / "mlartifacts"))
    made.engine.dispose()
    return folder


def python(code: str, *arguments: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def _start_three(settings: TrackingSettings) -> list[str]:
    tracker = open_tracker(settings)
    names = []
    for _ in range(3):
        run = begin(tracker)
        run.log_metrics({"a": 1.0}, 1)
        run.finish("FINISHED")
        names.append(run.name)
    return names
