"""Refitting: fresh seeds for the best settings and the starting config, and what is said of the difference."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnatracker.baselines.beside import beside
from rnatracker.baselines.beside import verdict as said
from rnatracker.evaluation.models import model_of_run
from rnatracker.metrics import Difference
from rnatracker.search import refit, summary
from rnatracker.search.records import verdict as verdicts
from rnatracker.search.records.verdict import Refitted, Verdict, judge, paired_interval
from rnatracker.search.study import StudyRequest
from rnatracker.tracking.mlflow_tracker import MlflowTracker
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support.studies import small_study, work_through
from tests.support.toys import SilentReporter, toy_transcripts, write_table


def _refitted(trial: int, values: list[list[float]], claimed: float = 0.9, *, is_start: bool = False) -> Refitted:
    return Refitted(trial, is_start, claimed, np.array(values), tuple(f"r{i}" for i in range(len(values))))


def test_interval_is_the_corrected_resampled_one() -> None:
    """By hand: differences .1 .2 .3 .2, mean .2, variance .00667, times (1/4 + 1/1), t of 3 degrees 3.182."""
    mean, low, high = paired_interval(np.array([[0.1, 0.2], [0.3, 0.2]]))
    half = 3.18245 * (0.02 / 3 * 1.25) ** 0.5
    assert (mean, low, high) == pytest.approx((0.2, 0.2 - half, 0.2 + half), abs=1e-5)


def test_folds_in_which_the_measure_is_undefined_are_left_out() -> None:
    nan = float("nan")
    start = _refitted(0, [[0.5, nan], [0.6, nan]], is_start=True)
    other = _refitted(1, [[0.7, nan], [0.9, nan]])
    verdict = judge("pcc_mean", [start, other])
    assert (verdict.winner.trial, verdict.winner.mean) == (1, pytest.approx(0.8))
    assert verdict.winner.sd == pytest.approx(0.02**0.5)
    assert verdict.difference == pytest.approx(0.25)
    assert verdict.low < verdict.difference < verdict.high


def test_winner_is_what_fresh_seeds_say_and_not_what_the_study_claimed() -> None:
    start = _refitted(0, [[0.5, 0.6], [0.5, 0.6]], 0.55, is_start=True)
    boaster = _refitted(4, [[0.4, 0.5], [0.4, 0.5]], 0.95)
    good = _refitted(2, [[0.6, 0.7], [0.6, 0.7]], 0.7)
    verdict = judge("pcc_mean", [boaster, good, start])
    assert verdict.winner.trial == 2
    assert verdict.difference == pytest.approx(0.1)
    assert boaster.optimism == pytest.approx(0.5)
    assert [each.trial for each in verdict.refitted] == [2, 0, 4]


def test_starting_config_wins_where_nothing_is_better() -> None:
    start = _refitted(0, [[0.5, 0.6]], is_start=True)
    worse = _refitted(1, [[0.4, 0.5]])
    verdict = judge("pcc_mean", [worse, start])
    assert verdict.winner.is_start
    assert verdict.difference == pytest.approx(-0.1)


@pytest.fixture
def request_with_folds(tmp_path: Path, mlflow_store: Path) -> StudyRequest:
    data = write_table(toy_transcripts(60), tmp_path / "toy.tsv")
    return small_study(data, TrackingSettings(mlflow_store), trials=3, settings={"data__fold": 2, "train__epochs": 1})


def test_refit_trains_with_fresh_seeds_and_leaves_its_verdict(request_with_folds: StudyRequest) -> None:
    search, context = work_through(request_with_folds)
    told: list[str] = []
    verdict = refit.refit(search, SilentReporter(), told.append, best=1, seeds=2, jobs=1)
    settings = {next(trial.number for trial in summary.best(search) if trial.number), 0}
    assert {each.trial for each in verdict.refitted} == settings
    tracker = open_tracker(request_with_folds.tracking)
    for each in verdict.refitted:
        assert each.values.shape == (2, 2)
        runs = [tracker.find(run_id) for run_id in each.run_ids]
        assert [run.tags()["rnatracker.seed"] for run in runs] == ["1000", "1001"]
        for run, row in zip(runs, each.values, strict=True):
            assert run.metrics()["mean/pcc_mean"] == pytest.approx(row.mean())
    winner = tracker.find(verdict.winner.run_ids[0])
    assert winner.tags()["rnatracker.kind"] == "cross-validation"
    assert winner.tags()["rnatracker.refit"] == "winner of toy"
    assert context.parent.metrics()["refit/winner"] == pytest.approx(verdict.winner.mean)
    kept = verdicts.kept(search)
    assert kept is not None and kept.winner.run_names == verdict.winner.run_names == (
        winner.name,
        kept.winner.run_names[1],
    )
    with (context.parent.folder / "refit.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4 * len(settings)

    again = refit.refit(search, SilentReporter(), told.append, best=1, seeds=2, jobs=1)
    assert [each.run_ids for each in again.refitted] == [each.run_ids for each in verdict.refitted]


@pytest.mark.slow
def test_run_of_an_earlier_winner_is_not_called_so_any_more(
    request_with_folds: StudyRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, context = work_through(request_with_folds)
    first = refit.refit(search, SilentReporter(), [].append, best=1, seeds=1, jobs=1)

    def turned(objective: str, refitted: list[Refitted]) -> Verdict:
        return replace(judge(objective, refitted), refitted=list(reversed(judge(objective, refitted).refitted)))

    monkeypatch.setattr(refit, "judge", turned)
    second = refit.refit(search, SilentReporter(), [].append, best=1, seeds=1, jobs=1)
    assert second.winner.trial != first.winner.trial
    tags = [context.tracker.find(each.winner.run_ids[0]).tags()["rnatracker.refit"] for each in (first, second)]
    assert tags == [f"trial {first.winner.trial}", "winner of toy"]


@pytest.mark.slow
def test_refit_may_train_more_networks_than_before(request_with_folds: StudyRequest) -> None:
    search, _ = work_through(request_with_folds)
    one = refit.refit(search, SilentReporter(), [].append, best=1, seeds=1, jobs=1)
    train = request_with_folds.config.train.model_copy(update={"seeds": 2})
    wanted = replace(request_with_folds, config=request_with_folds.config.model_copy(update={"train": train}))
    again, _ = work_through(wanted)
    two = refit.refit(again, SilentReporter(), [].append, best=1, seeds=1, jobs=1)
    tracker = open_tracker(request_with_folds.tracking)
    networks = [tracker.find(each.run_ids[0]).params()["train.seeds"] for each in (*one.refitted, *two.refitted)]
    assert networks == ["1", "1", "2", "2"]
    assert len(again.study.trials) == len(search.study.trials) == 3


@pytest.mark.slow
def test_each_cross_validation_stands_beside_simple_models(request_with_folds: StudyRequest) -> None:
    search, context = work_through(request_with_folds)
    reporter = SilentReporter()
    verdict = refit.refit(search, reporter, [].append, best=1, seeds=1, jobs=1, beside=beside)
    runs = [context.tracker.find(run_id) for each in verdict.refitted for run_id in each.run_ids]
    shown = [value for each in verdict.refitted for value in each.over_baselines["kmer-ridge"]]
    assert shown == [run.metrics()["baseline/kmer-ridge/difference"] for run in runs]
    assert len(runs) == sum(line.startswith("baselines, mean PCC: mean ") for line in reporter.lines) == 2
    for run in runs:
        figures = run.metrics()
        assert {f"baseline/{kind}/pcc_mean" for kind in ("mean", "length", "kmer-ridge")} <= set(figures)
        difference = figures["oof/pcc_mean"] - figures["baseline/kmer-ridge/pcc_mean"]
        assert figures["baseline/kmer-ridge/difference"] == pytest.approx(difference)
        interval = (figures[f"baseline/kmer-ridge/{name}"] for name in ("difference", "low", "high"))
        assert said("kmer-ridge", Difference("pcc_mean", *interval, p=0.0)) in reporter.lines


class _Stumbling(SilentReporter):
    """Breaks off in the second fold, as a killed process does."""

    def line(self, text: str) -> None:
        if text.startswith("fold2: training"):
            raise RuntimeError("killed")


@pytest.mark.slow
def test_refit_resumes_the_run_that_was_broken_off(request_with_folds: StudyRequest) -> None:
    search, _ = work_through(request_with_folds)
    with pytest.raises(RuntimeError, match="killed"):
        refit.refit(search, _Stumbling(), lambda text: None, best=1, seeds=1, jobs=1)
    tracker = open_tracker(request_with_folds.tracking)
    begun = tracker.find("exp2").id
    verdict = refit.refit(search, SilentReporter(), lambda text: None, best=1, seeds=1, jobs=1)
    assert begun in [run_id for each in verdict.refitted for run_id in each.run_ids]
    assert tracker.find(begun).status() == "FINISHED"


def test_trial_with_folds_is_evaluated_as_the_mean_of_its_folds(request_with_folds: StudyRequest) -> None:
    _, context = work_through(request_with_folds)
    trial = context.parent.children()["trial0"]
    model = model_of_run(trial.id, request_with_folds.tracking)
    assert len(model.members) == 2
    assert "folds" in model.description


@pytest.mark.slow
def test_each_seed_divides_anew_and_alike_for_all_settings(request_with_folds: StudyRequest) -> None:
    search, context = work_through(request_with_folds)
    verdict = refit.refit(search, SilentReporter(), [].append, best=1, seeds=2, jobs=1)
    splits = [
        [context.tracker.find(run_id).tags()["rnatracker.split_digest"] for run_id in each.run_ids]
        for each in verdict.refitted
    ]
    assert splits[0] == splits[1]
    assert splits[0][0] != splits[0][1]


@pytest.mark.slow
def test_refit_begins_anew_where_its_run_was_deleted(request_with_folds: StudyRequest) -> None:
    search, context = work_through(request_with_folds)
    first = refit.refit(search, SilentReporter(), [].append, best=1, seeds=1, jobs=1)
    tracker = context.tracker
    assert isinstance(tracker, MlflowTracker)
    tracker.backend.client.delete_run(first.refitted[0].run_ids[0])
    again = refit.refit(search, SilentReporter(), [].append, best=1, seeds=1, jobs=1)
    assert again.refitted[0].run_ids != first.refitted[0].run_ids
    assert again.refitted[0].values.tolist() == first.refitted[0].values.tolist()


@pytest.mark.slow
def test_study_of_losses_claims_the_pcc_that_it_is_compared_by(tmp_path: Path, mlflow_store: Path) -> None:
    data = write_table(toy_transcripts(60), tmp_path / "toy.tsv")
    settings = {"data__fold": 2, "train__epochs": 1, "train__objective": "val_loss"}
    search, context = work_through(small_study(data, TrackingSettings(mlflow_store), trials=2, settings=settings))
    verdict = refit.refit(search, SilentReporter(), [].append, best=1, seeds=1, jobs=1)
    for each in verdict.refitted:
        run = context.parent.children()[f"trial{each.trial}"]
        assert each.claimed == pytest.approx(run.metrics()["best/pcc_mean"])
