"""The pruner: whom it compares with whom, and whom it prunes."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from rnatracker.search.pruning import SchedulerName, TwoLevelPruner, place_of, step_of

_EPOCHS = 9
_LEVEL_ONE: tuple[SchedulerName, ...] = ("forecast", "hyperband", "median")


def _study(maximize: bool = True) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize" if maximize else "minimize")


def _trial(folds: list[list[float]], state: TrialState = TrialState.RUNNING, start: bool = False) -> FrozenTrial:
    values = {
        step_of(fold, epoch, _EPOCHS): value
        for fold, epochs in enumerate(folds, start=1)
        for epoch, value in enumerate(epochs, start=1)
    }
    whole = sum(epochs[-1] for epochs in folds if epochs) / len(folds)
    return optuna.trial.create_trial(
        state=state,
        value=whole if state == TrialState.COMPLETE else None,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        intermediate_values=values,
        user_attrs={"start": True} if start else {},
    )


def _is_pruned(
    others: list[list[list[float]]],
    own: list[list[float]],
    pruner: SchedulerName,
    *,
    folds: int = 1,
    maximize: bool = True,
    start: bool = False,
) -> bool:
    study = _study(maximize)
    for values in others:
        study.add_trial(_trial(values, TrialState.COMPLETE))
    study.add_trial(_trial(own, start=start))
    return TwoLevelPruner(pruner, _EPOCHS, folds).prune(study, study.get_trials()[-1])


def test_steps_tell_fold_and_epoch() -> None:
    steps = [step_of(fold, epoch, 5) for fold in (1, 2, 3) for epoch in range(1, 6)]
    assert steps == list(range(1, 16))
    assert place_of(1, 5) == (1, 1)
    assert place_of(5, 5) == (1, 5)
    assert place_of(6, 5) == (2, 1)


_FIVE = [[[level / 10] * _EPOCHS] for level in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize(
    ("epochs", "level", "expected"),
    [
        (1, 0.35, True),  # at 1/9 the best third goes on: of six trials two, those with 0.5 and 0.4
        (1, 0.45, False),
        (3, 0.35, True),  # at 1/3 too
        (3, 0.45, False),
    ],
)
def test_halving_keeps_its_share_at_a_rung(epochs: int, level: float, expected: bool) -> None:
    assert _is_pruned(_FIVE, [[level] * epochs], "hyperband") is expected


def test_halving_leaves_trials_alone_between_rungs() -> None:
    assert _is_pruned(_FIVE, [[0.0] * 2], "hyperband") is False
    assert _is_pruned(_FIVE, [[0.0] * 3], "hyperband") is True
    assert _is_pruned(_FIVE, [[0.0] * 6], "hyperband") is False


def test_halving_keeps_a_third_at_the_end_of_the_first_fold() -> None:
    assert _is_pruned(_FIVE, [[0.35] * _EPOCHS], "hyperband", folds=2) is True
    assert _is_pruned(_FIVE, [[0.45] * _EPOCHS], "hyperband", folds=2) is False
    assert _is_pruned(_FIVE, [[0.0] * _EPOCHS], "hyperband", folds=1) is False


@pytest.mark.parametrize(("level", "expected"), [(0.15, True), (0.25, False)])
def test_forecast_prunes_the_worst_third_at_a_ninth(level: float, expected: bool) -> None:
    assert _is_pruned(_FIVE, [[level]], "forecast") is expected


_RISING = [[[level + epoch / 100 for epoch in range(_EPOCHS)]] for level in (0.1, 0.2, 0.3, 0.4)]
"""From the second epoch, of which it is the first to look at, all gain 0.07 to the end; the best ends at 0.48."""


@pytest.mark.parametrize(("value", "expected"), [(0.40, True), (0.42, False)])
def test_forecast_prunes_what_could_not_become_the_best(value: float, expected: bool) -> None:
    assert _is_pruned(_RISING, [[0.4, value]], "forecast") is expected


def test_forecast_expects_what_nine_in_ten_stayed_below() -> None:
    """Of eleven gains between 0.00 and 0.10 that is 0.09; the best ends at 0.6."""
    others = [[[0.5 - i / 100, 0.5 - i / 100] + [0.5] * (_EPOCHS - 2)] for i in range(10)]
    others.append([[0.5, 0.5] + [0.6] * (_EPOCHS - 2)])
    assert _is_pruned(others, [[0.5, 0.505]], "forecast") is True
    assert _is_pruned(others, [[0.5, 0.515]], "forecast") is False


def test_forecast_compares_sums_over_folds_in_the_last_one() -> None:
    others = [[[0.5] * _EPOCHS, [0.4] * _EPOCHS] for _ in range(4)]
    assert _is_pruned(others, [[0.6] * _EPOCHS, [0.35] * 2], "forecast", folds=2) is False
    assert _is_pruned(others, [[0.6] * _EPOCHS, [0.25] * 2], "forecast", folds=2) is True


@pytest.mark.parametrize(
    ("folds", "level", "expected"), [(2, 0.35, True), (2, 0.45, False), (3, 0.25, True), (3, 0.35, False)]
)
def test_forecast_leaves_a_quarter_for_the_last_fold(folds: int, level: float, expected: bool) -> None:
    """Of six trials a quarter, rounded up, goes on after the first of two folds; half after the first of three."""
    others = [trial * folds for trial in _FIVE]
    assert _is_pruned(others, [[level] * _EPOCHS], "forecast", folds=folds) is expected


@pytest.mark.parametrize(("level", "expected"), [(0.29, True), (0.31, False)])
def test_median_prunes_what_is_below_it(level: float, expected: bool) -> None:
    assert _is_pruned(_FIVE, [[level]], "median") is expected


def test_loss_is_better_when_smaller() -> None:
    assert _is_pruned(_FIVE, [[0.31]], "median", maximize=False) is True
    assert _is_pruned(_FIVE, [[0.29]], "median", maximize=False) is False


def test_nothing_is_pruned_while_there_is_little_to_compare_with() -> None:
    for pruner in _LEVEL_ONE:
        assert _is_pruned(_FIVE[3:], [[0.0]], pruner) is False
        assert _is_pruned(_FIVE[2:], [[0.0]], pruner) is True


def test_starting_config_is_never_is_pruned() -> None:
    for pruner in _LEVEL_ONE:
        assert _is_pruned(_FIVE, [[0.0]], pruner, start=True) is False


def test_nothing_is_pruned_without_a_pruner_or_after_the_last_epoch() -> None:
    assert _is_pruned(_FIVE, [[0.0]], "none") is False
    for pruner in _LEVEL_ONE:
        assert _is_pruned(_FIVE, [[0.0] * _EPOCHS], pruner) is False


@pytest.mark.parametrize(("pruner", "bad"), [("hyperband", [0.1]), ("median", [0.1]), ("forecast", [0.05, 0.05])])
def test_awful_later_fold_is_pruned_though_the_first_was_good(pruner: SchedulerName, bad: list[float]) -> None:
    """Optuna's own pruners would look at the best over all steps and let it go on."""
    others = [[[0.5] * _EPOCHS, [0.5] * _EPOCHS] for _ in range(5)]
    good = [0.9] * _EPOCHS
    assert _is_pruned(others, [good], pruner, folds=2) is False
    assert _is_pruned(others, [good, bad], pruner, folds=2) is True


def test_trial_that_ran_out_of_patience_is_still_compared_with() -> None:
    others = [[[0.5, 0.6]] for _ in range(5)]
    assert _is_pruned(others, [[0.1] * 4], "median") is True


def test_wilcoxon_prunes_between_folds_from_the_fourth_on() -> None:
    best = [[[0.6 + fold / 100] * _EPOCHS for fold in range(5)]]
    worse = [[0.5] * _EPOCHS for _ in range(4)]
    assert _is_pruned(best, worse[:3], "wilcoxon", folds=5) is False
    assert _is_pruned(best, worse, "wilcoxon", folds=5) is True
    assert _is_pruned(best, [[0.7] * _EPOCHS for _ in range(4)], "wilcoxon", folds=5) is False


def test_fold_in_which_nothing_was_reported_is_left_out_of_every_trial() -> None:
    """The objective is undefined in the first fold: what is in reach is told by the second alone."""
    study = _study()
    for trial in [*(_trial([[], [0.5] * 9], TrialState.COMPLETE) for _ in range(4)), _trial([[], [0.1] * 3])]:
        study.add_trial(trial)
    pruner = TwoLevelPruner("forecast", _EPOCHS, 2)
    assert pruner.prune(study, study.trials[-1])
    study.add_trial(_trial([[], [0.5] * 3]))
    assert not pruner.prune(study, study.trials[-1])
