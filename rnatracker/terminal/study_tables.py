"""A study as a table on stdout, and as JSON.

Owns their layout. Must not compute. Read next: `search/summary.py` for the figures.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from rnatracker.search import hints, summary
from rnatracker.search.front.cost import WORDS, cost_of, shown
from rnatracker.search.front.pareto import front
from rnatracker.search.records import verdict as verdicts
from rnatracker.search.records.headline import headline
from rnatracker.search.records.verdict import Verdict
from rnatracker.search.scheduling.courses import is_paused
from rnatracker.search.scheduling.stopping import GAIN_TRIALS
from rnatracker.search.study import EPOCHS, SCHEDULE, Search
from rnatracker.terminal import layout, output
from rnatracker.terminal.layout import PlainTable
from rnatracker.terminal.tables import new_table, show

_BESIDE = 5
"""Trials beside each other where each is a column."""


def print_study(search: Search, limit: int) -> None:
    """Print what a study has come to: its best and the refit's, its best trials, what matters, what was saved."""
    verdict, counts = verdicts.kept(search), search.counts()
    output.tell(
        f"Study {search.request.name}: {counts.complete} of {output.amount(counts.all, 'trial')} complete, "
        f"{counts.pruned} pruned, {counts.failed} failed"
        + (f", {counts.running} running" if counts.running else "")
        + (f", {counts.paused} paused" if counts.paused else "")
        + (f", {counts.waiting} waiting" if counts.waiting else "")
    )
    for line in headline(search, verdict):
        output.tell_sentence(line)
    if verdict is not None:
        print_verdict(verdict)
    _print_trials(search, limit)
    for failed, new, reason in summary.retries(search):
        output.tell(f"Trial {failed} failed, and is tried again as trial {new}: {reason}")
    _print_figures(search)


def _print_trials(search: Search, limit: int) -> None:
    """Print the best trials, those that are paused after them, and the starting config in any case."""
    request, best, start = search.request, summary.best(search, limit), summary.start_trial(search)
    shown = [*best, *summary.best_paused(search, limit - len(best))]
    if start is not None and start not in shown and summary.value_of(start, search) is not None:
        shown.append(start)
    if not shown:
        return
    expected = summary.true_values(search)
    headers = [
        "trial",
        request.config.train.objective,
        *(["expected"] if expected else []),
        *([] if request.cost is None else [request.cost]),
        "epochs",
        *(each.key.partition(".")[2] for each in request.space),
    ]
    rows = [
        _cells(search, trial, expected, is_start=start is not None and trial.number == start.number) for trial in shown
    ]
    complete = search.counts().complete
    title = f"The best {len(best)} of {complete} complete trials" if len(best) < complete else "The best trials"
    _show_trials(headers, rows, title)
    _print_front(search, headers)


def _print_front(search: Search, headers: list[str]) -> None:
    """Print the front of a study with a cost, the cheapest trial first."""
    found, start, cost = front(search), summary.start_trial(search), search.request.cost
    if not found or cost is None:
        return
    rows = [_cells(search, trial, {}, is_start=start is not None and trial.number == start.number) for trial in found]
    _show_trials(headers, rows, f"The front of {search.request.config.train.objective} and {WORDS[cost]}")


def _show_trials(headers: list[str], rows: list[list[str]], title: str) -> None:
    table = _filled(headers, rows)
    if layout.fits(table):
        show(table, title)
        return
    for i in range(0, len(rows), _BESIDE):  # too many keys for a row: a trial is a column
        turned = [list(line) for line in zip(headers, *rows[i : i + _BESIDE], strict=True)]
        show(_filled(turned[0], turned[1:]), "" if i else title)


def _cells(search: Search, trial: FrozenTrial, expected: dict[int, summary.TrueValue], *, is_start: bool) -> list[str]:
    """Return a trial's name, value, what is expected of other seeds where that is shown, epochs and settings."""
    values = summary.settings_of(search, trial)
    settings = [summary.short(values.get(each.key, "-")) for each in search.request.space]
    name = f"{trial.number}{' (start)' * is_start}{' (paused)' * is_paused(trial)}"
    costs = [] if search.request.cost is None else [shown(cost_of(trial))]
    found = expected.get(trial.number)
    other = [f"{found.mean:.4f} ± {found.high - found.mean:.3f}" if found else "-"] if expected else []
    return [
        name,
        f"{summary.value_of(trial, search):.4f}",
        *other,
        *costs,
        str(trial.user_attrs.get(EPOCHS, "")),
        *settings,
    ]


def _filled(headers: list[str], rows: list[list[str]]) -> PlainTable:
    table = new_table()
    for header in headers:
        table.add_column(header, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _print_figures(search: Search) -> None:
    saved, important, missing = (
        summary.savings(search),
        summary.importances(search),
        summary.missing_for_importances(search),
    )
    for line in summary.failure_lines(search):
        output.tell_sentence(f"Without a value: {line}")
    for text in summary.cautions(search):
        output.tell_sentence(f"Note: {text}")
    if important:
        output.tell_sentence("Importance: " + "  ".join(f"{key} {value:.2f}" for key, value in important.items()))
    elif missing:
        output.tell(f"Importance of the settings: can be told after {output.amount(missing, 'more trial')}")
    for number, by_round in summary.fresh_values(search).items():
        values = ", ".join(f"{value:.4f}" for value in by_round.values())
        output.tell(f"Trial {number}'s settings with {output.amount(len(by_round), 'fresh seed')}: {values}")
    if saved.saved:
        output.tell(
            f"Pausing and pruning saved {saved.saved} of {saved.trained + saved.saved} epochs ({saved.share:.0%}), "
            f"about {saved.seconds:.0f} s"
        )
    gain = search.expected_gain()
    if gain is not None:
        output.tell(f"{GAIN_TRIALS} more trials, drawn at random, are expected to gain {gain:.4f}")


def print_settings(search: Search) -> None:
    """Print how to train with the settings that are best."""
    found = _best_settings(search)
    if found is not None:
        output.tell(f"To train with trial {found.number}'s settings: {hints.rerun_command(search, found)}")
    if len(front(search)) > 1:
        output.tell(f"To take another of the front: {hints.study_command(search)} --trial N --export FILE")


def print_next(search: Search, *, is_used_up: bool = False) -> None:
    """Print what to do next."""
    following = next_step(search, is_used_up=is_used_up)
    if following:
        output.tell(f"Next: {following}")


def next_step(search: Search, *, is_used_up: bool = False) -> str | None:
    """Return what to type next; None where the study has come to nothing."""
    return hints.next_command(search, verdicts.kept(search), is_used_up=is_used_up)


def _best_settings(search: Search) -> FrozenTrial | None:
    """Return the trial whose settings to take: the refit's winner, as long as no better one was found since."""
    best, verdict = next(iter(summary.best(search, 1)), None), verdicts.kept(search)
    if best is None or verdict is None or verdict.of(best.number) is None:
        return best
    return next((trial for trial in search.trials() if trial.number == verdict.winner.trial), best)


def as_json(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial for a script."""
    return {
        "trial": trial.number,
        "value": trial.value,
        "cost": cost_of(trial),
        "params": trial.params,
        "folds": trial.user_attrs.get("fold_values", []),
        "expected": _expected_as_json(search, trial),
        "schedule": list(trial.user_attrs.get(SCHEDULE, ())),
        "run_id": trial.user_attrs.get("run_id"),
        "command": hints.rerun_command(search, trial),
    }


def _expected_as_json(search: Search, trial: FrozenTrial) -> dict[str, Any] | None:
    found = summary.true_values(search).get(trial.number)
    return None if found is None else vars(found)


def study_as_json(search: Search, limit: int) -> dict[str, Any]:
    """Return a study for a script."""
    return {
        "study": search.request.name,
        "objective": search.request.config.train.objective,
        "trials": vars(search.counts()),
        "best": [as_json(search, trial) for trial in summary.best(search, limit)],
        "cost": search.request.cost,
        "front": front_as_json(search),
        "importances": summary.importances(search),
        "saved": vars(summary.savings(search)),
        "run_id": search.study.user_attrs.get("run_id"),
        "expected_gain": search.expected_gain(),
        "refit": refit_as_json(search),
        "failures": failures_as_json(search),
        "retries": retries_as_json(search),
        "warnings": summary.cautions(search),
        "next": next_step(search),
    }


def front_as_json(search: Search) -> list[dict[str, Any]]:
    """Return the front of a study with a cost for a script, the cheapest first; empty without a cost."""
    return [as_json(search, trial) for trial in front(search)]


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
    for kind, values in verdict.winner.over_baselines.items():
        by_seed = ", ".join(f"{value:+.3f}" for value in values)
        output.tell(f"The winner's mean PCC minus that of {kind}, by seed: {by_seed}")
    winner = verdict.winner
    output.tell(f"The winner's run: {next(iter(winner.run_names), winner.run_ids[0])}")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def refit_as_json(search: Search) -> dict[str, Any] | None:
    """Return a study's latest verdict for a script; None if it has none."""
    verdict = verdicts.kept(search)
    return verdicts.as_plain(verdict) if verdict else None
