"""How a running study is shown: a live table on a terminal, elsewhere a line for each trial that ends.

Owns the layout. Must not compute. Read next: `search/summary.py`, whose figures it shows.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rnatracker.terminal import output, progress
from rnatracker.terminal.tables import new_table

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from rich.console import RenderableType
    from rich.live import Live

    from rnatracker.search.study import Search

_REFRESH_SECONDS = 1.0


class StudyDisplay:
    """Shows a running study on stderr. A context manager; `tune` calls `watch` again and again."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._printed: set[int] | None = None
        self._next = 0.0
        self._search: Search | None = None

    def __enter__(self) -> StudyDisplay:
        if progress.is_live():
            from rich.live import Live

            self._live = Live(console=progress.console(), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._search is not None and kind is None:
            self._print_ends(self._search)  # trials that ended since the last look
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line, above the table if there is one."""
        if self._live is not None:
            progress.print_above(self._live.console, text)
        else:
            output.say(text)

    def watch(self, search: Search, seconds_left: float | None) -> None:
        """Show where the study stands."""
        if time.monotonic() < self._next:
            return
        self._search = search
        self._print_ends(search)
        if self._live is not None:
            self._live.update(_table(search, seconds_left), refresh=True)
        self._next = time.monotonic() + _REFRESH_SECONDS

    def _print_ends(self, search: Search) -> None:
        """Print a line for each trial that has ended since the last look."""
        trials = [*search.trials(), *search.fresh()]
        ended = {trial.number for trial in trials if trial.state.is_finished()}
        if self._printed is None:
            self._printed = set() if len(ended) < 2 else ended  # those of a resumed study were printed before
        for trial in trials:
            if trial.number in ended - self._printed:
                self.say(_line(search, trial))
        self._printed |= ended


def _line(search: Search, trial: FrozenTrial) -> str:
    """Return the line of a trial that has ended."""
    from rnatracker.search import summary
    from rnatracker.search.sampling import REASON
    from rnatracker.search.scheduling.fresh import is_fresh, source_of
    from rnatracker.search.study import state_of

    if is_fresh(trial) and trial.value is not None:
        return (
            f"trial {source_of(trial)[0]} with a fresh seed  {search.request.config.train.objective} {trial.value:.4f}"
        )
    settings = _settings(trial)
    state = state_of(trial)
    if state == "complete":
        best = summary.best(search, 1)
        mark = "  the best so far" if best and best[0].number == trial.number else ""
        return f"trial {trial.number}  {search.request.config.train.objective} {trial.value:.4f}{mark}  {settings}"
    return f"trial {trial.number}  {state}: {trial.user_attrs.get(REASON, '')}  {settings}"


def _cells(search: Search, trial: FrozenTrial) -> list[str]:
    """Return a trial's row: its number, how far it has come, its latest value and its settings."""
    from rnatracker.search.pruning import place_of
    from rnatracker.search.scheduling.fresh import is_fresh, source_of

    request, epochs = search.request, search.request.config.train.epochs
    is_best = trial.state.is_finished()
    name = f"{source_of(trial)[0]}, fresh seed" if is_fresh(trial) else str(trial.number)
    fold, epoch = ("", "") if trial.last_step is None else map(str, place_of(trial.last_step, epochs))
    last = trial.value if is_best else trial.intermediate_values.get(trial.last_step or 0)
    return [
        f"best, {trial.number}" if is_best else name,
        f"{fold}/{request.folds}",
        f"{epoch}/{epochs}",
        "" if last is None else f"{last:.4f}",
        _settings(trial),
    ]


def _settings(trial: FrozenTrial) -> str:
    from rnatracker.search import summary

    return "  ".join(f"{key.partition('.')[2]} {summary.short(value)}" for key, value in trial.params.items())


def _table(search: Search, seconds_left: float | None) -> RenderableType:
    """Return the best trial and those that run, under a line on the study."""
    from rich.console import Group

    from rnatracker.search import summary

    request, counts = search.request, search.counts()
    table = new_table()
    for header in ("trial", "fold", "epoch", request.config.train.objective, "settings"):
        table.add_column(header, overflow="fold")
    for trial in [*summary.best(search, 1), *search.running()]:
        table.add_row(*_cells(search, trial))
    limit = "" if seconds_left is None else f", {_duration(max(seconds_left, 0))} left"
    paused = f"{counts.paused} paused, " if counts.paused else ""
    line = (
        f"study {request.name}: {counts.over + counts.paused + counts.running} of {request.trials} trials begun: "
        f"{counts.complete} complete, {counts.pruned} pruned, {counts.failed} failed, {paused}"
        f"{counts.running} running{_expected(search)}{limit}"
    )
    return Group(line, table)


def _expected(search: Search) -> str:
    """Word how long the rest may take."""
    from rnatracker.search import summary

    left = summary.seconds_left(search)
    return "" if left is None else f", about {_duration(left)} to go"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
