"""What a study leaves in its run: metrics, a description, tables, config files and pictures.

Owns which there are. Must not know torch or typer. Read next: `rnatracker/search/summary.py` for the figures,
`pictures` for the pictures.
"""

from __future__ import annotations

import math

from optuna.trial import FrozenTrial, TrialState

from rnatracker import files
from rnatracker.escapes import markdown
from rnatracker.search import hints, pictures, summary
from rnatracker.search.front.cost import WORDS, cost_of, shown
from rnatracker.search.front.pareto import front
from rnatracker.search.records import config_file, dashboard
from rnatracker.search.records import verdict as verdicts
from rnatracker.search.records.headline import headline
from rnatracker.search.records.verdict import Verdict
from rnatracker.search.study import Search
from rnatracker.search.trial_runs import name_of
from rnatracker.tracking.contract import SUMMARY_STEP, TrackedRun

_LISTED = 10
"""Trials in a description."""


def leave(search: Search, run: TrackedRun) -> None:
    """Leave what the study has found in its run."""
    files.write_text(run.files.trials, summary.to_csv(search))
    run.log_metrics(_figures(search), SUMMARY_STEP)
    if summary.best(search, 1):
        config_file.export_best(search, run.files.best_config)
    verdict = verdicts.kept(search)
    written = {path.stem for path in pictures.draw_all(search, run.files.plots, verdict)}
    for path in run.files.plots.glob("importance.*"):
        if path.stem not in written:  # drawn by an earlier version, from too few trials
            path.unlink()
    _describe(search, run, verdict)
    run.publish()


def leave_verdict(search: Search, run: TrackedRun, verdict: Verdict) -> None:
    """Leave what fresh seeds say in the study's run, beside what the study has found."""
    config_file.write_winner(search, verdict, run.files.winner_config)
    pictures.draw_refit(verdict, run.files.plots)
    _describe(search, run, verdict)
    run.publish(now=True)


def _describe(search: Search, run: TrackedRun, verdict: Verdict | None) -> None:
    """Say in MLflow and in optuna-dashboard what the study has come to."""
    text = description(search, verdict)
    run.describe(text)
    dashboard.note_all(search, text, lambda number: f"{run.name}/{name_of(number)}")


def description(search: Search, verdict: Verdict | None) -> str:
    """Return what MLflow shows above the study's run, as Markdown: what it has come to first."""
    counts, saved, found = search.counts(), summary.savings(search), summary.best(search, _LISTED)
    parts = headline(search, verdict)
    if verdict is not None:
        parts.append(_refit_table(verdict))
    if found:
        parts.append(_trials_table(search, found))
    if len(on_front := front(search)) > 1:
        parts.append(f"The front, the cheapest first:\n\n{_trials_table(search, on_front, with_start=False)}")
    parts.append(
        f"{counts.all} trials: {counts.complete} complete, {counts.paused} paused, {counts.pruned} pruned, "
        f"{counts.failed} failed. {saved.trained} epochs were trained, {saved.saved} saved by pausing and pruning."
    )
    if important := summary.importances(search):
        parts.append("Importance: " + ", ".join(f"{key} {value:.2f}" for key, value in important.items()) + ".")
    parts += [f"{markdown(text)}." for text in (*summary.failure_lines(search), *summary.cautions(search))]
    if following := hints.next_command(search, verdict):
        parts.append(f"Next: `{following}`")
    return "\n\n".join(parts)


def _refit_table(verdict: Verdict) -> str:
    seeds, folds = verdict.winner.values.shape
    lines = [
        f"| trial | {verdict.objective} in the study | fresh seeds ({seeds} x {folds} folds) | sd | run of the first |",
        "|---|---|---|---|---|",
    ]
    for each in verdict.refitted:
        name = f"{each.trial} (starting config)" if each.is_start else str(each.trial)
        figures = " | ".join("-" if math.isnan(x) else f"{x:.4f}" for x in (each.claimed, each.mean, each.sd))
        lines.append(f"| {name} | {figures} | {markdown(next(iter(each.run_names), each.run_ids[0]))} |")
    return "\n".join(lines)


def _trials_table(search: Search, found: list[FrozenTrial], *, with_start: bool = True) -> str:
    space, start = search.request.space, summary.start_trial(search)
    objective, cost = search.request.config.train.objective, search.request.cost
    is_there = start is None or start in found or start.value is None or not with_start
    headers = ["trial", objective, *([] if cost is None else [WORDS[cost]]), *(each.key for each in space)]
    lines = [f"| {' | '.join(headers)} |", "|" + "---|" * len(headers)]
    for trial in found if is_there or start is None else [*found, start]:
        is_start = start is not None and trial.number == start.number
        values = summary.settings_of(search, trial)
        cells = [markdown(summary.short(values.get(each.key, "-"))) for each in space]
        name = f"{trial.number} (starting config)" if is_start else str(trial.number)
        costs = [] if cost is None else [shown(cost_of(trial))]
        lines.append(f"| {' | '.join([name, f'{trial.value:.4f}', *costs, *cells])} |")
    return "\n".join(lines)


def _figures(search: Search) -> dict[str, float]:
    counts, saved, found = search.counts(), summary.savings(search), summary.best(search, 1)
    figures: dict[str, float] = {
        "trials/complete": counts.complete,
        "trials/paused": counts.paused,
        "trials/pruned": counts.pruned,
        "trials/failed": counts.failed,
        "epochs/trained": saved.trained,
        "epochs/saved": saved.saved,
        "epochs/saved_seconds": saved.seconds,
    }
    if found:
        figures |= {"best/objective": float(found[0].value or 0.0), "best/trial": found[0].number}
        start = summary.start_trial(search)
        if start is not None and start.state == TrialState.COMPLETE:
            figures["start/objective"] = float(start.value or 0.0)
    return figures
