"""A trial's trainings: one, or one for each fold, in a single run.

Owns their division and what they are summed up to. Must not know optuna or typer. Read next:
`rnatracker/training/replay.py`, which trains them again, and `search/objective.py`, which searches by them.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

from rnatracker.data.encoding import Indices
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.tracking.contract import TrackedRun
from rnatracker.training.division import divide, plan_folds
from rnatracker.training.request import PreparedRun
from rnatracker.training.trainer import EpochResult


def divisions(prepared: PreparedRun) -> list[tuple[str, tuple[Indices, Indices]]]:
    """Return the trainings: their name and their division, one, or one for each fold, without the folds' test parts."""
    if not prepared.config.data.fold:
        return [("", divide(prepared))]
    return [(plan.name, (plan.train, plan.inner)) for plan in plan_folds(prepared)]


@dataclass
class TrialResult:
    """What the trainings of a trial that have ended came to.

    Attributes:
        values: the best value of the objective that each has had.
        scores: all scores of each one's best epoch.
        best_epochs: those epochs.
    """

    values: list[float] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    best_epochs: list[int] = field(default_factory=list)

    def add(self, run: TrackedRun, place: str, history: list[EpochResult], best: Checkpoint, objective: str) -> None:
        """Take in a training that has ended; that of a fold is recorded as a figure of the trial.

        Args:
            run: the trial's run.
            place: the fold's name; empty where there is one training only.
            history: all its epochs.
            best: its best epoch's checkpoint.
            objective: what is searched for.
        """
        result = next(each for each in history if each.epoch == best.epoch)
        self.values.append(value_of(history[-1], objective))
        self.scores.append({**result.scores, "loss": result.val_loss or 0.0})
        self.best_epochs.append(best.epoch)
        if place:
            run.log_metrics({f"fold/{name}": value for name, value in self.scores[-1].items()}, len(self.values))

    def summary(self) -> dict[str, float]:
        """Return the figures of all trainings together: means, and of several the standard deviations."""
        names = self.scores[0]
        found = {f"best/{name}": statistics.fmean(each[name] for each in self.scores) for name in names}
        if len(self.scores) > 1:
            found |= {f"sd/{name}": statistics.stdev(each[name] for each in self.scores) for name in names}
        return found | {
            "objective": statistics.fmean(self.values),
            "best/epoch": statistics.fmean(self.best_epochs),
        }


def value_of(result: EpochResult, objective: str) -> float:
    """Return the best value so far; where no PCC was ever defined, the worst there is."""
    if objective != "val_loss" and not math.isfinite(result.best_value):
        return -1.0
    return result.best_value
