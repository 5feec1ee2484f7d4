"""The command of a job that trains one fold: `python -m rnatracker.search.launchers.fold_job FILE --store FOLDER`.

Must not know typer or SLURM. Read next: `folds.py`, which submits it.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path

from rnatracker.errors import RNATrackerError
from rnatracker.escapes import printable_lines
from rnatracker.model.device import pick_device
from rnatracker.processes.stop import Interrupted, StopSignal
from rnatracker.search.launchers.folds import FoldTask
from rnatracker.search.trial_runs import opened_tracker, waiting_for_runs
from rnatracker.tracking.contract import TrackedRun, check_reopenable
from rnatracker.training.fold_run import run_folds
from rnatracker.training.fold_workers import with_transcripts
from rnatracker.training.reporting import NullReporter
from rnatracker.training.trainer import Stopped

_STOPPED = 130


def work(task: FoldTask, store: Path, stop: StopSignal) -> None:
    """Train and measure a fold, new or saved before, unless it has finished.

    Args:
        task: which.
        store: a folder of this host for the run's files until they are on the server.
        stop: asks to save and end.

    Raises:
        Interrupted: if it was asked to.
        RNATrackerError: if it can't be done.
    """
    tracking = replace(task.prepared.request.tracking, store=store)
    tracker = opened_tracker(tracking, limit=None)
    parent = waiting_for_runs(lambda: tracker.find(task.parent_id), tracker)
    child = waiting_for_runs(lambda: parent.children().get(task.fold.name), tracker)
    if child is not None and not _is_to_do(child):
        return
    config = task.prepared.config
    here = replace(
        with_transcripts(task.prepared, task.data),
        request=replace(task.prepared.request, tracking=tracking),
        device=pick_device(config.train),
        threads=min(task.prepared.threads, len(os.sched_getaffinity(0))),
    )
    run_folds(tracker, parent, here, [task.fold], NullReporter(), stop)


def _is_to_do(child: TrackedRun) -> bool:
    """Tell whether a fold has not finished; end the run of an earlier job of it that was lost with its node."""
    status = child.status()
    if status == "RUNNING":
        check_reopenable(child)  # another job of this host may train it
        child.finish("KILLED", "its job was lost")
    return status != "FINISHED"


def main() -> int:
    """Do the job; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    options = parser.parse_args()
    task = pickle.loads(options.file.read_bytes())  # noqa: S301 - only this user can have written it
    with StopSignal() as stop:
        try:
            work(task, options.store, stop)
        except (Interrupted, Stopped, KeyboardInterrupt):
            return _STOPPED
        except RNATrackerError as error:
            sys.stderr.write(printable_lines(f"Error: {error}") + "\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
