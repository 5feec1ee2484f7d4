"""Folds in parallel: each in a worker process of its own.

Owns what a worker is given, what it sends, and what becomes of one that fails. Must not know optuna or typer. Read
next: `rnatracker/processes/pool.py`; `rnatracker/training/fold_run.py` for what a worker does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rnatracker.choices import Objective
from rnatracker.data import shared
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import TrainingError
from rnatracker.processes import scratch
from rnatracker.processes.pool import Pool
from rnatracker.processes.stop import StopSignal
from rnatracker.processes.worker import Channel, Ending, How
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.open import open_tracker
from rnatracker.training.division import Training
from rnatracker.training.fold_run import run_folds
from rnatracker.training.reporting import Reporter
from rnatracker.training.request import PreparedRun
from rnatracker.training.trainer import EpochResult, Stopped

_NO_TRANSCRIPTS = Transcripts((), np.empty(0, np.uint8), np.zeros(1, np.int64))


@dataclass(frozen=True)
class _FoldTask:
    """What a worker is given; the transcripts come from the shared folder."""

    prepared: PreparedRun
    parent_id: str
    fold: Training
    data: Path


class _Relay:
    """A reporter that sends everything to the main process, as the name of its method and the values."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def line(self, text: str) -> None:
        self._channel.send(("line", (text,)))

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        self._channel.send(("batch", (label, epoch, epochs, done, total)))

    def epoch(self, label: str, result: EpochResult, epochs: int, objective: Objective) -> None:
        self._channel.send(("epoch", (label, result, epochs, objective)))

    def end(self, label: str) -> None:
        self._channel.send(("end", (label,)))


class _Failures:
    """The folds whose workers failed, by what was wrong.

    Args:
        reporter: told of each at once: other folds may train for hours yet.
        stop: whether the stop of a worker was asked for here.
    """

    def __init__(self, reporter: Reporter, stop: StopSignal) -> None:
        self._reporter, self._stop = reporter, stop
        self._folds: dict[tuple[str, str], list[str]] = {}

    def take_end(self, name: str, end: Ending) -> None:
        """Take how a fold's worker has ended."""
        if end.how is How.FAILED:
            self._add(name, end.message, end.remedy)
        elif end.how is How.STOPPED and not self._stop():  # somebody else has stopped it, and its fold is not trained
            self._add(name, "its process was stopped", "resume the run")
        elif end.how is How.DIED and not self._stop():
            remedy = "if memory ran out, use fewer --jobs; then resume the run"
            self._add(name, f"its process died ({end.message})", remedy)

    def _add(self, name: str, problem: str, remedy: str) -> None:
        self._reporter.line(f"{name} failed: {'; '.join(filter(None, (problem, remedy)))}")
        self._folds.setdefault((problem, remedy), []).append(name)

    def check(self) -> None:
        """Check that there were none.

        Raises:
            TrainingError: if any fold failed.
        """
        if self._folds:
            problems = (f"{', '.join(names)}: {problem}" for (problem, _), names in self._folds.items())
            remedies = dict.fromkeys(remedy for _, remedy in self._folds if remedy)
            raise TrainingError("; ".join(problems), "; ".join(remedies))


def run_in_parallel(
    run: TrackedRun, prepared: PreparedRun, folds: list[Training], reporter: Reporter, stop: StopSignal
) -> None:
    """Run folds, as many at a time as the request's `jobs`.

    Raises:
        Stopped: if it was asked to; the workers have saved and ended.
        TrainingError: if any fold failed; the others have been trained to their end.
    """

    def pass_on(_name: str, message: tuple[str, tuple[Any, ...]]) -> None:
        method, values = message
        getattr(reporter, method)(*values)

    failures = _Failures(reporter, stop)
    pool = Pool(
        "rnatracker.training.fold_workers:work", prepared.request.jobs, on_message=pass_on, on_end=failures.take_end
    )
    with scratch.folder() as folder, stop.polite():
        light = without_transcripts(prepared, folder)
        for fold in folds:
            pool.add(fold.name, _FoldTask(light, run.id, fold, folder))
        try:
            pool.run(stop)
        finally:
            _end_orphans(run, stop())
    if stop():
        raise Stopped
    failures.check()


def without_transcripts(prepared: PreparedRun, folder: Path) -> PreparedRun:
    """Write all transcripts of a run into a folder that workers share; return the rest, which is light to send."""
    shared.dump(prepared.transcripts, folder)
    for number, each in enumerate(prepared.others):
        place = folder / str(number)
        place.mkdir()
        shared.dump(each.transcripts, place)
    others = tuple(replace(each, transcripts=_NO_TRANSCRIPTS) for each in prepared.others)
    return replace(prepared, transcripts=_NO_TRANSCRIPTS, others=others)


def with_transcripts(prepared: PreparedRun, folder: Path) -> PreparedRun:
    """Return what `without_transcripts` was given."""
    others = (
        replace(each, transcripts=shared.open_shared(folder / str(number)))
        for number, each in enumerate(prepared.others)
    )
    return replace(prepared, transcripts=shared.open_shared(folder), others=tuple(others))


def work(task: _FoldTask, channel: Channel, stop: StopSignal) -> None:
    """Run one fold in a worker process."""
    prepared = with_transcripts(task.prepared, task.data)
    tracker = open_tracker(prepared.request.tracking)
    run_folds(tracker, tracker.find(task.parent_id), prepared, [task.fold], _Relay(channel), stop)


def _end_orphans(run: TrackedRun, stopped: bool) -> None:
    """End the runs of workers that could not do so themselves, since they were killed."""
    for child in run.children().values():
        if child.status() == "RUNNING":
            child.finish("KILLED" if stopped else "FAILED", "its process was killed")
