"""Trainings with fresh seeds at a study's end: other seeds and divisions, no trials, and lost by no interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from rnatracker import config
from rnatracker.search import definition, summary
from rnatracker.search.records.headline import headline
from rnatracker.search.sampling import make
from rnatracker.search.scheduling.fresh import FRESH, enqueue, source_of
from rnatracker.search.study import RUN_ID, Search, StudyRequest
from rnatracker.search.worker import run_trials
from rnatracker.terminal import study_tables, study_trial
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from rnatracker.training.reporting import NullReporter
from rnatracker.training.trainer import Stopped
from tests.support.studies import StopAfter, open_context, small_study, work_through
from tests.support.toys import toy_transcripts, write_table

_EPOCHS = 4


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_table(toy_transcripts(40), tmp_path / "toy.tsv")


@pytest.fixture
def tracking(tmp_path: Path) -> TrackingSettings:
    return TrackingSettings(tmp_path / "mlruns", enabled=False)


def _request(data: Path, tracking: TrackingSettings, **changes: Any) -> StudyRequest:
    settings = {"train__epochs": _EPOCHS, **changes.pop("settings", {})}
    whole = {"trials": 7, "scheduler": "freeze-thaw", "sampler": "random", "fresh_seeds": 3, **changes}
    return small_study(data, tracking, settings=settings, **whole)


def _values(search: Search) -> list[tuple[tuple[int, int], float | None]]:
    return [(source_of(trial), trial.value) for trial in search.fresh()]


def test_best_trials_are_trained_again_and_count_for_no_trials(data: Path, tracking: TrackingSettings) -> None:
    search, context = work_through(_request(data, tracking))
    fresh = search.fresh()
    assert 1 <= len(fresh) <= 3
    assert search.counts().all == len(search.trials()) == 7
    assert {trial.state for trial in fresh} == {TrialState.COMPLETE}
    complete = {trial.number: trial for trial in search.trials() if trial.state == TrialState.COMPLETE}
    for trial in fresh:
        number, round_ = source_of(trial)
        assert trial.params == complete[number].params
        assert trial.value != complete[number].value
        run = context.tracker.find(trial.user_attrs[RUN_ID])
        assert run.tags()[Tag.FRESH] == f"trial {number}, round {round_}"
        kept = config.build(config.read(run.files.config), "config.yaml")
        assert (kept.train.seed, kept.data.split_seed) == (500 + round_, 500 + round_)
        assert not run.files.checkpoints.exists()
    digests = {
        context.tracker.find(t.user_attrs[RUN_ID]).tags()[Tag.SPLIT_DIGEST] for t in [*fresh, *complete.values()]
    }
    assert len(digests) == 1 + len({source_of(trial)[1] for trial in fresh})
    assert summary.savings(search).trained == sum(int(t.user_attrs["epochs"]) for t in search.trials())


def test_none_are_trained_where_none_are_wanted_or_another_scheduler_works(
    data: Path, tracking: TrackingSettings
) -> None:
    search, _ = work_through(_request(data, tracking, fresh_seeds=0))
    assert not search.fresh()
    search, _ = work_through(_request(data, tracking, name="other", scheduler="none", trials=6))
    assert not search.fresh()
    assert summary.true_values(search)  # still there is an estimate, less sure


def test_interrupted_ones_are_resumed_to_the_bit(data: Path, tracking: TrackingSettings) -> None:
    request = _request(data, tracking)
    at_once, _ = work_through(replace(request, name="at-once"))
    stops = 0
    while True:
        search, context = open_context(request)
        try:
            run_trials(context, NullReporter(), StopAfter(5))
            break
        except Stopped:
            stops += 1
    assert stops > 2
    assert _values(search) == _values(at_once)
    assert [t.value for t in search.trials()] == [t.value for t in at_once.trials()]


def test_one_that_was_enqueued_before_a_kill_is_taken_and_not_doubled(data: Path, tracking: TrackingSettings) -> None:
    whole, _ = work_through(_request(data, tracking, name="whole"))
    search, _ = work_through(_request(data, tracking, fresh_seeds=0))
    number, round_ = source_of(whole.fresh()[0])
    enqueue(search.study, search.trial(number), round_, ())  # and killed here
    again, _ = work_through(_request(data, tracking))
    assert _values(again) == _values(whole)


def test_samplers_and_later_studies_never_see_them(data: Path, tracking: TrackingSettings) -> None:
    search, _ = work_through(_request(data, tracking, settings={"data__fold": 0}))
    fresh = {trial.number for trial in search.fresh()}
    assert fresh
    sampler = make("tpe", search.study, 0, 9, conditional=False)
    seen = sampler._shown._get_trials(deepcopy=False)  # type: ignore[attr-defined]
    assert not fresh & {trial.number for trial in seen}
    n_complete = sum(trial.state == TrialState.COMPLETE for trial in search.trials())
    assert len(definition._of_study(search, search.request.name)) == min(n_complete, 3)


def test_more_trials_after_them_go_on_as_if_they_were_not_there(data: Path, tracking: TrackingSettings) -> None:
    search, _ = work_through(_request(data, tracking, fresh_seeds=1))
    assert len(search.fresh()) == 1
    more, _ = work_through(_request(data, tracking, fresh_seeds=1, trials=9))
    assert more.counts().all == 9
    assert len(more.fresh()) == 1
    assert more.counts().running == more.counts().waiting == 0


def test_study_says_what_is_expected_of_other_seeds(data: Path, tracking: TrackingSettings) -> None:
    search, _ = work_through(_request(data, tracking))
    known = summary.true_values(search)
    best = summary.best(search, 1)[0]
    found = known[best.number]
    assert found.low < found.mean < found.high
    assert summary.fresh_values(search)[source_of(search.fresh()[0])[0]][1] == search.fresh()[0].value
    assert max(known, key=lambda number: known[number].mean) == best.number
    (line,) = headline(search, None)
    assert f"{found.mean:.4f} is expected (90 % interval {found.low:.4f} to {found.high:.4f}" in line
    shown = study_tables.study_as_json(search, 3)
    assert shown["best"][0]["expected"]["mean"] == found.mean
    trial = search.fresh()[0]
    assert study_trial.trial_as_json(search, trial)["fresh_of"] == trial.user_attrs[FRESH][0]
    rows = summary.to_csv(search).splitlines()
    assert len(rows) == 1 + 7 + len(search.fresh())


def test_failed_one_is_left_out_and_not_tried_forever(data: Path, tracking: TrackingSettings) -> None:
    search, _ = work_through(_request(data, tracking, fresh_seeds=0))
    number = summary.best(search, 1)[0].number
    made = enqueue(search.study, search.trial(number), 1, ())
    search.storage.set_trial_user_attr(search.trial(made)._trial_id, "seen", 1.0)
    search.storage.set_trial_state_values(search.trial(made)._trial_id, TrialState.RUNNING)
    search.study.tell(made, state=TrialState.FAIL)
    again, _ = work_through(_request(data, tracking, fresh_seeds=2))
    assert [each for each in _values(again) if each[0] == (number, 1)] == [((number, 1), None)]
    assert len(again.fresh()) <= 2
    assert all(trial.state.is_finished() for trial in again.fresh())
    assert not summary.failures(again)
