"""What optuna-dashboard shows of a study and its trials beside their values: notes.

Owns their wording: a trial's state, why it has come to that, its run, and how to see and to train it. What a user has
typed in a note stays. Must not know torch, mlflow or typer.
"""

from __future__ import annotations

from collections.abc import Callable

from optuna.trial import FrozenTrial, TrialState

from rnatracker.escapes import markdown
from rnatracker.search import hints, summary
from rnatracker.search.front.cost import WORDS, cost_of, shown
from rnatracker.search.optuna_private import Notes
from rnatracker.search.pruning import START
from rnatracker.search.sampling import REASON, REPEATS
from rnatracker.search.scheduling.courses import PAUSED, is_paused
from rnatracker.search.scheduling.fresh import is_fresh, source_of
from rnatracker.search.study import SCHEDULE, STATES, Search
from rnatracker.tracking.hints import ui_command
from rnatracker.tracking.names import described

_LONGEST = 8000
"""Characters of a note."""


def note_trial(search: Search, number: int, run_name: str) -> None:
    """Write a trial's note, after it has ended or was put back.

    Args:
        search: the study.
        number: the trial's.
        run_name: what to call its run.
    """
    trial, notes = search.trial(number), Notes(search.study)
    _lay(notes, trial, trial_note(search, trial, run_name))


def note_all(search: Search, description: str, name_of: Callable[[int], str]) -> None:
    """Bring the notes of all trials up to date, and the study's.

    Args:
        search: the study.
        description: the study's.
        name_of: returns what to call a trial's run.
    """
    notes = Notes(search.study)
    _lay(notes, None, description)
    for trial in search.study.get_trials(deepcopy=False):
        if trial.state != TrialState.RUNNING:
            _lay(notes, trial, trial_note(search, trial, name_of(trial.number)))


def trial_note(search: Search, trial: FrozenTrial, run_name: str) -> str:
    """Return a trial's note, as Markdown."""
    if REPEATS in trial.user_attrs:
        return f"Its settings repeat trial {trial.user_attrs[REPEATS]}, or were drawn anew: it counts for nothing."
    words = [_end_of(search, trial)]
    if search.request.cost is not None and cost_of(trial) is not None:
        words.append(f"It costs {shown(cost_of(trial))} {WORDS[search.request.cost]}.")
    if is_fresh(trial):
        number, round_ = source_of(trial)
        words.append(f"It trains trial {number}'s settings with a fresh seed and another division, round {round_}.")
    elif trial.user_attrs.get(START):
        words.append("It has the starting config.")
    if trial.user_attrs.get(SCHEDULE):
        words.append("\n".join(f"- {markdown(str(line))}" for line in trial.user_attrs[SCHEDULE]))
    tracking = search.request.tracking
    if trial.user_attrs.get("run_id"):
        seen = f", see it with `{ui_command(tracking, search.request.name)}`" if tracking.has_ui else ""
        words.append(f"Run: `{run_name}`{seen}.")
    words.append(f"Train with its settings:\n\n```\n{hints.rerun_command(search, trial)}\n```")
    return "\n\n".join(words)


def _end_of(search: Search, trial: FrozenTrial) -> str:
    """Say what has become of a trial, and why."""
    reason, state = markdown(str(trial.user_attrs.get(REASON, ""))), STATES[trial.state]
    objective, reached = (
        search.request.config.train.objective,
        summary.reached(trial, search.request.config.train.epochs),
    )
    if trial.state == TrialState.COMPLETE:
        return f"**Complete**: {objective} {trial.value:.4f} on validation."
    if trial.state == TrialState.WAITING and reached:
        so_far = f"{objective} {summary.value_of(trial, search) or 0.0:.4f} so far"
        if is_paused(trial):
            return f"**Paused**, {so_far}: {markdown(str(trial.user_attrs[PAUSED]))}."
        return f"**Interrupted** at {reached}, {so_far}; the study resumes it."
    return f"**{state.capitalize()}**{f': {reason}' if reason else ''}."


def _lay(notes: Notes, trial: FrozenTrial | None, text: str) -> None:
    before, mark = notes.read(trial)
    notes.write(trial, *described(before, mark, text, _LONGEST))
