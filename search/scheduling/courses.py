"""A study's trials as the scheduler sees them: how far each has come.

Must not know torch or mlflow. Read next: `freeze_thaw.py`, which decides by them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from rnatracker.search.faults.deaths import SEEN
from rnatracker.search.front.cost import cost_of
from rnatracker.search.pruning import START, place_of
from rnatracker.search.scheduling.curve_model import Array
from rnatracker.search.scheduling.freeze_thaw import Course, State
from rnatracker.search.scheduling.fresh import is_fresh, not_fresh, source_of
from rnatracker.search.space import Space

EPOCHS, SECONDS = "epochs", "seconds"
"""User attributes: epochs that a trial has trained in all its folds, and how long that took."""
PAUSED = "paused"
"""User attribute of a trial that is paused: why. None once it is resumed."""


def is_paused(trial: FrozenTrial) -> bool:
    """Tell whether a trial was paused by the scheduler."""
    return trial.state == TrialState.WAITING and bool(trial.user_attrs.get(PAUSED))


def is_interrupted(trial: FrozenTrial) -> bool:
    """Tell whether a trial waits since its work was interrupted: it was not paused."""
    return trial.state == TrialState.WAITING and SEEN in trial.user_attrs and not is_paused(trial)


def is_enqueued(trial: FrozenTrial) -> bool:
    """Tell whether a trial waits to be begun."""
    return trial.state == TrialState.WAITING and SEEN not in trial.user_attrs and not is_fresh(trial)


class SeenTrials:
    """Trials' settings and values as the scheduler sees them, which are found once for each.

    Args:
        space: what is searched.
        epochs: of each fold.
        sign: -1 where less of the objective is better.
    """

    def __init__(self, space: Space, epochs: int, sign: float) -> None:
        self._space, self._epochs, self._sign = space, epochs, sign
        self._settings: dict[int, tuple[dict[str, Any], Array]] = {}
        self._values: dict[int, tuple[tuple[bool, int], dict[int, dict[int, float]]]] = {}

    def settings_of(self, trial: FrozenTrial) -> Array:
        """Return a trial's settings (D,), between 0 and 1."""
        params, settings = self._settings.get(trial.number, (None, None))
        if settings is None or params != trial.params:
            settings = np.array(self._space.scaled(trial.params))
            self._settings[trial.number] = dict(trial.params), settings
        return settings

    def values_of(self, trial: FrozenTrial) -> dict[int, dict[int, float]]:
        """Return what a trial has come to, by fold and epoch; not to be changed. A report is never changed."""
        state = trial.state == TrialState.FAIL, len(trial.intermediate_values)
        known, values = self._values.get(trial.number, (None, None))
        if values is None or known != state:
            values = _values(trial, self._epochs, self._sign)
            self._values[trial.number] = state, values
        return values


def courses_of(trials: Iterable[FrozenTrial], seen: SeenTrials) -> list[Course]:
    """Return how far each trial that was begun has come, with its settings' trainings with fresh seeds.

    Args:
        trials: those of a study.
        seen: knows their settings and values.
    """
    known = list(trials)
    again: dict[int, dict[int, dict[int, dict[int, float]]]] = {}
    for each in known:
        if is_fresh(each) and SEEN in each.user_attrs:
            number, round_ = source_of(each)
            again.setdefault(number, {})[round_] = seen.values_of(each)
    begun = [each for each in not_fresh(known) if not is_enqueued(each)]
    return [_course(each, seen, again.get(each.number, {})) for each in begun]


def _values(trial: FrozenTrial, epochs: int, sign: float) -> dict[int, dict[int, float]]:
    """Return what a trial has come to, by fold and epoch."""
    values: dict[int, dict[int, float]] = {}
    if trial.state != TrialState.FAIL:
        for step, value in trial.intermediate_values.items():
            fold, epoch = place_of(step, epochs)
            values.setdefault(fold, {})[epoch] = sign * value
    return values


def _course(trial: FrozenTrial, seen: SeenTrials, again: dict[int, dict[int, dict[int, float]]]) -> Course:
    settings, is_start = seen.settings_of(trial), bool(trial.user_attrs.get(START))
    return Course(trial.number, settings, seen.values_of(trial), _state(trial), is_start, again, cost_of(trial))


def _state(trial: FrozenTrial) -> State:
    if trial.state == TrialState.COMPLETE:
        return State.COMPLETE
    if trial.state in (TrialState.PRUNED, TrialState.FAIL):
        return State.ENDED
    return State.PAUSED if is_paused(trial) else State.RUNNING
