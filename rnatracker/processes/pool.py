"""The one pool of workers: folds of a cross-validation and trials of a study run in it.

Owns how many work at a time, passing on a stop, and taking in what they send. Must not know what they do: its user
decides what an ending means, and may add tasks until none is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from rnatracker.processes.worker import Ending, Worker, wait_for_any


class Pool:
    """Runs tasks in processes, so many at a time.

    Args:
        entry: what a worker runs; see `Worker`.
        jobs: workers at a time.
        on_message: told the worker's name and what it sent.
        on_end: told a worker's name and how its task ended; may add tasks.
        tick_seconds: how long to wait for a message, before `run` looks at everything else.
    """

    def __init__(
        self,
        entry: str,
        jobs: int,
        *,
        on_message: Callable[[str, Any], None],
        on_end: Callable[[str, Ending], None],
        tick_seconds: float = 0.2,
    ) -> None:
        self._entry, self._jobs, self._tick_seconds = entry, jobs, tick_seconds
        self._on_message, self._on_end = on_message, on_end
        self._waiting: deque[tuple[str, Any]] = deque()
        self._running: list[Worker] = []
        self._pids: set[int] = set()

    @property
    def pids(self) -> frozenset[int]:
        """The processes of all workers that there have been."""
        return frozenset(self._pids)

    def add(self, name: str, task: Any) -> None:
        """Let a task be done when a worker is free; it must be picklable."""
        self._waiting.append((name, task))

    def run(self, should_stop: Callable[[], bool], on_tick: Callable[[], None] = lambda: None) -> None:
        """Work until all tasks have ended; on a stop, until those that run have saved and ended.

        Args:
            should_stop: asked at each tick and message; once true, no task is started any more.
            on_tick: told as often, after what was sent has been taken in.
        """
        was_passed_on = False
        try:
            while self._running or (self._waiting and not should_stop()):
                self._start_more(should_stop)
                if not was_passed_on and should_stop():
                    was_passed_on = True
                    for worker in self._running:
                        worker.ask_to_stop()
                wait_for_any(self._running, self._tick_seconds)
                for worker in list(self._running):
                    self._attend_to(worker)
                on_tick()
        finally:
            for worker in self._running:
                worker.close()

    def _start_more(self, should_stop: Callable[[], bool]) -> None:
        while self._waiting and len(self._running) < self._jobs and not should_stop():
            name, task = self._waiting.popleft()
            worker = Worker(name, self._entry, task)
            self._pids.add(worker.pid)
            self._running.append(worker)

    def _attend_to(self, worker: Worker) -> None:
        """Pass on what a worker has sent; let it go if it is over."""
        is_over = worker.is_over  # before its messages are taken: then none comes after the last that is there
        for message in worker.messages():
            self._on_message(worker.name, message)
        if is_over:
            worker.close()
            self._running.remove(worker)
            self._on_end(worker.name, worker.ending)
