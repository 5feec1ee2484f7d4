"""What a worker computes on and with, and how that differs from what was before it: figures may then differ too.

Owns what is compared and how it is told. Must not know torch. Read next: `search/objective.py`, which notes a trial's
place, `search/tune.py`, which says how a host's packages differ.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.study import Study

from rnatracker import __version__
from rnatracker.search.launchers.task import JOB
from rnatracker.tracking import provenance

VERSIONS = "versions"
"""Attribute of a study: the packages with which it was begun, by name."""

_COMPUTING = ("device", "processor", "threads")


def versions() -> dict[str, str]:
    """Return the versions of what a trial's figures depend on."""
    return {"rnatracker": __version__, "python": platform.python_version()} | provenance.packages()


def other_versions(study: Study) -> str | None:
    """Return how this host's packages differ from those that a study was begun with; None where they don't.

    A study of an earlier version doesn't tell.
    """
    before, now = study.user_attrs.get(VERSIONS, {}), versions()
    found = [f"{name} {before[name]} there, {now.get(name)} here" for name in before if before[name] != now.get(name)]
    if not found:
        return None
    return (
        f"study {study.study_name} was begun with other versions: {'; '.join(found)}. Trials of this host may come to "
        "other figures; each trial's run says what it was trained with"
    )


def place(device: str, threads: int) -> dict[str, Any]:
    """Return where a trial is trained, as the trial keeps it: its cluster job, if it is one, and what computes."""
    return {"job": os.environ.get(JOB, ""), "threads": threads, "device": device, "processor": processor()}


def moved(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Return how a place differs from the one where a trial was trained before; empty where that computes alike."""
    before = before or {}
    found = [
        f"{key} {before[key]} before, {now[key]} now" for key in _COMPUTING if key in before and before[key] != now[key]
    ]
    return f"it goes on elsewhere ({'; '.join(found)}), where figures may differ in their last digits" if found else ""


def processor() -> str:
    """Return the name of this host's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
