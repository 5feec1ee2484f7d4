"""The worker processes of one command.

Owns starting, replacing and ending them. Must not import torch, which only the workers need, nor typer. Read next:
`worker.py` for what they do.

Processes are spawned, not forked: a fork after a threaded computation hangs. A worker ignores Ctrl-C, which a
terminal sends to all; it is passed on to them as SIGTERM. A worker whose parent has died saves its trial, puts it
back and ends. In place of one that was killed another is started, which takes the trial over.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path

from rnatracker.errors import RNATrackerError, StudyError
from rnatracker.stop import StopOrOrphaned, StopSignal, ignored_interrupt
from search.study import Search, StudyRequest

Watch = Callable[[Search, float | None], None]
"""Told twice a second how the study goes, and how many seconds are left, where there is a limit."""

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
        self._context = multiprocessing.get_context("spawn")
        self._messages: Queue[str] = self._context.Queue()
        self._task, self._jobs, self._say = task, jobs, say
        self._running: list[BaseProcess] = []
        self._errors: list[str] = []
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
                self._listen()
                self._replace_dead(wanted=not reason)
                watch(search, left)
        finally:
            for worker in self._running:
                worker.kill()
                worker.join()
            self._messages.close()
        if self._errors:
            raise StudyError(self._errors[0])
        return reason

    def _start(self) -> None:
        worker = self._context.Process(target=work, args=(self._task, self._messages))
        with ignored_interrupt():
            worker.start()
        self._running.append(worker)

    def _terminate(self) -> None:
        for worker in self._running:
            worker.terminate()

    def _listen(self) -> None:
        try:
            self._errors.append(self._messages.get(timeout=_TICK_SECONDS))
        except queue.Empty:
            return

    def _replace_dead(self, *, wanted: bool) -> None:
        for worker in list(self._running):
            if worker.is_alive():
                continue
            worker.join()
            self._running.remove(worker)
            if worker.exitcode == 0 or not wanted:
                continue
            if not self._spare:
                self._errors.append(
                    f"{_SPARE_STARTS} workers have died; see whether memory runs out, or use fewer --jobs"
                )
                continue
            self._spare -= 1
            code = worker.exitcode or 0
            sign = f"signal {-code}" if code < 0 else f"code {code}"
            self._say(f"a worker died ({sign}); another takes over its trial")
            self._start()


def work(task: WorkerTask, messages: Queue[str]) -> None:
    """Be a worker process; what is wrong goes to `messages`."""
    parent = os.getppid()
    try:
        with StopOrOrphaned() as stop, stop.polite():
            from search import worker  # heavy, and for this process only

            worker.serve(task, stop)
    except KeyboardInterrupt:
        pass
    except RNATrackerError as error:
        messages.put(str(error))
    except BaseException:
        messages.put(traceback.format_exc().strip())
    if os.getppid() != parent:
        messages.cancel_join_thread()  # nobody listens any more: do not wait for that
