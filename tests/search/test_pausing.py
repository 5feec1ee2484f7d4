"""Studies whose trials are paused and resumed: every epoch is trained once, and the values are those of no pause."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from rnatracker.errors import StudyError
from rnatracker.search import memory, summary
from rnatracker.search.objective import TrialContext
from rnatracker.search.scheduling.courses import is_paused
from rnatracker.search.scheduling.freeze_thaw import FreezeThaw
from rnatracker.search.scheduling.stopping import Until
from rnatracker.search.study import EPOCHS, SCHEDULE, SECONDS, Search, StudyRequest
from rnatracker.search.trial_runs import delete_weights
from rnatracker.search.worker import run_trials
from rnatracker.terminal import study_trial
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from rnatracker.training.reporting import NullReporter
from rnatracker.training.trainer import Stopped
from tests.support.studies import StopAfter, open_context, small_study, work_through
from tests.support.toys import toy_transcripts, write_table

_EPOCHS = 6
_EPOCH_LINE = re.compile(r"trial\d+ ?(fold\d)?  epoch +(\d+)/")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_table(toy_transcripts(40), tmp_path / "toy.tsv")


@pytest.fixture
def tracking(tmp_path: Path) -> TrackingSettings:
    return TrackingSettings(tmp_path / "mlruns", enabled=False)


def _request(data: Path, tracking: TrackingSettings, **changes: Any) -> StudyRequest:
    settings = {"train__epochs": _EPOCHS, **changes.pop("settings", {})}
    whole = {"trials": 6, "scheduler": "freeze-thaw", "sampler": "random", "fresh_seeds": 0, **changes}
    return small_study(data, tracking, settings=settings, **whole)


def _states(search: Search) -> Counter[str]:
    return Counter("paused" if is_paused(trial) else trial.state.name for trial in search.study.trials)


def _trained(run: TrackedRun) -> Counter[tuple[str, int]]:
    """Return how often each epoch was trained, by fold and epoch, as its log says."""
    return Counter((fold, int(epoch)) for fold, epoch in _EPOCH_LINE.findall(run.files.log.read_text()))


def _check_epochs(search: Search, context: TrialContext, folds: int = 1) -> None:
    """Check that each trial has one run, in which each epoch was trained once, and as many as the study says."""
    children = context.parent.children()
    assert sorted(children) == sorted(f"trial{trial.number}" for trial in search.trials())
    for trial in search.trials():
        trained = _trained(children[f"trial{trial.number}"])
        assert set(trained.values()) == {1}
        assert len(trained) == trial.user_attrs[EPOCHS]
        for fold in range(1, folds + 1):
            epochs = [epoch for name, epoch in trained if name == (f"fold{fold}" if folds > 1 else "")]
            assert sorted(epochs) == list(range(1, len(epochs) + 1))


def _values(search: Search) -> list[list[float]]:
    """Return what each trial has reported."""
    return [[value for _, value in sorted(t.intermediate_values.items())] for t in search.trials()]


def _check_like(search: Search, whole: Search) -> None:
    """Check that trials have reported what those of a study without pauses have, as far as they have come."""
    for own, others, trial, other in zip(_values(search), _values(whole), search.trials(), whole.trials(), strict=True):
        assert trial.params == other.params
        assert own == others[: len(own)]
        if trial.state == TrialState.COMPLETE:
            assert (trial.value, len(own)) == (other.value, len(others))


_SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"data__fold": 2}, marks=_SLOW),
        pytest.param({"train__eval_every": 2}, marks=_SLOW),
        pytest.param({"train__patience": 2}, marks=_SLOW),
    ],
)
def test_values_are_to_the_bit_those_without_pauses(
    settings: dict[str, Any], data: Path, tracking: TrackingSettings
) -> None:
    request = _request(data, tracking, settings=settings)
    search, context = work_through(request)
    whole, _ = work_through(replace(request, name="whole", scheduler="none"))
    states = _states(search)
    assert states["COMPLETE"] and states["paused"] and sum(states.values()) == 6
    assert any("resumed" in line for trial in search.trials() for line in trial.user_attrs.get(SCHEDULE, []))
    _check_like(search, whole)
    _check_epochs(search, context, settings.get("data__fold", 1))


def test_study_that_is_stopped_again_and_again_is_resumed_to_the_same_end(
    data: Path, tracking: TrackingSettings
) -> None:
    request = _request(data, tracking)
    at_once, _ = work_through(replace(request, name="at-once"))
    stops = 0
    while True:
        search, context = open_context(request)
        try:
            run_trials(context, NullReporter(), StopAfter(13))
            break
        except Stopped:
            stops += 1
            assert not search.counts().running
    assert stops > 3
    assert _values(search) == _values(at_once)
    assert _states(search) == _states(at_once)
    _check_epochs(search, context)


def test_more_trials_are_begun_later_and_paused_ones_may_go_on(data: Path, tracking: TrackingSettings) -> None:
    request = _request(data, tracking, trials=4)
    work_through(request)
    search, context = work_through(replace(request, trials=7))
    assert len(search.trials()) == 7
    assert search.is_over()
    _check_epochs(search, context)
    before = _values(search)
    again, _ = work_through(replace(request, trials=7))  # there is nothing left to do
    assert (_values(again), again.is_over()) == (before, True)
    fewer, _ = work_through(replace(request, trials=3))
    assert len(fewer.trials()) == 7


@pytest.mark.parametrize("other", ["forecast", *(pytest.param(name, marks=_SLOW) for name in ("none", "median"))])
def test_other_schedulers_take_paused_trials_to_their_end(other: Any, data: Path, tracking: TrackingSettings) -> None:
    request = _request(data, tracking)
    paused, _ = work_through(request)
    assert _states(paused)["paused"]
    search, context = work_through(replace(request, scheduler=other))
    states = _states(search)
    assert states["paused"] == states["WAITING"] == 0 and sum(states.values()) == 6
    assert states["PRUNED"] == 0 or other != "none"
    _check_epochs(search, context)


@pytest.mark.parametrize("other", ["forecast", *(pytest.param(name, marks=_SLOW) for name in ("none", "median"))])
def test_study_of_another_scheduler_goes_on_with_pauses(other: Any, data: Path, tracking: TrackingSettings) -> None:
    request = _request(data, tracking)
    before = _values(work_through(replace(request, scheduler=other, trials=4))[0])
    search, context = work_through(request)
    assert _values(search)[:4] == before
    assert len(search.trials()) == 6 and _states(search)["paused"]
    _check_epochs(search, context)


@_SLOW
def test_loss_is_searched_downwards(data: Path, tracking: TrackingSettings) -> None:
    request = _request(data, tracking, settings={"train__objective": "val_loss"}, trials=7)
    search, context = work_through(request)
    whole, _ = work_through(replace(request, name="whole", scheduler="none"))
    _check_like(search, whole)
    _check_epochs(search, context)
    done = [trial.value for trial in search.trials() if trial.state == TrialState.COMPLETE]
    paused = [min(t.intermediate_values.values()) for t in search.trials() if is_paused(t)]
    assert min(done) < min(paused)


@_SLOW
def test_fold_without_a_value_is_trained_and_left_out(tmp_path: Path, tracking: TrackingSettings) -> None:
    """In the first fold the site that varies varies in the test part only."""
    toys = toy_transcripts(40)
    request = _request(write_table(toys, tmp_path / "toy.tsv"), tracking, settings={"data__fold": 2})
    _, context = open_context(replace(request, name="look"))
    fractions = toys.fractions.copy()
    fractions[context.trainings[0].validation] = [0.5, 0.3, 0.2]
    data = write_table(replace(toys, fractions=fractions), tmp_path / "flat.tsv")
    request = _request(data, tracking, settings={"data__fold": 2})
    search, context = work_through(request)
    whole, _ = work_through(replace(request, name="whole", scheduler="none"))
    folds = [t.user_attrs["fold_values"] for t in search.trials() if t.state == TrialState.COMPLETE]
    assert folds and all(first is None and second is not None for first, second in folds)
    assert any("paused: fold 2" in line for trial in search.trials() for line in trial.user_attrs.get(SCHEDULE, []))
    _check_like(search, whole)
    _check_epochs(search, context, 2)


def test_trial_that_cannot_fit_is_pruned_before_its_start_and_the_others_go_on(
    data: Path, tracking: TrackingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def why_not(config: Any, *_: Any) -> str | None:
        asked.append(config.model.rnn_hidden)
        return "too large" if config.model.rnn_hidden > 4 else None

    monkeypatch.setattr(memory, "why_not", why_not)
    search, context = work_through(_request(data, tracking))
    large = [trial for trial in search.trials() if trial.params["model.rnn_hidden"] > 4]
    assert 0 < len(large) < 6
    assert {trial.state for trial in large} == {TrialState.PRUNED}
    assert all(not trial.intermediate_values for trial in large)
    assert len(search.trials()) == 6
    assert all(_trained(context.parent.children()[f"trial{t.number}"]) == {} for t in large)


def test_space_that_is_used_up_leaves_paused_trials_to_go_on(data: Path, tracking: TrackingSettings) -> None:
    content = {"train.lr": {"categorical": [0.001, 0.003, 0.01, 0.03]}}
    request = _request(data, tracking, content=content, trials=30)
    search, context = work_through(request)
    assert search.is_used_up
    assert len(search.trials()) == 4
    assert all(trial.intermediate_values for trial in search.trials())
    assert _states(search)["COMPLETE"] and search.is_over()
    _check_epochs(search, context)


def test_run_of_a_paused_trial_says_so_and_that_of_a_resumed_one_no_longer(data: Path, mlflow_store: Path) -> None:
    request = _request(data, TrackingSettings(mlflow_store), settings={"train__epochs": 4}, trials=4)
    search, context = work_through(request)
    listed = {run.name: run.state for run in context.tracker.list_runs().runs}
    seen = set()
    for trial in search.trials():
        child, name = context.parent.children()[f"trial{trial.number}"], f"trial{trial.number}"
        tags, log, schedule = child.tags(), child.files.log.read_text(), trial.user_attrs[SCHEDULE]
        row = summary.row(search, trial)
        assert tags[Tag.SCHEDULE].splitlines() == schedule
        assert all(f"{name}: {line}\n" in log for line in schedule)
        assert row["schedule"] == "; ".join(schedule)
        assert study_trial.trial_as_json(search, trial)["schedule"] == schedule
        if is_paused(trial):
            assert (child.status(), listed[name], row["state"]) == ("KILLED", "paused", "paused")
            assert tags[Tag.MESSAGE] == f"paused at {tags[Tag.PAUSED]}"
            assert schedule[-1] == f"paused: {tags[Tag.PAUSED]}"
        else:
            assert (child.status(), listed[name], row["state"]) == ("FINISHED", "finished", "complete")
            assert (tags.get(Tag.MESSAGE, ""), tags.get(Tag.PAUSED, "")) == ("", "")
            assert schedule[-1].startswith("resumed: ")
        seen.add(row["state"])
    assert seen == {"paused", "complete"}


def test_one_trial_is_shown_with_its_schedule(
    data: Path, tracking: TrackingSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    search, _ = work_through(_request(data, tracking, trials=3))
    paused = next(trial for trial in search.trials() if is_paused(trial))
    study_trial.print_trial(search, study_trial.find_trial(search, paused.number))
    said = capsys.readouterr().out
    assert f"Trial {paused.number}" in said and ": paused at fold 1, epoch" in said
    assert all(line in said for line in paused.user_attrs[SCHEDULE])
    assert paused.user_attrs["run_id"] in said
    last = list(paused.intermediate_values.values())[-1]
    assert f"{last:.4f} so far" in said
    with pytest.raises(StudyError, match="there is no trial 9; its last is 2"):
        study_trial.find_trial(search, 9)


def test_time_to_go_is_by_epochs(data: Path, tracking: TrackingSettings) -> None:
    """Two trials have rested after 6 and 2 epochs of 3 s, one runs at its first; two are to be begun, with two jobs."""
    search, _ = open_context(_request(data, tracking, trials=5, jobs=2))
    assert summary.seconds_left(search) is None
    for epochs in (6, 2):
        claim = search.claim()
        assert claim is not None
        claim.trial.report(0.1, 1)
        claim.trial.set_user_attr(EPOCHS, epochs)
        claim.trial.set_user_attr(SECONDS, 3.0 * epochs)
        search.study.tell(claim.trial, 0.1 * epochs)
    claim = search.claim()
    assert claim is not None
    claim.trial.report(0.1, 1)
    assert summary.seconds_left(search) == pytest.approx((2 * 4 + 3) * 3.0 / 2)


def test_paused_trials_lose_their_weights_too_and_begin_anew(data: Path, tracking: TrackingSettings) -> None:
    request = _request(data, tracking)
    search, context = work_through(request)
    paused = [trial.number for trial in search.trials() if is_paused(trial)]
    runs = context.parent.children()
    assert paused and all(list(runs[f"trial{number}"].folder.rglob("last.pt")) for number in paused)
    assert delete_weights(search)[0] == len(search.trials())
    assert not any(list(run.folder.rglob("*.pt")) for run in runs.values())
    before = _values(search)
    search, _ = work_through(replace(request, scheduler="none"))
    assert search.counts().complete == len(search.trials())
    assert [now[: len(then)] for now, then in zip(_values(search), before, strict=True)] == before


def test_study_that_has_little_time_begins_few_trials_and_brings_some_to_their_ends(
    data: Path, tracking: TrackingSettings
) -> None:
    """Of 300 trials it would else only have begun most."""
    request = _request(data, tracking, trials=300, until=Until(epochs=5 * _EPOCHS))
    search, _ = work_through(request)
    states = _states(search)
    assert states["COMPLETE"]
    assert 5 * _EPOCHS <= sum(each.epochs for each in search.courses()) <= 6 * _EPOCHS
    assert sum(states.values()) < 60


def test_time_that_is_left_limits_how_many_trials_are_begun(data: Path, tracking: TrackingSettings) -> None:
    search, _ = work_through(_request(data, tracking, trials=6))
    taken = [(float(t.user_attrs[SECONDS]), int(t.user_attrs[EPOCHS])) for t in search.trials()]
    pace, spent = sum(s for s, _ in taken) / sum(e for _, e in taken), sum(e for _, e in taken)
    search.planner.request = replace(search.request, trials=1000, jobs=2)
    assert search.planner.fitting(search.trials()) == 1000
    search.planner.ends_at = time.time() + 2 * 30 * _EPOCHS * pace / 2  # half of it is planned for
    assert search.planner.fitting(search.trials()) == pytest.approx(
        FreezeThaw(_EPOCHS, 1).fits(spent + 30 * _EPOCHS), abs=5
    )
    search.planner.ends_at = time.time() - 1
    assert search.planner.fitting(search.trials()) == FreezeThaw(_EPOCHS, 1).fits(spent)
