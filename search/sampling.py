"""How the next trial's settings are chosen.

Owns the samplers, their seeds, and what a sampler gets to see of trials that failed or have not come to their end. Must
not know torch, mlflow or the settings' meaning. Read next: `study.py`, which asks under a lock.

A sampler is made anew for each trial, with a seed drawn from the study's seed and the number of trials there are.
Trials are handed out one at a time, so no two workers have that number in common, and a study that was stopped resumes
as if it had not been: Optuna's own samplers, seeded alike in two workers or after a restart, suggest the same
again.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from optuna import samplers
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from rnatracker.search.front.cost import cost_of, log_cost
from rnatracker.search.optuna_private import ShownStudy
from rnatracker.search.scheduling.fresh import not_fresh

SamplerName = Literal["tpe", "gp", "random", "cmaes"]

REASON = "reason"
"""User attribute that says why a trial failed or was pruned."""
REPEATS = "repeats"
"""User attribute of a trial that counts for nothing, since it drew what another has drawn: the other's number.

Of one that was interrupted while it drew: its own, for all is drawn anew in the next.
"""
RETRIES = "retries"
"""User attribute of a trial that has the settings of one that failed, to try them again: the failed one's number."""


def tried_again(trials: Iterable[FrozenTrial]) -> dict[int, int]:
    """Return, for each failed trial that another tries again, the number of that other; it counts no more."""
    return {trial.user_attrs[RETRIES]: trial.number for trial in trials if RETRIES in trial.user_attrs}


class _Experience:
    """A study's trials as its sampler is to see them.

    Trials that were paused or pruned are shown as completed, with the value that they would have come to by the
    forecast of their curves: neither as failures nor as they stand after their first epochs.

    Where settings have failed, that counts as bad, not as unknown. Optuna's samplers overlook failed trials, and so
    propose their like again and again. To TPE they are shown as pruned before their first report, which it takes for
    the worst there is; GP looks at completed trials only, so to it they have a value worse than any other.

    Args:
        maximize: whether more of the value is better.
        as_completed: whether to show failed ones as completed.
        forecasts: values by trial.
        has_cost: whether trials have a second objective, their cost. It is shown as its logarithm, and all are shown
            as completed, since of a pruned one a sampler takes a single value. What has none is left out.
    """

    def __init__(
        self, *, maximize: bool, as_completed: bool, forecasts: Mapping[int, float], has_cost: bool = False
    ) -> None:
        self._maximize, self._as_completed, self._forecasts = maximize, as_completed or has_cost, forecasts
        self._has_cost = has_cost

    def __call__(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return the trials as they are to be seen: without trainings with fresh seeds, whose division is another."""
        trials = not_fresh(trials)
        ended = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        worst = self._below([t.value for t in ended if t.value is not None])
        again = tried_again(trials)  # by how the new one ends settings are judged, not by how the failed one did
        shown = [trial if trial.number in again else self._shown(trial, worst) for trial in trials]
        return _with_costs(trials, shown) if self._has_cost else shown

    def _below(self, values: list[float]) -> float | None:
        """Return a value that is clearly worse than all of these."""
        if not values:
            return None
        margin = max(max(values) - min(values), 0.1)
        return min(values) - margin if self._maximize else max(values) + margin

    def _shown(self, trial: FrozenTrial, worst: float | None) -> FrozenTrial:
        failed = trial.state == TrialState.FAIL and REPEATS not in trial.user_attrs and bool(trial.params)
        pruned = trial.state == TrialState.PRUNED
        if trial.number in self._forecasts and trial.state in (TrialState.PRUNED, TrialState.WAITING):
            shown = copy.copy(trial)
            shown.state, shown.values = TrialState.COMPLETE, [self._forecasts[trial.number]]
            return shown
        if not failed and not (pruned and self._as_completed):
            return trial
        shown = copy.copy(trial)
        if not self._as_completed:
            shown.state = TrialState.PRUNED
            shown.intermediate_values = {}
        elif worst is not None:
            shown.state = TrialState.COMPLETE
            shown.values = [worst if failed or trial.value is None else trial.value]
        return shown


def _with_costs(trials: list[FrozenTrial], shown: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return shown trials with their cost as a second value.

    What has come to nothing is dearer than any other: as a cheap one it would stand on the front, whatever its value.
    """
    known = [log_cost(cost) for cost in map(cost_of, trials) if cost is not None]
    dearest = max(known) + max(max(known) - min(known), 0.1) if known else 0.0
    found = []
    for trial, seen in zip(trials, shown, strict=True):
        made, cost = copy.copy(seen), cost_of(trial)
        if seen.state == TrialState.COMPLETE and seen.value is not None:
            is_nothing = trial.state == TrialState.FAIL or (
                trial.state == TrialState.PRUNED and trial.last_step is None
            )
            made.values = [seen.value, dearest if is_nothing or cost is None else log_cost(cost)]
        elif seen.state == TrialState.PRUNED:
            made.state = TrialState.FAIL
        found.append(made)
    return found


class _LearnsFromFailures(BaseSampler):
    """A sampler that learns from failures too: it is shown another study than the one it is asked about.

    Args:
        inner: the sampler.
        shown: what it is shown.
    """

    def __init__(self, inner: BaseSampler, shown: Study) -> None:
        self._inner, self._shown = inner, shown

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return self._inner.infer_relative_search_space(self._shown, trial)

    def sample_relative(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        return self._inner.sample_relative(self._shown, trial, search_space)

    def sample_independent(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._inner.sample_independent(self._shown, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self._inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()


def make(
    name: SamplerName,
    study: Study,
    seed: int,
    n_trials: int,
    *,
    conditional: bool,
    forecasts: Mapping[int, float] = MappingProxyType({}),
    has_cost: bool = False,
) -> BaseSampler:
    """Return the sampler of one trial.

    Args:
        name: which.
        study: the study.
        seed: the study's seed.
        n_trials: trials that there are already.
        conditional: whether some keys exist only under others' values.
        forecasts: the values that trials would come to that were paused or pruned, by their numbers.
        has_cost: whether trials are to be cheap too: TPE and GP then look for the front of value and cost.
    """
    own_seed = int(np.random.SeedSequence([seed, n_trials]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "random":
            return samplers.RandomSampler(seed=own_seed)
        if name == "cmaes":
            return samplers.CmaEsSampler(seed=own_seed, warn_independent_sampling=False)
        if name == "gp":
            inner: BaseSampler = samplers.GPSampler(seed=own_seed, warn_independent_sampling=False)
        else:
            inner = samplers.TPESampler(seed=own_seed, multivariate=True, group=conditional, constant_liar=True)
    maximize = study.direction == StudyDirection.MAXIMIZE
    shown = _Experience(maximize=maximize, as_completed=name == "gp", forecasts=forecasts, has_cost=has_cost)
    directions = [study.direction, StudyDirection.MINIMIZE] if has_cost else None
    return _LearnsFromFailures(inner, ShownStudy(study, shown, directions))
