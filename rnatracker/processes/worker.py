"""A worker process, and what it tells.

Owns starting it and the pipe on which it speaks. Must not know what it does. Read next:
`rnatracker/training/crossval.py` for folds, `search/crew.py` for trials.

Processes are spawned, not forked: a fork after a threaded computation hangs. A worker ignores Ctrl-C, which a terminal
sends to all; whoever started it passes that on as SIGTERM, so that a stop comes from one place.

Each has a pipe of its own. On a queue that all write to they would take turns under a lock, and one that is killed in
its turn would silence the others for ever.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection
from typing import Any

from rnatracker.processes.stop import ignored_interrupt


class Voice:
    """What a worker speaks with. Once nobody listens any more, nothing is said; it is `StopOrOrphaned` that notices."""

    def __init__(self, pipe: connection.Connection) -> None:
        self._pipe = pipe

    def tell(self, message: Any) -> None:
        """Say something that can be pickled."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send(message)


class Spawned:
    """A process that was started here.

    Args:
        name: what to call it.
        work: what it does: a function at a module's top level; its last argument is the `Voice` it is to speak with.
        given: its first arguments.
    """

    def __init__(self, name: str, work: Callable[..., None], *given: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=work, args=(*given, Voice(theirs)), name=name)
        with ignored_interrupt():
            self._process.start()
        theirs.close()  # theirs alone then: it ends with them
        self.name = name
        self._silent = False

    def told(self) -> Iterator[Any]:
        """Yield what it has said since last asked, without waiting; of a process that is over, all the rest."""
        while not self._silent and self._pipe.poll():
            try:
                yield self._pipe.recv()
            except (EOFError, OSError):  # it ended, or was killed within a word
                self._silent = True

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return not self._process.is_alive()

    @property
    def death(self) -> str:
        """How it died, `signal 9` or `code 1`; empty if it lives or ended as it should."""
        code = self._process.exitcode or 0
        return "" if not code else f"signal {-code}" if code < 0 else f"code {code}"

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
        """Return what can be waited for: that it speaks, or ends."""
        return [self._process.sentinel, *([] if self._silent else [self._pipe])]


def wait_for_any(spawned: Iterable[Spawned], seconds: float) -> None:
    """Wait until one of these says something or ends, and for so long at most."""
    connection.wait([sign for each in spawned for sign in each.signs()], seconds)
