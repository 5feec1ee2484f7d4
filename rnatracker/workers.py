"""Folds in parallel, each in a process of its own.

Owns which fold is trained when, and what becomes of one whose process died. Must not know optuna or typer. Read next:
`rnatracker/spawned.py` for the processes, `rnatracker/crossval.py` for a fold. A worker whose parent has died saves and
ends.
"""

from __future__ import annotations

import tempfile
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rnatracker.choices import Objective
from rnatracker.crossval import FoldPlan, run_fold
from rnatracker.data import shared
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import RNATrackerError, TrainingError
from rnatracker.reporting import Reporter
from rnatracker.request import Setting
from rnatracker.spawned import Spawned, Voice, wait_for_any
from rnatracker.stop import Interrupted, StopOrOrphaned, StopSignal
from rnatracker.tracked import TrackedRun
from rnatracker.tracking import open_tracker
from rnatracker.trainer import EpochResult, Stopped

_ENDED = "ended"
_STOPPED = "stopped"
_TICK_SECONDS = 0.2
_NO_TRANSCRIPTS = Transcripts((), np.empty(0, np.uint8), np.zeros(1, np.int64))


@dataclass(frozen=True)
class _Task:
    """What a worker is given; the transcripts come from the shared folder."""

    setting: Setting
    parent_id: str
    fold: FoldPlan
    data: Path


class _Sender:
    """A reporter that tells everything to the parent process, as the name of its method and the values."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice

    def line(self, text: str) -> None:
        self._voice.tell(("line", (text,)))

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        self._voice.tell(("batch", (label, epoch, epochs, done, total)))

    def epoch(self, label: str, result: EpochResult, epochs: int, objective: Objective) -> None:
        self._voice.tell(("epoch", (label, result, epochs, objective)))

    def end(self, label: str) -> None:
        self._voice.tell(("end", (label,)))


def run_folds(run: TrackedRun, setting: Setting, plans: list[FoldPlan], reporter: Reporter, stop: StopSignal) -> None:
    """Run folds, as many at a time as the request's `jobs`.

    Raises:
        Stopped: if it was asked to; the workers have saved and ended.
        TrainingError: with the first fold's message, if any failed; the others have been trained to their end.
    """
    with tempfile.TemporaryDirectory(prefix="rnatracker-") as folder, stop.polite():
        shared.dump(setting.transcripts, Path(folder))
        light = replace(setting, transcripts=_NO_TRANSCRIPTS)
        tasks = [_Task(light, run.id, plan, Path(folder)) for plan in plans]
        try:
            failures = _Pool(tasks, setting.request.jobs, reporter, stop).run()
        finally:
            _end_orphans(run, stop())
    if stop():
        raise Stopped
    if failures:
        raise TrainingError("; ".join(failures))


def _end_orphans(run: TrackedRun, stopped: bool) -> None:
    """End the runs of workers that could not do so themselves, since they were killed."""
    for child in run.children().values():
        if child.status() == "RUNNING":
            child.finish("KILLED" if stopped else "FAILED", "its process was killed")


class _Pool:
    """Runs tasks in processes and passes on what they tell."""

    def __init__(self, tasks: list[_Task], jobs: int, reporter: Reporter, stop: StopSignal) -> None:
        self._waiting, self._jobs, self._reporter, self._stop = list(tasks), jobs, reporter, stop
        self._running: list[Spawned] = []
        self._told_to_stop = False
        self._ended: set[str] = set()
        self._failures: dict[str, list[str]] = {}

    def run(self) -> list[str]:
        """Run all tasks; return the messages of those that failed."""
        try:
            while self._running or (self._waiting and not self._stop()):
                self._start_more()
                self._pass_on_stop()
                wait_for_any(self._running, _TICK_SECONDS)
                for worker in list(self._running):
                    self._attend_to(worker)
        finally:
            for worker in self._running:
                worker.close()
        return [f"{', '.join(names)}: {message}" for message, names in self._failures.items()]

    def _start_more(self) -> None:
        while self._waiting and len(self._running) < self._jobs and not self._stop():
            task = self._waiting.pop(0)
            self._running.append(Spawned(task.fold.name, _work, task))

    def _pass_on_stop(self) -> None:
        if self._stop() and not self._told_to_stop:
            self._told_to_stop = True
            for worker in self._running:
                worker.ask_to_stop()

    def _attend_to(self, worker: Spawned) -> None:
        """Pass on what a worker has told; let it go if it has ended."""
        is_over = worker.is_over  # before it is listened to: then nothing comes after what is heard
        for kind, values in worker.told():
            self._take(worker.name, kind, values)
        if not is_over:
            return
        if worker.name not in self._ended and not self._stop():
            reason = worker.death or "code 0"
            self._fail(
                worker.name, f"its process died ({reason}); if memory ran out, use fewer --jobs; then resume the run"
            )
        worker.close()
        self._running.remove(worker)

    def _take(self, name: str, kind: str, values: tuple[Any, ...]) -> None:
        if kind not in (_ENDED, _STOPPED):
            getattr(self._reporter, kind)(*values)
            return
        self._ended.add(name)
        if kind == _ENDED:
            (message,) = values
            if message:
                self._fail(name, message)
        elif not self._stop():  # somebody else has stopped it, and its fold is not trained
            self._fail(name, "its process was stopped; resume the run")

    def _fail(self, name: str, message: str) -> None:
        """Say so at once: other folds may train for hours yet."""
        self._reporter.line(f"{name} failed: {message}")
        self._failures.setdefault(message, []).append(name)


def _work(task: _Task, voice: Voice) -> None:
    """Run one fold in this process and say how it ended."""
    kind, message = _ENDED, ""
    try:
        with StopOrOrphaned() as stop:
            setting = replace(task.setting, transcripts=shared.open_shared(task.data))
            tracker = open_tracker(setting.request.tracking)
            run_fold(tracker, tracker.find(task.parent_id), setting, task.fold, _Sender(voice), stop)
    except (Interrupted, KeyboardInterrupt):
        kind = _STOPPED
    except RNATrackerError as error:
        message = str(error)
    except BaseException:
        message = traceback.format_exc().strip()
    voice.tell((kind, (message,)))
