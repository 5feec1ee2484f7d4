"""What the trainings of a trial come to: one, or one for each fold, in a single run.

Must not know optuna or typer. Read next: `rnatracker/training/replay.py`, which trains them again, and
`search/objective.py`, which searches by them.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

from rnatracker.choices import Objective
from rnatracker.training.fold_loop import Trained, Watcher
from rnatracker.training.trainer import EpochResult


@dataclass
class TrialResult(Watcher):
    """What the trainings of a trial that have ended came to.

    Attributes:
        objective: what is searched for.
        values: the best value of the objective that each has had.
        scores: all scores of each one's best epoch.
        best_epochs: those epochs.
    """

    objective: Objective
    values: list[float] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    best_epochs: list[int] = field(default_factory=list)

    def on_end(self, trained: Trained) -> None:
        """Take in a training that has ended; that of a fold is recorded as a figure of the trial."""
        best = next(each for each in trained.history if each.epoch == trained.best.epoch)
        self.values.append(value_of(trained.history[-1], self.objective))
        self.scores.append({**best.scores, "loss": best.val_loss or 0.0})
        self.best_epochs.append(best.epoch)
        fold = trained.destination.training.fold
        if fold:
            figures = {f"fold/{name}": value for name, value in self.scores[-1].items()}
            trained.destination.run.log_metrics(figures, fold)

    def summary(self) -> dict[str, float]:
        """Return the figures of all trainings together: means, and of several the standard deviations."""
        names = self.scores[0]
        figures = {f"best/{name}": statistics.fmean(each[name] for each in self.scores) for name in names}
        if len(self.scores) > 1:
            figures |= {f"sd/{name}": statistics.stdev(each[name] for each in self.scores) for name in names}
        return figures | {
            "objective": statistics.fmean(self.values),
            "best/epoch": statistics.fmean(self.best_epochs),
        }


def value_of(result: EpochResult, objective: Objective) -> float:
    """Return the best value so far; where no PCC was ever defined, the worst there is."""
    if objective != "val_loss" and not math.isfinite(result.best_value):
        return -1.0
    return result.best_value
