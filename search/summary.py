"""What a study has found: best trials, importances, what pruning saved, tables and files.

Owns the figures of a study and what is left in its run. Must not know torch or typer. Read next: `plots.py` for the
pictures, `refit.py` for figures that aren't optimistic.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from rnatracker import files, plain_yaml
from rnatracker.config import Config
from rnatracker.errors import StudyError
from rnatracker.escapes import markdown
from rnatracker.search import plots
from rnatracker.search.pruning import START, place_of
from rnatracker.search.sampling import REASON, RETRIES, tried_again
from rnatracker.search.space import Space, apply
from rnatracker.search.study import CAUTIONS, DEATHS, EPOCHS, FOLD_VALUES, SECONDS, Search
from rnatracker.search.study import STATES as STATES
from rnatracker.tracking.contract import SUMMARY_STEP, TrackedRun


@dataclass(frozen=True)
class Savings:
    """What pruning has saved.

    Attributes:
        trained: epochs that all trials that are over have trained.
        saved: epochs that pruned trials have not.
        seconds: how long those would have taken, at each trial's own pace.
    """

    trained: int
    saved: int
    seconds: float

    @property
    def share(self) -> float:
        """Share of all epochs that was saved."""
        return self.saved / max(self.trained + self.saved, 1)


def best(search: Search, limit: int | None = None) -> list[FrozenTrial]:
    """Return completed trials, the best first."""
    completed = [trial for trial in search.trials() if trial.state == TrialState.COMPLETE]
    completed.sort(key=lambda trial: trial.value or 0.0, reverse=search.request.maximize)
    return completed[:limit]


def failures(search: Search) -> dict[str, list[int]]:
    """Return why trials have come to nothing: each reason, with the numbers of the trials that it stopped."""
    reasons: dict[str, list[int]] = {}
    for trial in search.trials():
        stopped_at_once = trial.state == TrialState.PRUNED and trial.last_step is None
        if trial.state == TrialState.FAIL or stopped_at_once:
            reasons.setdefault(trial.user_attrs.get(REASON, "unknown"), []).append(trial.number)
    return reasons


def failure_lines(search: Search, limit: int = 5) -> list[str]:
    """Word why trials have come to nothing, so many reasons at most."""
    found = failures(search)
    lines = [
        f"trial{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}: {reason}"
        for reason, numbers in list(found.items())[:limit]
    ]
    return [*lines, *([f"and {len(found) - limit} more reasons"] if len(found) > limit else [])]


def retries(search: Search) -> list[tuple[int, int, str]]:
    """Return the failed trials that were tried again: their number, that of the new trial, and why they failed."""
    trials = search.all_trials()
    reasons = {trial.number: str(trial.user_attrs.get(REASON, "unknown")) for trial in trials}
    return [(failed, new, reasons.get(failed, "unknown")) for failed, new in sorted(tried_again(trials).items())]


def start_trial(search: Search) -> FrozenTrial | None:
    """Return the trial with the starting config."""
    return next((trial for trial in search.trials() if trial.user_attrs.get(START)), None)


def config_of(search: Search, trial: FrozenTrial) -> Config:
    """Return a trial's settings."""
    return apply(search.request.config, trial.params)


def savings(search: Search) -> Savings:
    """Return what pruning has saved."""
    full = search.request.folds * search.request.config.train.epochs
    trained, saved, seconds = 0, 0, 0.0
    for trial in search.trials():
        epochs = int(trial.user_attrs.get(EPOCHS, 0))
        trained += epochs
        if trial.state == TrialState.PRUNED and epochs:
            saved += full - epochs
            seconds += (full - epochs) * float(trial.user_attrs.get(SECONDS, 0.0)) / epochs
    return Savings(trained, saved, seconds)


def importances(search: Search) -> dict[str, float]:
    """Return each key's share of what makes values differ, the largest first; empty with too few trials.

    Source: PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255), as Optuna has it.
    """
    if len(best(search)) < 4:
        return {}
    try:
        found = optuna.importance.get_param_importances(search.study)
    except (ValueError, RuntimeError):
        return {}
    return {key: float(value) for key, value in found.items() if math.isfinite(value)}


def reached(trial: FrozenTrial, epochs: int) -> str:
    """Word how far a trial has come: `fold 1, epoch 4`."""
    if trial.last_step is None:
        return ""
    fold, epoch = place_of(trial.last_step, epochs)
    return f"fold {fold}, epoch {epoch}"


def row(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial as a row of a table."""
    attributes = trial.user_attrs
    complete = trial.state == TrialState.COMPLETE
    last = trial.intermediate_values[trial.last_step] if trial.last_step is not None else None
    return {
        "trial": trial.number,
        "state": STATES[trial.state],
        "value": trial.value if complete else None,
        "last_value": last,
        "reached": reached(trial, search.request.config.train.epochs),
        "epochs": attributes.get(EPOCHS),
        "seconds": attributes.get(SECONDS),
        "reason": attributes.get(REASON, ""),
        "deaths": attributes.get(DEATHS, 0),
        "retries": attributes.get(RETRIES),
        "run_id": attributes.get("run_id", ""),
        **{f"fold{i}": value for i, value in enumerate(attributes.get(FOLD_VALUES, ()), start=1)},
        **{key: trial.params.get(key) for key in (each.key for each in search.request.space)},
    }


def to_csv(search: Search) -> str:
    """Return all trials as a CSV table, those too that were tried again: `retries` names them."""
    rows = [row(search, trial) for trial in search.all_trials()]
    columns = list(dict.fromkeys(key for each in rows for key in each))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def space_yaml(space: Space) -> str:
    """Return a space as the text of its file."""
    return plain_yaml.dump(space.as_dict(), flow=None)


def export_best(search: Search, path: Path) -> FrozenTrial:
    """Write the best trial's settings as a config file; return the trial.

    Raises:
        StudyError: if no trial has been completed, or the file can't be written.
    """
    found = best(search, 1)
    if not found:
        raise StudyError(
            f"study {search.request.name}: no trial has been completed yet, so there is no best one",
            "wait for the first, or give its tune command again",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, config_of(search, found[0]).to_yaml())
    except OSError as error:
        raise StudyError(f"{path}: can't be written ({error.strerror or error})", "choose another file") from None
    return found[0]


def leave(search: Search, run: TrackedRun) -> None:
    """Leave what the study has found in its run: metrics, a description, tables and pictures."""
    files.write_text(run.files.trials, to_csv(search))
    counts, saved, found = search.counts(), savings(search), best(search, 10)
    figures: dict[str, float] = {
        "trials/complete": counts.complete,
        "trials/pruned": counts.pruned,
        "trials/failed": counts.failed,
        "epochs/trained": saved.trained,
        "epochs/saved": saved.saved,
        "epochs/saved_seconds": saved.seconds,
    }
    if found:
        export_best(search, run.files.best_config)
        figures |= {"best/objective": float(found[0].value or 0.0), "best/trial": found[0].number}
        start = start_trial(search)
        if start is not None and start.state == TrialState.COMPLETE:
            figures["start/objective"] = float(start.value or 0.0)
        plots.write_all(search.study, run.files.plots, search.request.config.train.objective)
    run.log_metrics(figures, SUMMARY_STEP)
    run.describe(_note(search, found, importances(search), saved))
    run.publish()


def _note(search: Search, found: list[FrozenTrial], important: Mapping[str, float], saved: Savings) -> str:
    request, counts = search.request, search.counts()
    objective = request.config.train.objective
    lines = [
        f"Study {request.name}: {counts.complete} trials complete, {counts.pruned} pruned, {counts.failed} failed. "
        f"Pruning saved {saved.saved} of {saved.trained + saved.saved} epochs.",
        "",
    ]
    if found:
        start = start_trial(search)
        begun = f", the starting config {start.value:.4f}" if start is not None and start.value is not None else ""
        lines += [
            f"Best {objective} on validation: {found[0].value:.4f} (trial {found[0].number}){begun}. "
            "Optimistic: the best of many. `rnatracker tune --refit` measures without that.",
            "",
            f"| trial | {objective} | {' | '.join(each.key for each in request.space)} |",
            "|---|---|" + "---|" * len(request.space.dimensions),
        ]
        for trial in found:
            cells = [markdown(short(trial.params.get(each.key, "-"))) for each in request.space]
            lines.append(f"| {trial.number} | {trial.value:.4f} | {' | '.join(cells)} |")
    if important:
        lines += ["", "Importance: " + ", ".join(f"{key} {value:.2f}" for key, value in important.items())]
    lines += [f"\n{markdown(text)}." for text in (*failure_lines(search), *cautions(search))]
    return "\n".join(lines)


def cautions(search: Search) -> list[str]:
    """Return what a reader of the study's values should know, as sentences."""
    return list(search.study.user_attrs.get(CAUTIONS, ()))


def short(value: object) -> str:
    """Return a setting's value in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
