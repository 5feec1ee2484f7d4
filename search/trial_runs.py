"""The runs of a study's trials: whether they have ended as their trials did, and which of them keep their weights.

Must not import torch or typer. Read next: `objective.py`, which makes them.
"""

from __future__ import annotations

import shutil
from contextlib import suppress

from optuna.trial import TrialState

from rnatracker.errors import StudyError, TrackingError
from rnatracker.search.sampling import REASON
from rnatracker.search.study import RUN_ID, Search
from rnatracker.tracking.contract import Status, TrackedRun, Tracker
from rnatracker.tracking.open import open_tracker

_ENDS: dict[TrialState, Status] = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.FAIL: "FAILED",
    TrialState.PRUNED: "KILLED",
}


def name_of(number: int) -> str:
    """Return the name of a trial's run."""
    return f"trial{number}"


def match_runs(search: Search, run: TrackedRun) -> None:
    """Let the runs of trials end as the trials did, where a process was killed before it could see to that.

    Args:
        search: the study.
        run: its run.
    """
    trials = {name_of(trial.number): trial for trial in search.trials()}
    for name, child in run.children().items():
        trial = trials.get(name)
        if trial is None:
            continue
        status, expected = child.status(), _ENDS.get(trial.state)
        if expected is None and status == "RUNNING":
            child.finish("KILLED", "its process was killed; the study resumes it")
        elif expected is not None and status != expected:
            child.finish(expected, trial.user_attrs.get(REASON, ""))
            if trial.state != TrialState.COMPLETE:
                drop_weights(child)


def drop_weights(run: TrackedRun) -> None:
    """Delete the weights of a trial's run."""
    shutil.rmtree(run.files.checkpoints, ignore_errors=True)


def trim_weights(search: Search, tracker: Tracker, trimmed: set[int]) -> None:
    """Delete the weights of all completed trials but the best, where the study keeps only so many.

    Of a trial among the best now, a later one may push out: the worker that completes that one deletes them.

    Args:
        search: the study.
        tracker: where runs are kept.
        trimmed: trials whose weights are known to be gone; those that go now are added.
    """
    request = search.request
    if request.keep_weights is None:
        return
    completed = [t for t in search.trials() if t.state == TrialState.COMPLETE and t.user_attrs.get(RUN_ID)]
    completed.sort(key=lambda t: t.value or 0.0, reverse=request.maximize)
    for trial in completed[request.keep_weights :]:
        if trial.number not in trimmed:
            with suppress(TrackingError):  # its run was deleted
                drop_weights(tracker.find(trial.user_attrs[RUN_ID]))
            trimmed.add(trial.number)


def delete_weights(search: Search) -> tuple[int, int]:
    """Delete the weights of all trials; return of how many, and how many bytes that were.

    Raises:
        StudyError: if some of its trials are running.
        TrackingError: if its runs can't be found.
    """
    if search.counts().running:
        raise StudyError(f"study {search.request.name}: some of its trials are running", "stop them, or wait for them")
    run_id = search.study.user_attrs.get(RUN_ID)
    if not run_id:
        return 0, 0
    n_trials = size = 0
    waiting = {name_of(t.number) for t in search.trials() if not t.state.is_finished()}
    for name, child in open_tracker(search.request.tracking).find(run_id).children().items():
        folder = child.files.checkpoints
        if name in waiting or not folder.is_dir():
            continue
        size += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        n_trials += 1
        shutil.rmtree(folder)
    return n_trials, size
