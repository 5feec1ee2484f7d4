"""Whether studies and runs agree: trials without a run, and runs without a trial.

Owns that check. Must not know torch or typer. Read next: `rnatracker/doctor.py`, which asks for it.
"""

from __future__ import annotations

import shlex
from contextlib import suppress

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from rnatracker.doctor import Finding
from rnatracker.errors import StudyError
from rnatracker.search.sampling import REPEATS
from rnatracker.search.storage import JOURNAL, open_storage
from rnatracker.search.study import RUN_ID
from rnatracker.tracking import store
from rnatracker.tracking.contract import NoExperimentError
from rnatracker.tracking.hints import command
from rnatracker.tracking.listing import Listed
from rnatracker.tracking.open import existing_trackers, open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag

_LISTED = 5


def check_trials(tracking: TrackingSettings) -> list[Finding]:
    """Compare the trials of the store's own journal with the experiment's runs."""
    import optuna

    if not (tracking.store / JOURNAL).exists():
        return []
    try:
        storage = open_storage(None, tracking.store)
        names = optuna.get_all_study_names(storage)
        studies = {name: optuna.load_study(study_name=name, storage=storage) for name in names}
        runs = _runs(tracking)
        findings = [*_without_run(studies, runs, tracking), *_without_trial(studies, runs, tracking)]
        n_trials = sum(len(study.get_trials(deepcopy=False)) for study in studies.values())
    except StudyError as error:
        return [Finding("trials.unreadable", "broken", error.problem, error.remedy)]
    fine = f"{_count(n_trials, 'trial')} of {_count(len(studies), 'study', 'studies')}: each has its run"
    return findings or [Finding("trials.agree", "ok", fine)]


def _runs(tracking: TrackingSettings) -> list[Listed]:
    runs: list[Listed] = []
    for tracker in existing_trackers(tracking):
        with suppress(NoExperimentError):  # it has no runs
            runs += tracker.list_runs().runs
    return runs


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _without_run(studies: dict[str, Study], runs: list[Listed], tracking: TrackingSettings) -> list[Finding]:
    known = {run.run_id for run in runs}
    lost: dict[str, list[str]] = {}
    for name, study in studies.items():
        lost[name] = [str(t.number) for t in study.get_trials(deepcopy=False) if _has_lost_its_run(t, known)]
    return [
        Finding(
            "trials.without-run",
            "note",
            f"study {name}: {_some(numbers, 'trial')} without a run in this experiment: deleted, or kept elsewhere",
            f"nothing needs to be done, the values are in the study: {command(['study', name], tracking)}",
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


def _without_trial(studies: dict[str, Study], runs: list[Listed], tracking: TrackingSettings) -> list[Finding]:
    owned = {t.user_attrs.get(RUN_ID) for study in studies.values() for t in study.get_trials(deepcopy=False)}
    lone: dict[str, list[Listed]] = {}
    for run in runs:
        study = run.tags.get(Tag.STUDY, "")
        is_trial = run.kind == "trial" and Tag.REPLAYS not in run.tags
        if is_trial and study in studies and run.run_id not in owned and run.status != "RUNNING":
            lone.setdefault(study, []).append(run)
    return [
        Finding(
            "trials.without-trial",
            "note",
            f"study {study}: {_some([run.run_id for run in of_study], 'run')} without a trial: "
            f"{'its process was' if len(of_study) == 1 else 'their processes were'} killed at the start",
            f"if not needed, delete each, as in: {_deletion(of_study[0], tracking)}",
        )
        for study, of_study in lone.items()
    ]


def _deletion(run: Listed, tracking: TrackingSettings) -> str:
    if not run.is_tracked:
        return shlex.join(["rm", "-r", str(open_tracker(tracking.without_mlflow()).find(run.run_id).folder)])
    return store.mlflow_command(["runs", "delete", "--run-id", run.run_id], store.address_of(tracking))


def _some(items: list[str], what: str) -> str:
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return f"{what}{'s' if len(items) > 1 else ''} {', '.join(items[:_LISTED])}{more}"
