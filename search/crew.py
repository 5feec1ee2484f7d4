"""The worker processes of one command.

Owns starting, replacing and ending them. Must not import torch, which only the workers need, nor typer. Read next:
`worker.py` for what they do, `rnatracker/processes/worker.py` for the processes.

A worker whose parent has died saves its trial, puts it back and ends. In place of one that was killed another is
started, which takes the trial over.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rnatracker.errors import RNATrackerError, StudyError
from rnatracker.processes.stop import StopOrOrphaned, StopSignal
from rnatracker.processes.worker import Spawned, Voice, wait_for_any
from rnatracker.search.study import Search, StudyRequest

Watch = Callable[[Search, float | None], None]
"""Told twice a second how the study goes, and how many seconds are left, where there is a limit."""

USED_UP = "its space is used up"
"""Why a study stops that has nothing left to try."""
_TICK_SECONDS = 0.5
_SPARE_STARTS = 20
"""Workers that may be started in place of ones that have died."""


@dataclass(frozen=True)
class WorkerTask:
    """What a worker is given.

    Attributes:
        request: the study.
        parent_id: its run.
        data: the shared folder with the transcripts.
        data_digest: what identifies them.
        threads: CPU threads of each training.
    """

    request: StudyRequest
    parent_id: str
    data: Path
    data_digest: str
    threads: int


class Crew:
    """The workers of this command."""

    def __init__(self, task: WorkerTask, jobs: int, say: Callable[[str], None]) -> None:
        self._task, self._jobs, self._say = task, jobs, say
        self._running: list[Spawned] = []
        self._pids: set[int] = set()
        self._errors: list[str] = []
        self._is_used_up = False
        self._spare = _SPARE_STARTS

    def run(self, search: Search, stop: StopSignal, watch: Watch) -> str:
        """Run workers until there are no more trials, or it is time to stop; return why it stopped.

        Raises:
            StudyError: if a worker says that something is wrong.
        """
        timeout, begun, reason = search.request.timeout, time.monotonic(), ""
        try:
            for _ in range(self._jobs):
                self._start()
            while self._running:
                left = None if timeout is None else timeout - (time.monotonic() - begun)
                if not reason and (stop() or self._errors or (left is not None and left <= 0)):
                    reason = "stopped on request" if stop() else "an error" if self._errors else "its time is over"
                    self._terminate()
                wait_for_any(self._running, _TICK_SECONDS)
                for worker in list(self._running):
                    self._attend_to(worker, wanted=not reason)
                watch(search, left)
        finally:
            for worker in self._running:
                worker.close()
        if self._errors:
            raise StudyError(self._errors[0])
        return reason or (USED_UP if self._is_used_up else "")

    @property
    def pids(self) -> frozenset[int]:
        """The processes of all workers that this command has had."""
        return frozenset(self._pids)

    def _start(self) -> None:
        worker = Spawned("worker", work, self._task)
        self._pids.add(worker.pid)
        self._running.append(worker)

    def _terminate(self) -> None:
        for worker in self._running:
            worker.ask_to_stop()

    def _attend_to(self, worker: Spawned, *, wanted: bool) -> None:
        """Take in what a worker has told; where it has died, start another in its place."""
        is_over = worker.is_over  # before it is listened to: then nothing comes after what is heard
        for told in worker.told():
            if told == USED_UP:
                self._is_used_up = True
            else:
                self._errors.append(told)
        if not is_over:
            return
        worker.close()
        self._running.remove(worker)
        if not worker.death or not wanted:
            return
        if not self._spare:
            self._errors.append(f"{_SPARE_STARTS} workers have died; see whether memory runs out, or use fewer --jobs")
            return
        self._spare -= 1
        self._say(f"a worker died ({worker.death}); another takes over its trial")
        self._start()


def work(task: WorkerTask, voice: Voice) -> None:
    """Be a worker process, and say what is wrong."""
    try:
        with StopOrOrphaned() as stop, stop.polite():
            from rnatracker.search import worker  # heavy, and for this process only

            if worker.serve(task, stop):
                voice.tell(USED_UP)
    except KeyboardInterrupt:
        pass
    except RNATrackerError as error:
        voice.tell(str(error))
    except BaseException:
        voice.tell(traceback.format_exc().strip())
