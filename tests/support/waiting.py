"""Waiting until something is so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PATIENCE_SECONDS = 240.0
"""Enough for a loaded machine: a test that hangs fails, and one that is slow doesn't."""
_POLL_SECONDS = 0.05


def wait_until(condition: Callable[[], T | None], what: str) -> T:
    """Return what a condition gives, once that is true; fail if it never is."""
    until, pause = time.monotonic() + _PATIENCE_SECONDS, threading.Event()
    while not (found := condition()):
        assert time.monotonic() < until, f"not so after {_PATIENCE_SECONDS:.0f} s: {what}"
        pause.wait(_POLL_SECONDS)
    return found
