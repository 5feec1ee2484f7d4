"""Runs whose process has died."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from rnatracker.processes import identity
from rnatracker.tracking import places, store
from rnatracker.tracking.mlflow_tracker import MlflowTracker
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support.trackers import abandon, begin


@pytest.fixture
def mlflow_tracker(mlflow_store: Path) -> MlflowTracker:
    tracker = open_tracker(TrackingSettings(mlflow_store))
    assert isinstance(tracker, MlflowTracker)
    return tracker


class TestInMlflow:
    def test_open_ends_runs_when_their_process_is_dead(self, mlflow_tracker: MlflowTracker, mlflow_store: Path) -> None:
        parent = begin(mlflow_tracker)
        child = begin(mlflow_tracker, parent=parent, name="fold1", tags={"rnatracker.kind": "fold"})
        parent.files.config.touch()
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

    def test_a_run_that_had_nothing_to_resume_yet_is_not_to_be_resumed(
        self, mlflow_tracker: MlflowTracker, mlflow_store: Path
    ) -> None:
        abandon(begin(mlflow_tracker), rnatracker__kind="train")
        message = open_tracker(TrackingSettings(mlflow_store)).find("exp1").tags()["rnatracker.message"]
        assert message == "its process died before there was anything to resume; start it again"

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
            store.end_dead_runs(mlflow_store / places.DATABASE, TrackingSettings(mlflow_store))
            seconds.append(time.perf_counter() - begun)
        assert min(seconds) < 0.02


class TestInFolders:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> TrackingSettings:
        return TrackingSettings(tmp_path / "mlruns", enabled=False)

    def test_listing_ends_runs_when_their_process_is_dead(self, settings: TrackingSettings) -> None:
        tracker = open_tracker(settings)
        parent, alive = begin(tracker), begin(tracker)
        child = begin(tracker, parent=parent, name="fold1", tags={"rnatracker.kind": "fold"})
        parent.files.config.touch()
        abandon(parent, rnatracker__kind="cross-validation")
        abandon(child)
        assert {run.name: run.status for run in tracker.list_runs().runs} == {
            "exp1": "FAILED",
            "fold1": "FAILED",
            "exp2": "RUNNING",
        }
        message = f"its process died; resume it with: rnatracker train --resume {parent.folder}"
        assert tracker.find("exp1").tags()["rnatracker.message"] == message
        assert tracker.find("fold1").tags()["rnatracker.message"] == message
        assert alive.status() == "RUNNING"

    def test_listing_leaves_runs_alone_when_they_are_elsewhere(self, settings: TrackingSettings) -> None:
        tracker = open_tracker(settings)
        abandon(begin(tracker), **{identity.HOST.replace(".", "__"): "other"})
        assert [run.status for run in tracker.list_runs().runs] == ["RUNNING"]
