"""How the next trial's settings are chosen.

Owns the samplers, their seeds, and what a sampler gets to see of failed trials. Must not know torch, mlflow or the
settings' meaning. Read next: `study.py`, which asks under a lock.

A sampler is made anew for each trial, with a seed drawn from the study's seed and the number of trials there are.
Trials are handed out one at a time, so no two workers have that number in common, and a study that was stopped goes
on as if it had not been: Optuna's own samplers, seeded alike in two workers or after a restart, suggest the same
again.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Container
from typing import Any, Literal

import numpy as np
from optuna import samplers
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

SamplerName = Literal["tpe", "gp", "random", "cmaes"]

REASON = "reason"
"""User attribute that says why a trial failed or was dropped."""
REPEATS = "repeats"
"""User attribute of a trial that drew what another has drawn: the other's number."""


class _Experience(Study):
    """A study as its sampler is to see it: where settings have failed, that counts as bad and not as unknown.

    Optuna's samplers overlook failed trials, and so propose their like again and again. To TPE they are shown as pruned
    before their first report, which it takes for the worst there is; GP looks at completed trials only, so to it they
    have a value worse than any other, and pruned ones the value they had reached.
    """

    def __init__(self, study: Study, as_completed: bool) -> None:
        super().__init__(study.study_name, study._storage)
        self._as_completed = as_completed

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = super()._get_trials(deepcopy=False, states=None, use_cache=use_cache)
        values = [
            t.value for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED) and t.value is not None
        ]
        seen = [self._shown(trial, self._below(values)) for trial in trials]
        return [copy.deepcopy(t) if deepcopy else t for t in seen if states is None or t.state in states]

    def _below(self, values: list[float]) -> float | None:
        """Return a value that is clearly worse than all of these."""
        if not values:
            return None
        margin = max(max(values) - min(values), 0.1)
        return min(values) - margin if self.direction == StudyDirection.MAXIMIZE else max(values) + margin

    def _shown(self, trial: FrozenTrial, worst: float | None) -> FrozenTrial:
        failed = trial.state == TrialState.FAIL and REPEATS not in trial.user_attrs and bool(trial.params)
        pruned = trial.state == TrialState.PRUNED
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


class _Experienced(BaseSampler):
    """A sampler that learns from failures too. It looks at the experience in place of the study it is given."""

    def __init__(self, inner: BaseSampler, experience: _Experience) -> None:
        self._inner, self._experience = inner, experience

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return self._inner.infer_relative_search_space(self._experience, trial)

    def sample_relative(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        return self._inner.sample_relative(self._experience, trial, search_space)

    def sample_independent(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._inner.sample_independent(self._experience, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self._inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()


def make(name: SamplerName, study: Study, seed: int, n_trials: int, *, conditional: bool) -> BaseSampler:
    """Return the sampler of one trial.

    Args:
        name: which.
        study: the study.
        seed: the study's seed.
        n_trials: trials that there are already.
        conditional: whether some keys exist only under others' values.
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
    return _Experienced(inner, _Experience(study, as_completed=name == "gp"))
