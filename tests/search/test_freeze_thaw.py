"""What freeze-thaw decides: which work comes next, of trials whose curves are known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from rnatracker.search import space
from rnatracker.search.faults.deaths import SEEN
from rnatracker.search.pruning import START, step_of
from rnatracker.search.scheduling.courses import PAUSED, SeenTrials, courses_of
from rnatracker.search.scheduling.freeze_thaw import Course, Decision, FreezeThaw, State, What, looks, stages

_EPOCHS = 27


def _curve(end: float, epochs: int, of: int = _EPOCHS) -> dict[int, float]:
    """Return the best values up to an epoch of a training that ends at a value."""
    whole = 1 - math.exp(-of / 6)
    return {epoch: end * (1 - math.exp(-epoch / 6)) / whole for epoch in range(1, epochs + 1)}


def _course(number: int, end: float, epochs: int, state: State, folds: int = 0, **more: Any) -> Course:
    """Return a trial whose only setting says how it ends, after some whole folds and some epochs of the next."""
    values = {fold: _curve(end, _EPOCHS) for fold in range(1, folds + 1)}
    if epochs:
        values[folds + 1] = _curve(end, epochs)
    return Course(number, np.array([end]), values, state, **more)


def _done(number: int, end: float, folds: int = 1) -> Course:
    return _course(number, end, 0, State.COMPLETE, folds)


def _paused(number: int, end: float, epochs: int = 2) -> Course:
    return _course(number, end, epochs, State.PAUSED)


_KNOWN = [_done(0, 0.3), _done(1, 0.5), _done(2, 0.1), _done(3, 0.4), _done(4, 0.2)]
"""Trials that have come to their end: enough to tell a good start from a bad one."""


def _decide(courses: list[Course], wanted: int, folds: int = 1) -> Decision:
    return FreezeThaw(_EPOCHS, folds).decide(courses, wanted)


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (27, [1, 2, 3, 4, 7, 11, 17, 27])],
)
def test_looks_are_close_at_first_and_end_with_the_fold(epochs: int, expected: list[int]) -> None:
    assert looks(epochs) == expected


def test_looks_rise_to_the_last_epoch_of_any_fold() -> None:
    for epochs in range(1, 200):
        found = looks(epochs)
        assert found[0] >= 1 and found[-1] == epochs
        assert found == sorted(set(found))


def test_first_trials_are_begun_and_go_to_the_first_look() -> None:
    assert _decide([], 5) == Decision(What.NEW, epoch=1)
    assert _decide([_course(0, 0.3, 0, State.RUNNING, is_start=True)], 5) == Decision(What.NEW, epoch=1)


def test_some_trial_comes_to_its_end_though_it_is_the_only_one() -> None:
    found = _decide([_paused(0, 0.3)], 1)
    assert (found.what, found.number, found.epoch) == (What.RESUME, 0, 3)
    hopeless = [_paused(1, 0.1), _paused(2, 0.1)]
    assert _decide([_course(0, 0.5, 4, State.RUNNING), *hopeless], 3).what == What.NOTHING  # that one may


def test_new_settings_are_begun_until_there_are_as_many_as_wanted() -> None:
    """Nothing paused is worth going on, so that what is left is new settings, and then nothing."""
    hopeless = [_paused(number, 0.11) for number in range(5, 8)]
    assert _decide([*_KNOWN, *hopeless], 9).what == What.NEW
    assert _decide([*_KNOWN, *hopeless], 8).what == What.NOTHING


def test_never_more_are_begun_than_wanted_whatever_became_of_them() -> None:
    ended = [_course(5, 0.1, 2, State.ENDED), _course(6, 0.1, 0, State.ENDED)]
    running = [_course(7, 0.6, 2, State.RUNNING)]
    assert _decide([*_KNOWN, *ended, *running], 8) == Decision(What.NOTHING)
    assert _decide([*_KNOWN, *ended, *running], 9).what == What.NEW


def test_trial_that_starts_far_better_is_resumed_and_the_hopeless_are_not() -> None:
    courses = [*_KNOWN, _paused(5, 0.12), _paused(6, 0.7), _paused(7, 0.15)]
    scheduler = FreezeThaw(_EPOCHS, 1)
    found = scheduler.decide(courses, len(courses))
    assert (found.what, found.number, found.fold, found.epoch) == (What.RESUME, 6, 1, 3)
    assert found.why == scheduler.outlook(6)
    assert "the best to 0.6" in found.why
    outlook = scheduler.forecast(courses)
    assert outlook.of(6)[0] == pytest.approx(0.7, abs=0.12)
    assert outlook.of(5)[0] == pytest.approx(0.12, abs=0.06)
    assert outlook.of(1) == (pytest.approx(0.5), 0.0)  # what is known is not forecast


def test_trial_is_resumed_from_look_to_look_until_the_end_of_its_fold() -> None:
    reached, epoch = [], 1
    while epoch < _EPOCHS:
        found = _decide([*_KNOWN, _paused(5, 0.8, epoch)], 6)
        assert (found.what, found.number, found.fold) == (What.RESUME, 5, 1)
        epoch = found.epoch
        reached.append(epoch)
    assert reached == [2, 3, 4, 7, 11, 17, 27]


def test_fold_after_the_first_is_trained_to_its_end_in_one_piece() -> None:
    done = [_done(number, end, folds=2) for number, end in ((0, 0.3), (1, 0.5), (2, 0.2), (3, 0.1))]
    for epochs in (0, 5):  # the second: as where it was interrupted
        found = _decide([*done, _course(4, 0.9, epochs, State.PAUSED, folds=1)], 5, folds=2)
        assert (found.what, found.number, found.fold, found.epoch) == (What.RESUME, 4, 2, _EPOCHS)


def test_epochs_between_looks_count_as_the_look_before() -> None:
    """As where the objective is evaluated in every other epoch."""
    scheduler = FreezeThaw(_EPOCHS, 1)
    assert [scheduler.on_to_next_look(_paused(0, 0.1, epoch)).epoch for epoch in (1, 5, 8, 24)] == [2, 7, 11, 27]
    assert scheduler.on_to_next_look(_paused(0, 0.1, 0)).epoch == 1


def test_running_and_ended_trials_are_never_handed_out() -> None:
    running, ended = _course(5, 0.9, 4, State.RUNNING), _course(6, 0.9, 4, State.ENDED)
    found = _decide([*_KNOWN, running, ended, _paused(7, 0.7)], 8)
    assert (found.what, found.number) == (What.RESUME, 7)
    assert _decide([*_KNOWN, running, ended], 7).what == What.NOTHING


def test_nothing_is_left_where_all_are_complete() -> None:
    assert _decide(_KNOWN, 5).what == What.NOTHING
    assert _decide(_KNOWN, 6).what == What.NEW


def test_best_of_those_paused_goes_on_where_none_is_complete() -> None:
    """As where the starting config was too large for the memory."""
    start = _course(0, 0.0, 0, State.ENDED, is_start=True)
    found = _decide([start, _paused(1, 0.2, 4), _paused(2, 0.6, 4), _paused(3, 0.4, 4)], 4)
    assert (found.what, found.number, found.epoch) == (What.RESUME, 2, 7)


def test_study_of_thirty_trials_ends_and_spends_most_on_the_good_ones() -> None:
    """A whole study, without training: each trial ends where its setting says."""
    rng = np.random.default_rng(0)
    ends, state = rng.uniform(0, 0.6, 30), {}
    scheduler, reached, resumed = FreezeThaw(_EPOCHS, 1), {}, []
    for _ in range(1000):
        courses = [_course(n, ends[n], reached[n], state[n], is_start=n == 0) for n in reached]
        found = scheduler.decide(courses, 30)
        if found.what == What.NOTHING:
            break
        number = len(reached) if found.what == What.NEW else found.number
        resumed += [number] if found.what == What.RESUME else []
        assert found.what == What.NEW or state[number] == State.PAUSED
        reached[number] = found.epoch
        state[number] = State.COMPLETE if found.epoch == _EPOCHS else State.PAUSED
    else:
        pytest.fail("it never ends")
    assert len(reached) == 30
    assert reached[int(np.argmax(ends))] == _EPOCHS
    assert sum(reached.values()) < 0.6 * 30 * _EPOCHS
    by_value = np.argsort(ends)
    worst, best = ([reached[int(n)] for n in part] for part in (by_value[:10], by_value[-10:]))
    assert np.mean(worst) < 0.5 * np.mean(best)
    assert len(resumed) > 5


_SPACE = space.parse({"train.lr": {"float": [1e-3, 1e-1], "log": True}}, "x.yaml")
_DISTRIBUTIONS = {"train.lr": optuna.distributions.FloatDistribution(1e-3, 1e-1, log=True)}


def _trial(number: int, state: TrialState, values: dict[int, float] | None = None, **attributes: Any) -> FrozenTrial:
    found = create_trial(
        state=state,
        value=0.1 if state == TrialState.COMPLETE else None,
        params={"train.lr": 0.01},
        distributions=_DISTRIBUTIONS,
        intermediate_values=values,
        user_attrs=attributes,
    )
    found.number = number
    return found


@pytest.mark.parametrize(
    ("state", "attributes", "expected"),
    [
        (TrialState.COMPLETE, {}, State.COMPLETE),
        (TrialState.COMPLETE, {PAUSED: None}, State.COMPLETE),
        (TrialState.PRUNED, {}, State.ENDED),
        (TrialState.FAIL, {}, State.ENDED),
        (TrialState.RUNNING, {SEEN: 1.0}, State.RUNNING),
        (TrialState.WAITING, {SEEN: 1.0, PAUSED: "why"}, State.PAUSED),
        (TrialState.WAITING, {SEEN: 1.0, PAUSED: None}, State.RUNNING),  # interrupted: it is handed out before
        (TrialState.RUNNING, {SEEN: 1.0, PAUSED: "why"}, State.RUNNING),  # killed while it was being paused
    ],
)
def test_state_of_a_trial(state: TrialState, attributes: dict[str, Any], expected: State) -> None:
    (course,) = courses_of([_trial(7, state, {1: 0.2}, **attributes)], SeenTrials(_SPACE, 3, 1.0))
    assert (course.number, course.state, course.is_start) == (7, expected, False)
    assert course.settings.tolist() == pytest.approx([0.5])


def test_enqueued_trials_have_no_course_and_failed_ones_no_values() -> None:
    trials = [
        _trial(0, TrialState.COMPLETE, {1: 0.2}, **{START: True}),
        _trial(1, TrialState.WAITING),
        _trial(2, TrialState.FAIL, {1: 0.9}),
    ]
    courses = courses_of(trials, SeenTrials(_SPACE, 3, 1.0))
    assert [each.number for each in courses] == [0, 2]
    assert courses[0].is_start
    assert courses[1].values == {}


def test_values_are_by_fold_and_epoch_and_more_is_better() -> None:
    values = {step_of(1, 1, 3): 0.5, step_of(1, 3, 3): 0.4, step_of(2, 2, 3): 0.3}
    (course,) = courses_of([_trial(0, TrialState.RUNNING, values, **{SEEN: 1.0})], SeenTrials(_SPACE, 3, -1.0))
    assert course.values == {1: {1: -0.5, 3: -0.4}, 2: {2: -0.3}}
    assert course.epochs == 5
    assert FreezeThaw(3, 2).value(course) == pytest.approx(-0.35)


def test_loss_is_forecast_downwards() -> None:
    """With the sign turned, the trial whose loss falls most goes on."""
    courses = [
        Course(n, np.array([end]), {1: {e: -1 + v for e, v in _curve(end, reached).items()}}, state)
        for n, (end, reached, state) in enumerate(
            [(end, _EPOCHS, State.COMPLETE) for end in (0.3, 0.5, 0.1, 0.4)]
            + [(end, 3, State.PAUSED) for end in (0.15, 0.75, 0.2)]
        )
    ]
    assert _decide(courses, len(courses)).number == 5


def _fresh(courses: list[Course], most: int | None, folds: int = 1) -> Decision:
    return FreezeThaw(_EPOCHS, folds).decide(courses, len(courses), most)


_ENDED = [*_KNOWN, _done(5, 0.499)]
"""Two trials, 1 and 5, that nobody could tell apart."""


def _again(course: Course, *values: float) -> Course:
    """Return a trial whose settings were trained again, with these last values."""
    return replace(course, fresh={i: {1: _curve(value, _EPOCHS)} for i, value in enumerate(values, start=1)})


def test_the_best_and_its_challenger_are_trained_again_in_turn_in_the_same_rounds() -> None:
    courses, found = list(_ENDED), []
    while (decision := _fresh(courses, 4)).what == What.FRESH:
        found.append((decision.number, decision.round))
        end = 0.47 + 0.001 * len(found)
        before = [folds[1][_EPOCHS] for folds in courses[decision.number].fresh.values()]
        courses[decision.number] = _again(courses[decision.number], *before, end)
    assert sorted(found) == [(1, 1), (1, 2), (5, 1), (5, 2)]
    assert decision.what == What.NOTHING


def test_nothing_is_trained_again_before_all_else_is_done_or_where_it_is_not_wanted() -> None:
    assert _fresh(_ENDED, 0).what == What.NOTHING
    assert FreezeThaw(_EPOCHS, 1).decide(_ENDED, 7, 4).what == What.NEW
    hopeless = _paused(6, 0.05)
    assert _fresh([*_ENDED, hopeless], 4).what == What.FRESH
    assert _fresh([*_ENDED[:4], _paused(4, 0.6, 17), _done(5, 0.49)], 4).what == What.RESUME
    assert _fresh(_ENDED[:5], 4).what == What.NOTHING  # too few to say anything


def test_no_more_seeds_are_spent_once_it_is_known_which_is_best() -> None:
    clear = [*_KNOWN[:1], _again(_done(1, 0.8), 0.8), *_KNOWN[2:], _done(5, 0.2)]
    assert _fresh(clear, 4).what == What.NOTHING


def test_without_a_number_a_small_study_has_few_fresh_seeds() -> None:
    """At most two, and two thirds of the epochs before: of six whole trainings that is four."""
    once = [_again(each, 0.48) if each.number == 1 else each for each in _ENDED]
    assert _fresh(once, None).what == What.FRESH
    assert _fresh([_again(each, 0.48) if each.number in (1, 5) else each for each in _ENDED], None).what == What.NOTHING
    short = [_done(0, 0.5), *(_course(n, 0.45, 1, State.ENDED) for n in range(1, 6))]
    assert _fresh(short, None).what == What.NOTHING
    assert _fresh(short, 1).what == What.FRESH


def test_training_with_a_fresh_seed_that_runs_is_not_begun_twice() -> None:
    running = [replace(each, fresh={1: {}}) if each.number == 1 else each for each in _ENDED]
    second = _fresh(running, 4)
    assert (second.number, second.round) == (5, 1)
    estimate = FreezeThaw(_EPOCHS, 1).estimate(running)
    np.testing.assert_allclose(estimate.means, FreezeThaw(_EPOCHS, 1).estimate(_ENDED).means)


def test_estimate_of_a_trial_of_folds_is_of_their_mean() -> None:
    courses = [_done(n, end, folds=3) for n, end in enumerate((0.3, 0.5, 0.1, 0.4, 0.2, 0.45))]
    again = {1: {fold: _curve(0.4, _EPOCHS) for fold in (1, 2, 3)}}
    scheduler = FreezeThaw(_EPOCHS, 3)
    before = scheduler.estimate(courses)
    after = scheduler.estimate([replace(each, fresh=again) if each.number == 1 else each for each in courses])
    half = scheduler.estimate(
        [replace(each, fresh={1: {1: again[1][1]}}) if each.number == 1 else each for each in courses]
    )
    assert after.means[after.numbers.index(1)] < before.means[before.numbers.index(1)] - 0.02
    np.testing.assert_allclose(half.means, before.means)  # a round that isn't whole says nothing yet


@pytest.mark.parametrize(("trials", "expected"), [(1, []), (40, []), (41, [40]), (300, [40, 80, 160])])
def test_large_study_ends_in_between(trials: int, expected: list[int]) -> None:
    assert stages(trials) == expected


def test_what_fits_into_so_many_epochs_are_the_trials_of_a_study_that_takes_them() -> None:
    scheduler = FreezeThaw(_EPOCHS, 1)
    assert 36 <= scheduler.fits(5.4 * _EPOCHS) <= 44  # what 40 trials take on recorded curves
    assert 4 <= scheduler.fits(1.6 * _EPOCHS) <= 9
    assert scheduler.fits(0.5 * _EPOCHS) == 1
    assert FreezeThaw(_EPOCHS, 3).fits(3 * 5.4 * _EPOCHS) == scheduler.fits(5.4 * _EPOCHS)
    assert FreezeThaw(3, 1).fits(15) < 8  # a first look is a third of a training


def test_in_a_hurry_the_best_go_on_beside_one_that_runs() -> None:
    courses = [_course(0, 0.5, 4, State.RUNNING), *(_paused(n, 0.5 - 0.05 * n) for n in range(1, 3))]
    scheduler = FreezeThaw(_EPOCHS, 1)
    assert scheduler.decide(courses, 3).what == What.NOTHING
    found = scheduler.decide(courses, 3, in_a_hurry=True)
    assert (found.what, found.number) == (What.RESUME, 1)
    assert scheduler.decide([*courses, _done(3, 0.4)], 4, in_a_hurry=True).what != What.NEW


def test_trial_that_is_not_in_what_was_forecast_ahead_is_expected_to_come_to_what_its_settings_do() -> None:
    """Nothing is fitted again: that would keep others waiting. What was forecast is taken as it is."""
    scheduler = FreezeThaw(_EPOCHS, 1)
    courses = [_course(i, 0.1 + 0.1 * i, 2, State.PAUSED) for i in range(6)]
    ahead = scheduler.forecast(courses[:5])
    fitted = scheduler._latest
    found = scheduler.forecast(courses, ahead)
    assert scheduler._latest is fitted
    assert [found.of(i) for i in range(5)] == [ahead.of(i) for i in range(5)]
    mean, sd = found.of(5)
    assert 0.0 < mean < 1.0 and sd > min(ahead.sds)
