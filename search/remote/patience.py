"""Waiting for a server that is away for a while: a database that is restarted, a network that is cut.

Owns for how long and how often what failed is tried again. Must not know studies. Read next: `patient_storage.py`,
which does so with all that a study asks of its database.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

from rnatracker.errors import RNATrackerError, StudyError, UsageError

VARIABLE = "RNATRACKER_PATIENCE"
"""Environment variable with the seconds that workers wait for a server that is away."""

_SECONDS = 600
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_log = logging.getLogger("rnatracker")

T = TypeVar("T")


def seconds() -> int:
    """Return for how many seconds to wait for a server.

    Raises:
        UsageError: if the environment says something else than a whole number.
    """
    given = os.environ.get(VARIABLE, str(_SECONDS))
    if not given.isdigit():
        raise UsageError(f"{VARIABLE}={given}: not a number of seconds", "give a whole number, or leave it out")
    return int(given)


def patiently(
    ask: Callable[[], T], is_away: Callable[[BaseException], bool], server: str, *, limit: float | None = None
) -> T:
    """Return what a server answers, asked again and again as long as it is away.

    Args:
        ask: asks it; safe to be done twice.
        is_away: tells whether a failure is the server's absence.
        server: what to call it, without a password.
        limit: seconds to wait; None: as the environment says.

    Raises:
        StudyError: if it stays away for longer.
        RNATrackerError: where seconds are given, the failure itself, if it is one.
    """
    begun, pause = time.monotonic(), _FIRST_PAUSE
    while True:
        try:
            return ask()
        except Exception as error:
            if not is_away(error):
                raise
            gone = time.monotonic() - begun
            if gone + pause > (seconds() if limit is None else limit):
                if limit is not None and isinstance(error, RNATrackerError):
                    raise  # what to do at the beginning is said by it
                reason = error.problem if isinstance(error, RNATrackerError) else str(error).strip().split("\n")[0]
                raise StudyError(f"{server}: has been away for {gone:.0f} s ({reason})", _remedy(reason)) from error
            if pause == _FIRST_PAUSE:
                _log.warning("%s is away; waiting for it", server)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _remedy(reason: str) -> str:
    then = "then give the same command again: trials resume where they were saved"
    if "too many" in reason.lower():  # clients of PostgreSQL, connections of MySQL
        return f"let it have more connections (max_connections): two for each worker; {then}"
    return f"see why; {then}"
