"""Whether a running trial's worker lives, and which deaths count against the trial's settings.

Owns what a trial keeps of the processes that work on it. Must not know torch, nor change a study. Read next:
`rnatracker/search/study.py`, which puts trials back and fails them.

A death counts where the command that started the worker lived on, so that it was the worker alone that died, at this
trial; whoever kills a whole command, or turns a machine off, says nothing about settings. Deaths add up only as long as
the trial gets no further between them.

Of a worker on another machine only its reports are known, and the two machines' clocks may differ by hours. So this
machine notes when it first saw the latest report, by its own time since it was started, which nobody sets.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from rnatracker.processes import identity

WORKER = "worker"
"""User attribute with the process that works on a trial (`rnatracker.processes.identity`)."""
STARTER = "starter"
"""User attribute with the process of the command that started a trial's worker, and passes on when to stop."""
DEATHS = "deaths"
"""User attribute: how many workers have died at a trial since it last got further."""
DIED_AT = "died_at"
"""User attribute: how far a trial had come when a worker last died at it; see `progress`."""
UNREPORTED = "unreported"
"""User attribute: epochs that a trial has trained, where the last of them had nothing to report."""
SEEN = "seen"
"""User attribute: when a trial's worker was last heard of, in seconds since 1970 by its machine's clock."""
WATCHED = "watched"
"""User attribute: for each start of a machine that waits for a trial's worker, the latest `SEEN` it knows, and when it
first saw that."""

MAX_DEATHS = 3
_REMOTE_SILENCE_SECONDS = 3600.0
"""After so long without a new report a process on another machine counts as dead."""


@dataclass(frozen=True)
class Silence:
    """For how long a worker on another machine has not been heard of.

    Attributes:
        seconds: since this machine first saw the latest report.
        watched: what to keep as `WATCHED`; None: what is there already.
    """

    seconds: float
    watched: dict[str, list[float]] | None

    @property
    def is_death(self) -> bool:
        """Whether it has lasted too long."""
        return self.seconds >= _REMOTE_SILENCE_SECONDS


def progress(trial: FrozenTrial) -> list[int]:
    """Return how far a trial has come: the step of its last report, and epochs without one."""
    return [trial.last_step or 0, int(trial.user_attrs.get(UNREPORTED, 0))]


def count_after(trial: FrozenTrial) -> int:
    """Return how many deaths a trial has, with that of its worker now.

    The count begins anew where the trial has got further since the last death.
    """
    before, died_at = int(trial.user_attrs.get(DEATHS, 0)), trial.user_attrs.get(DIED_AT)
    if not is_its_own(trial.user_attrs):
        return before
    further = died_at is not None and any(now > then for now, then in zip(progress(trial), died_at, strict=True))
    return 1 if further else before + 1


def is_its_own(attributes: Mapping[str, Any]) -> bool:
    """Tell whether a dead worker died by itself: not before it had begun, and not together with its command.

    Of another machine only silence is known: a command that lived there would have seen its worker's end.
    """
    worker = attributes.get(WORKER) or {}
    return bool(worker) and not is_remote(worker) and not identity.is_dead(attributes.get(STARTER) or {})


def is_remote(worker: Mapping[str, str]) -> bool:
    """Tell whether a worker's process can't be seen from here."""
    own = identity.own_tags()
    return any(worker.get(key) != own[key] for key in (identity.HOST, identity.PID_NAMESPACE))


def silence(attributes: Mapping[str, Any]) -> Silence:
    """Return for how long the worker of a trial on another machine has not been heard of here."""
    start, now = identity.own_tags()[identity.BOOT_ID], time.monotonic()
    seen, watched = float(attributes.get(SEEN, 0.0)), dict(attributes.get(WATCHED) or {})
    known, since = watched.get(start, (None, 0.0))
    if known == seen and since <= now:
        return Silence(now - since, None)
    return Silence(0.0, watched | {start: [seen, now]})
