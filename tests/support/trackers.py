"""Runs as tests begin and abandon them."""

from __future__ import annotations

import subprocess
import time

from rnatracker.processes import identity
from rnatracker.tracking.contract import TrackedRun, Tracker


def begin(tracker: Tracker, log_name: str | None = None, **more: object) -> TrackedRun:
    given: dict[str, object] = {"params": {}, "tags": {}, "dataset": None, **more}
    return tracker.start(log_name=log_name, **given)  # type: ignore[arg-type]


def abandon(run: TrackedRun, **tags: str) -> None:
    """Make a run one of a process that has died."""
    with subprocess.Popen(["sleep", "60"]) as other:
        named = identity.tags_of(other.pid)
        other.kill()
    run.set_tags(named | {key.replace("__", "."): value for key, value in tags.items()})


def wait_a_millisecond() -> None:
    """Wait until the next run is told apart from the last by the millisecond in which it was begun."""
    until = time.time() + 0.001
    while time.time() < until:
        pass
