"""All that is used of Optuna beyond its public interface.

Owns nothing else, so that an Optuna that changes it breaks one module. `tests/search/test_optuna_private.py` exercises
each name and says which is gone. Must not know torch or mlflow. Read next: `sampling.py` and `storage.py`, which use
it.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Container, Sequence
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

JournalFileLock = BaseJournalFileLock
"""What a lock of a journal derives from."""

GP_LOGGER = "optuna._gp.batched_lbfgsb"
"""Logger of GP's optimizer."""

_NOTE_PART = 2045
"""Characters of a note in one attribute: optuna-dashboard divides it so."""
_GIVEN = "fixed_params"


def is_given(trial: FrozenTrial) -> bool:
    """Tell whether a trial's settings were given to it (`Study.enqueue_trial`) instead of drawn."""
    return _GIVEN in trial.system_attrs


def silence_gp() -> None:
    """Keep GP from saying that it would be faster with another package."""
    logging.getLogger(GP_LOGGER).setLevel(logging.CRITICAL)


def name_objective(study: Study, name: str) -> None:
    """Let Optuna's tools call the value by its name. The function for it is experimental."""
    if study.metric_names != [name]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([name])


def silent_trials(storage: BaseStorage, study_id: int) -> set[int]:
    """Return the ids of running trials whose latest sign of life is too old, by the database's clock."""
    return set(storage._get_stale_trial_ids(study_id))  # type: ignore[attr-defined]


def signs_of_life(storage: BaseStorage, study: Study) -> dict[int, float]:
    """Return for how many seconds nothing was heard of running trials, by number; empty where no signs are kept."""
    backend: Any = getattr(storage, "_backend", storage)
    if getattr(backend, "heartbeat_interval", None) is None:
        return {}
    from optuna.storages._rdb.models import TrialHeartbeatModel, TrialModel
    from sqlalchemy import func, select

    query = (
        select(TrialModel.number, TrialHeartbeatModel.heartbeat)
        .join(TrialHeartbeatModel, TrialHeartbeatModel.trial_id == TrialModel.trial_id)
        .where(TrialModel.study_id == study._study_id, TrialModel.state == TrialState.RUNNING)
    )
    with backend.engine.connect() as connection:
        now = connection.execute(select(func.now())).scalar_one().replace(tzinfo=None)
        return {int(number): (now - sign).total_seconds() for number, sign in connection.execute(query)}


class Notes:
    """The notes that optuna-dashboard shows of a study and of its trials, as Markdown, kept as it keeps them.

    Args:
        study: the study, whose attributes are read once.
    """

    def __init__(self, study: Study) -> None:
        self._storage, self._study_id = study._storage, study._study_id
        self._attributes = dict(self._storage.get_study_system_attrs(self._study_id))

    def read(self, trial: FrozenTrial | None) -> tuple[str, str]:
        """Return a trial's note, or the study's, and the mark that was left with it."""
        prefix = _note_key(trial, "note_str:")
        parts = {key: text for key, text in self._attributes.items() if key.startswith(prefix)}
        text = "".join(str(parts.get(f"{prefix}{i}", "")) for i in range(len(parts)))
        return text, str(self._attributes.get(_note_key(trial, "note_mark"), ""))

    def write(self, trial: FrozenTrial | None, text: str, mark: str) -> None:
        """Write a trial's note, or the study's, with a mark that is given back with it; only what differs."""
        prefix = _note_key(trial, "note_str:")
        if self.read(trial) == (text, mark):
            return
        parts = [text[i : i + _NOTE_PART] for i in range(0, len(text), _NOTE_PART)]
        n_before = sum(key.startswith(prefix) for key in self._attributes)
        parts += [""] * (n_before - len(parts))
        version = int(self._attributes.get(_note_key(trial, "note_ver"), 0)) + 1
        wanted: dict[str, Any] = {f"{prefix}{i}": part for i, part in enumerate(parts)}
        wanted |= {_note_key(trial, "note_mark"): mark, _note_key(trial, "note_ver"): version}
        for key, value in wanted.items():
            if self._attributes.get(key) != value:
                self._storage.set_study_system_attr(self._study_id, key, value)
                self._attributes[key] = value


def _note_key(trial: FrozenTrial | None, name: str) -> str:
    return f"dashboard:{name}" if trial is None else f"dashboard:{trial._trial_id}:{name}"


class ShownStudy(Study):
    """A study whose trials look otherwise than they are, for a sampler to learn from.

    Optuna's samplers ask the study they are given for its trials, through `Study._get_trials`.

    Args:
        study: the study as it is.
        show: makes what is seen of its trials; must not change them.
        directions: what is seen of its objectives; None: as they are.
    """

    def __init__(
        self,
        study: Study,
        show: Callable[[list[FrozenTrial]], list[FrozenTrial]],
        directions: Sequence[StudyDirection] | None = None,
    ) -> None:
        super().__init__(study.study_name, study._storage)
        self._show = show
        self._seen = list(directions or study.directions)

    @property
    def directions(self) -> list[StudyDirection]:
        """What is seen of them, whatever the storage has."""
        return self._seen

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        seen = self._show(super()._get_trials(deepcopy=False, states=None, use_cache=use_cache))
        return [copy.deepcopy(t) if deepcopy else t for t in seen if states is None or t.state in states]
