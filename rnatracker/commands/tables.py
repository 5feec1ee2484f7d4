"""Results as tables on stdout.

Owns their layout. Must not compute. Read next: `rnatracker/commands/train.py`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

_WIDE = 400
"""Columns of what is no terminal."""

if TYPE_CHECKING:
    from rich.table import Table

    from rnatracker.metrics import Score
    from rnatracker.request import Outcome
    from rnatracker.tracking import TrackingSettings


def print_outcome(outcome: Outcome, tracking: TrackingSettings) -> None:
    """Print a run's PCC per site, and per fold where it has folds; then what to try next."""
    from rnatracker.invocation import evaluate_command

    if outcome.folds:
        title = f"Cross-validated PCC of {outcome.name}: each fold measured by a model that has not seen it"
        show(_fold_table(outcome), title)
    else:
        show(_single_table(outcome), f"Validation PCC of {outcome.name}, epoch {outcome.best_epoch}")
    print(f"Run {outcome.name} ({outcome.run_id}): {outcome.folder}")
    print_ui(tracking)
    print(f"Next: {evaluate_command(outcome.name, outcome.folder, tracking)}")


def print_ui(tracking: TrackingSettings, study: str | None = None) -> None:
    """Print how to see runs, or a study's trials, in MLflow's UI, where there is one to open."""
    from rnatracker import views
    from rnatracker.invocation import ui_command
    from rnatracker.tracking import open_tracker

    if tracking.enabled and tracking.tracking_uri:
        tracker = open_tracker(tracking)
        address = tracker.ui_url(view=views.study_key(study) if study else views.RUNS)
        print(f"See it in the MLflow UI: {address or tracker.location}")
    elif tracking.enabled:
        print(f"To see it in the MLflow UI: {ui_command(tracking, study)}")


def print_scores(scores: list[Score], title: str) -> None:
    """Print PCC, Spearman and MSE of each site with their intervals."""
    table = new_table()
    for header in ("site", "PCC", "95 % interval", "Spearman", "95 % interval", "MSE", "95 % interval"):
        table.add_column(header, justify="left" if header == "site" else "right")
    sites = list(dict.fromkeys(score.site for score in scores))
    by_place = {(score.measure, score.site): score for score in scores}
    for site in sites:
        if site == "mean":
            table.add_section()
        cells: list[str] = []
        for measure in ("pcc", "spearman", "mse"):
            cells += _cells(by_place[measure, site], 4 if measure == "mse" else 3)
        table.add_row(site, *cells)
    show(table, title)


def _cells(score: Score, digits: int) -> tuple[str, str]:
    interval = "-" if score.low != score.low else f"{score.low:.{digits}f} to {score.high:.{digits}f}"
    return f"{score.value:.{digits}f}", interval


def _single_table(outcome: Outcome) -> Table:
    table = new_table()
    ceiling = "ceiling/pcc_mean" in outcome.metrics
    for header in ("site", "PCC", *(("replicates",) if ceiling else ())):
        table.add_column(header, justify="left" if header == "site" else "right")
    for name in (*outcome.sites, "mean", "overall"):
        if name == "mean":
            table.add_section()
        keys = [f"best/pcc_{name}", *([f"ceiling/pcc_{name}"] if ceiling else [])]
        table.add_row(name, *(_number(outcome.metrics.get(key)) for key in keys))
    return table


def _fold_table(outcome: Outcome) -> Table:
    table = new_table()
    ceiling = "ceiling/pcc_mean" in outcome.metrics
    table.add_column("site")
    for number in range(1, len(outcome.folds) + 1):
        table.add_column(f"fold {number}", justify="right")
    for header in ("mean", "sd", "out-of-fold", *(("replicates",) if ceiling else ())):
        table.add_column(header, justify="right")
    for name in (*outcome.sites, "mean", "overall"):
        if name == "mean":
            table.add_section()
        key = f"pcc_{name}"
        cells = [_number(fold.get(f"test/{key}")) for fold in outcome.folds]
        groups = ("mean", "sd", "oof", *(("ceiling",) if ceiling else ()))
        cells += [_number(outcome.metrics.get(f"{group}/{key}")) for group in groups]
        table.add_row(name, *cells)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"


def new_table() -> Table:
    """Return an empty table in our style."""
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD)


def show(table: Table, title: str) -> None:
    """Print a table under its title; into a file or a pipe it is never wrapped."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    console.print(f"[bold]{title}[/]")
    console.print(table)
