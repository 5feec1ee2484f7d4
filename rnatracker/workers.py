"""Folds in parallel, each in a process of its own.

Owns the processes and what they tell. Must not know optuna or typer. Read next: `rnatracker/crossval.py` for a fold.

Processes are spawned, not forked: a fork after a threaded computation hangs. A worker ignores Ctrl-C, which a terminal
sends to all; the parent passes it on as SIGTERM, so that a stop comes from one place. A worker whose parent has died
saves and ends.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import tempfile
import traceback
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
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
from rnatracker.stop import Interrupted, StopOrOrphaned, StopSignal, ignored_interrupt
from rnatracker.tracked import TrackedRun
from rnatracker.tracking import open_tracker
from rnatracker.trainer import EpochResult, Stopped

_Event = tuple[str, tuple[Any, ...]]
_NO_TRANSCRIPTS = Transcripts((), np.empty(0, np.uint8), np.zeros(1, np.int64))


@dataclass(frozen=True)
class _Task:
    """What a worker is given; the transcripts come from the shared folder."""

    setting: Setting
    parent_id: str
    fold: FoldPlan
    data: Path


class _Sender:
    """A reporter that sends everything to the parent process."""

    def __init__(self, events: Queue[_Event]) -> None:
        self._events = events

    def line(self, text: str) -> None:
        self._events.put(("line", (text,)))

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        self._events.put(("batch", (label, epoch, epochs, done, total)))

    def epoch(self, label: str, result: EpochResult, epochs: int, objective: Objective) -> None:
        self._events.put(("epoch", (label, result, epochs, objective)))

    def end(self, label: str) -> None:
        self._events.put(("end", (label,)))


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
        self._context = multiprocessing.get_context("spawn")
        self._events: Queue[_Event] = self._context.Queue()
        self._waiting, self._jobs, self._reporter, self._stop = list(tasks), jobs, reporter, stop
        self._running: dict[str, BaseProcess] = {}
        self._told_to_stop = False
        self._ended: set[str] = set()
        self._failures: dict[str, list[str]] = {}

    def run(self) -> list[str]:
        """Run all tasks; return the messages of those that failed."""
        try:
            while self._running or (self._waiting and not self._stop()):
                self._start_more()
                self._pass_on_stop()
                self._listen()
                self._notice_deaths()
        finally:
            for process in self._running.values():
                process.kill()
            self._events.close()
        return [f"{', '.join(names)}: {message}" for message, names in self._failures.items()]

    def _start_more(self) -> None:
        while self._waiting and len(self._running) < self._jobs and not self._stop():
            task = self._waiting.pop(0)
            process = self._context.Process(target=_work, args=(task, self._events), name=task.fold.name)
            with ignored_interrupt():
                process.start()
            self._running[task.fold.name] = process

    def _pass_on_stop(self) -> None:
        if self._stop() and not self._told_to_stop:
            self._told_to_stop = True
            for process in self._running.values():
                process.terminate()

    def _listen(self) -> None:
        """Pass on all events there are, waiting for the first for a moment."""
        try:
            kind, values = self._events.get(timeout=0.2)
            while True:
                self._take(kind, values)
                kind, values = self._events.get_nowait()
        except queue.Empty:
            return

    def _take(self, kind: str, values: tuple[Any, ...]) -> None:
        if kind == "ended":
            name, message = values
            self._ended.add(name)
            if message:
                self._fail(name, message)
        else:
            getattr(self._reporter, kind)(*values)

    def _fail(self, name: str, message: str) -> None:
        """Say so at once: other folds may train for hours yet."""
        self._reporter.line(f"{name} failed: {message}")
        self._failures.setdefault(message, []).append(name)

    def _notice_deaths(self) -> None:
        for name, process in list(self._running.items()):
            if process.is_alive():
                continue
            process.join()
            self._listen()
            if name not in self._ended and not self._stop():
                code = process.exitcode or 0
                reason = f"signal {-code}" if code < 0 else f"code {code}"
                self._fail(
                    name, f"its process died ({reason}); if memory ran out, use fewer --jobs; then resume the run"
                )
            del self._running[name]


def _work(task: _Task, events: Queue[_Event]) -> None:
    """Run one fold in this process and say how it ended."""
    message = ""
    parent = os.getppid()
    try:
        with StopOrOrphaned() as stop:
            setting = replace(task.setting, transcripts=shared.open_shared(task.data))
            tracker = open_tracker(setting.request.tracking)
            run_fold(tracker, tracker.find(task.parent_id), setting, task.fold, _Sender(events), stop)
    except (Interrupted, KeyboardInterrupt):
        pass
    except RNATrackerError as error:
        message = str(error)
    except BaseException:
        message = traceback.format_exc().strip()
    events.put(("ended", (task.fold.name, message)))
    if os.getppid() != parent:
        events.cancel_join_thread()  # nobody listens any more: do not wait for that
