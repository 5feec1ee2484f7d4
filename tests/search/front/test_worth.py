"""How value and cost are weighed: what a trial would gain, what a scheduler does by that, what a sampler sees."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from rnatracker.search import sampling, space
from rnatracker.search.definition import open_search
from rnatracker.search.front.cost import COST
from rnatracker.search.pruning import TwoLevelPruner
from rnatracker.search.scheduling.freeze_thaw import Course, FreezeThaw, State, What
from rnatracker.search.scheduling.worth import Rivals
from rnatracker.search.study import Search, StudyRequest
from rnatracker.tracking.settings import TrackingSettings
from tests.support.toys import small_config

_EPOCHS = 27


def _sure(value: float) -> Any:
    """Return the gain of a trial whose value is known."""
    return lambda bar: max(value - bar, 0.0)


def test_gain_is_the_mean_over_limits_of_the_cost() -> None:
    """Costs from 1 to 100: half of the orders of magnitude lie above 10."""
    one = Rivals.of([(0.5, 100.0)], [1.0, 10.0, 100.0], 0.1)
    assert one.mean_gain(10.0, _sure(0.4)) == pytest.approx(0.5 * 0.5 * (0.4 - 0.1))  # over the floor, from 10 on
    assert one.mean_gain(1.0, _sure(0.4)) == pytest.approx(0.5 * 1.0 * (0.4 - 0.1))
    assert one.mean_gain(100.0, _sure(0.4)) == 0
    assert one.mean_gain(100.0, _sure(0.7)) == pytest.approx(0.5 * 0.2)  # without a limit only
    assert one.mean_gain(10.0, _sure(0.7)) == pytest.approx(0.5 * 0.2 + 0.5 * 0.5 * (0.7 - 0.1))
    two = Rivals.of([(0.5, 100.0), (0.3, 1.0)], [1.0, 10.0, 100.0], 0.1)
    assert two.mean_gain(10.0, _sure(0.4)) == pytest.approx(0.5 * 0.5 * (0.4 - 0.3))
    assert two.mean_gain(10.0, _sure(0.25)) == 0  # beaten
    steps = Rivals.of([(0.5, 100.0), (0.3, 10.0)], [1.0, 10.0, 100.0], 0.1)
    assert steps.mean_gain(1.0, _sure(0.4)) == pytest.approx(0.5 * (0.5 * (0.4 - 0.1) + 0.5 * (0.4 - 0.3)))


def test_gain_without_what_could_be_weighed_is_that_of_the_value_alone() -> None:
    alike = Rivals.of([(0.5, 8.0)], [8.0, 8.0], 0.1)
    assert alike.mean_gain(8.0, _sure(0.7)) == pytest.approx(0.2)
    none = Rivals.of([], [1.0, 100.0], 0.1)
    assert none.mean_gain(1.0, lambda bar: 10.0 if bar == -math.inf else 0.0) == 10.0
    unknown = Rivals.of([(0.5, None)], [1.0, 100.0], 0.1)
    assert unknown.best_below(math.log(100)) is None and unknown.best_below(math.inf) == 0.5
    assert unknown.mean_gain(None, _sure(0.7)) == pytest.approx(0.1)


def _course(number: int, last: float, epochs: int, state: State, cost: float | None) -> Course:
    """Return a trial whose curve rises to a value by its first look, and stays there."""
    values = dict.fromkeys(range(1, epochs + 1), last)
    return Course(number, np.array([number / 10]), {1: values}, state, number == 0, cost)


def _study(*costs: float | None) -> list[Course]:
    """Two complete trials, of 0.50 and 0.10, and three paused ones that are clearly below the best."""
    return [
        _course(0, 0.50, _EPOCHS, State.COMPLETE, costs[0]),
        _course(1, 0.10, _EPOCHS, State.COMPLETE, costs[1]),
        _course(2, 0.40, 15, State.PAUSED, costs[2]),
        _course(3, 0.42, 15, State.PAUSED, costs[3]),
        _course(4, 0.38, 15, State.PAUSED, costs[4]),
    ]


def test_scheduler_resumes_the_cheap_trial_that_no_cheap_one_matches() -> None:
    plain = FreezeThaw(_EPOCHS, 1).decide(_study(*[None] * 5), 5)
    assert plain.what == What.NOTHING  # none would come to 0.50
    cheap = FreezeThaw(_EPOCHS, 1).decide(_study(1000.0, 1000.0, 900.0, 950.0, 10.0), 5)
    assert (cheap.what, cheap.number) == (What.RESUME, 4)
    assert "the best has 0.5000, and none that costs no more is complete" in cheap.why


def test_scheduler_resumes_none_that_a_cheap_complete_trial_beats() -> None:
    courses = _study(1000.0, 1000.0, 900.0, 950.0, 900.0)
    beaten = [*courses, _course(5, 0.48, _EPOCHS, State.COMPLETE, 10.0)]
    assert FreezeThaw(_EPOCHS, 1).decide(beaten, 6).what == What.NOTHING
    dear = [*courses, _course(5, 0.20, _EPOCHS, State.COMPLETE, 10.0)]
    found = FreezeThaw(_EPOCHS, 1).decide(dear, 6)
    assert found.what == What.RESUME and found.why.endswith("the best has 0.5000, the best that costs no more 0.2000")


def test_scheduler_decides_as_before_where_all_cost_the_same() -> None:
    courses = [replace(each, cost=None) for each in _study(*[None] * 5)]
    courses[3] = _course(3, 0.56, 15, State.PAUSED, None)
    plain = FreezeThaw(_EPOCHS, 1).decide(courses, 5)
    same = FreezeThaw(_EPOCHS, 1).decide([replace(each, cost=7.0) for each in courses], 5)
    assert (plain.what, plain.number) == (same.what, same.number) == (What.RESUME, 3)


def test_pruner_compares_a_trial_with_those_that_cost_no_more(tmp_path: Path) -> None:
    def pruned(own: float | None, others: float | None) -> bool:
        search = _search(tmp_path / f"{own}{others}", cost=None if own is None else "seconds", scheduler="median")
        for number in range(5):
            claim = search.claim()
            assert claim is not None
            cost = own if number == 4 else others
            if cost is not None:
                claim.trial.set_user_attr(COST, cost)
            for step in (1, 2):
                claim.trial.report(0.1 if number == 4 else 0.5, step)
            if number == 4:
                return bool(TwoLevelPruner("median", 3, 1).prune(search.study, search.trial(4)))
            search.study.tell(claim.trial, 0.5)
        raise AssertionError

    assert pruned(None, None) and pruned(3.0, 3.0) and pruned(3.0, 2.0)
    assert not pruned(1.0, 2.0)


def _search(folder: Path, **changes: Any) -> Search:
    content = {"train.lr": {"float": [1e-4, 1e-1], "log": True}, "model.dropout": {"float": [0.0, 0.5]}}
    made = StudyRequest("toy", small_config(), space.parse(content, "s.yaml"), TrackingSettings(folder, enabled=False))
    wanted = {"scheduler": "none", "cost": "seconds", "trials": 40, **changes}
    return open_search(replace(made, **wanted), "d")


def _shown(*trials: Any) -> list[tuple[TrialState, list[float] | None]]:
    made = sampling._Experience(maximize=True, as_completed=False, forecasts={3: 0.45}, has_cost=True)
    for number, trial in enumerate(trials):
        trial.number = number
    return [(each.state, each.values) for each in made(list(trials))]


def test_sampler_sees_values_and_the_logarithm_of_costs() -> None:
    def trial(state: TrialState, cost: float | None, **more: Any) -> Any:
        attributes = {} if cost is None else {COST: cost}
        return create_trial(state=state, user_attrs=attributes, **more)

    complete = trial(TrialState.COMPLETE, math.exp(2), value=0.5)
    dear = trial(TrialState.COMPLETE, math.exp(4), value=0.6)
    failed = trial(TrialState.FAIL, math.exp(1))
    failed.params = {"x": 1.0}
    paused = trial(TrialState.WAITING, math.exp(3), intermediate_values={1: 0.2})
    memory = trial(TrialState.PRUNED, None)
    running = trial(TrialState.RUNNING, None)
    found = _shown(complete, dear, failed, paused, memory, running)
    assert [state for state, _ in found] == [TrialState.COMPLETE] * 5 + [TrialState.RUNNING]
    values = [each for _, each in found[:5]]
    # Costs span 1 to 4, so what has come to nothing costs 7; its value is worse than any by a margin.
    expected = [[0.5, 2.0], [0.6, 4.0], [0.4, 7.0], [0.45, 3.0], [0.4, 7.0]]
    assert values == [pytest.approx(each) for each in expected]
    only = _shown(trial(TrialState.PRUNED, None))  # nothing is complete: Optuna would ask for one direction
    assert only[0][0] == TrialState.FAIL


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_samplers_go_where_value_is_cheap(sampler: Any, tmp_path: Path) -> None:
    """From a rate of 0.001 on values are alike, and the cost grows: who looks at the cost draws no high rates."""
    trials = 16 if sampler == "gp" else 28
    rates: dict[Any, list[float]] = {}
    for cost in (None, "seconds"):
        search = _search(tmp_path / str(cost), sampler=sampler, cost=cost, trials=trials)
        for number in range(trials):
            claim = search.claim()
            assert claim is not None
            rate = float(claim.trial.params["train.lr"])
            if cost:
                claim.trial.set_user_attr(COST, rate * 100)
            claim.trial.report(0.5, 1)
            if number == 3:
                search.study.tell(claim.trial, state=TrialState.FAIL)
            elif number == 4:
                search.study.tell(claim.trial, state=TrialState.PRUNED)
            else:
                search.study.tell(claim.trial, 0.8 + 0.1 * min(math.log10(rate), -3.0))
            rates.setdefault(cost, []).append(rate)
        seen = search.study.sampler._shown.directions  # type: ignore[attr-defined]
        both = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
        assert seen == (both if cost else both[:1]) and search.study.directions == both[:1]
    late = {cost: float(np.median(np.log10(found[-5:]))) for cost, found in rates.items()}
    assert late["seconds"] < -3 < late[None]
