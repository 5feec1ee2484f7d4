"""How value and cost count together: for the scheduler, for the pruners, for the samplers."""

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
from rnatracker.search.front.order import ordered
from rnatracker.search.pruning import TwoLevelPruner
from rnatracker.search.scheduling.freeze_thaw import Course, FreezeThaw, State, What, looks
from rnatracker.search.study import Search, StudyRequest
from rnatracker.tracking.settings import TrackingSettings
from tests.support.toys import small_config

_EPOCHS = 27


def test_order_is_front_by_front_with_the_ends_first() -> None:
    values, costs = [0.5, 0.4, 0.6, 0.6, 0.3, 0.5], [2.0, 1.0, 3.0, 4.0, 0.5, 2.0]
    # On the front are 4, 1, 0 and 2: the best value, the cheapest, then what is farthest from both. 3 and 5 are behind.
    assert ordered(values, costs) == [2, 4, 1, 0, 3, 5]
    assert ordered([], []) == []
    assert ordered([0.1, 0.3, 0.2], [5.0, 5.0, 5.0]) == [1, 2, 0]


def test_costs_that_differ_by_a_few_per_cent_are_the_same_to_the_order() -> None:
    assert ordered([0.6, 0.5, 0.55], [1.01, 1.0, 1.2]) == [0, 2, 1]
    assert ordered([0.6, 0.5, 0.55], [1.1, 1.0, 1.2]) == [0, 1, 2]


def _course(number: int, last: float, epochs: int, state: State, cost: float | None) -> Course:
    """Return a trial that has one value throughout."""
    values = dict.fromkeys(range(1, epochs + 1), last)
    return Course(number, np.array([number / 10]), {1: values}, state, number == 0, cost=cost)


def _study(*costs: float | None) -> list[Course]:
    """Two complete trials, of 0.50 and 0.10, and three that are paused at the last look but one."""
    look = looks(_EPOCHS)[-2]
    return [
        _course(0, 0.50, _EPOCHS, State.COMPLETE, costs[0]),
        _course(1, 0.10, _EPOCHS, State.COMPLETE, costs[1]),
        _course(2, 0.40, look, State.PAUSED, costs[2]),
        _course(3, 0.42, look, State.PAUSED, costs[3]),
        _course(4, 0.38, look, State.PAUSED, costs[4]),
    ]


def test_scheduler_resumes_the_cheap_trial_before_dearer_ones_that_are_better() -> None:
    """The best two of five go on: by value 0 and 3, by value and cost 0 and 4."""
    plain = FreezeThaw(_EPOCHS, 1).decide(_study(*[None] * 5), 5)
    assert (plain.what, plain.number) == (What.RESUME, 3) and "cost" not in plain.why
    cheap = FreezeThaw(_EPOCHS, 1).decide(_study(1000.0, 1000.0, 900.0, 950.0, 10.0), 5)
    assert (cheap.what, cheap.number) == (What.RESUME, 4)
    assert "the best to 0.5000, and none costs less; place" in cheap.why


def test_scheduler_does_not_resume_a_cheap_trial_that_a_cheap_one_beats() -> None:
    beaten = [*_study(1000.0, 1000.0, 900.0, 950.0, 10.0), _course(5, 0.48, _EPOCHS, State.COMPLETE, 10.0)]
    found = FreezeThaw(_EPOCHS, 1).decide(beaten, 6)
    assert (found.what, found.number) == (What.RESUME, 3)
    assert "the best to 0.5000, of those that cost no more to 0.4800; place" in found.why


def test_scheduler_goes_on_with_all_that_are_expected_on_the_front() -> None:
    """The best two by value and cost are complete, so that nothing goes on by rank."""
    courses = _study(1000.0, 10.0, 100.0, 1000.0, 1000.0)
    found = FreezeThaw(_EPOCHS, 1).decide(courses, 5)
    assert (found.what, found.number, found.epoch) == (What.RESUME, 2, _EPOCHS)
    begun_first = FreezeThaw(_EPOCHS, 1).decide(courses, 6)
    assert begun_first.what == What.NEW
    look = looks(_EPOCHS)[-2]
    beaten = [*courses[:2], _course(2, 0.08, look, State.PAUSED, 100.0), *courses[3:]]
    assert FreezeThaw(_EPOCHS, 1).decide(beaten, 5).what == What.NOTHING


def test_scheduler_decides_as_before_where_all_cost_the_same() -> None:
    plain, same = (FreezeThaw(_EPOCHS, 1).decide(_study(*[cost] * 5), 5) for cost in (None, 7.0))
    assert (plain.what, plain.number, plain.epoch) == (same.what, same.number, same.epoch)


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
