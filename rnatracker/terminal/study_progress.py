"""How a study is shown while it goes on: a live table on a terminal, a line for each trial that ends elsewhere.

Owns the layout. Must not compute. Read next: `search/summary.py`, whose figures it shows.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rnatracker.terminal import output

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from rich.console import RenderableType
    from rich.live import Live

    from rnatracker.search.study import Search

_REFRESH_SECONDS = 1.0


class StudyDisplay:
    """Shows a study that goes on, on stderr. A context manager; `watch` is what `tune` tells."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._told: set[int] | None = None
        self._next = 0.0
        self._search: Search | None = None

    def __enter__(self) -> StudyDisplay:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._search is not None and kind is None:
            self._tell_ends(self._search)  # what has come to an end since it was last looked at
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line, above the table if there is one."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            output.say(text)

    def watch(self, search: Search, seconds_left: float | None) -> None:
        """Show how the study goes."""
        if time.monotonic() < self._next:
            return
        self._search = search
        self._tell_ends(search)
        if self._live is not None:
            self._live.update(_table(search, seconds_left), refresh=True)
        self._next = time.monotonic() + _REFRESH_SECONDS

    def _tell_ends(self, search: Search) -> None:
        """Print a line for each trial that has ended since the last look."""
        trials = search.trials()
        ended = {trial.number for trial in trials if trial.state.is_finished()}
        if self._told is None:
            self._told = set() if len(ended) < 2 else ended  # those of a study that goes on were told before
        for trial in trials:
            if trial.number in ended - self._told:
                self.say(_line(search, trial))
        self._told |= ended


def _line(search: Search, trial: FrozenTrial) -> str:
    """Word how a trial has ended."""
    from rnatracker.search import summary

    settings = "  ".join(f"{key.partition('.')[2]} {summary.short(value)}" for key, value in trial.params.items())
    state = summary.STATES[trial.state]
    if state == "complete":
        found = summary.best(search, 1)
        mark = "  the best so far" if found and found[0].number == trial.number else ""
        return f"trial {trial.number}  {search.request.config.train.objective} {trial.value:.4f}{mark}  {settings}"
    return f"trial {trial.number}  {state}: {trial.user_attrs.get('reason', '')}  {settings}"


def _table(search: Search, seconds_left: float | None) -> RenderableType:
    from rich import box
    from rich.console import Group
    from rich.table import Table

    from rnatracker.search import summary

    request = search.request
    counts, found = search.counts(), summary.best(search, 1)
    objective, epochs = request.config.train.objective, request.config.train.epochs
    table = Table(box=box.SIMPLE_HEAD, title_justify="left")
    for header in ("trial", "fold", "epoch", objective, "settings"):
        table.add_column(header, overflow="fold")
    for trial in [*found, *(each for each in search.trials() if summary.STATES[each.state] == "running")]:
        settings = "  ".join(f"{key.partition('.')[2]} {summary.short(value)}" for key, value in trial.params.items())
        is_best = trial.state.is_finished()
        name = f"best, {trial.number}" if is_best else str(trial.number)
        place = summary.reached(trial, epochs).replace("fold ", "").split(", epoch ") if trial.last_step else ["", ""]
        last = trial.value if is_best else trial.intermediate_values.get(trial.last_step or 0)
        value = "" if last is None else f"{last:.4f}"
        table.add_row(name, f"{place[0]}/{request.folds}", f"{place[-1]}/{epochs}", value, settings)
    limit = "" if seconds_left is None else f", {_duration(max(seconds_left, 0))} left"
    line = (
        f"study {request.name}: {counts.over} of {request.trials} trials: {counts.complete} complete, {counts.pruned} "
        f"pruned, {counts.failed} failed, {counts.running} running{_expected(search, counts.over)}{limit}"
    )
    return Group(line, table)


def _expected(search: Search, over: int) -> str:
    """Word how long the rest may take, from how long trials took so far."""
    times = [(trial.datetime_start, trial.datetime_complete) for trial in search.trials() if trial.state.is_finished()]
    known = [(end - start).total_seconds() for start, end in times if start and end]
    if not known:
        return ""
    left = max(search.request.trials - over, 0) * sum(known) / len(known) / max(search.request.jobs, 1)
    return f", about {_duration(left)} to go"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
