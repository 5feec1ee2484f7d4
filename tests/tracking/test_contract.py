"""The contract of tracking, kept by both trackers: runs in MLflow and in plain folders."""

from __future__ import annotations

import logging
import math
import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from rnatracker.errors import ConfigError, TrackingError
from rnatracker.processes import identity
from rnatracker.tracking import places
from rnatracker.tracking.contract import TrackedRun, Tracker
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support.processes import is_alive
from tests.support.trackers import begin, wait_a_millisecond


@pytest.fixture
def tracker(settings: TrackingSettings) -> Tracker:
    return open_tracker(settings)


def break_store(run: TrackedRun, settings: TrackingSettings) -> Callable[[], object]:
    """Make writing metrics fail as on a full disk; return what mends it."""
    if not settings.enabled:
        (run.folder / "metrics.jsonl").mkdir()
        return (run.folder / "metrics.jsonl").rmdir

    def execute(sql: str) -> None:
        with closing(sqlite3.connect(settings.store / places.DATABASE)) as connection, connection:
            connection.execute(sql)

    execute("CREATE TRIGGER full BEFORE INSERT ON metrics BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END")
    return lambda: execute("DROP TRIGGER full")


class TrackerContract:
    """What every tracker does; those that keep this contract inherit it and say where they keep runs."""

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
        with pytest.raises(TrackingError) as caught:
            tracker.find("exp2_b/trial1")
        assert "no run with the id, name or folder exp2_b/trial1" in caught.value.problem

    def test_find_takes_an_untracked_run_when_given_its_folder(self, tracker: Tracker, tmp_path: Path) -> None:
        run = begin(open_tracker(TrackingSettings(tmp_path / "elsewhere", enabled=False)))
        assert tracker.find(str(run.folder)).id == run.id

    def test_find_names_the_latest_runs_when_there_is_none(self, tracker: Tracker, settings: TrackingSettings) -> None:
        begin(tracker)
        begin(tracker, parent=begin(tracker, "apex"), name="fold1")
        with pytest.raises(TrackingError) as caught:
            tracker.find("exp9")
        assert caught.value.problem.endswith("exp9; the latest are exp2_apex, exp1")
        assert caught.value.remedy == f"see all with: rnatracker runs --store {settings.store}"

    @pytest.mark.parametrize("run", ["it's", "a'; DROP", "%", "f" * 32, "abcdef", ""])
    def test_find_finds_nothing_when_a_name_is_strange(self, tracker: Tracker, run: str) -> None:
        with pytest.raises(TrackingError) as caught:
            tracker.find(run)
        assert caught.value.remedy == "there are no runs yet"

    def test_find_lists_ids_when_several_runs_have_the_name(self, tracker: Tracker) -> None:
        ids = [begin(tracker, parent=begin(tracker), name="fold1").id for _ in range(2)]
        with pytest.raises(TrackingError, match="names 2 runs") as caught:
            tracker.find("fold1")
        for i, each in enumerate(ids, start=1):
            assert f"{each} (fold1 of exp{i})" in caught.value.remedy

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
        wait_a_millisecond()
        later = [begin(tracker, parent=parent, name=name) for name in ("fold1", "fold2")]
        children = open_tracker(settings).find(parent.id).children()
        assert {name: child.id for name, child in children.items()} == {"fold1": later[0].id, "fold2": later[1].id}
        assert other.children() == {}

    def test_children_of_one_name_are_the_latest_though_the_clock_was_set_back(
        self, tracker: Tracker, settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parent = begin(tracker)
        clock = time.time() + 3600
        for n_begun in range(1, 4):
            monkeypatch.setattr(time, "time", lambda now=clock - 1200 * n_begun: now)
            later = begin(tracker, parent=parent, name="fold1")
            assert open_tracker(settings).find(parent.id).children()["fold1"].id == later.id

    @pytest.mark.parametrize("step", [0, 1, 5])
    def test_figures_logged_again_count_though_the_clock_was_set_back(
        self, step: int, tracker: Tracker, settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At one step: by the same process, by one that resumes the run, and by one that only opens it."""
        run = begin(tracker)
        clock = time.time()
        for n_logged, value in enumerate((4.0, 3.0, 2.0, 1.0)):
            monkeypatch.setattr(time, "time", lambda now=clock - 1200 * n_logged: now)
            if n_logged == 2:
                run.finish("KILLED")
                run = open_tracker(settings).find(run.id)
                run.reopen()
            if n_logged == 3:
                run = open_tracker(settings).find(run.id)
            run.log_metrics({"val/loss": value}, step)
            assert run.metrics() == {"val/loss": value}
            assert run.history("val/loss") == {step: value}
            again = open_tracker(settings).find(run.id)
            assert (again.metrics(), again.history("val/loss")) == ({"val/loss": value}, {step: value})

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

    def test_what_a_user_has_typed_stays_in_the_description_with_ours_below(self, tracker: Tracker) -> None:
        run = begin(tracker, tags={"mlflow.note.content": "My note."})
        run.describe("first")
        assert run.tags()["mlflow.note.content"] == "My note.\n\nfirst"
        run.set_tags({"mlflow.note.content": "Mine, changed.\n\nfirst\n\nAnd below."})
        run.describe("second")
        assert run.tags()["mlflow.note.content"] == "Mine, changed.\n\nsecond\n\nAnd below."

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
        with pytest.raises(TrackingError) as caught:
            run.reopen()
        assert "exp1 " in caught.value.problem
        assert "has finished" in caught.value.problem
        assert "--weights" in caught.value.remedy

    def test_reopen_refuses_until_the_process_that_runs_it_is_dead(self, tracker: Tracker) -> None:
        run = begin(tracker)
        with subprocess.Popen(["sleep", "60"]) as other:
            run.set_tags(identity.tags_of(other.pid))
            with pytest.raises(TrackingError) as caught:
                run.reopen()
            assert f"still being run by process {other.pid} " in caught.value.problem
            other.kill()
            while is_alive(other.pid):  # dead, not yet collected: a zombie
                pass
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


class TestMlflowTracker(TrackerContract):
    @pytest.fixture
    def settings(self, mlflow_store: Path) -> TrackingSettings:
        return TrackingSettings(mlflow_store)


class TestFolderTracker(TrackerContract):
    @pytest.fixture
    def settings(self, tmp_path: Path) -> TrackingSettings:
        return TrackingSettings(tmp_path / "mlruns", enabled=False)
