"""What is wrong with this installation or this store, and what to do about it.

Owns the checks and their remedies. Must not know typer or optuna. Read next: `rnatracker/orphans.py`;
`search/checks.py` for the studies.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from rnatracker import __version__, orphans
from rnatracker.errors import RNATrackerError, TrackingError
from rnatracker.processes import identity
from rnatracker.registry import resolve
from rnatracker.registry.version import CHAMPION
from rnatracker.tracking import places, store
from rnatracker.tracking.contract import RunningRun
from rnatracker.tracking.database import connection
from rnatracker.tracking.database.connection import DatabaseError
from rnatracker.tracking.hints import command
from rnatracker.tracking.names import masked
from rnatracker.tracking.open import existing_trackers, has_store
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.store import reach

Level = Literal["ok", "note", "broken"]

NO_STORE = "store.missing"
"""Id of the finding that there is no store yet."""
STALE_RUNS = "running.stale"
"""Id of the finding that runs are RUNNING without a process."""
MODEL = "rnatracker"
"""Name of the registered model whose champion is looked at."""

_SHOWN_PACKAGES = ("torch", "mlflow", "optuna", "numpy", "pandas")
_LITTLE_BYTES, _NO_BYTES = 2 * 10**9, 2 * 10**8
_SILENT_SECONDS = 24 * 3600.0
_LISTED = 5


@dataclass(frozen=True)
class Finding:
    """What one check has found.

    Attributes:
        id: which of the things that may be found: what was looked at, a dot, and how it is.
        level: `broken` is what keeps something from working; a `note` is worth knowing.
        text: what was found.
        remedy: what to do; empty: nothing.
    """

    id: str
    level: Level
    text: str
    remedy: str = ""

    @property
    def check(self) -> str:
        """What was looked at."""
        return self.id.partition(".")[0]


@dataclass(frozen=True)
class StaleRun:
    """A run that says it goes on, and probably doesn't.

    Attributes:
        run_id: its id.
        name: its name.
        reason: why it is thought to be over.
    """

    run_id: str
    name: str
    reason: str


Check = Callable[[TrackingSettings], list[Finding]]


def check_machine(tracking: TrackingSettings) -> list[Finding]:
    """Look at versions, device, kernels and free disk."""
    return [*_versions(), *_devices(), _kernels(), _disk(tracking.store)]


def _versions() -> Iterator[Finding]:
    shown = [f"{name} {_version(name) or 'missing'}" for name in _SHOWN_PACKAGES]
    wrong = [f"{name} {have or 'is missing'}, needed is {name}{needed}" for name, have, needed in _unsatisfied()]
    text = f"rnatracker {__version__}, Python {platform.python_version()}, {', '.join(shown)}"
    yield Finding("versions.known", "ok", text)
    if wrong:
        yield Finding("versions.unsatisfied", "broken", "; ".join(wrong), "pip install --upgrade rnatracker")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _unsatisfied() -> Iterator[tuple[str, str | None, str]]:
    """Yield the packages that this distribution needs otherwise than they are installed."""
    from packaging.requirements import Requirement

    try:
        required = metadata.requires("rnatracker") or []
    except metadata.PackageNotFoundError:  # used from a checkout
        return
    for text in required:
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        have = _version(needed.name)
        if have is None or not needed.specifier.contains(have, prereleases=True):
            yield needed.name, have, str(needed.specifier)


def _devices() -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        yield Finding("device.cuda", "ok", f"cuda ({', '.join(sorted(names))}), {cores} CPU cores")
    else:
        yield Finding("device.cpu", "ok", f"cpu, {cores} cores, no CUDA GPU that PyTorch can use")


def _kernels() -> Finding:
    """Compile the kernels, or find them compiled."""
    import torch

    from rnatracker.config import ModelConfig
    from rnatracker.model.kernels.build import find_compiler
    from rnatracker.model.kernels.functions import kernel_in_use

    used, reason = kernel_in_use(ModelConfig(), torch.device("cpu"))
    if used == "fused":
        return Finding("kernels.used", "ok", "compiled, and used on the CPU")
    text = f"not used: {reason}; PyTorch computes the same, several times slower"
    if find_compiler() is None:
        return Finding("kernels.no-compiler", "note", text, "install a C compiler, as in: apt install gcc")
    return Finding("kernels.unusable", "note", text, "see docs/speed.md")


def _disk(folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    level: Level = "broken" if free < _NO_BYTES else "note" if free < _LITTLE_BYTES else "ok"
    remedy = "" if level == "ok" else "free some space, or choose another disk with --store"
    return Finding("disk.low" if remedy else "disk.enough", level, f"{size(free)} free at {there}", remedy)


def size(n_bytes: float) -> str:
    """Word a number of bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def folders(number: int) -> str:
    """Word a number of folders or files."""
    return "1 folder or file" if number == 1 else f"{number} folders or files"


def check_store(tracking: TrackingSettings) -> list[Finding]:
    """Look at the store, or whether the server answers."""
    place = masked(tracking.tracking_uri or str(tracking.store))
    if not has_store(tracking):
        first = command(["train", "--data", "FILE"], tracking)
        return [Finding(NO_STORE, "note", f"{place}: no store yet", f"the first run makes it: {first}")]
    try:
        reached = reach(tracking)
    except RNATrackerError as error:
        return [Finding("store.unusable", "broken", error.problem, error.remedy)]
    path = reached.database
    damage = connection.damage(path) if path else ""
    if damage:
        text = f"{place}: the database is damaged: {damage}"
        return [Finding("store.damaged", "broken", text, "go back to a copy of it")]
    findings = [
        Finding("store.usable", "ok", f"{place}: its schema is that of the MLflow installed" if path else place)
    ]
    if reached.is_copy:
        findings.append(
            Finding("store.read-only", "note", f"{place}: you can't write to it; its runs and models can be read")
        )
    if path and store.is_on_network(path.parent):
        text = f"{place} is on a network disk, where databases are slow and several writers are a risk"
        findings.append(Finding("store.on-network", "note", text, "keep it on a local disk, or use an MLflow server"))
    return findings


def check_stale(tracking: TrackingSettings) -> list[Finding]:
    """Look for runs that say they go on, and don't."""
    stale = stale_runs(tracking)
    if not stale:
        return [Finding("running.alive", "ok", "no run is RUNNING without a process")]
    listed = "; ".join(f"{each.name} ({each.reason})" for each in stale[:_LISTED])
    more = f" and {len(stale) - _LISTED} more" if len(stale) > _LISTED else ""
    text = f"{len(stale)} RUNNING and probably dead: {listed}{more}"
    return [Finding(STALE_RUNS, "note", text, f"end them: {command(['doctor', '--fix'], tracking)}")]


def stale_runs(tracking: TrackingSettings) -> list[StaleRun]:
    """Return the runs, of all experiments, that are RUNNING though their process is gone, or silent for a day.

    Of a process on another machine, or in a container, only what it writes is known.

    Raises:
        TrackingError: if the store can't be read.
    """
    return [
        StaleRun(run.run_id, run.name, reason)
        for tracker in existing_trackers(tracking)
        for run in tracker.running_runs()
        if (reason := _why_stale(run))
    ]


def _why_stale(run: RunningRun) -> str:
    if identity.is_dead(run.tags):
        return f"its process {run.tags[identity.PID]} is gone"
    if identity.is_alive_elsewhere(run.tags) or identity.own_tags().items() <= run.tags.items():
        return ""
    silent = time.time() - run.last_sign()
    if silent < _SILENT_SECONDS:
        return ""
    days = round(silent / 86400)
    return f"nothing heard from {run.tags.get(identity.HOST, 'its process')} for {days} day{'s' if days > 1 else ''}"


def end_stale(tracking: TrackingSettings, stale: list[StaleRun]) -> int:
    """End stale runs as FAILED, but for those that have ended since; they can be resumed. Return how many.

    Raises:
        TrackingError: if the store can't be written.
    """
    reasons = {each.run_id: each.reason for each in stale}
    n_ended = 0
    for tracker in existing_trackers(tracking):
        for run in tracker.running_runs():
            if run.run_id in reasons and _why_stale(run):
                tracker.end_stale(run.run_id, f"ended by rnatracker doctor: {reasons[run.run_id]}")
                n_ended += 1
    return n_ended


def check_places(tracking: TrackingSettings) -> list[Finding]:
    """Look for files that the store's database places outside of the store."""
    if tracking.tracking_uri is not None:
        return []
    path = reach(tracking).database
    try:
        outside = places.outside(path, tracking.store) if path else []
    except DatabaseError as error:
        raise store.failed(error, "read") from None
    if not outside:
        return [Finding("places.inside", "ok", f"all files are below {tracking.store}")]
    listed = ", ".join(map(str, outside[:_LISTED])) + (", ..." if len(outside) > _LISTED else "")
    text = f"{len(outside)} place{'s' if len(outside) > 1 else ''} of files outside of {tracking.store}: {listed}"
    return [Finding("places.outside", "note", text, "keep them as long as their runs or models are needed")]


def check_orphans(tracking: TrackingSettings) -> list[Finding]:
    """Look for artifacts that belong to nothing, and for what killed processes left."""
    if tracking.tracking_uri is not None:
        return []
    if reach(tracking).is_copy:
        return [Finding("orphans.unknown", "ok", "not looked for: you can't delete anything in this store")]
    why_unknown = orphans.why_unknown(tracking.store)
    found = [*orphans.find(tracking.store), *orphans.left_over(tracking.store)]
    if why_unknown:
        return [Finding("orphans.unknown", "ok", f"not looked for: {why_unknown}"), *_lone(found, tracking)]
    return _lone(found, tracking) or [Finding("orphans.none", "ok", "no artifacts without a run or a model")]


def _lone(found: list[orphans.Orphan], tracking: TrackingSettings) -> list[Finding]:
    if not found:
        return []
    total = size(sum(each.size_bytes for each in found))
    text = f"{folders(len(found))} belonging to no run and no model, or left by killed processes, {total}"
    return [Finding("orphans.some", "note", text, f"see and delete them: {command(['doctor', '--clean'], tracking)}")]


def check_champion(tracking: TrackingSettings) -> list[Finding]:
    """Look whether the champion can be loaded."""
    aliases: dict[str, int] = {}
    for tracker in existing_trackers(tracking):
        aliases |= tracker.model_aliases(MODEL)
    if CHAMPION not in aliases:
        first = command(["promote", "RUN"], tracking)
        return [Finding("champion.none", "ok", f"there is none yet; make one with: {first}")]
    try:
        resolve.resolve(CHAMPION, tracking)
    except RNATrackerError as error:
        back = f"return to the previous one with: {command(['models', '--rollback'], tracking)}"
        return [Finding("champion.unusable", "broken", error.problem, error.remedy or back)]
    return [Finding("champion.loads", "ok", f"version {aliases[CHAMPION]} loads, its checksums are right")]


CHECKS_OF_STORE: tuple[Check, ...] = (check_stale, check_places, check_orphans, check_champion)
"""Checks that need a store that can be opened."""


def examine(tracking: TrackingSettings, more: tuple[Check, ...] = ()) -> list[Finding]:
    """Do all checks.

    Args:
        tracking: which store.
        more: further checks of a store, from packages that stand above this one.
    """
    findings = [*check_machine(tracking), *check_store(tracking)]
    is_usable = has_usable_store(findings)
    if not is_usable and any(each.level == "broken" for each in findings):
        return findings
    for check in (*CHECKS_OF_STORE, *more) if is_usable else more:  # without MLflow there may be studies
        try:
            findings += check(tracking)
        except TrackingError as error:
            findings.append(Finding("store.unreadable", "broken", error.problem, error.remedy))
    return findings


def has_usable_store(findings: list[Finding]) -> bool:
    """Tell whether there is a store that can be opened."""
    return not any(each.check == "store" and (each.level == "broken" or each.id == NO_STORE) for each in findings)
