"""What a study has found: best trials, importances, what pruning saved, a table of all trials.

Owns the figures of a study. Must not know torch or typer. Read next: `records/leave.py` for what is left in its run,
`pictures` for the pictures, `refit.py` for figures that aren't optimistic.
"""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
import warnings
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from rnatracker import plain_yaml
from rnatracker.config import Config
from rnatracker.search.front.cost import cost_of
from rnatracker.search.pruning import START, place_of
from rnatracker.search.sampling import REASON, RETRIES, tried_again
from rnatracker.search.scheduling.courses import is_paused
from rnatracker.search.scheduling.fresh import is_fresh, source_of
from rnatracker.search.scheduling.true_value import HALF_90
from rnatracker.search.space import Space, Value, apply
from rnatracker.search.study import (
    CAUTIONS,
    DEATHS,
    EPOCHS,
    FOLD_VALUES,
    OUTSIDE,
    SCHEDULE,
    SECONDS,
    Search,
    state_of,
)

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?")
_ENOUGH, _ENOUGH_PER_KEY = 10, 2
"""Trials with a value, in all and for each key, below which importances are left to chance."""


@dataclass(frozen=True)
class Savings:
    """What pruning and pausing have saved.

    Attributes:
        trained: epochs that all trials have trained that are over or paused.
        saved: epochs that pruned and paused trials have not.
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
    """Return completed trials, the best first: by the estimate of their true values where some have fresh seeds.

    Those without an estimate come last, by their value; so do all where nothing was trained with fresh seeds.
    """
    sign = 1.0 if search.request.maximize else -1.0
    completed = [trial for trial in search.trials() if trial.state == TrialState.COMPLETE]
    known = true_values(search) if fresh_values(search) else {}

    def rank(trial: FrozenTrial) -> tuple[bool, float]:
        found = known.get(trial.number)
        return found is not None, sign * (found.mean if found else trial.value or 0.0)

    return sorted(completed, key=rank, reverse=True)[:limit]


@dataclass(frozen=True)
class TrueValue:
    """What a trial's settings are estimated to come to on average over seeds and divisions.

    Attributes:
        mean: of the objective.
        sd: standard deviation.
        low: lower end of the interval that has it with a probability of 90 %.
        high: its upper end.
        fresh: values of its settings with fresh seeds, by round.
    """

    mean: float
    sd: float
    low: float
    high: float
    fresh: dict[int, float]


def true_values(search: Search) -> dict[int, TrueValue]:
    """Return the estimated true values of the best complete trials, by their numbers."""
    found, fresh = search.estimate(), fresh_values(search)
    if found is None:
        return {}
    sign = 1.0 if search.request.maximize else -1.0
    known = [(number, *found.at(i)) for i, number in enumerate(found.numbers)]
    return {
        number: TrueValue(
            sign * mean, sd, sign * mean - HALF_90 * sd, sign * mean + HALF_90 * sd, fresh.get(number, {})
        )
        for number, mean, sd in known
    }


def fresh_values(search: Search) -> dict[int, dict[int, float]]:
    """Return the values of trainings with fresh seeds: by the trial whose settings they have, and by round."""
    found: dict[int, dict[int, float]] = {}
    for trial in search.fresh():
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            number, round_ = source_of(trial)
            found.setdefault(number, {})[round_] = trial.value
    return found


def best_paused(search: Search, limit: int) -> list[FrozenTrial]:
    """Return paused trials, those first that had come to the best values."""
    paused = [trial for trial in valued(search) if is_paused(trial)]
    paused.sort(key=lambda trial: value_of(trial, search) or 0.0, reverse=search.request.maximize)
    return paused[: max(limit, 0)]


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
    alike: dict[str, list[tuple[str, list[int]]]] = {}
    for reason, numbers in failures(search).items():
        alike.setdefault(_NUMBER.sub("#", reason), []).append((reason, numbers))
    lines = [_failure_line(found) for found in list(alike.values())[:limit]]
    return [*lines, *([f"and {len(alike) - limit} more reasons"] if len(alike) > limit else [])]


def _failure_line(found: list[tuple[str, list[int]]]) -> str:
    """Word one reason; of several that differ in their numbers only, the first."""
    reason, numbers = found[0]
    others = sorted(number for _, more in found[1:] for number in more)
    line = f"trial{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}: {reason}"
    if not others:
        return line
    return f"{line} (and trial{'s' if len(others) > 1 else ''} {', '.join(map(str, others))} with other numbers)"


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


def settings_of(search: Search, trial: FrozenTrial) -> dict[str, Value]:
    """Return what a trial has of the searched keys: drawn, or of the starting config what lies outside of the space."""
    flat, keys = {**search.request.config.flat(), **trial.params}, [each.key for each in search.request.space]
    has = {*trial.params, *trial.user_attrs.get(OUTSIDE, ())}
    return {key: flat[key] for key in keys if key in has}


def savings(search: Search) -> Savings:
    """Return what pruning and pausing have saved."""
    full = search.request.folds * search.request.config.train.epochs
    trained, saved, seconds = 0, 0, 0.0
    for trial in search.trials():
        epochs = int(trial.user_attrs.get(EPOCHS, 0))
        trained += epochs
        if (trial.state == TrialState.PRUNED or is_paused(trial)) and epochs:
            saved += full - epochs
            seconds += (full - epochs) * float(trial.user_attrs.get(SECONDS, 0.0)) / epochs
    return Savings(trained, saved, seconds)


def seconds_left(search: Search) -> float | None:
    """Estimate how long the rest of a study takes, by epochs: pieces of work differ too much to count trials.

    A trial that has not been begun, or runs, is taken to train as many epochs as those that are over or paused have on
    average, at the study's pace. None before any is.
    """
    trials, request = search.trials(), search.request
    rested = [t for t in trials if state_of(t) not in ("running", "waiting") and t.user_attrs.get(EPOCHS)]
    epochs = sum(int(trial.user_attrs[EPOCHS]) for trial in rested)
    if not epochs:
        return None
    mean, begun = epochs / len(rested), sum(state_of(trial) != "waiting" for trial in trials)
    running = [trial.last_step or 0 for trial in trials if state_of(trial) == "running"]
    left = max(request.trials - begun, 0) * mean + sum(max(mean - steps, 1.0) for steps in running)
    pace = sum(float(trial.user_attrs.get(SECONDS, 0.0)) for trial in rested) / epochs
    return left * pace / max(request.jobs, 1)


def importances(search: Search) -> dict[str, float]:
    """Return each key's share of what makes values differ, the largest first; empty with too few trials.

    Pruned and paused trials count with the value they had reached: most of a study's trials are such. A key that a
    trial lacks, since its condition doesn't hold, counts with the starting config's value, or its nearest in the space.

    Source: fANOVA (Hutter et al. 2014), as Optuna has it. On functions of 4 and of 10 keys of which one matters, it
    names that one from 10 and 15 random trials on in 20 of 20 tries; PED-ANOVA, Optuna's default, from 30 trials in 13
    and in 6 of 20.
    """
    if missing_for_importances(search):
        return {}
    shown = optuna.create_study(direction="maximize")
    distributions = {each.key: each.distribution() for each in search.request.space}
    for trial in valued(search):
        params = search.request.space.nearest({**search.request.config.flat(), **trial.params})
        shown.add_trial(create_trial(value=value_of(trial, search), params=params, distributions=distributions))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(shown, evaluator=evaluator)
    except (ValueError, RuntimeError):  # as where all values are alike
        return {}
    return {key: float(value) for key, value in found.items() if math.isfinite(value)}


def missing_for_importances(search: Search) -> int:
    """Return how many more trials with a value it takes to say which settings matter."""
    wanted = max(_ENOUGH, _ENOUGH_PER_KEY * len(search.request.space.dimensions))
    return max(wanted - len(valued(search)), 0)


def valued(search: Search) -> list[FrozenTrial]:
    """Return the trials that have come to some value: complete ones, and pruned and paused ones that have reported."""
    return [trial for trial in search.trials() if value_of(trial, search) is not None]


def value_of(trial: FrozenTrial, search: Search) -> float | None:
    """Return a trial's value; of one that was pruned or is paused the mean, over its folds, of what it had reached."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    if trial.state not in (TrialState.PRUNED, TrialState.WAITING) or not trial.intermediate_values:
        return None
    epochs, last = search.request.config.train.epochs, {}
    for step, value in sorted(trial.intermediate_values.items()):
        last[place_of(step, epochs)[0]] = value  # reports are the best so far within a fold
    return statistics.fmean(last.values())


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
        "state": state_of(trial),
        "value": trial.value if complete else None,
        "last_value": last,
        "reached": reached(trial, search.request.config.train.epochs),
        "epochs": attributes.get(EPOCHS),
        "seconds": attributes.get(SECONDS),
        **({} if search.request.cost is None else {"cost": cost_of(trial)}),
        "reason": attributes.get(REASON, ""),
        "schedule": "; ".join(attributes.get(SCHEDULE, ())),
        "deaths": attributes.get(DEATHS, 0),
        "retries": attributes.get(RETRIES),
        "fresh_of": source_of(trial)[0] if is_fresh(trial) else None,
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


def cautions(search: Search) -> list[str]:
    """Return what a reader of the study's values should know, as sentences."""
    return list(search.study.user_attrs.get(CAUTIONS, ()))


def short(value: object) -> str:
    """Return a setting's value in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
