"""What a training reports while it runs, and the words for it.

Owns the `Reporter` protocol, the line for an epoch, and `log.txt`. Must not know where lines are shown: the command
line has a reporter with a progress display. Read next: `rnatracker/terminal/progress.py`.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol

from rnatracker import metrics
from rnatracker.choices import Objective
from rnatracker.escapes import printable_lines
from rnatracker.training.trainer import EpochResult


class Reporter(Protocol):
    """Takes in how trainings go. `label` names one of several (`fold2 seed3`) and is empty for a single one."""

    def line(self, text: str) -> None:
        """Take a line of text."""

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        """Take the number of an epoch's transcripts done so far."""

    def epoch(self, label: str, result: EpochResult, epochs: int, objective: Objective) -> None:
        """Take an epoch's result, and by what the best epoch is chosen."""

    def end(self, label: str) -> None:
        """Take that this training has ended."""


class NullReporter:
    """A reporter that shows nothing."""

    def line(self, text: str) -> None:
        """Do nothing."""

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        """Do nothing."""

    def epoch(self, label: str, result: EpochResult, epochs: int, objective: Objective) -> None:
        """Do nothing."""

    def end(self, label: str) -> None:
        """Do nothing."""


def epoch_line(label: str, result: EpochResult, epochs: int, objective: Objective) -> str:
    """Word an epoch's result as one line."""
    parts = [f"{label + '  ' if label else ''}epoch {result.epoch:>{len(str(epochs))}}/{epochs}"]
    parts.append(f"loss {result.train_loss:.4f}")
    if result.val_loss is not None:
        parts.append(f"val loss {result.val_loss:.4f}")
        mean, overall = (metrics.shown(result.scores[key]) for key in ("pcc_mean", "pcc_overall"))
        parts.append(f"PCC mean {mean} overall {overall}")
    if result.best_epoch:
        parts.append(f"best {objective} {result.best_value:.4f} at {result.best_epoch}")
    parts.append(f"{result.sequences_per_second:.0f} seq/s")
    parts.append(f"{duration(result.epoch_seconds * (epochs - result.epoch))} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Word a time span: `45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class LogFile:
    """A reporter that writes `log.txt` and passes everything on.

    A resumed run appends to its file.

    Args:
        path: the file.
        inner: whom to pass everything on to.
    """

    def __init__(self, path: Path, inner: Reporter) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._inner = inner

    def line(self, text: str) -> None:
        """Write the line and pass it on."""
        self._file.write(printable_lines(text) + "\n")
        self._inner.line(text)

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        """Pass it on."""
        self._inner.batch(label, epoch, epochs, done, total)

    def epoch(self, label: str, result: EpochResult, epochs: int, objective: Objective) -> None:
        """Write the epoch's line and pass the result on."""
        self._file.write(epoch_line(label, result, epochs, objective) + "\n")
        self._inner.epoch(label, result, epochs, objective)

    def end(self, label: str) -> None:
        """Pass it on."""
        self._inner.end(label)

    def __enter__(self) -> LogFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
