"""A study as a table on stdout, and as JSON.

Owns their layout. Must not compute. Read next: `search/summary.py` for the figures.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import FrozenTrial

from rnatracker.search import hints, summary
from rnatracker.search.study import Search
from rnatracker.terminal import output
from rnatracker.terminal.tables import new_table, show

if TYPE_CHECKING:
    from rnatracker.search.refit import Verdict


def print_study(search: Search, limit: int) -> None:
    """Print the best trials and the starting config, importances, and what pruning saved."""
    request, best = search.request, summary.best(search, limit)
    objective = request.config.train.objective
    table = new_table()
    keys = [each.key for each in request.space]
    for header in ("trial", objective, "epochs", *(key.partition(".")[2] for key in keys)):
        table.add_column(header, justify="right")
    start = summary.start_trial(search)
    shown = best if start is None or start in best or start.value is None else [*best, start]
    base = request.config.flat()
    for trial in shown:
        name = f"{trial.number} (start)" if start is not None and trial.number == start.number else str(trial.number)
        values = {**base, **trial.params}
        cells = [summary.short(values[key]) if key in trial.params or trial is start else "-" for key in keys]
        table.add_row(name, f"{trial.value:.4f}", str(trial.user_attrs.get("epochs", "")), *cells)
    counts = search.counts()
    title = (
        f"Study {request.name}: {output.amount(counts.complete, 'trial')} complete, {counts.pruned} pruned, "
        f"{counts.failed} failed"
        + (f", {counts.running} running" if counts.running else "")
        + (f", {counts.waiting} waiting" if counts.waiting else "")
    )
    if shown:
        show(table, title)
    else:
        output.tell(title)
    for line in summary.failure_lines(search):
        output.tell(f"Without a value: {line}")
    for failed, new, reason in summary.retries(search):
        output.tell(f"Trial {failed} failed, and is tried again as trial {new}: {reason}")
    _print_figures(search)


def _print_figures(search: Search) -> None:
    saved, important = summary.savings(search), summary.importances(search)
    if saved.saved:
        output.tell(
            f"Pruning saved {saved.saved} of {saved.trained + saved.saved} epochs ({saved.share:.0%}), about "
            f"{saved.seconds:.0f} s"
        )
    if important:
        output.tell("Importance: " + "  ".join(f"{key} {value:.2f}" for key, value in important.items()))
    for text in summary.cautions(search):
        output.tell(f"Note: {text}")
    if summary.best(search, 1):
        output.tell(
            "These are validation values, each the best of many, "
            "so they are optimistic. rnatracker tune --refit measures without that bias."
        )


def as_json(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial for a script."""
    return {
        "trial": trial.number,
        "value": trial.value,
        "params": trial.params,
        "folds": trial.user_attrs.get("fold_values", []),
        "run_id": trial.user_attrs.get("run_id"),
        "command": hints.rerun_command(search, trial),
    }


def study_as_json(search: Search, limit: int) -> dict[str, Any]:
    """Return a study for a script."""
    return {
        "study": search.request.name,
        "objective": search.request.config.train.objective,
        "trials": vars(search.counts()),
        "best": [as_json(search, trial) for trial in summary.best(search, limit)],
        "importances": summary.importances(search),
        "saved": vars(summary.savings(search)),
        "run_id": search.study.user_attrs.get("run_id"),
        "failures": failures_as_json(search),
        "retries": retries_as_json(search),
        "warnings": summary.cautions(search),
    }


def failures_as_json(search: Search) -> list[dict[str, Any]]:
    """Return why trials have come to nothing, for a script."""
    return [{"reason": reason, "trials": numbers} for reason, numbers in summary.failures(search).items()]


def retries_as_json(search: Search) -> list[dict[str, Any]]:
    """Return which failed trials were tried again, for a script."""
    return [{"trial": failed, "as": new, "reason": reason} for failed, new, reason in summary.retries(search)]


def print_verdict(verdict: Verdict) -> None:
    """Print what fresh seeds say of each trial's settings, and the winner."""
    table = new_table()
    for header in ("trial", "in the study", "fresh seeds", "sd", "optimism"):
        table.add_column(header, justify="right")
    for each in verdict.refitted:
        name = f"{each.trial} (start)" if each.is_start else str(each.trial)
        figures = [_number(value) for value in (each.claimed, each.mean, each.sd, each.optimism)]
        table.add_row(name, *figures)
    seeds, folds = verdict.winner.values.shape
    show(
        table,
        f"Fresh seeds: {verdict.objective} on the folds' test parts, {output.amount(seeds, 'seed')}, {folds} folds",
    )
    undefined = int(np.isnan(verdict.winner.values).sum())
    if undefined:
        output.tell(
            f"Note: {verdict.objective} is undefined in {undefined} of {seeds * folds} folds, which are left out"
        )
    output.tell(
        f"The best other settings minus the starting config: {verdict.difference:+.4f} (95 % interval "
        f"{verdict.low:+.4f} to {verdict.high:+.4f}, paired over folds and seeds)"
    )
    name = "the starting config" if verdict.winner.is_start else f"trial {verdict.winner.trial}"
    output.tell(f"Winner: {name}, run {verdict.winner.run_ids[0]}")
    for kind, values in verdict.winner.over_baselines.items():
        output.tell(f"Its mean PCC minus that of {kind}, by seed: {', '.join(f'{value:+.3f}' for value in values)}")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def verdict_as_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict for a script."""
    return {
        "objective": verdict.objective,
        "winner": verdict.winner.trial,
        "run_id": verdict.winner.run_ids[0],
        "difference": verdict.difference,
        "interval": [verdict.low, verdict.high],
        "settings": [
            {
                "trial": each.trial,
                "in_use": each.is_start,
                "claimed": each.claimed,
                "mean": each.mean,
                "sd": each.sd,
                "optimism": each.optimism,
                "values": each.values.tolist(),
                "run_ids": list(each.run_ids),
                "over_baselines": {kind: list(values) for kind, values in each.over_baselines.items()},
            }
            for each in verdict.refitted
        ],
    }
