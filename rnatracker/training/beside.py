"""What stands beside a training's figures: what simple models reach on the same transcripts.

Owns the form of it alone: the models lie above training, in `rnatracker/baselines/`, and are handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rnatracker.data.transcripts import Fractions
from rnatracker.escapes import markdown
from rnatracker.tracking.contract import SUMMARY_STEP, TrackedRun
from rnatracker.training.division import Training
from rnatracker.training.reporting import Reporter
from rnatracker.training.request import PreparedRun


@dataclass(frozen=True)
class Compared:
    """A training beside simple models.

    Attributes:
        metrics: figures, each named `baseline/...`.
        lines: the same in words, the verdict last.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def leave(self, run: TrackedRun, log: Reporter) -> None:
        """Record the figures in a run, and say the lines."""
        if self.metrics:
            run.log_metrics(self.metrics, SUMMARY_STEP)
        for line in self.lines:
            log.line(line)

    @property
    def note(self) -> str:
        """The lines as Markdown, for the end of a run's description; empty where there are none."""
        return "".join(f"\n\n{markdown(line)}" for line in self.lines)


Beside = Callable[[PreparedRun, Sequence[Training], Fractions], Compared]
"""Compares what a run has predicted: all transcripts out of fold, or the validation part of a single division."""


def nothing(_prepared: PreparedRun, _trainings: Sequence[Training], _predicted: Fractions) -> Compared:
    """Compare with nothing."""
    return Compared()
