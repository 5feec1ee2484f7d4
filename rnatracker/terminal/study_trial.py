"""One trial of a study, on stdout and as JSON: settings, values, and when it was paused and resumed, and why.

Owns their layout. Must not compute. Read next: `search/summary.py` for the figures.
"""

from __future__ import annotations

from typing import Any

from optuna.trial import FrozenTrial, TrialState

from rnatracker.errors import StudyError
from rnatracker.search import hints, summary
from rnatracker.search.front.cost import WORDS, cost_of, shown
from rnatracker.search.pruning import START, place_of
from rnatracker.search.sampling import REASON, REPEATS
from rnatracker.search.scheduling.freeze_thaw import looks
from rnatracker.search.scheduling.fresh import is_fresh, source_of
from rnatracker.search.study import EPOCHS, RUN_ID, SCHEDULE, SECONDS, Search, state_of
from rnatracker.terminal import output
from rnatracker.terminal.tables import new_table, show


def find_trial(search: Search, number: int) -> FrozenTrial:
    """Return a trial by its number.

    Raises:
        StudyError: if there is none, or it only repeats another.
    """
    name, trials = search.request.name, search.study.get_trials(deepcopy=False)
    if number >= len(trials):
        there = f"its last is {len(trials) - 1}" if trials else "it has none yet"
        raise StudyError(f"study {name}: there is no trial {number}; {there}", "give one that there is with --trial")
    trial = trials[number]
    repeated = trial.user_attrs.get(REPEATS)
    if repeated is None:
        return trial
    if repeated == number:
        remedy = "give another with --trial"
        raise StudyError(f"study {name}: trial {number} was interrupted before it had its settings", remedy)
    remedy = f"give that one with --trial {repeated}"
    raise StudyError(f"study {name}: trial {number} repeats trial {repeated}, so it was not trained", remedy)


def print_trial(search: Search, trial: FrozenTrial) -> None:
    """Print what has become of a trial, its values by look, and its schedule."""
    request, attributes = search.request, trial.user_attrs
    epochs, place = request.config.train.epochs, summary.reached(trial, request.config.train.epochs)
    is_start = " (starting config)" if attributes.get(START) else ""
    at = f" at {place} of {epochs}" if place and trial.state != TrialState.COMPLETE else ""
    output.tell_sentence(f"Trial {trial.number}{is_start} of study {request.name}: {state_of(trial)}{at}")
    if is_fresh(trial):
        number, round_ = source_of(trial)
        output.tell(f"It trains trial {number}'s settings with a fresh seed and another division, round {round_}")
    if attributes.get(REASON):
        output.tell_sentence(f"Reason: {attributes[REASON]}")
    settings = summary.settings_of(search, trial)
    output.tell_sentence("Settings: " + "  ".join(f"{key} {summary.short(value)}" for key, value in settings.items()))
    _print_values(search, trial)
    cost = cost_of(trial)
    if request.cost is not None and cost is not None:
        output.tell(f"Cost: {shown(cost)} {WORDS[request.cost]}")
    if attributes.get(EPOCHS):
        trained = output.amount(int(attributes[EPOCHS]), "epoch")
        output.tell(f"Trained {trained} in {float(attributes.get(SECONDS, 0.0)):.0f} s")
    for number, line in enumerate(attributes.get(SCHEDULE, ()), start=1):
        output.tell_sentence(f"{'Schedule:' if number == 1 else '         '} {line}")
    if attributes.get(RUN_ID):
        output.tell(f"Run: {attributes[RUN_ID]}")
    if trial.params:
        output.tell(f"To train with its settings: {hints.rerun_command(search, trial)}")


def _print_values(search: Search, trial: FrozenTrial) -> None:
    """Print the best value so far at each look, and the trial's value."""
    objective = search.request.config.train.objective
    table = new_table()
    for header in ("fold", "epoch", objective):
        table.add_column(header, justify="right")
    for fold, epoch, value in values_by_look(search, trial):
        table.add_row(str(fold), str(epoch), f"{value:.4f}")
    if table.row_count:
        show(table, f"The best {objective} of each fold so far, by look")
    mean = summary.value_of(trial, search)
    if mean is not None:
        output.tell(f"{objective}: {mean:.4f}{'' if trial.state == TrialState.COMPLETE else ' so far'}")


def values_by_look(search: Search, trial: FrozenTrial) -> list[tuple[int, int, float]]:
    """Return fold, epoch and the best value so far where a scheduler looks, and where the trial is now."""
    epochs = search.request.config.train.epochs
    places = [(*place_of(step, epochs), value) for step, value in sorted(trial.intermediate_values.items())]
    last = {fold: epoch for fold, epoch, _ in places}
    return [each for each in places if each[1] in looks(epochs) or each[1] == last[each[0]]]


def trial_as_json(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial for a script, with all values that it has reported."""
    epochs = search.request.config.train.epochs
    places = [(*place_of(step, epochs), value) for step, value in sorted(trial.intermediate_values.items())]
    return {
        "study": search.request.name,
        "trial": trial.number,
        "state": state_of(trial),
        "fresh_of": source_of(trial)[0] if is_fresh(trial) else None,
        "value": summary.value_of(trial, search),
        "cost": cost_of(trial),
        "params": trial.params,
        "values": [{"fold": fold, "epoch": epoch, "value": value} for fold, epoch, value in places],
        "folds": trial.user_attrs.get("fold_values", []),
        "epochs": trial.user_attrs.get(EPOCHS),
        "seconds": trial.user_attrs.get(SECONDS),
        "reason": trial.user_attrs.get(REASON, ""),
        "schedule": list(trial.user_attrs.get(SCHEDULE, ())),
        "run_id": trial.user_attrs.get(RUN_ID),
        "command": hints.rerun_command(search, trial),
    }
