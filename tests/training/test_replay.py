"""Recorded runs, run again from what was logged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rnatracker.app import app
from rnatracker.data.readers import read
from rnatracker.errors import CheckpointError, DataError, RNATrackerError, TrackingError
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training import agreement, replay
from rnatracker.training.request import Outcome, RunRequest
from rnatracker.training.run import train
from tests.support.studies import small_study, work_through
from tests.support.toys import SilentReporter, small_config, toy_transcripts, write_table


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_table(toy_transcripts(40), tmp_path / "toy.tsv")


@pytest.fixture
def settings(tmp_path: Path) -> TrackingSettings:
    return TrackingSettings(tmp_path / "mlruns", enabled=False)


def _train(data: Path, settings: TrackingSettings, weights: str | None = None, **changes: object) -> Outcome:
    made = small_config(data__path=str(data), **changes)
    return train(RunRequest(made, settings, weights=weights), SilentReporter())


def _words(text: str) -> set[str]:
    return {word.strip(",;:()") for word in text.split()}


def _replay(name: str, settings: TrackingSettings, **more: object) -> tuple[TrackedRun, agreement.Agreement]:
    planned = replay.plan(name, settings, **more)  # type: ignore[arg-type]
    again = replay.replay(planned, SilentReporter())
    return again, agreement.compare(planned.original, again)


@pytest.mark.parametrize("fold", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_replay_is_bit_identical_and_says_what_it_replays(data: Path, settings: TrackingSettings, fold: int) -> None:
    recorded = _train(data, settings, data__fold=fold)
    again, found = _replay("exp1", settings)
    assert (found.words, found.agrees) == ("bit-identical", True)
    assert found.n_values > 20
    assert again.name == "exp2_replay-of-exp1"
    assert again.tags()["rnatracker.replays"] == recorded.run_id
    same = ("kind", "data_digest", "split_digest", "seed", "threads")
    original = open_tracker(settings).find("exp1").tags()
    assert all(again.tags()[f"rnatracker.{key}"] == original[f"rnatracker.{key}"] for key in same)


def test_replay_begins_from_the_same_weights(data: Path, settings: TrackingSettings, tmp_path: Path) -> None:
    first = _train(data, settings)
    weights = tmp_path / "start.pt"
    shutil.copy(first.folder / "checkpoints" / "last.pt", weights)
    _train(data, settings, weights=str(weights), train__epochs=5)
    assert _replay("exp2", settings)[1].words == "bit-identical"
    shutil.copy(first.folder / "checkpoints" / "best.pt", weights)
    with weights.open("ab") as file:
        file.write(b"changed")
    with pytest.raises(CheckpointError) as other:
        replay.plan("exp2", settings)
    assert {str(weights), "exp2", "digest"} <= _words(other.value.problem)
    weights.unlink()
    with pytest.raises(CheckpointError) as gone:
        replay.plan("exp2", settings)
    assert {str(weights), "exp2", "gone"} <= _words(gone.value.problem)
    assert "put them back" in gone.value.remedy


class TestTrials:
    @pytest.mark.parametrize("fold", [0, 2])
    def test_trial_of_a_study_is_replayed(self, data: Path, mlflow_store: Path, fold: int) -> None:
        settings = TrackingSettings(mlflow_store)
        request = small_study(data, settings, settings={"data__fold": fold}, trials=1)
        work_through(request)
        again, found = _replay("exp1_toy/trial0", settings)
        assert found.words == "bit-identical"
        assert again.name == "exp2_replay-of-exp1_toy-trial0"
        assert {"objective", "best/pcc_mean"} <= {gap.metric for gap in found.gaps}
        assert ("fold2/val/loss" in {gap.metric for gap in found.gaps}) == bool(fold)

    def test_pruned_trial_is_replayed_as_far_as_it_came(self, data: Path, mlflow_store: Path) -> None:
        settings = TrackingSettings(mlflow_store)
        request = small_study(data, settings, settings={"data__fold": 2}, trials=1)
        _, context = work_through(request)
        context.parent.children()["trial0"].set_tags({"pruned": "why", "pruned.fold": "2", "pruned.epoch": "1"})
        again, _ = _replay("exp1_toy/trial0", settings)
        assert set(again.history("fold1/val/loss")) == {1, 2, 3}
        assert set(again.history("fold2/val/loss")) == {1}
        assert again.status() == "FINISHED"

    def test_study_is_refused_and_its_trials_are_pointed_to(self, data: Path, mlflow_store: Path) -> None:
        settings = TrackingSettings(mlflow_store)
        work_through(small_study(data, settings, trials=1))
        with pytest.raises(TrackingError) as caught:
            replay.plan("exp1_toy", settings)
        assert {"exp1_toy", "study"} <= _words(caught.value.problem)
        assert "exp1_toy/trial0" in caught.value.remedy


class TestFinding:
    @pytest.mark.slow
    def test_data_are_found_where_they_are_now(self, data: Path, settings: TrackingSettings, tmp_path: Path) -> None:
        _train(data, settings)
        moved = data.rename(tmp_path / "moved.tsv")
        with pytest.raises(DataError) as caught:
            replay.plan("exp1", settings)
        assert {str(data), "exp1"} <= _words(caught.value.problem)
        assert "--data" in caught.value.remedy
        assert _replay("exp1", settings, data=str(moved))[1].words == "bit-identical"

    def test_other_data_are_refused(self, data: Path, settings: TrackingSettings, tmp_path: Path) -> None:
        _train(data, settings)
        other = write_table(toy_transcripts(40, seed=1), tmp_path / "other.tsv")
        with pytest.raises(DataError) as given:
            replay.plan("exp1", settings, data=str(other))
        assert {str(other), "exp1", read(str(other)).digest()} <= _words(given.value.problem)
        shutil.copy(other, data)
        with pytest.raises(DataError) as replaced:
            replay.plan("exp1", settings)
        assert {str(data), "exp1", read(str(other)).digest()} <= _words(replaced.value.problem)

    def test_another_division_is_refused(self, data: Path, settings: TrackingSettings) -> None:
        _train(data, settings)
        open_tracker(settings).find("exp1").set_tags({"rnatracker.split_digest": "other"})
        with pytest.raises(DataError) as caught:
            replay.plan("exp1", settings)
        assert {"exp1", "divided"} <= _words(caught.value.problem)
        assert "version" in caught.value.remedy

    def test_a_fold_is_refused_and_its_run_is_named(self, data: Path, settings: TrackingSettings) -> None:
        _train(data, settings, data__fold=2, train__epochs=1)
        with pytest.raises(TrackingError) as caught:
            replay.plan("exp1/fold1", settings)
        assert {"exp1/fold1", "fold"} <= _words(caught.value.problem)
        assert "exp1" in _words(caught.value.remedy)

    @pytest.mark.parametrize(
        ("status", "tags", "problem", "remedy"),
        [
            ("KILLED", {}, {"exp1", "KILLED"}, "rnatracker train --resume {folder}"),
            ("KILLED", {"rnatracker.kind": "trial"}, {"exp1", "KILLED"}, "its tune command"),
            ("FINISHED", {"rnatracker.kind": "imported"}, {"exp1", "imported"}, "train a new one"),
            ("FINISHED", {}, {"exp1", "{folder}/config.yaml", "missing"}, "train a new run"),
        ],
    )
    def test_runs_without_what_it_takes_are_refused(
        self, settings: TrackingSettings, status: str, tags: dict[str, str], problem: set[str], remedy: str
    ) -> None:
        tags = {"rnatracker.kind": "train"} | tags
        run = open_tracker(settings).start(log_name=None, params={}, tags=tags, dataset=None)
        run.finish(status)  # type: ignore[arg-type]
        with pytest.raises(RNATrackerError) as caught:
            replay.plan("exp1", settings)
        assert {word.format(folder=run.folder) for word in problem} <= _words(caught.value.problem)
        assert remedy.format(folder=run.folder) in caught.value.remedy

    def test_what_differs_from_the_record_is_warned_of(self, data: Path, settings: TrackingSettings) -> None:
        _train(data, settings)
        run = open_tracker(settings).find("exp1")
        assert not [w for w in replay.plan("exp1", settings).warnings if not w.startswith("the code ha")]
        run.set_tags(
            {
                "rnatracker.torch": "1.0",
                "mlflow.source.git.commit": "abc",
                "rnatracker.git_dirty": "true",
                "rnatracker.device": "cuda",
                "rnatracker.kernel": "other",
                "rnatracker.host": "elsewhere",
            }
        )
        warnings = "\n".join(replay.plan("exp1", settings).warnings)
        for expected in (
            "torch was 1.0, now ",
            "the git commit was abc, now",
            "how is not recorded",
            "device was cuda, now cpu",
            "kernel was other, now",
            "the machine was elsewhere, now",
        ):
            assert expected in warnings


class TestAgreement:
    @pytest.fixture
    def pair(self, settings: TrackingSettings) -> tuple[TrackedRun, TrackedRun]:
        tracker = open_tracker(settings)
        one, two = (tracker.start(log_name=None, params={}, tags={}, dataset=None) for _ in range(2))
        for step in (1, 2):
            one.log_metrics({"val/loss": 0.5, "time/epoch_seconds": step, "fold1/time/x": step}, step)
        return one, two

    @pytest.mark.parametrize(
        ("change", "words", "agrees"),
        [
            (0.0, "bit-identical", True),
            (5e-7, "within 1e-06", True),
            (1e-3, "not: they differ by up to 0.001", False),
        ],
    )
    def test_the_largest_difference_at_any_step_counts(
        self, pair: tuple[TrackedRun, TrackedRun], change: float, words: str, agrees: bool
    ) -> None:
        for step in (1, 2):
            pair[1].log_metrics({"val/loss": 0.5 + change * (step == 1)}, step)
        found = agreement.compare(*pair)
        assert (found.words, found.agrees, found.n_values) == (words, agrees, 2)

    def test_a_missing_value_is_no_agreement(self, pair: tuple[TrackedRun, TrackedRun]) -> None:
        pair[1].log_metrics({"val/loss": 0.5}, 1)
        found = agreement.compare(*pair)
        assert not found.agrees
        assert (found.gaps[0].metric, found.gaps[0].step, found.gaps[0].found) == ("val/loss", 2, None)

    def test_runs_without_figures_do_not_agree(self, settings: TrackingSettings) -> None:
        tracker = open_tracker(settings)
        one, two = (tracker.start(log_name=None, params={}, tags={}, dataset=None) for _ in range(2))
        assert not agreement.compare(one, two).agrees


def _invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["replay", *arguments])


def test_command_says_that_figures_agree(data: Path, settings: TrackingSettings) -> None:
    folder = str(_train(data, settings).folder)
    result = _invoke(folder, "--store", str(settings.store))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("exp2_replay-of-exp1 replays exp1: the figures agree, bit-identical (")
    assert open_tracker(settings).find("exp2").tags()["rnatracker.replay_agreement"] == "bit-identical"


def test_command_exits_with_3_and_says_by_how_much_when_figures_differ(data: Path, settings: TrackingSettings) -> None:
    folder = _train(data, settings).folder
    open_tracker(settings).find("exp1").log_metrics({"val/loss": 0.5}, 2)
    result = _invoke(str(folder), "--store", str(settings.store))
    assert result.exit_code == 3
    assert "the figures DON'T agree, they differ by up to" in result.stdout
    assert "val/loss" in result.stdout
    as_json = _invoke(str(folder), "--store", str(settings.store), "--json")
    content = json.loads(as_json.stdout)
    assert (as_json.exit_code, content["agrees"], content["metrics"][0]["metric"]) == (3, False, "val/loss")
    assert content["metrics"][0]["recorded"] == 0.5
