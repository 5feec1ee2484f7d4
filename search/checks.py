"""Whether studies and runs agree: trials without a run, and runs without a trial.

Owns that check. Must not know torch or typer. Read next: `rnatracker/doctor.py`, which asks for it.
"""

from __future__ import annotations

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from rnatracker.doctor import Finding
from rnatracker.errors import StudyError, TrackingError
from rnatracker.search.sampling import REPEATS
from rnatracker.search.storage import JOURNAL, open_storage
from rnatracker.search.study import RUN_ID
from rnatracker.tracking.listing import Listed
from rnatracker.tracking.listing_sources import open_source
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag

_LISTED = 5


def check_trials(tracking: TrackingSettings) -> list[Finding]:
    """Hold the trials of the store's own journal against the experiment's runs."""
    import optuna

    if not (tracking.store / JOURNAL).exists():
        return []
    try:
        storage = open_storage(None, tracking.store)
        names = optuna.get_all_study_names(storage)
        studies = {name: optuna.load_study(study_name=name, storage=storage) for name in names}
    except StudyError as error:
        text, _, remedy = str(error).rpartition("; ")
        return [Finding("trials", "broken", text, remedy)]
    try:
        source = open_source(tracking)
    except TrackingError:  # no such experiment: it has no runs
        source = None
    runs = source.runs() if source else []
    found = [*_without_run(studies, runs), *_without_trial(studies, runs)]
    n_trials = sum(len(study.get_trials(deepcopy=False)) for study in studies.values())
    fine = f"{n_trials} trials of {len(studies)} studies and their runs agree"
    return found or [Finding("trials", "ok", fine)]


def _without_run(studies: dict[str, Study], runs: list[Listed]) -> list[Finding]:
    known = {run.run_id for run in runs}
    lost: dict[str, list[str]] = {}
    for name, study in studies.items():
        lost[name] = [str(t.number) for t in study.get_trials(deepcopy=False) if _has_lost_its_run(t, known)]
    return [
        Finding(
            "trials",
            "note",
            f"study {name}: {_some(numbers, 'trial')} without a run in this experiment: deleted, or kept elsewhere",
            f"nothing needs to be done, the values are in the study: rnatracker study {name}",
        )
        for name, numbers in lost.items()
        if numbers
    ]


def _has_lost_its_run(trial: FrozenTrial, known: set[str]) -> bool:
    """Tell whether a trial had a run, or must have had one, and has none; repeats never have."""
    run_id = trial.user_attrs.get(RUN_ID)
    if REPEATS in trial.user_attrs:
        return False
    return run_id not in known if run_id else trial.state == TrialState.COMPLETE


def _without_trial(studies: dict[str, Study], runs: list[Listed]) -> list[Finding]:
    owned = {t.user_attrs.get(RUN_ID) for study in studies.values() for t in study.get_trials(deepcopy=False)}
    lone: dict[str, list[str]] = {}
    for run in runs:
        study = run.tags.get(Tag.STUDY, "")
        is_trial = run.kind == "trial" and Tag.REPLAYS not in run.tags
        if is_trial and study in studies and run.run_id not in owned and run.status != "RUNNING":
            lone.setdefault(study, []).append(run.run_id)
    return [
        Finding(
            "trials",
            "note",
            f"study {study}: {_some(ids, 'run')} without a trial: its process was killed as it began",
            f"delete them if they are of no use: mlflow runs delete --run-id {ids[0]}",
        )
        for study, ids in lone.items()
    ]


def _some(items: list[str], what: str) -> str:
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return f"{what}{'s' if len(items) > 1 else ''} {', '.join(items[:_LISTED])}{more}"
