"""A worker: a process that does one task, what it sends, and how it ends.

Owns starting it and its pipe. Must not know what the task is. Read next: `pool.py`, which keeps several at work.

Processes are spawned, not forked: a fork after a threaded computation hangs. A worker ignores Ctrl-C and the closing of
a terminal, which go to all; whoever started it passes that on as SIGTERM, so that a stop comes from one place.

Each has a pipe of its own. On a queue that all write to they would take turns under a lock, and one that is killed in
its turn would silence the others for ever.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from multiprocessing import connection
from typing import Any

from rnatracker.errors import RNATrackerError, disk_fault
from rnatracker.processes.stop import Interrupted, StopOrOrphaned, StopSignal, ignoring_the_terminal


class Channel:
    """What a worker sends messages through. Once nobody listens, they are lost; `StopOrOrphaned` notices that."""

    def __init__(self, pipe: connection.Connection) -> None:
        self._pipe = pipe

    def send(self, message: Any) -> None:
        """Send what can be pickled."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send(message)


class How(Enum):
    """How a worker's task ended."""

    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"
    DIED = "died"


@dataclass(frozen=True)
class Ending:
    """The end of a worker's task.

    Attributes:
        how: which kind of end.
        result: what the task returned, where it is DONE.
        message: what was wrong, where it FAILED; `signal 9` or `code 1` where its process DIED.
        remedy: what to do, where it FAILED by an error of ours.
    """

    how: How
    result: Any = None
    message: str = ""
    remedy: str = ""


class Worker:
    """A process that was started here to do one task.

    Args:
        name: what to call it.
        entry: what it runs, as `package.module:function`. Only the process imports that module, which may be heavy.
            The function is called with the task, a `Channel` and the `StopSignal` that says when to stop; what it
            returns comes back in the `Ending`.
        task: what it is given; can be pickled.
    """

    def __init__(self, name: str, entry: str, task: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(entry, task, Channel(theirs)), name=name)
        with ignoring_the_terminal():
            self._process.start()
        theirs.close()  # theirs alone then: it ends with them
        self.name = name
        self._is_silent = False
        self._said_ending: Ending | None = None

    def messages(self) -> Iterator[Any]:
        """Yield what it has sent since last asked, without waiting; of a process that is over, all the rest."""
        while not self._is_silent and self._pipe.poll():
            try:
                message = self._pipe.recv()
            except (EOFError, OSError):  # it ended, or was killed within a message
                self._is_silent = True
                return
            if isinstance(message, Ending):
                self._said_ending = message
            else:
                yield message

    @property
    def is_over(self) -> bool:
        """Whether its process has ended."""
        return not self._process.is_alive()

    @property
    def ending(self) -> Ending:
        """How its task ended, once it is over and all its messages were taken."""
        if self._said_ending is not None:
            return self._said_ending
        code = self._process.exitcode or 0
        return Ending(How.DIED, message=f"signal {-code}" if code < 0 else f"code {code}")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    def ask_to_stop(self) -> None:
        """Let it save and end."""
        self._process.terminate()

    def close(self) -> None:
        """End it if it lives, and forget it."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def signs(self) -> list[Any]:
        """Return what can be waited for: that it sends something, or ends."""
        return [self._process.sentinel, *([] if self._is_silent else [self._pipe])]


def wait_for_any(workers: Iterable[Worker], seconds: float) -> None:
    """Wait until one of these sends something or ends, and for so long at most."""
    connection.wait([sign for each in workers for sign in each.signs()], seconds)


def _work(entry: str, task: Any, channel: Channel) -> None:
    """Do the task in this process, and send how it ended."""
    ending = Ending(How.STOPPED)
    try:
        with StopOrOrphaned() as stop:
            ending = Ending(How.DONE, _function(entry)(task, channel, stop))
    except (Interrupted, KeyboardInterrupt):
        pass
    except RNATrackerError as error:
        ending = Ending(How.FAILED, message=error.problem, remedy=error.remedy)
    except BaseException as error:
        problem, remedy = disk_fault(error, "a file") or (traceback.format_exc().strip(), "")
        ending = Ending(How.FAILED, message=problem, remedy=remedy)
    channel.send(ending)


def _function(entry: str) -> Callable[[Any, Channel, StopSignal], Any]:
    module, _, name = entry.partition(":")
    function: Callable[[Any, Channel, StopSignal], Any] = getattr(importlib.import_module(module), name)
    return function
