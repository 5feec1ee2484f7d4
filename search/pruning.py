"""When a trial is pruned: on what it reports, compared with other trials at the same fold and the same epoch.

Owns the steps and the rules. Must not know torch, mlflow or what a trial trains. Read next: `docs/search.md`, which
says the same for those who only use it.

A trial reports, after each epoch that was evaluated, the best validation value it has had in that fold so far, in the
objective's own sign, at step `(fold - 1) * epochs + epoch`, both counted from 1. As a study's trials all have the
same number of epochs, a step says fold and epoch. Optuna's own pruners would look at a trial's best over all steps,
so that a good first fold would hide awful ones after it: here like is compared with like.

Level one, within a fold, by `--scheduler`:
- `forecast`: a trial that can't get where it has to is pruned. How far it may come yet is told by the trials that have
  trained the fold to its end: nine in ten of them gained less from this epoch on (`_GAIN`). It has to get in the last
  fold to the best of them, counted over all folds up to this one; in folds before, among as many of the best as leaves
  a quarter of all trials for the last. So it goes from 2/9 of a fold's epochs on; before, at 1/9 of the first fold, the
  worst third is pruned. Early ranks say little where a network finds its motifs late, and what others gained says how
  little.
- `hyperband`: successive halving. Of the trials that have got as far, the best third goes on at 1/9 and at 1/3 of the
  first fold's epochs, and where there are more folds at its end. In later folds, whose trials are a choice already, as
  `median`.
- `median`: what is not in the better half of the trials that have been at the same fold and epoch, from a tenth of the
  epochs on.
- `wilcoxon`: nothing.
- `freeze-thaw` prunes nothing: it pauses (`scheduling/freeze_thaw.py`).

Level two, after each fold but the last, for all of these: Optuna's WilcoxonPruner on the folds' values against those
of the best trial. At its p of 0.1 that needs 4 folds or more.

A fold in which the objective is undefined has no reports, of no trial, and is left out.

The trial that has the starting config is never pruned: the others are compared with it. In a study with a cost a trial
is compared only with those that cost no more: a cheap one may do worse than dear ones.
Source: `hyperband` is a bracket of Li et al. 2020 (ASHA, arXiv:1810.05934), reduction factor 3; `forecast` is our own,
chosen on other seeds than those of the table in the README; Optuna 5's WilcoxonPruner as it is.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, WilcoxonPruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from rnatracker.search.front.cost import cost_of
from rnatracker.search.scheduling.fresh import is_fresh, not_fresh

SchedulerName = Literal["freeze-thaw", "forecast", "hyperband", "median", "wilcoxon", "none"]


class PruneReason(StrEnum):
    """Why a trial was pruned, as its run's tag says it."""

    VALUE = "its validation value"
    MEMORY = "memory"


START = "start"
"""User attribute of the trial with the starting config."""

_RUNGS: dict[str, dict[float, float]] = {
    "forecast": {1 / 9: 2 / 3},
    "hyperband": {1 / 9: 1 / 3, 1 / 3: 1 / 3},
}
"""Shares of the first fold's epochs, and of the trials that go on there."""
_LAST_RUNG = 1 / 3
"""Share that goes on at the first fold's end under `hyperband`, where there are more folds."""
_FORECAST_FROM = 2 / 9
_GAIN = 0.9
"""A trial is expected to gain what this share of the others stayed below."""
_LAST_FOLD_SHARE = 1 / 4
"""Share of all trials that `forecast` lets into the last fold of several."""
_OTHERS = 3
"""Trials at the same place below which there is nothing to compare with."""
_WILCOXON_P = 0.1


def step_of(fold: int, epoch: int, epochs: int) -> int:
    """Return the step of a report, from 1; fold and epoch count from 1."""
    return (fold - 1) * epochs + epoch


def place_of(step: int, epochs: int) -> tuple[int, int]:
    """Return fold and epoch of a step."""
    return (step - 1) // epochs + 1, (step - 1) % epochs + 1


def _costs_no_more(other: FrozenTrial, trial: FrozenTrial) -> bool:
    """Tell whether another trial costs no more than this one; True where the study has no cost."""
    own, its = cost_of(trial), cost_of(other)
    return own is None or (its is not None and its <= own)


class TwoLevelPruner(BasePruner):
    """Prunes trials within a fold and between folds; see this module.

    Args:
        name: the rule within a fold.
        epochs: epochs of each fold.
        folds: number of folds; 1 for a single division.
    """

    def __init__(self, name: SchedulerName, epochs: int, folds: int) -> None:
        self._name, self._epochs, self._folds = name, epochs, folds

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether to prune a trial at its last report."""
        step = trial.last_step
        if self._name in ("none", "freeze-thaw") or step is None or trial.user_attrs.get(START) or is_fresh(trial):
            return False
        fold, epoch = place_of(step, self._epochs)
        others = [other for other in not_fresh(study.get_trials(deepcopy=False)) if other.number != trial.number]
        others = [other for other in others if other.state != TrialState.FAIL and _costs_no_more(other, trial)]
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        if self._prunes_within(trial, others, fold, epoch, sign):
            return True
        is_end = epoch == self._epochs
        return is_end and fold < self._folds and self._prunes_between(others, trial, fold, sign)

    def _prunes_within(self, trial: FrozenTrial, others: list[FrozenTrial], fold: int, epoch: int, sign: float) -> bool:
        is_last = fold == self._folds and epoch == self._epochs
        if self._name == "wilcoxon" or is_last:
            return False
        if self._name == "median" or (self._name == "hyperband" and fold > 1):
            return epoch >= self._epochs / 10 and self._is_behind(trial, others, fold, epoch, sign, share=1 / 2)
        share = self._share_at(trial, epoch) if fold == 1 else 0.0
        if share and self._is_behind(trial, others, fold, epoch, sign, share=share):
            return True
        if self._name == "hyperband" or epoch < self._epochs * _FORECAST_FROM:
            return False
        return self._is_out_of_reach(trial, others, fold, epoch, sign)

    def _is_behind(
        self, trial: FrozenTrial, others: list[FrozenTrial], fold: int, epoch: int, sign: float, *, share: float
    ) -> bool:
        """Tell whether a trial is not among this share of the best that have been at this place."""
        own = self._value_at(trial, fold, epoch, sign)
        values = [self._value_at(other, fold, epoch, sign) for other in others]
        known = [value for value in values if value is not None]
        if own is None or len(known) < _OTHERS:
            return False
        better = sum(value > own for value in known)
        return better >= math.ceil((len(known) + 1) * share)

    def _is_out_of_reach(
        self, trial: FrozenTrial, others: list[FrozenTrial], fold: int, epoch: int, sign: float
    ) -> bool:
        """Tell whether a trial would not get where it has to in this fold, if it gained what others did at most."""
        own = self._total_at(trial, fold, epoch, sign)
        courses = [[self._total_at(other, fold, e, sign) for e in (epoch, self._epochs)] for other in others]
        known = [(now, end) for now, end in courses if now is not None and end is not None]
        if own is None or len(known) < _OTHERS:
            return False
        expected = own + float(np.quantile([end - now for now, end in known], _GAIN))
        better = sum(end > expected for _, end in known)
        if fold == self._folds:
            return better > 0
        share = math.pow(_LAST_FOLD_SHARE, 1 / (self._folds - 1))
        return better >= math.ceil((len(known) + 1) * share)

    def _share_at(self, trial: FrozenTrial, epoch: int) -> float:
        """Return the share that goes on, where the last report is the first at or after a rung; else 0."""
        rungs = {math.ceil(self._epochs * place): share for place, share in _RUNGS[self._name].items()}
        if self._name == "hyperband":
            rungs[self._epochs] = _LAST_RUNG
        reported = [place_of(step, self._epochs)[1] for step in trial.intermediate_values]
        before = max((each for each in reported if each < epoch), default=0)
        return min((share for rung, share in rungs.items() if before < rung <= epoch), default=0.0)

    def _total_at(self, trial: FrozenTrial, fold: int, epoch: int, sign: float) -> float | None:
        """Return the sum of a trial's best values of the folds before and of this one up to an epoch."""
        before = {place_of(step, self._epochs)[0] for step in trial.intermediate_values}
        values = [self._value_at(trial, each, self._epochs, sign) for each in range(1, fold) if each in before]
        values.append(self._value_at(trial, fold, epoch, sign))
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    def _value_at(self, trial: FrozenTrial, fold: int, epoch: int, sign: float) -> float | None:
        """Return a trial's best within a fold up to an epoch, higher being better; None if it wasn't there.

        A trial that ran out of patience before has been there all the same.
        """
        first, last = step_of(fold, 1, self._epochs), step_of(fold, epoch, self._epochs)
        values = [value for step, value in trial.intermediate_values.items() if first <= step <= last]
        over = trial.state == TrialState.COMPLETE or (trial.last_step or 0) >= step_of(fold + 1, 1, self._epochs)
        if not values or not (over or (trial.last_step or 0) >= last):
            return None
        return max(sign * value for value in values)

    def _prunes_between(self, others: list[FrozenTrial], trial: FrozenTrial, fold: int, sign: float) -> bool:
        """Ask Optuna's WilcoxonPruner about the folds' values against those of the best trial."""
        completed = [t for t in others if t.state == TrialState.COMPLETE]
        if not completed or fold < 2:
            return False
        best = max(completed, key=lambda t: sign * (t.value or 0.0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            pruner = WilcoxonPruner(p_threshold=_WILCOXON_P)
        alone = optuna.create_study(direction="maximize")
        alone.add_trial(self._by_fold(best, range(1, self._folds + 1), sign, TrialState.COMPLETE))
        asked = self._by_fold(trial, range(1, fold + 1), sign, TrialState.RUNNING)
        return pruner.prune(alone, asked)

    def _by_fold(self, trial: FrozenTrial, folds: Iterable[int], sign: float, state: TrialState) -> FrozenTrial:
        """Return a trial whose steps are its folds."""
        values = {fold: self._value_at(trial, fold, self._epochs, sign) for fold in folds}
        known = {fold: value for fold, value in values.items() if value is not None}
        value = statistics.fmean(known.values()) if state == TrialState.COMPLETE else None
        return create_trial(
            state=state,
            value=value,
            params={"x": 0.0},
            distributions={"x": FloatDistribution(0, 1)},
            intermediate_values=known,
        )
