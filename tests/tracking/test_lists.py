"""The contract of tracking about many runs, kept by both trackers: listed, filtered, and looked at while they run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rnatracker.errors import UsageError
from rnatracker.tracking.contract import DatasetInput, Tracker
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from tests.support.trackers import begin, wait_a_millisecond


@pytest.fixture
def tracker(settings: TrackingSettings) -> Tracker:
    return open_tracker(settings)


class ListContract:
    """What every tracker does with many runs."""

    def test_list_runs_gives_what_was_recorded_the_latest_first(self, tracker: Tracker) -> None:
        tags = {Tag.KIND: "cross-validation", Tag.STUDY: "s", "other": "x"}
        parent = begin(tracker, "cv", params={"data.path": "/a/a.tsv", "train.lr": 0.1}, tags=tags)
        wait_a_millisecond()
        child = begin(tracker, parent=parent, name="fold1", tags={Tag.KIND: "fold"})
        child.log_metrics({"test/pcc_mean": 0.25, "val/pcc_mean": 0.5}, 1)
        child.finish("FINISHED")
        runs = tracker.list_runs().runs
        tracker.fill(runs)
        assert [(run.run_id, run.name, run.status) for run in runs] == [
            (child.id, "fold1", "FINISHED"),
            (parent.id, "exp1_cv", "RUNNING"),
        ]
        assert (runs[0].parent_id, runs[0].headline) == (parent.id, (0.25, "its fold"))
        assert (runs[0].metrics, runs[0].ended is not None) == ({"test/pcc_mean": 0.25, "val/pcc_mean": 0.5}, True)
        assert (runs[1].tags, runs[1].data, runs[1].ended) == (
            {Tag.KIND: "cross-validation", Tag.STUDY: "s"},
            "a.tsv",
            None,
        )
        assert runs[1].params == {"data.path": "/a/a.tsv", "train.lr": "0.1"}
        assert runs[1].started <= runs[0].started <= time.time() * 1000

    def test_list_runs_shows_the_best_epoch_of_a_run_that_goes_on(self, tracker: Tracker) -> None:
        run = begin(tracker)
        for epoch, value in enumerate([0.1, 0.36, 0.2], start=1):
            run.log_metrics({"val/pcc_mean": value}, epoch)
        run.flush()
        assert [each.headline for each in tracker.list_runs().runs] == [(0.36, "validation")]

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ("metrics.val/pcc_mean > 0.35", {"exp1"}),
            ("metrics.val/pcc_mean >= 0.4 and params.train.lr = 0.01", {"exp1"}),
            ("metrics.val/pcc_mean != 0.4", {"exp2_b"}),
            ("params.train.lr != '0.01'", {"exp2_b"}),
            ("params.train.lr LIKE '0.0%'", {"exp1", "exp2_b"}),
            ("params.train.lr LIKE '0.0_'", {"exp1"}),
            ("params.train.rnn IS NULL", {"exp1", "exp2_b", "fold1"}),
            ("params.train.lr IS NOT NULL", {"exp1", "exp2_b"}),
            ("tags.rnatracker.kind = fold", {"fold1"}),
            ("run_name LIKE 'EXP%'", set()),
            ("run_name ILIKE 'EXP%'", {"exp1", "exp2_b"}),
            ("attributes.status = 'RUNNING'", {"exp2_b"}),
            ("attributes.run_id NOT IN ('x')", {"exp1", "exp2_b", "fold1"}),
            ("run_name = 'exp1' and status != 'FINISHED'", set()),
            ("start_time > 0", {"exp1", "exp2_b", "fold1"}),
            ("end_time > 0", {"exp1", "fold1"}),
            ("datasets.name = 'a.tsv'", {"exp1"}),
            ("datasets.context = 'training' and datasets.digest != 'nothing'", {"exp1"}),
        ],
    )
    def test_list_runs_says_which_match(self, tracker: Tracker, where: str, expected: set[str]) -> None:
        first = begin(tracker, params={"train.lr": 0.01}, dataset=DatasetInput("a.tsv", "abc", "/a.tsv", 3))
        first.log_metrics({"val/pcc_mean": 0.4}, 1)
        begin(tracker, parent=first, name="fold1", tags={Tag.KIND: "fold"}).finish("FINISHED")
        first.finish("FINISHED")
        second = begin(tracker, "b", params={"train.lr": 0.002})
        second.log_metrics({"val/pcc_mean": 0.3}, 1)
        second.flush()
        runs = tracker.list_runs(where).runs
        assert len(runs) == 3
        assert {run.name for run in runs if run.matches} == expected

    @pytest.mark.parametrize("bad", ["foo", "metrics.a > 'x'", "params.a > 3", "metrics.a LIKE 'b'"])
    def test_list_runs_refuses_a_bad_filter(self, tracker: Tracker, bad: str) -> None:
        begin(tracker)
        with pytest.raises(UsageError) as caught:
            tracker.list_runs(bad)
        assert caught.value.problem.startswith(f"--where {bad!r}: ")

    def test_list_runs_is_empty_when_there_is_none(self, tracker: Tracker) -> None:
        assert tracker.list_runs().runs == []
        assert tracker.running_runs() == []

    def test_running_runs_are_those_that_have_not_ended(self, tracker: Tracker) -> None:
        parent = begin(tracker)
        begin(tracker, parent=parent, name="fold1").finish("FINISHED")
        child = begin(tracker, parent=parent, name="fold2", tags={"a": "b"})
        running = {run.name: run for run in tracker.running_runs()}
        assert {name: run.run_id for name, run in running.items()} == {"exp1": parent.id, "exp1/fold2": child.id}
        assert running["exp1/fold2"].tags["a"] == "b"
        begun = running["exp1"].last_sign()
        assert begun == pytest.approx(time.time(), abs=60)
        child.log_metrics({"train/loss": 1.0}, 1)
        child.flush()
        assert running["exp1"].last_sign() >= begun

    def test_end_stale_ends_a_run_that_can_be_resumed(self, tracker: Tracker, settings: TrackingSettings) -> None:
        run = begin(tracker)
        tracker.end_stale(run.id, "its machine is gone")
        again = open_tracker(settings).find(run.id)
        assert (again.status(), again.tags()[Tag.MESSAGE]) == ("FAILED", "its machine is gone")
        assert tracker.running_runs() == []
        again.reopen()
        assert again.status() == "RUNNING"

    def test_model_aliases_are_none_when_nothing_is_registered(self, tracker: Tracker) -> None:
        assert tracker.model_aliases("rnatracker") == {}


class TestMlflowTracker(ListContract):
    @pytest.fixture
    def settings(self, mlflow_store: Path) -> TrackingSettings:
        return TrackingSettings(mlflow_store)


class TestFolderTracker(ListContract):
    @pytest.fixture
    def settings(self, tmp_path: Path) -> TrackingSettings:
        return TrackingSettings(tmp_path / "mlruns", enabled=False)
