"""All that is used of Optuna beyond its public interface.

Owns nothing else, so that an Optuna that changes it breaks one module. `tests/search/test_optuna_private.py` exercises
each name and says which is gone. Must not know torch or mlflow. Read next: `sampling.py` and `storage.py`, which use
it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Container

from optuna.storages.journal._file import BaseJournalFileLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

JournalFileLock = BaseJournalFileLock
"""What a lock of a journal derives from."""

GP_LOGGER = "optuna._gp.batched_lbfgsb"
"""Logger of GP's optimizer."""

_GIVEN = "fixed_params"


def is_given(trial: FrozenTrial) -> bool:
    """Tell whether a trial's settings were given to it (`Study.enqueue_trial`) instead of drawn."""
    return _GIVEN in trial.system_attrs


def silence_gp() -> None:
    """Keep GP from saying that it would be faster with another package."""
    logging.getLogger(GP_LOGGER).setLevel(logging.CRITICAL)


class ShownStudy(Study):
    """A study whose trials look otherwise than they are, for a sampler to learn from.

    Optuna's samplers ask the study they are given for its trials, through `Study._get_trials`.

    Args:
        study: the study as it is.
        show: makes what is seen of its trials; must not change them.
    """

    def __init__(self, study: Study, show: Callable[[list[FrozenTrial]], list[FrozenTrial]]) -> None:
        super().__init__(study.study_name, study._storage)
        self._show = show

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        seen = self._show(super()._get_trials(deepcopy=False, states=None, use_cache=use_cache))
        return [copy.deepcopy(t) if deepcopy else t for t in seen if states is None or t.state in states]
