"""A worker's work: trials of a study, one after another, until there are no more.

Must not know typer or processes. Read next: `objective.py` for a trial.
"""

from __future__ import annotations

import contextlib

import torch

from rnatracker.data import shared
from rnatracker.data.transcripts import Transcripts
from rnatracker.model.device import pick_device
from rnatracker.processes.stop import StopSignal
from rnatracker.processes.worker import Channel
from rnatracker.search.definition import open_search
from rnatracker.search.objective import TrialContext, run_trial
from rnatracker.search.study import Search, WorkerTask
from rnatracker.search.trial_runs import opened_tracker, waiting_for_runs
from rnatracker.search.tune import StopReason
from rnatracker.training.division import plan, split_digest
from rnatracker.training.reporting import NullReporter, Reporter
from rnatracker.training.request import PreparedRun, RunRequest
from rnatracker.training.trainer import Stopped


def set_up(task: WorkerTask, transcripts: Transcripts, search: Search) -> TrialContext:
    """Return what trials need."""
    config, tracking = task.request.config, task.request.tracking
    torch.set_num_threads(task.threads)  # for the memory probe too: two busy threads get in each other's way
    prepared = PreparedRun(RunRequest(config, tracking), transcripts, pick_device(config.train), task.threads)
    tracker = opened_tracker(tracking, limit=None)
    parent = waiting_for_runs(lambda: tracker.find(task.parent_id), tracker)
    return TrialContext(search, tracker, parent, prepared, split_digest(prepared), plan(prepared))


def run_trials(context: TrialContext, reporter: Reporter, stop: StopSignal) -> None:
    """Run trials until there are no more.

    Raises:
        Stopped: if it was asked to.
        RNATrackerError: if something is wrong that isn't a trial's fault.
    """
    while not stop():
        claim = context.search.claim()
        if claim is None:
            return
        run_trial(context, claim, reporter, stop)
    raise Stopped


def work(task: WorkerTask, channel: Channel, stop: StopSignal) -> StopReason | None:  # noqa: ARG001
    """Run trials in a worker process until there are no more, or it is asked to stop.

    A worker whose parent has died saves its trial, puts it back and ends.

    Returns:
        USED_UP if the space is; None else.

    Raises:
        RNATrackerError: if something is wrong that isn't a trial's fault.
    """
    transcripts = shared.open_shared(task.data)
    search = open_search(task.request, task.data_digest, limit=None)
    search.planner.ends_at = task.ends_at
    context = set_up(task, transcripts, search)
    with stop.polite(), contextlib.suppress(Stopped):
        run_trials(context, NullReporter(), stop)
    return StopReason.USED_UP if context.search.is_used_up else None
