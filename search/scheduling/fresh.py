"""Trainings with fresh seeds: the settings of a study's best trials once more, with another seed and another division.

Owns how they are told from trials, and their seeds. In Optuna each is a trial too, so it is handed out, put back and
resumed like one; it just doesn't count. Must not know torch or mlflow. Read next: `true_value.py` for what they tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial

from rnatracker.config import Config

FRESH = "fresh"
"""User attribute of a trial that trains another's settings with a fresh seed: the other's number, and its round."""

_SEEDS_FROM = 500
"""Fresh seeds are the study's own and this much more, plus the round; those of the refit begin at 1000."""


def is_fresh(trial: FrozenTrial) -> bool:
    """Tell whether a trial only trains another's settings once more."""
    return FRESH in trial.user_attrs


def source_of(trial: FrozenTrial) -> tuple[int, int]:
    """Return the number of the trial whose settings are trained once more, and the round, from 1."""
    number, round_ = trial.user_attrs[FRESH]
    return int(number), int(round_)


def not_fresh(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return those that are trials of their own."""
    return [trial for trial in trials if FRESH not in trial.user_attrs]


def enqueue(study: Study, source: FrozenTrial, round_: int, kept: Sequence[str]) -> int:
    """Enqueue a trial's settings once more, if they aren't; return the number. Under the study's lock.

    Args:
        study: the study.
        source: the trial.
        round_: its round.
        kept: user attributes that are taken over.
    """
    wanted = [source.number, round_]
    if not any(trial.user_attrs.get(FRESH) == wanted for trial in study.get_trials(deepcopy=False)):
        attributes = {key: source.user_attrs[key] for key in kept if key in source.user_attrs}
        study.enqueue_trial(source.params, user_attrs={FRESH: wanted, **attributes})
    return next(t.number for t in study.get_trials(deepcopy=False) if t.user_attrs.get(FRESH) == wanted)


def with_seeds(config: Config, study_seed: int, round_: int) -> Config:
    """Return settings with the seed and the division of a round."""
    seed = (study_seed + _SEEDS_FROM + round_) % 2**32
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"split_seed": seed}),
            "train": config.train.model_copy(update={"seed": seed}),
        }
    )
