"""Progress on stderr: live bars on a terminal, plain lines or nothing elsewhere.

Owns how bars look, for all commands, and the two reporters of a training. Must not know the trainer beyond its results.
Read next: `rnatracker/training/reporting.py`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from rnatracker.choices import Objective
from rnatracker.escapes import printable, printable_lines
from rnatracker.terminal import output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, TaskID

    from rnatracker.training.reporting import Reporter
    from rnatracker.training.trainer import EpochResult

_UNABLE = ("dumb", "unknown")
"""Kinds of terminals that can't draw over what they have shown."""

_BAR, _TIME = 8, 11
"""Columns of the bar of a training, and of its time left with what stands between all parts."""


def is_live() -> bool:
    """Tell whether stderr is a terminal, where a display can be drawn again and again."""
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in _UNABLE


def console() -> Console:
    """Return the console on stderr, on which everything live is drawn."""
    from rich.console import Console

    return Console(stderr=True)


def print_above(console: Console, text: str) -> None:
    """Print a line above what is drawn live; brackets in it are text, not markup."""
    from rich.text import Text

    console.print(Text(printable_lines(text)))


def new_bars(*figures: ProgressColumn, bar_width: int = 40) -> Progress:
    """Return bars that vanish when they end: what it is, a bar, these columns, and the time left."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width),
        *figures,
        TimeRemainingColumn(compact=True),
        console=console(),
        transient=True,
    )


class PlainReporter:
    """Prints a line for each epoch, and every message."""

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing to undo."""

    def line(self, text: str) -> None:
        """Print it."""
        output.say(text)

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        """Print nothing: there is a line for each epoch only."""

    def epoch(self, label: str, result: EpochResult, epochs: int, objective: Objective) -> None:
        """Print the epoch's line."""
        from rnatracker.training.reporting import epoch_line

        self.line(epoch_line(label, result, epochs, objective))

    def end(self, label: str) -> None:
        """Print nothing."""


class LiveReporter:
    """Shows a bar for each running training, in 80 columns.

    Epoch, loss, PCC (mean over sites / overall), best value and its epoch, sequences per second, time left.
    """

    def __init__(self) -> None:
        from rich.progress import TextColumn

        self._progress = new_bars(TextColumn("{task.fields[figures]}", markup=False), bar_width=_BAR)
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
        print_above(self._progress.console, text)

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        """Move the bar."""
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label, total=None, figures="")
        self._progress.update(
            self._tasks[label],
            total=epochs * total,
            completed=(epoch - 1) * total + done,
            description=printable(f"{label} epoch {epoch}/{epochs}".lstrip()),
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
        taken = len(f"{label} epoch {epochs}/{epochs}") + _BAR + _TIME
        self._figures[label] = _fitting(figures, self._progress.console.width - taken)
        if label in self._tasks:
            self._progress.update(self._tasks[label], figures=self._figures[label])

    def end(self, label: str) -> None:
        """Take the bar away."""
        if label in self._tasks:
            self._progress.remove_task(self._tasks.pop(label))


def _fitting(figures: list[str], width: int) -> str:
    """Return as many of the first figures as fit: on a narrow terminal rich would cut the last one short."""
    shown = ""
    for figure in figures:
        longer = f"{shown} {figure}".lstrip()
        if len(longer) > width:
            break
        shown = longer
    return shown


def reporter() -> PlainReporter | LiveReporter:
    """Return the reporter that suits stderr, as a context manager."""
    return LiveReporter() if is_live() else PlainReporter()


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar with a percentage; gives a function to call with how many of how many are done, None without a bar."""
    if not is_live():
        yield None
        return
    from rich.progress import TaskProgressColumn

    with new_bars(TaskProgressColumn()) as bars:
        task = bars.add_task(printable(what), total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def download(what: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """Show a bar with megabytes and speed; gives a function to call with bytes done and in all (None: unknown)."""
    if not is_live():
        yield None
        return
    from rich.progress import DownloadColumn, TransferSpeedColumn

    with new_bars(DownloadColumn(), TransferSpeedColumn()) as bars:
        task = bars.add_task(printable(what), total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def counted(what: str, noun: str) -> Iterator[Callable[[int, float | None], None]]:
    """Show a bar with how many are done and how many a second.

    Gives a function to call with the number done and the share of the whole that they are (None: unknown).
    """
    from rich.progress import TaskProgressColumn, TextColumn

    began = time.perf_counter()
    with new_bars(TaskProgressColumn(), TextColumn("{task.fields[figures]}", markup=False)) as bars:
        task = bars.add_task(printable(what), total=None, figures="")

        def update(done: int, share: float | None) -> None:
            figures = f"{done:,} {noun}  {done / (time.perf_counter() - began):,.0f}/s"
            bars.update(task, completed=share or 0, total=None if share is None else 1, figures=figures)

        yield update
