"""The weights that a study's trials have left.

Owns deleting them. Must not import torch or typer. Read next: `objective.py`, which keeps them.
"""

from __future__ import annotations

import shutil

from rnatracker.errors import StudyError
from rnatracker.search.study import RUN_ID, Search
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.open import open_tracker


def drop(run: TrackedRun) -> None:
    """Delete the weights of a trial's run."""
    shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)


def delete_all(search: Search) -> tuple[int, int]:
    """Delete the weights of all trials; return of how many, and how many bytes that were.

    Raises:
        StudyError: if the study goes on just now.
        TrackingError: if its runs can't be found.
    """
    if search.counts().running:
        raise StudyError(f"study {search.request.name}: some of its trials are running", "stop them, or wait for them")
    run_id = search.study.user_attrs.get(RUN_ID)
    if not run_id:
        return 0, 0
    n_trials = size = 0
    waiting = {f"trial{t.number}" for t in search.trials() if not t.state.is_finished()}
    for name, child in open_tracker(search.request.tracking).find(run_id).children().items():
        folder = child.folder / "checkpoints"
        if name in waiting or not folder.is_dir():
            continue
        size += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        n_trials += 1
        shutil.rmtree(folder)
    return n_trials, size
