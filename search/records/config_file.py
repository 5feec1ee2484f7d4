"""A study's settings as a config file that others can use: `best.yaml` and `winner.yaml`.

Owns what is in them: no place of this machine, numbers in few digits, and what the file claims at its top. The values
to the last digit are in the trial's own `config.yaml`. Must not know torch or typer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from rnatracker import files
from rnatracker.config import Config
from rnatracker.errors import ConfigError, StudyError
from rnatracker.escapes import printable
from rnatracker.search import summary
from rnatracker.search.front.cost import WORDS, cost_of, shown
from rnatracker.search.hints import study_command
from rnatracker.search.records.headline import difference_of
from rnatracker.search.records.verdict import Verdict
from rnatracker.search.space import apply
from rnatracker.search.study import Search, state_of
from rnatracker.search.trial_runs import name_of

_DIGITS = 4
"""Significant digits of a number that was drawn: a network can't tell more apart."""
_PLACES = {"data": {"path": None}, "train": {"device": "auto", "threads": 0}}
"""Settings that belong to a machine."""


def export_best(search: Search, path: Path) -> FrozenTrial:
    """Write the best trial's settings as a config file; return the trial.

    Raises:
        StudyError: if no trial has been completed, or the file can't be written.
    """
    found = summary.best(search, 1)
    if not found:
        raise StudyError(
            f"study {search.request.name}: no trial has been completed yet, so there is no best one",
            "wait for the first, or give its tune command again",
        )
    _write(path, best_text(search, found[0]))
    return found[0]


def export_trial(search: Search, number: int, path: Path) -> FrozenTrial:
    """Write a trial's settings as a config file; return the trial.

    Raises:
        StudyError: if there is none of that number or it has no settings yet, or the file can't be written.
    """
    trials = {trial.number: trial for trial in search.all_trials()}
    trial = trials.get(number)
    if trial is None or not (trial.params or trial.state.is_finished()):
        known = f"it has {min(trials)} to {max(trials)}" if trials else "it has none yet"
        problem = f"no trial {number}; {known}" if trial is None else f"trial {number} has no settings yet"
        raise StudyError(f"study {search.request.name}: {problem}", f"see its trials with: {study_command(search)}")
    _write(path, trial_text(search, trial))
    return trial


def trial_text(search: Search, trial: FrozenTrial) -> str:
    """Return the file of one trial of a study."""
    value, cost, request = summary.value_of(trial, search), cost_of(trial), search.request
    found = "no value" if value is None else f"{request.config.train.objective} {value:.4f} on validation"
    at = "" if cost is None or request.cost is None else f", at {shown(cost)} {WORDS[request.cost]}"
    state = state_of(trial)
    return _text(search, trial, state, [f"It has {found}{at}."])


def best_text(search: Search, trial: FrozenTrial) -> str:
    """Return the file of a study's best trial."""
    objective = search.request.config.train.objective
    claim = (
        f"Its {objective} of {trial.value:.4f} on validation is the best of {search.counts().all} trials: optimistic."
    )
    return _text(search, trial, "the best", [claim])


def winner_text(search: Search, trial: FrozenTrial, verdict: Verdict) -> str:
    """Return the file of what fresh seeds showed to be best."""
    winner = verdict.winner
    seeds, folds = winner.values.shape
    claims = [
        f"Under fresh seeds ({seeds} x {folds} folds): {verdict.objective} {winner.mean:.4f}, sd {winner.sd:.4f}.",
        f"The best other settings minus the starting config: {difference_of(verdict)}.",
    ]
    return _text(search, trial, "the refit's winner", claims)


def write_winner(search: Search, verdict: Verdict, path: Path) -> None:
    """Write the file of what fresh seeds showed to be best.

    Raises:
        StudyError: if it can't be written.
    """
    trial = next(trial for trial in search.trials() if trial.number == verdict.winner.trial)
    _write(path, winner_text(search, trial, verdict))


def rounded(base: Config, params: Mapping[str, Any]) -> Config:
    """Return a trial's settings with drawn numbers in few digits, and without what belongs to a machine.

    A number that may not be rounded, as 0.99999 where 1 is refused, stays as it is.
    """
    made = apply(base, params)
    for key, value in params.items():
        if isinstance(value, float):
            try:
                made = apply(made, {key: float(f"{value:.{_DIGITS}g}")})
            except ConfigError:
                continue
    plain = made.model_dump(mode="json")
    for section, values in _PLACES.items():
        plain[section] |= values
    return Config.model_validate(plain)


def _text(search: Search, trial: FrozenTrial, what: str, claims: list[str]) -> str:
    name = search.request.name
    lines = [
        f"Study {name}, {what}: trial {trial.number}.",
        *claims,
        f"Numbers that were drawn have {_DIGITS} digits here, and all of theirs in config.yaml of the run "
        f"{name_of(trial.number)}.",
        "Name the transcripts with --data: rnatracker train --config THIS_FILE --data FILE",
    ]
    head = "".join(f"# {printable(line)}\n" for line in lines)
    body = rounded(search.request.config, trial.params).to_yaml()
    return head + body.replace("  path: null\n", "  path: null  # of the transcripts: --data\n", 1)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, text)
    except OSError as error:
        raise StudyError(f"{path}: can't be written ({error.strerror or error})", "choose another file") from None
