"""Which deaths of workers count against a trial's settings, and when a worker elsewhere is taken for dead."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from rnatracker.processes import identity
from rnatracker.processes.stop import StopSignal
from rnatracker.search import space
from rnatracker.search.definition import open_search
from rnatracker.search.faults.deaths import DEATHS, SEEN, STARTER, UNREPORTED, WORKER
from rnatracker.search.study import Claim, Search, StudyRequest
from rnatracker.search.worker import run_trials
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.reporting import NullReporter
from rnatracker.training.trainer import Stopped
from tests.support.studies import open_context, small_study
from tests.support.toys import small_config, toy_transcripts, write_table

_SPACE = {"train.lr": {"float": [1e-4, 1e-1], "log": True}}
_HOUR = 3600.0


@pytest.fixture(params=["journal", "sqlite"])
def search(request: pytest.FixtureRequest, tmp_path: Path) -> Search:
    storage = None if request.param == "journal" else f"sqlite:///{tmp_path}/studies.db"
    tracking = TrackingSettings(tmp_path, enabled=False)
    made = StudyRequest("toy", small_config(), space.parse(_SPACE, "x.yaml"), tracking, storage=storage, trials=10)
    return open_search(made, "d")


def _claimed(search: Search) -> Claim:
    claim = search.claim()
    assert claim is not None
    return claim


def _dies(claim: Claim, *, with_its_command: bool = False) -> None:
    gone = {**identity.own_tags(), identity.PROCESS_START: "0"}
    claim.trial.set_user_attr(WORKER, gone)
    if with_its_command:
        claim.trial.set_user_attr(STARTER, gone)


def test_trial_is_handed_out_again_and_fails_at_the_third_death_at_one_place(search: Search) -> None:
    claim = _claimed(search)
    claim.trial.report(0.5, 1)
    for deaths in (1, 2):
        _dies(claim)
        again = _claimed(search)
        assert (again.number, again.trial.params) == (0, claim.trial.params)
        assert search.study.trials[0].user_attrs[DEATHS] == deaths
        assert search.study.trials[0].intermediate_values == {1: 0.5}
    _dies(claim)
    assert _claimed(search).number == 1
    assert search.study.trials[0].state == TrialState.FAIL
    assert "3 processes died" in search.study.trials[0].user_attrs["reason"]


def test_deaths_of_a_trial_that_gets_further_do_not_add_up(search: Search) -> None:
    claim = _claimed(search)
    for epoch in range(1, 7):
        claim.trial.report(0.5, epoch)
        _dies(claim)
        claim = _claimed(search)
        assert claim.number == 0
        assert search.trial(0).user_attrs[DEATHS] == 1
    for epoch in range(1, 5):  # where nothing is reported, as between evaluations
        claim.trial.set_user_attr(UNREPORTED, epoch)
        _dies(claim)
        claim = _claimed(search)
        assert claim.number == 0
        assert search.trial(0).user_attrs[DEATHS] == 1
    for _ in range(2):
        _dies(claim)
        search.claim()
    assert search.trial(0).state == TrialState.FAIL


def test_deaths_together_with_the_command_do_not_count(search: Search) -> None:
    claim = _claimed(search)
    for _ in range(5):
        _dies(claim, with_its_command=True)
        claim = _claimed(search)
        assert claim.number == 0
    assert DEATHS not in search.trial(0).user_attrs


def test_death_before_a_worker_was_noted_does_not_count(search: Search) -> None:
    """Killed as it took the trial, or as it put it back."""
    for _ in range(4):
        claim = _claimed(search)
        assert claim.number == 0
        claim.trial.set_user_attr(WORKER, None)
    assert DEATHS not in search.trial(0).user_attrs


def test_epochs_without_a_report_are_progress(tmp_path: Path) -> None:
    data = write_table(toy_transcripts(60), tmp_path / "toy.tsv")
    tracking = TrackingSettings(tmp_path / "mlruns", enabled=False)
    settings = {"train__eval_every": 5, "train__epochs": 5}
    search, context = open_context(small_study(data, tracking, trials=1, settings=settings))
    with pytest.raises(Stopped):
        run_trials(context, NullReporter(), _StopAtEpoch(search, 3))
    assert search.trial(0).user_attrs[UNREPORTED] == 3
    run_trials(context, NullReporter(), StopSignal())
    assert sorted(search.trial(0).intermediate_values) == [5]


class _StopAtEpoch(StopSignal):
    """Stops once the first trial has trained so many epochs."""

    def __init__(self, search: Search, epochs: int) -> None:
        super().__init__()
        self._search, self._epochs = search, epochs

    def __call__(self) -> bool:
        trials = self._search.trials()
        return bool(trials) and trials[0].user_attrs.get(UNREPORTED, 0) >= self._epochs


class _Clock:
    """This machine's time since its start, set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def _elsewhere(claim: Claim, **tags: str) -> None:
    claim.trial.set_user_attr(WORKER, identity.own_tags() | {identity.PID_NAMESPACE: "pid:[1]", **tags})


@pytest.mark.parametrize("ahead", [-100 * _HOUR, 0.0, 100 * _HOUR])
def test_worker_elsewhere_is_left_alone_while_it_reports_whatever_its_clock_says(
    ahead: float, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, clock = _claimed(search), _Clock(monkeypatch)
    _elsewhere(claim)
    for minute in range(0, 300, 50):
        claim.trial.set_user_attr(SEEN, 1.7e9 + ahead + 60 * minute)
        search.reap()
        assert search.counts().running == 1
        clock.now += 0.9 * _HOUR
        search.reap()
        assert search.counts().running == 1
    clock.now += 0.2 * _HOUR
    search.reap()
    assert search.counts().waiting == 1
    assert DEATHS not in search.trial(0).user_attrs  # whether its command lives can't be known


def test_silence_is_noted_for_the_next_command_on_this_machine(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, clock = _claimed(search), _Clock(monkeypatch)
    _elsewhere(claim)
    search.reap()
    clock.now += 1.1 * _HOUR
    another = replace(search)
    another.reap()
    assert another.counts().waiting == 1


def test_silence_before_this_machine_was_started_anew_is_not_known(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, clock = _claimed(search), _Clock(monkeypatch)
    _elsewhere(claim)
    search.reap()
    own: dict[str, Any] = identity.own_tags() | {identity.BOOT_ID: "another"}
    monkeypatch.setattr(identity, "own_tags", lambda: own)
    clock.now = 5000.0
    search.reap()
    assert search.counts().running == 1
    clock.now += 1.1 * _HOUR
    search.reap()
    assert search.counts().waiting == 1
