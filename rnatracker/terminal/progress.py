"""How a training's progress is shown on stderr: a live display on a terminal, plain lines elsewhere.

Owns the two reporters. Must not know the trainer beyond its results. Read next: `rnatracker/training/reporting.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

from types import TracebackType
from typing import TYPE_CHECKING

from rnatracker.choices import Objective

if TYPE_CHECKING:
    from rich.progress import TaskID

    from rnatracker.training.reporting import Reporter
    from rnatracker.training.trainer import EpochResult


class PlainReporter:
    """Prints a line for each epoch and for whatever else is said."""

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing to undo."""

    def line(self, text: str) -> None:
        """Print it."""
        print(text, file=sys.stderr, flush=True)

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        """Keep quiet: lines are for epochs."""

    def epoch(self, label: str, result: EpochResult, epochs: int, objective: Objective) -> None:
        """Print the epoch's line."""
        from rnatracker.training.reporting import epoch_line

        self.line(epoch_line(label, result, epochs, objective))

    def end(self, label: str) -> None:
        """Keep quiet."""


class LiveReporter:
    """Shows a bar for each training that goes on, in 80 columns.

    Epoch, loss, PCC as mean over sites and overall, best value and its epoch, sequences a second, time left.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            TextColumn("{task.fields[epoch]}"),
            BarColumn(bar_width=8),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}
        self._figures: dict[str, str] = {}

    def __enter__(self) -> Reporter:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def line(self, text: str) -> None:
        """Print it above the bars."""
        self._progress.console.print(text, markup=False, highlight=False)

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        """Move the bar."""
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label, total=None, epoch="", figures="")
        self._progress.update(
            self._tasks[label],
            total=epochs * total,
            completed=(epoch - 1) * total + done,
            epoch=f"epoch {epoch}/{epochs}",
            figures=self._figures.get(label, ""),
        )

    def epoch(self, label: str, result: EpochResult, epochs: int, objective: Objective) -> None:  # noqa: ARG002
        """Show the epoch's figures."""
        figures = [f"loss {result.train_loss:.4f}"]
        if result.scores:
            figures.append(f"PCC {result.scores['pcc_mean']:.3f}/{result.scores['pcc_overall']:.3f}")
        if result.best_epoch:
            figures.append(f"best {result.best_value:.3f}@{result.best_epoch}")
        figures.append(f"{result.sequences_per_second:.0f}/s")
        self._figures[label] = " ".join(figures)
        if label in self._tasks:
            self._progress.update(self._tasks[label], figures=self._figures[label])

    def end(self, label: str) -> None:
        """Take the bar away."""
        if label in self._tasks:
            self._progress.remove_task(self._tasks.pop(label))


def reporter() -> PlainReporter | LiveReporter:
    """Return the reporter that suits stderr, as a context manager."""
    return LiveReporter() if sys.stderr.isatty() else PlainReporter()


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on stderr, where that is a terminal; gives what to tell it: how many of how many are done."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
