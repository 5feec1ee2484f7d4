"""Ctrl-C and SIGTERM as a request.

Owns the signal handlers of a training. Must not know what is trained. While work is going on that can be ended cleanly
(`polite`), the first signal only sets `requested`; a second Ctrl-C ends at once. At any other time a signal raises
KeyboardInterrupt, as Ctrl-C does everywhere. SIGTERM is what batch systems send before they kill,
SIGHUP what a terminal sends when it is closed. What the program was started to ignore stays ignored: SIGHUP under
nohup, SIGINT of what a script puts into the background.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class Interrupted(Exception):  # noqa: N818 - not an error
    """A run was stopped on request and can be resumed.

    Attributes:
        run_id: the run.
        command: what to type to resume it.
        saved: whether the epoch it was in has been saved as far as it had come.
    """

    def __init__(self, run_id: str, command: str, saved: bool) -> None:
        super().__init__(command)
        self.run_id = run_id
        self.command = command
        self.saved = saved


_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def are_ignored() -> tuple[signal.Signals, ...]:
    """Return the signals that would end the program and are ignored, as whoever started it wanted."""
    return tuple(number for number in _SIGNALS if signal.getsignal(number) == signal.SIG_IGN)


class StopSignal:
    """Context manager that listens to signals; does nothing outside the main thread.

    It doesn't listen to those that are ignored.

    Args:
        signals: which.
    """

    def __init__(self, signals: tuple[signal.Signals, ...] = _SIGNALS) -> None:
        self._signals = signals
        self.requested = False
        self._shielded = False
        self._polite = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in self._signals if self._heeds(number)]
            self._before = {number: signal.signal(number, self._handle) for number in heeded}
        return self

    def _heeds(self, number: signal.Signals) -> bool:
        return number not in are_ignored()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Return whether a stop was requested."""
        return self.requested

    @contextmanager
    def polite(self) -> Iterator[None]:
        """Within this, the first signal only asks."""
        self._polite, before = True, self._polite
        try:
            yield
        finally:
            self._polite = before

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Within this, no signal does more than ask: for the moments in which a run's record is made or ended."""
        self._shielded, before = True, self._shielded
        try:
            yield
        finally:
            self._shielded = before

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        first, self.requested = not self.requested, True
        insists = not first and number == signal.SIGINT
        if not self._shielded and (insists or (first and not self._polite)):
            raise KeyboardInterrupt


class StopOrOrphaned(StopSignal):
    """What a worker process listens to: SIGTERM only, and it also asks to stop when the parent process is gone."""

    def __init__(self) -> None:
        super().__init__(signals=(signal.SIGTERM,))
        # The one that started it: it may have died since, while this process was importing, and then isn't getppid().
        started_by = multiprocessing.parent_process()
        self._parent = os.getppid() if started_by is None else started_by.pid

    def _heeds(self, number: signal.Signals) -> bool:  # noqa: ARG002
        """Listen to SIGTERM also where the program ignores it: its own process sends it, to pass on a stop."""
        return True

    def __call__(self) -> bool:
        """Return whether a stop was requested, or nobody is left who could."""
        return self.requested or os.getppid() != self._parent


@contextmanager
def ignoring_the_terminal() -> Iterator[None]:
    """Ignore Ctrl-C and a closed terminal while a process is started: it inherits that, and isn't torn from its work.

    Both go to all processes of a terminal. The one that started it passes them on, where it heeds them itself.
    """
    numbers = [number for number in _SIGNALS if number != signal.SIGTERM]
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
