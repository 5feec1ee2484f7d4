"""What the trainings of a trial come to: one, or one for each fold, in a single run. Each has one network.

Must not know optuna or typer. Read next: `rnatracker/training/replay.py`, which trains them again, and
`search/objective.py`, which searches by them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from rnatracker import metrics
from rnatracker.choices import Objective
from rnatracker.training.fold_loop import Trained, Watcher
from rnatracker.training.trainer import EpochResult


@dataclass
class TrialResult(Watcher):
    """What the trainings of a trial that have ended came to.

    Attributes:
        objective: what is searched for.
        values: the best value of the objective that each has had; NaN where it is undefined.
        scores: all scores of each one's best epoch.
        best_epochs: those epochs.
    """

    objective: Objective
    values: list[float] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    best_epochs: list[int] = field(default_factory=list)

    def on_end(self, trained: Trained) -> None:
        """Take in a training that has ended; that of a fold is recorded as a figure of the trial."""
        (network,) = trained.networks  # a trial has no more
        best = next(each for each in network.history if each.epoch == network.best.epoch)
        self.values.append(network.history[-1].best_value if is_defined(best, self.objective) else math.nan)
        self.scores.append({**best.scores, "loss": best.val_loss or 0.0})
        self.best_epochs.append(best.epoch)
        fold = trained.destination.training.fold
        if fold:
            figures = {f"fold/{name}": value for name, value in self.scores[-1].items()}
            trained.destination.run.log_metrics(figures, fold)

    def summary(self) -> dict[str, float]:
        """Return the figures of all trainings together: means, and of several the standard deviations.

        Those in which a figure is undefined are left out of it.
        """
        names = self.scores[0]
        figures = {f"best/{name}": metrics.mean_of(each[name] for each in self.scores) for name in names}
        if len(self.scores) > 1:
            figures |= {f"sd/{name}": metrics.sd_of(each[name] for each in self.scores) for name in names}
        return figures | {"objective": metrics.mean_of(self.values), "best/epoch": metrics.mean_of(self.best_epochs)}


def is_defined(result: EpochResult, objective: Objective) -> bool:
    """Tell whether an evaluated epoch has a value of the objective; if not, the best epoch is chosen by the loss."""
    return objective == "val_loss" or math.isfinite(result.scores[objective])
