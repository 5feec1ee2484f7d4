"""A trial's trainings: one, or one for each fold, in a single run.

Owns their division and what they are summed up to. Must not know optuna or typer. Read next: `replaying.py`, which
trains them again, and `search/objective.py`, which searches by them.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from rnatracker import crossval
from rnatracker.encoding import Indices
from rnatracker.request import Setting
from rnatracker.run import divide


def divisions(setting: Setting) -> list[tuple[str, tuple[Indices, Indices]]]:
    """Return the trainings: their name and their division, one, or one for each fold, without the folds' test parts."""
    if not setting.config.data.fold:
        return [("", divide(setting))]
    return [(plan.name, (plan.train, plan.inner)) for plan in crossval.plan(setting)]


def summary(
    values: Sequence[float], scores: Sequence[Mapping[str, float]], best_epochs: Sequence[int]
) -> dict[str, float]:
    """Return the figures of all trainings together.

    Args:
        values: the best objective of each.
        scores: all scores of each one's best epoch.
        best_epochs: those epochs.
    """
    found = {f"best/{name}": statistics.fmean(each[name] for each in scores) for name in scores[0]}
    if len(scores) > 1:
        found |= {f"sd/{name}": statistics.stdev(each[name] for each in scores) for name in scores[0]}
    return found | {"objective": statistics.fmean(values), "best/epoch": statistics.fmean(best_epochs)}
