"""Signs of life of the worker of a trial, kept in a database server: how workers on other hosts know that it lives.

Owns the thread that gives them, whatever the training does meanwhile, and what it finds out: that the trial was given
away to another worker, since this one had been silent for too long. Times are the database's, whatever the hosts'
clocks say. Must not know torch or mlflow. Read next: `search/study.py`, which puts trials of silent workers back.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from types import TracebackType

from optuna.storages import BaseStorage

from rnatracker.errors import UsageError

VARIABLE = "RNATRACKER_HEARTBEAT"
"""Environment variable with the seconds between two signs of life."""
GRACE = 4
"""A worker that has been silent for so many times as long has its trial put back."""

_SECONDS = 30
_log = logging.getLogger("rnatracker")


def interval() -> int:
    """Return the seconds between two signs of life.

    Raises:
        UsageError: if the environment says something else than a whole number above 0.
    """
    given = os.environ.get(VARIABLE, str(_SECONDS))
    if not given.isdigit() or int(given) == 0:
        raise UsageError(f"{VARIABLE}={given}: not a number of seconds", "give a whole number above 0, or leave it out")
    return int(given)


class Heartbeat:
    """Gives signs of life of a trial until it is left. A context manager.

    Args:
        give: gives one sign, and returns whether the trial is still this worker's.
        seconds: between two.

    Attributes:
        is_lost: whether the trial is another worker's now.
    """

    def __init__(self, give: Callable[[], bool], seconds: float) -> None:
        self.is_lost = False
        self._give, self._seconds = give, seconds
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._left.wait(self._seconds):
            try:
                if not self._give():
                    self.is_lost = True
                    return
            except Exception as error:
                _log.debug("no sign of life could be given: %s", error)


def can_beat(storage: BaseStorage) -> bool:
    """Tell whether a storage keeps signs of life."""
    get = getattr(storage, "get_heartbeat_interval", None)
    return get is not None and get() is not None
