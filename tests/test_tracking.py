"""Both trackers by one contract, and what is MLflow's alone: its store, its limits, its failures."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import pickle
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from rnatracker.errors import ConfigError, TrackingError
from rnatracker.processes import identity
from rnatracker.tracking import store
from rnatracker.tracking.contract import DatasetInput, TrackedRun, Tracker
from rnatracker.tracking.mlflow_run import MlflowRun
from rnatracker.tracking.mlflow_tracker import MlflowTracker
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings, settings_from
from tests.support import paths
from tests.support.servers import start_server

ROOT = paths.ROOT


def begin(tracker: Tracker, log_name: str | None = None, **more: object) -> TrackedRun:
    given: dict[str, object] = {"params": {}, "tags": {}, "dataset": None, **more}
    return tracker.start(log_name=log_name, **given)  # type: ignore[arg-type]


@pytest.fixture(params=["mlflow", "folders"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> TrackingSettings:
    if request.param == "folders":
        return TrackingSettings(tmp_path / "mlruns", enabled=False)
    return TrackingSettings(request.getfixturevalue("mlflow_store"))


@pytest.fixture
def tracker(settings: TrackingSettings) -> Tracker:
    return open_tracker(settings)


@pytest.fixture
def mlflow_tracker(mlflow_store: Path) -> MlflowTracker:
    tracker = open_tracker(TrackingSettings(mlflow_store))
    assert isinstance(tracker, MlflowTracker)
    return tracker


class TestContract:
    def test_start_numbers_runs_when_they_follow_each_other(self, tracker: Tracker, settings: TrackingSettings) -> None:
        names = [begin(tracker).name, begin(tracker, "apex").name, begin(open_tracker(settings)).name]
        assert names == ["exp1", "exp2_apex", "exp3"]

    def test_start_counts_no_child_when_it_has_a_name_of_its_own(self, tracker: Tracker) -> None:
        parent = begin(tracker)
        begin(tracker, parent=parent, name="fold1")
        assert begin(tracker).name == "exp2"

    def test_start_records_parameters_and_tags_as_text(self, tracker: Tracker) -> None:
        params = {"train.lr": 1e-4, "train.amp": False, "data.sites": ["Nucleus", "ERM"], "data.path": None, "x": "y"}
        run = begin(tracker, params=params, tags={"seed": "7"})
        assert run.status() == "RUNNING"
        assert run.params() == {
            "train.lr": "0.0001",
            "train.amp": "false",
            "data.sites": '["Nucleus", "ERM"]',
            "data.path": "null",
            "x": "y",
        }
        assert {
            "seed": "7",
            identity.PID: str(os.getpid()),
            identity.HOST: socket.gethostname(),
        }.items() <= run.tags().items()

    def test_start_makes_a_folder_whose_files_are_found_again(
        self, tracker: Tracker, settings: TrackingSettings
    ) -> None:
        run = begin(tracker)
        (run.folder / "checkpoints").mkdir()
        (run.folder / "checkpoints" / "best.pt").write_bytes(b"weights")
        run.publish()
        found = open_tracker(settings).find(run.id)
        assert (found.folder / "checkpoints" / "best.pt").read_bytes() == b"weights"

    @pytest.mark.parametrize("name", ["a/b", "../up", " x", "", "x" * 200, "a\nb"])
    def test_start_refuses_a_name_when_it_can_be_no_folder(self, tracker: Tracker, name: str) -> None:
        with pytest.raises(ConfigError, match="--log-name"):
            begin(tracker, name=name or "/")

    def test_start_reports_what_was_typed_when_a_name_is_refused(self, tracker: Tracker) -> None:
        with pytest.raises(ConfigError, match=r"--log-name 'a/b':"):
            begin(tracker, "a/b")

    def test_find_takes_id_prefix_name_and_number(self, tracker: Tracker, settings: TrackingSettings) -> None:
        run = begin(tracker, "apex", tags={"a": "b"})
        for i in range(11):
            begin(tracker, f"other{i}")
        again = open_tracker(settings)
        for key in (run.id, run.id[:10], "exp1_apex", "exp1"):
            found = again.find(key)
            assert (found.id, found.name, found.tags()["a"]) == (run.id, "exp1_apex", "b")

    def test_find_takes_a_childs_name_behind_its_parents(self, tracker: Tracker) -> None:
        parents = [begin(tracker, "a"), begin(tracker, "b")]
        children = [begin(tracker, parent=parent, name="trial0") for parent in parents]
        assert tracker.find("exp2_b/trial0").id == children[1].id
        with pytest.raises(TrackingError, match="no run with the id, name or folder exp2_b/trial1"):
            tracker.find("exp2_b/trial1")

    def test_find_takes_an_untracked_run_when_given_its_folder(self, tracker: Tracker, tmp_path: Path) -> None:
        run = begin(open_tracker(TrackingSettings(tmp_path / "elsewhere", enabled=False)))
        assert tracker.find(str(run.folder)).id == run.id

    def test_find_names_the_latest_runs_when_there_is_none(self, tracker: Tracker) -> None:
        begin(tracker)
        begin(tracker, parent=begin(tracker, "apex"), name="fold1")
        with pytest.raises(TrackingError, match=r"exp9; the latest are exp2_apex, exp1;"):
            tracker.find("exp9")

    @pytest.mark.parametrize("run", ["it's", "a'; DROP", "%", "f" * 32, "abcdef", ""])
    def test_find_finds_nothing_when_a_name_is_strange(self, tracker: Tracker, run: str) -> None:
        with pytest.raises(TrackingError, match="there are no runs yet"):
            tracker.find(run)

    def test_find_lists_ids_when_several_runs_have_the_name(self, tracker: Tracker) -> None:
        ids = [begin(tracker, parent=begin(tracker), name="fold1").id for _ in range(2)]
        with pytest.raises(TrackingError, match="names 2 runs") as caught:
            tracker.find("fold1")
        for i, each in enumerate(ids, start=1):
            assert f"{each} (fold1 of exp{i})" in str(caught.value)

    def test_metrics_are_the_last_steps_when_several_are_logged(
        self, tracker: Tracker, settings: TrackingSettings
    ) -> None:
        run = begin(tracker)
        for step in (1, 2, 3):
            run.log_metrics({"train/loss": 1 / step, "val/pcc_mean": step / 10}, step)
        run.finish("FINISHED")
        again = open_tracker(settings).find(run.id)
        assert again.metrics() == pytest.approx({"train/loss": 1 / 3, "val/pcc_mean": 0.3})
        assert again.logged_steps("train/loss") == {1, 2, 3}

    def test_logged_steps_hold_what_is_not_yet_written(self, tracker: Tracker) -> None:
        run = begin(tracker)
        run.log_metrics({"train/loss": 1.0}, 1)
        assert run.logged_steps("train/loss") == {1}
        assert run.logged_steps("val/loss") == set()

    def test_history_gives_a_metrics_values_by_step(self, tracker: Tracker, settings: TrackingSettings) -> None:
        run = begin(tracker)
        for step, value in ((1, 0.1), (2, 1 / 3)):
            run.log_metrics({"val/loss": value}, step)
        assert run.history("val/loss") == {1: 0.1, 2: 1 / 3}
        run.finish("FINISHED")
        assert open_tracker(settings).find(run.id).history("val/loss") == {1: 0.1, 2: 1 / 3}
        assert run.history("none") == {}

    def test_metrics_leave_out_values_when_they_are_not_finite(self, tracker: Tracker) -> None:
        run = begin(tracker)
        run.log_metrics({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.0}, 1)
        assert run.metrics() == {"d": 0.0}

    def test_metrics_have_admitted_names_when_a_site_has_not(self, tracker: Tracker) -> None:
        run = begin(tracker)
        run.log_metrics({"val/pcc_3'UTR+": 0.5, "val/pcc_ER/Golgi": 0.25}, 1)
        assert run.metrics() == {"val/pcc_3_UTR_": 0.5, "val/pcc_ER/Golgi": 0.25}
        assert run.logged_steps("val/pcc_3'UTR+") == {1}

    def test_children_are_by_name_and_of_one_name_the_latest(
        self, tracker: Tracker, settings: TrackingSettings
    ) -> None:
        parent, other = begin(tracker), begin(tracker)
        begin(tracker, parent=parent, name="fold1").finish("FAILED")
        time.sleep(0.01)
        later = [begin(tracker, parent=parent, name=name) for name in ("fold1", "fold2")]
        children = open_tracker(settings).find(parent.id).children()
        assert {name: child.id for name, child in children.items()} == {"fold1": later[0].id, "fold2": later[1].id}
        assert other.children() == {}

    def test_finish_counts_once_when_called_again(self, tracker: Tracker) -> None:
        run = begin(tracker)
        run.finish("KILLED", "stopped by Ctrl-C")
        run.finish("FINISHED")
        assert run.status() == "KILLED"
        assert run.tags()["rnatracker.message"] == "stopped by Ctrl-C"

    @pytest.mark.parametrize("message", ["", "pruned"])
    def test_finish_leaves_no_older_message_when_the_run_was_taken_for_dead(
        self, tracker: Tracker, settings: TrackingSettings, message: str
    ) -> None:
        run = begin(tracker)
        open_tracker(settings).find(run.id).set_tags({"rnatracker.message": "its process died"})
        run.finish("FINISHED", message)
        found = open_tracker(settings).find(run.id)
        assert (found.status(), found.tags()["rnatracker.message"]) == ("FINISHED", message)

    def test_finish_says_nothing_when_there_is_nothing_to_say(self, tracker: Tracker) -> None:
        run = begin(tracker)
        run.finish("FINISHED")
        assert "rnatracker.message" not in run.tags()

    def test_tags_and_description_change_when_set_again(self, tracker: Tracker) -> None:
        run = begin(tracker, tags={"a": "1", "b": "1"})
        run.set_tags({"a": "2"})
        run.describe("**bold**")
        assert {"a": "2", "b": "1", "mlflow.note.content": "**bold**"}.items() <= run.tags().items()

    @pytest.mark.parametrize("status", ["KILLED", "FAILED"])
    def test_reopen_runs_again_when_it_was_interrupted(
        self, tracker: Tracker, settings: TrackingSettings, status: str
    ) -> None:
        run = begin(tracker)
        run.log_metrics({"train/loss": 1.0}, 1)
        run.finish(status, "why")  # type: ignore[arg-type]
        again = open_tracker(settings).find(run.id)
        again.reopen()
        assert (again.status(), again.tags()["rnatracker.message"]) == ("RUNNING", "")
        again.log_metrics({"train/loss": 0.5}, 2)
        again.finish("FINISHED")
        assert open_tracker(settings).find(run.id).logged_steps("train/loss") == {1, 2}
        assert again.status() == "FINISHED"

    def test_reopen_refuses_when_the_run_has_finished(self, tracker: Tracker) -> None:
        run = begin(tracker)
        run.finish("FINISHED")
        with pytest.raises(TrackingError, match=r"exp1 .* has finished.*--weights"):
            run.reopen()

    def test_reopen_refuses_until_the_process_that_runs_it_is_dead(self, tracker: Tracker) -> None:
        run = begin(tracker)
        with subprocess.Popen(["sleep", "60"]) as other:
            run.set_tags(identity.tags_of(other.pid))
            with pytest.raises(TrackingError, match=f"still being run by process {other.pid}"):
                run.reopen()
            other.kill()
            time.sleep(0.1)  # dead, not yet collected: a zombie
            run.reopen()
        assert run.tags()[identity.PID] == str(os.getpid())

    def test_reopen_is_granted_when_the_process_id_is_used_again(self, tracker: Tracker) -> None:
        run = begin(tracker)
        with subprocess.Popen(["sleep", "60"]) as other:
            run.set_tags({**identity.tags_of(other.pid), identity.PROCESS_START: "1"})
            run.reopen()
            other.kill()
        assert (run.status(), run.tags()[identity.PID]) == ("RUNNING", str(os.getpid()))

    def test_log_metrics_goes_on_when_the_store_fails(
        self, tracker: Tracker, settings: TrackingSettings, caplog: pytest.LogCaptureFixture
    ) -> None:
        run = begin(tracker)
        mend = break_store(run, settings)
        with caplog.at_level(logging.WARNING, "rnatracker"):
            for step in (1, 2):
                run.log_metrics({"train/loss": 1.0}, step)
                run.flush()
        assert [record.name for record in caplog.records] == ["rnatracker"]
        with pytest.raises(TrackingError):
            run.finish("FINISHED", "all done")
        assert (run.status(), run.tags()["rnatracker.message"]) == ("FINISHED", "all done")
        mend()
        run.finish("FINISHED")
        again = open_tracker(settings).find(run.id)
        assert (again.status(), again.logged_steps("train/loss")) == ("FINISHED", {1, 2})


def break_store(run: TrackedRun, settings: TrackingSettings) -> Callable[[], object]:
    """Make writing metrics fail as on a full disk; return what mends it."""
    if not settings.enabled:
        (run.folder / "metrics.jsonl").mkdir()
        return (run.folder / "metrics.jsonl").rmdir

    def execute(sql: str) -> None:
        with closing(sqlite3.connect(settings.store / store.DATABASE)) as connection, connection:
            connection.execute(sql)

    execute("CREATE TRIGGER full BEFORE INSERT ON metrics BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END")
    return lambda: execute("DROP TRIGGER full")


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


class TestMlflow:
    def test_long_values_are_cut_and_say_so(self, mlflow_tracker: MlflowTracker) -> None:
        run = begin(mlflow_tracker, params={"long": "x" * 7000}, tags={"long": "y" * 9000})
        assert len(run.params()["long"]) == 6000
        assert run.params()["long"].endswith("x ... [cut, 7000 characters]")
        assert len(run.tags()["long"]) == 8000
        assert run.tags()["long"].endswith("y ... [cut, 9000 characters]")

    def test_more_than_a_hundred_parameters_are_recorded(self, mlflow_tracker: MlflowTracker) -> None:
        params = {f"p{i}": i for i in range(250)}
        assert len(begin(mlflow_tracker, params=params).params()) == 250

    def test_dataset_is_an_input(self, mlflow_tracker: MlflowTracker) -> None:
        run = begin(mlflow_tracker, dataset=DatasetInput("apex.fa", "0" * 32, "/data/apex.fa", 1629))
        [found] = mlflow_tracker._backend.client.get_run(run.id).inputs.dataset_inputs
        assert (found.dataset.name, found.dataset.digest, found.dataset.profile) == (
            "apex.fa",
            "0" * 32,
            '{"num_rows": 1629}',
        )
        assert [(tag.key, tag.value) for tag in found.tags] == [("mlflow.data.context", "training")]

    def test_reopen_takes_the_end_time_away(self, mlflow_tracker: MlflowTracker) -> None:
        run = begin(mlflow_tracker)
        run.finish("KILLED")
        client = mlflow_tracker._backend.client
        assert client.get_run(run.id).info.end_time > 0
        run.reopen()
        assert client.get_run(run.id).info.end_time is None

    def test_start_leaves_no_run_running_when_its_parameters_fail(self, mlflow_tracker: MlflowTracker) -> None:
        with pytest.raises(TrackingError, match="recording the parameters of exp1 failed"):
            begin(mlflow_tracker, params={"not'admitted": 1})
        assert mlflow_tracker.find("exp1").status() == "FAILED"

    @pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (ZeroDivisionError, "FAILED")])
    def test_start_leaves_no_run_running_when_anything_stops_it(
        self, mlflow_tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], status: str
    ) -> None:
        def stop(*_: object) -> None:
            raise error

        monkeypatch.setattr(MlflowTracker, "_record", stop)
        with pytest.raises(error):
            begin(mlflow_tracker)
        assert mlflow_tracker.find("exp1").status() == status

    def test_describe_warns_when_the_store_fails(
        self, mlflow_tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        from mlflow.exceptions import MlflowException

        def fail(*_: object, **__: object) -> None:
            raise MlflowException("no")

        run = begin(mlflow_tracker)
        monkeypatch.setattr(mlflow_tracker._backend.client, "log_batch", fail)
        with caplog.at_level(logging.WARNING, "rnatracker"):
            run.describe("note")
        assert "tagging exp1 failed: no" in caplog.text

    def test_next_number_is_behind_all_names_when_the_count_is_lost(self, mlflow_tracker: MlflowTracker) -> None:
        backend = mlflow_tracker._backend
        backend.client.create_run(backend.experiment_id, run_name="exp41_old")
        assert begin(mlflow_tracker).name == "exp42"

    def test_find_says_so_when_a_run_was_deleted(self, mlflow_tracker: MlflowTracker) -> None:
        run = begin(mlflow_tracker)
        mlflow_tracker._backend.client.delete_run(run.id)
        with pytest.raises(TrackingError, match=f"was deleted.*mlflow runs restore --run-id {run.id}"):
            mlflow_tracker.find(run.id)

    def test_find_finds_a_run_of_another_experiment_by_its_id(
        self, mlflow_tracker: MlflowTracker, mlflow_store: Path
    ) -> None:
        other = open_tracker(TrackingSettings(mlflow_store, experiment="other/one"))
        run = begin(other)
        assert mlflow_tracker.find(run.id).name == "exp1"
        assert run.folder.is_relative_to(mlflow_store / "artifacts" / "other_2Fone")

    def test_open_says_how_to_restore_when_the_experiment_was_deleted(
        self, mlflow_tracker: MlflowTracker, mlflow_store: Path
    ) -> None:
        backend = mlflow_tracker._backend
        backend.client.delete_experiment(backend.experiment_id)
        with pytest.raises(TrackingError, match=r"'rnatracker' was deleted.*--experiment.*restore -x 1"):
            open_tracker(TrackingSettings(mlflow_store))

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

    def test_database_writes_ahead(self, mlflow_store: Path) -> None:
        with closing(sqlite3.connect(mlflow_store / store.DATABASE)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_description_shows_the_pictures_where_the_ui_serves_them(self, mlflow_tracker: MlflowTracker) -> None:
        run = begin(mlflow_tracker, "seen")
        (run.folder / "plots").mkdir()
        (run.folder / "plots" / "curve.png").write_bytes(b"picture")
        run.describe("Best of all.")
        note = run.tags()["mlflow.note.content"]
        assert note == f"Best of all.\n\n![curve.png](get-artifact?path=plots%2Fcurve.png&run_uuid={run.id})"

    def test_ui_command_names_store_and_port(self, mlflow_tracker: MlflowTracker, mlflow_store: Path) -> None:
        command = mlflow_tracker.ui_command(5001)
        assert command is not None
        assert command.startswith("MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true ")
        assert f"server -w 1 --backend-store-uri sqlite:///{mlflow_store}/mlflow.db" in command
        assert command.endswith("--host 127.0.0.1 --port 5001")
        assert mlflow_tracker.ui_url(5001) == (
            "http://127.0.0.1:5001/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=rnatracker"
        )

    def test_another_database_is_used_when_the_address_names_one(self, mlflow_store: Path, tmp_path: Path) -> None:
        shutil.copy(mlflow_store / store.DATABASE, tmp_path / "team.db")
        settings = TrackingSettings(tmp_path / "mine", f"sqlite:///{tmp_path}/team.db")
        run = begin(open_tracker(settings))
        assert run.folder.is_relative_to(tmp_path / "mine" / "artifacts")
        assert open_tracker(settings).find("exp1").id == run.id


def abandon(run: TrackedRun, **tags: str) -> None:
    """Make a run one of a process that has died."""
    with subprocess.Popen(["sleep", "60"]) as other:
        named = identity.tags_of(other.pid)
        other.kill()
    run.set_tags(named | {key.replace("__", "."): value for key, value in tags.items()})


class TestDeadRuns:
    def test_open_ends_runs_when_their_process_is_dead(self, mlflow_tracker: MlflowTracker, mlflow_store: Path) -> None:
        parent = begin(mlflow_tracker)
        child = begin(mlflow_tracker, parent=parent, name="fold1", tags={"rnatracker.kind": "fold"})
        abandon(parent, rnatracker__kind="cross-validation")
        abandon(child)
        found = open_tracker(TrackingSettings(mlflow_store)).find("exp1")
        for run in (found, found.children()["fold1"]):
            assert (run.status(), run.tags()["rnatracker.message"]) == (
                "FAILED",
                f"its process died; resume it with: rnatracker train --resume exp1 --store {mlflow_store}",
            )
        found.reopen()
        assert (found.status(), found.tags()["rnatracker.message"]) == ("RUNNING", "")

    def test_open_ends_runs_when_the_machine_was_started_anew(
        self, mlflow_tracker: MlflowTracker, mlflow_store: Path
    ) -> None:
        begin(mlflow_tracker).set_tags({identity.BOOT_ID: "before"})
        assert open_tracker(TrackingSettings(mlflow_store)).find("exp1").status() == "FAILED"

    @pytest.mark.parametrize("tag", [identity.HOST, identity.PID_NAMESPACE])
    def test_open_leaves_runs_alone_when_they_are_elsewhere(
        self, mlflow_tracker: MlflowTracker, mlflow_store: Path, tag: str
    ) -> None:
        abandon(begin(mlflow_tracker), **{tag.replace(".", "__"): "other"})
        assert open_tracker(TrackingSettings(mlflow_store)).find("exp1").status() == "RUNNING"

    def test_open_leaves_runs_alone_when_their_process_lives_or_is_unknown(
        self, mlflow_tracker: MlflowTracker, mlflow_store: Path
    ) -> None:
        runs = [begin(mlflow_tracker) for _ in range(2)]
        backend = mlflow_tracker._backend
        backend.client.create_run(backend.experiment_id, run_name="exp9")
        with subprocess.Popen(["sleep", "60"]) as other:
            runs[1].set_tags(identity.tags_of(other.pid))
            again = open_tracker(TrackingSettings(mlflow_store))
            assert [again.find(name).status() for name in ("exp1", "exp2", "exp9")] == ["RUNNING"] * 3
            other.kill()

    def test_open_gives_no_advice_when_a_run_cant_be_resumed(
        self, mlflow_tracker: MlflowTracker, mlflow_store: Path
    ) -> None:
        abandon(begin(mlflow_tracker), rnatracker__kind="imported")
        assert open_tracker(TrackingSettings(mlflow_store)).find("exp1").tags()["rnatracker.message"] == (
            "its process died"
        )

    def test_looking_for_dead_runs_is_quick(self, mlflow_tracker: MlflowTracker, mlflow_store: Path) -> None:
        for _ in range(5):
            begin(mlflow_tracker)
        seconds = []
        for _ in range(5):
            begun = time.perf_counter()
            store.end_dead_runs(mlflow_store / store.DATABASE, TrackingSettings(mlflow_store))
            seconds.append(time.perf_counter() - begun)
        assert min(seconds) < 0.02


class TestBadStore:
    @pytest.mark.parametrize("content", [b"no database at all " * 100, b"SQLite format 3\0 torn"])
    def test_open_refuses_a_file_when_it_is_no_database(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "mlflow.db").write_bytes(content)
        with pytest.raises(TrackingError, match=r"mlflow.db: not a database of MLflow .*move that file away"):
            open_tracker(TrackingSettings(tmp_path))
        assert (tmp_path / "mlflow.db").read_bytes() == content

    def test_open_refuses_a_database_when_it_is_not_mlflows(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
            connection.execute("CREATE TABLE trials (x)")
        with pytest.raises(TrackingError, match="not a database of MLflow"):
            open_tracker(TrackingSettings(tmp_path))

    @pytest.mark.parametrize(
        ("revision", "remedy"),
        [("ffffffffffff", "newer MLflow .*pip install --upgrade mlflow"), ("451aebb31d03", "mlflow db upgrade")],
    )
    def test_open_says_what_to_upgrade_when_the_schema_is_another(
        self, mlflow_store: Path, revision: str, remedy: str
    ) -> None:
        with closing(sqlite3.connect(mlflow_store / store.DATABASE)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        with pytest.raises(TrackingError, match=remedy):
            open_tracker(TrackingSettings(mlflow_store))

    def test_store_is_made_when_a_killed_process_left_half_of_one(self, tmp_path: Path) -> None:
        (tmp_path / "mlflow.db.999.tmp").write_bytes(b"half")
        (tmp_path / "mlflow.db").touch()
        assert begin(open_tracker(TrackingSettings(tmp_path))).name == "exp1"
        assert not list(tmp_path.glob("*.tmp*"))

    @pytest.mark.parametrize("enabled", [True, False])
    def test_store_is_refused_when_it_cant_be_written(self, tmp_path: Path, enabled: bool) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(TrackingError, match=r"runs can't be kept there \(Not a directory\).*--store"):
            begin(open_tracker(TrackingSettings(tmp_path / "file" / "mlruns", enabled=enabled)))

    def test_store_is_refused_when_its_path_would_be_misread(self, tmp_path: Path) -> None:
        with pytest.raises(TrackingError, match=r"\? and %"):
            open_tracker(TrackingSettings(tmp_path / "100%"))

    @pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns"])
    def test_open_refuses_plain_files_as_an_address(self, tmp_path: Path, uri: str) -> None:
        with pytest.raises(TrackingError, match="no longer keeps runs in plain files"):
            open_tracker(TrackingSettings(tmp_path, uri))

    def test_open_refuses_an_address_of_a_kind_that_mlflow_has_not(self, tmp_path: Path) -> None:
        with pytest.raises(TrackingError, match="ftp://x"):
            open_tracker(TrackingSettings(tmp_path, "ftp://x"))

    def test_untracked_run_is_refused_when_its_record_is_damaged(self, tmp_path: Path) -> None:
        tracker = open_tracker(TrackingSettings(tmp_path, enabled=False))
        run = begin(tracker)
        (run.folder / "run.json").write_text('{"id": ')
        with pytest.raises(TrackingError, match=r"run.json: not the record of a run"):
            tracker.find(str(run.folder))

    def test_untracked_metrics_are_read_when_a_kill_has_torn_the_last_line(self, tmp_path: Path) -> None:
        tracker = open_tracker(TrackingSettings(tmp_path, enabled=False))
        run = begin(tracker)
        run.log_metrics({"a": 1.0}, 1)
        with (run.folder / "metrics.jsonl").open("a") as file:
            file.write('{"step": 2, "met')
        again = tracker.find("exp1")
        assert again.logged_steps("a") == {1}
        again.log_metrics({"a": 3.0}, 3)
        assert tracker.find("exp1").logged_steps("a") == {1, 3}


@pytest.fixture
def machine(mlflow_tracker: MlflowTracker, tmp_path: Path) -> Callable[[str, TrackedRun], MlflowRun]:
    """Look at a run from a machine of that name, to which the store's artifacts are remote."""

    def look(name: str, run: TrackedRun) -> MlflowRun:
        backend = replace(mlflow_tracker._backend, folder=tmp_path / name, is_remote=True)
        return MlflowRun(backend, backend.client.get_run(run.id))

    return look


Machine = Callable[[str, TrackedRun], MlflowRun]


class TestRemoteFiles:
    def test_folder_is_downloaded_again_when_another_machine_has_gone_on(
        self, mlflow_tracker: MlflowTracker, machine: Machine
    ) -> None:
        run = machine("a", begin(mlflow_tracker))
        run.make_folder()
        for content in ("1", "22"):
            (run.folder / "log.txt").write_text(content)
            run.publish(now=True)
            run.set_tags({identity.PID: "1"})
            assert (machine("b", run).folder / "log.txt").read_text() == content
        assert {path.name for path in machine("b", run).folder.parent.iterdir()} == {run.id, f"{run.id}.revision"}

    def test_folder_stays_when_it_is_ahead_of_the_server(self, mlflow_tracker: MlflowTracker, machine: Machine) -> None:
        run = machine("a", begin(mlflow_tracker))
        run.make_folder()
        (run.folder / "log.txt").write_text("published")
        run.publish()
        (run.folder / "log.txt").write_text("not yet published")
        run.set_tags({identity.PID: "1"})
        assert (machine("a", run).folder / "log.txt").read_text() == "not yet published"

    def test_folder_stays_when_this_process_runs_the_run(self, mlflow_tracker: MlflowTracker, machine: Machine) -> None:
        run = machine("a", begin(mlflow_tracker))
        run.make_folder()
        (run.folder / "log.txt").write_text("mine")
        run.set_tags({"rnatracker.revision": "of another"})
        assert (machine("a", run).folder / "log.txt").read_text() == "mine"

    def test_folder_is_looked_for_again_when_there_were_no_files(
        self, mlflow_tracker: MlflowTracker, machine: Machine
    ) -> None:
        run = machine("a", begin(mlflow_tracker))
        run.make_folder()
        far = machine("b", run)
        assert list(far.folder.iterdir()) == []
        (run.folder / "log.txt").write_text("1")
        run.publish()
        assert [path.name for path in far.folder.iterdir()] == ["log.txt"]

    def test_publish_waits_a_minute_unless_told_and_finish_sends_all(
        self, mlflow_tracker: MlflowTracker, machine: Machine
    ) -> None:
        run = machine("a", begin(mlflow_tracker))
        run.make_folder()
        seen = []
        for name, publish in {
            "first": run.publish,
            "second": run.publish,
            "third": lambda: run.publish(now=True),
            "fourth": lambda: run.finish("FINISHED"),
        }.items():
            (run.folder / name).write_text(name)
            publish()
            seen.append(len(mlflow_tracker._backend.client.list_artifacts(run.id)))
        assert seen == [1, 1, 3, 4]

    def test_publish_sets_no_revision_when_nothing_has_changed(
        self, mlflow_tracker: MlflowTracker, machine: Machine
    ) -> None:
        run = machine("a", begin(mlflow_tracker))
        run.make_folder()
        run.publish(now=True)
        assert "rnatracker.revision" not in run.tags()
        (run.folder / "log.txt").write_text("1")
        run.publish(now=True)
        revision = run.tags()["rnatracker.revision"]
        run.publish(now=True)
        assert run.tags()["rnatracker.revision"] == revision


class TestServer:
    def test_finish_waits_once_when_the_server_hangs(
        self, mlflow_tracker: MlflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mlflow import MlflowClient

        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setattr(store, "_REACH_SECONDS", 1.0)
        near = begin(mlflow_tracker)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            uri = f"http://user:secret@127.0.0.1:{silent.getsockname()[1]}"
            client = MlflowClient(uri, uri)
            backend = replace(mlflow_tracker._backend, client=client, uri=uri, folder=tmp_path / "a", is_remote=True)
            run = MlflowRun(backend, mlflow_tracker._backend.client.get_run(near.id))
            run.make_folder()
            (run.folder / "log.txt").write_text("1")
            run.log_metrics({"a": 1.0}, 1)
            for expected in ("ending exp1 failed", "can't be reached"):
                begun = time.monotonic()
                with pytest.raises(TrackingError, match=f"{expected}.*; 1 metric value is not recorded") as caught:
                    run.finish("FINISHED", "why")
                assert time.monotonic() - begun < 2.5
                assert "secret" not in str(caught.value)
            run.describe("note")

    @pytest.mark.parametrize(
        ("uri", "package"),
        [("postgresql+pg8000://u:secret@127.0.0.1/x", "pg8000"), ("mysql://u:secret@127.0.0.1/x", "mysqlclient")],
    )
    def test_open_says_what_to_install_when_a_driver_is_missing(self, tmp_path: Path, uri: str, package: str) -> None:
        with pytest.raises(TrackingError, match=rf"\*\*\*@127.0.0.1/x: .* pip install {package}$") as caught:
            open_tracker(TrackingSettings(tmp_path, uri))
        assert "secret" not in str(caught.value)

    def test_no_message_has_the_password_when_an_address_has_one(self, tmp_path: Path) -> None:
        with pytest.raises(TrackingError, match=r"http://\*\*\*@127.0.0.1:9 can't be reached") as caught:
            open_tracker(TrackingSettings(tmp_path, "http://user:sec@ret@127.0.0.1:9"))
        assert "ret@" not in str(caught.value)

    def test_open_says_so_at_once_when_nothing_listens(self, tmp_path: Path) -> None:
        begun = time.monotonic()
        with pytest.raises(TrackingError, match=r"http://127.0.0.1:9 can't be reached .*--no-track"):
            open_tracker(TrackingSettings(tmp_path, "http://127.0.0.1:9"))
        assert time.monotonic() - begun < 10

    def test_open_says_so_within_ten_seconds_when_a_server_never_answers(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            begun = time.monotonic()
            with pytest.raises(TrackingError, match="can't be reached"):
                open_tracker(TrackingSettings(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}"))
            assert time.monotonic() - begun < 10

    @pytest.mark.slow
    def test_run_outlives_its_server_when_that_dies(
        self, mlflow_store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        uri = f"http://127.0.0.1:{port}"
        with start_server(mlflow_store, tmp_path / "served", port) as server:
            try:
                tracker = open_tracker(TrackingSettings(tmp_path / "mine", uri))
                run = begin(tracker, "far", params={"a": 1})
                (run.folder / "checkpoints").mkdir()
                (run.folder / "checkpoints" / "last.pt").write_bytes(b"weights")
                run.log_metrics({"train/loss": 1.0}, 1)
                run.flush()
                run.publish()
                # From another machine, with nothing of it there.
                far = open_tracker(TrackingSettings(tmp_path / "other", uri)).find("exp1")
                assert (far.folder / "checkpoints" / "last.pt").read_bytes() == b"weights"
                assert far.metrics() == {"train/loss": 1.0}
                assert (tracker.ui_command(), tracker.ui_url()) == (
                    None,
                    f"{uri}/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=rnatracker",
                )
            finally:
                os.killpg(server.pid, signal.SIGKILL)
        with caplog.at_level(logging.WARNING, "rnatracker"):
            for step in range(2, 5):
                run.log_metrics({"train/loss": 1.0}, step)
                run.flush()
        assert len([each for each in caplog.records if each.name == "rnatracker"]) == 1
        with pytest.raises(TrackingError, match=f"3 metric values are not recorded; .* lies in {run.folder}"):
            run.finish("FINISHED")


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


def python(code: str, *arguments: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
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
