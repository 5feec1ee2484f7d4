"""What is wrong with this installation or this store, and what to do about it.

Owns the checks and their remedies. Must not know typer or optuna. Read next: `rnatracker/tracking/orphans.py`, and
`search/checks.py` for the studies.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rnatracker import __version__
from rnatracker.errors import RNATrackerError, TrackingError
from rnatracker.processes import identity
from rnatracker.registry import resolve
from rnatracker.tracking import orphans, store
from rnatracker.tracking.names import masked
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.store import mlflow_errors, reach
from rnatracker.tracking.tags import Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Level = Literal["ok", "note", "broken"]

MODEL = "rnatracker"
"""Name of the registered model whose champion is looked at."""

_SHOWN_PACKAGES = ("torch", "mlflow", "optuna", "numpy", "pandas")
_LITTLE_BYTES, _NO_BYTES = 2 * 10**9, 2 * 10**8
_SILENT_SECONDS = 24 * 3600.0
_LISTED = 5
_PARENT = Tag.PARENT


@dataclass(frozen=True)
class Finding:
    """What one check has found.

    Attributes:
        check: what was looked at.
        level: `broken` is what keeps something from working; a `note` is worth knowing.
        text: what was found.
        remedy: what to do; empty: nothing.
    """

    check: str
    level: Level
    text: str
    remedy: str = ""


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
    yield Finding("versions", "ok", text)
    if wrong:
        yield Finding("versions", "broken", "; ".join(wrong), "pip install --upgrade rnatracker")


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
        yield Finding("device", "ok", f"cuda ({', '.join(sorted(names))}), {cores} CPU cores")
    else:
        yield Finding("device", "ok", f"cpu, {cores} cores, no CUDA GPU that PyTorch can use")


def _kernels() -> Finding:
    """Compile the kernels, or find them compiled."""
    import torch

    from rnatracker.config import ModelConfig
    from rnatracker.model.kernels.functions import kernel_in_use

    used, reason = kernel_in_use(ModelConfig(), torch.device("cpu"))
    if used == "fused":
        return Finding("kernels", "ok", "compiled, and used on the CPU")
    remedy = "install a C compiler, as in: apt install gcc" if "compiler" in reason else "see docs/speed.md"
    return Finding("kernels", "note", f"not used: {reason}; PyTorch computes the same, several times slower", remedy)


def _disk(folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    level: Level = "broken" if free < _NO_BYTES else "note" if free < _LITTLE_BYTES else "ok"
    remedy = "" if level == "ok" else "free some space, or choose another disk with --store"
    return Finding("disk", level, f"{size(free)} free at {there}", remedy)


def size(n_bytes: float) -> str:
    """Word a number of bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def folders(number: int) -> str:
    """Word a number of folders."""
    return "1 folder" if number == 1 else f"{number} folders"


def check_store(tracking: TrackingSettings) -> list[Finding]:
    """Look at the store, or whether the server answers."""
    place = masked(tracking.tracking_uri or str(tracking.store))
    if tracking.tracking_uri is None and not (tracking.store / store.DATABASE).exists():
        return [
            Finding("store", "note", f"{place}: no store yet", "the first run makes it: rnatracker train --data FILE")
        ]
    try:
        _, database = reach(tracking)
        problem = _integrity(database) if database else ""
    except RNATrackerError as error:
        text, _, remedy = str(error).rpartition("; ")
        return [Finding("store", "broken", text or remedy, remedy if text else "")]
    if problem:
        return [Finding("store", "broken", f"{place}: the database is damaged: {problem}", "go back to a copy of it")]
    found = [Finding("store", "ok", f"{place}: its schema is that of the MLflow installed" if database else place)]
    if database and store.is_on_network(database.parent):
        text = f"{place} is on a network disk, where databases are slow and several writers are a risk"
        found.append(Finding("store", "note", text, "keep it on a local disk, or use an MLflow server"))
    return found


def _integrity(database: Path) -> str:
    """Return what SQLite finds wrong in a database; empty: nothing."""
    try:
        with closing(sqlite3.connect(database, timeout=20)) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return str(error)
    return "" if answer == "ok" else str(answer)


def check_stale(tracking: TrackingSettings) -> list[Finding]:
    """Look for runs that say they go on, and don't."""
    found = stale_runs(tracking)
    if not found:
        return [Finding("running", "ok", "no run is RUNNING without a process")]
    listed = "; ".join(f"{each.name} ({each.reason})" for each in found[:_LISTED])
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return [Finding("running", "note", f"{len(found)} RUNNING and probably dead: {listed}{more}", "end them: --fix")]


def stale_runs(tracking: TrackingSettings) -> list[StaleRun]:
    """Return the runs, of all experiments, that are RUNNING though their process is gone, or silent for a day.

    Of a process on another machine, or in a container, only what it writes is known.

    Raises:
        TrackingError: if the store can't be read.
    """
    found = []
    client = _client(tracking)
    with mlflow_errors("looking for running runs", masked(tracking.tracking_uri or str(tracking.store))):
        experiments = [each.experiment_id for each in client.search_experiments()]
        running = client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1000)
        names = {run.info.run_id: run.info.run_name or run.info.run_id for run in running}
        for run in running:
            reason = _why_stale(run.data.tags, partial(_last_sign, client, run, running))
            if reason:
                parent = run.data.tags.get(_PARENT, "")
                above = names.get(parent) or (client.get_run(parent).info.run_name if parent else "")
                name = names[run.info.run_id]
                found.append(StaleRun(run.info.run_id, f"{above}/{name}" if above else name, reason))
    return found


def _last_sign(client: MlflowClient, run: Run, running: Sequence[Run]) -> float:
    """Return when a run last wrote a metric, or else began, in seconds since 1970.

    The run of a study or a cross-validation itself writes nothing while its children work, so what they write counts,
    and when one last ended.
    """
    info = run.info
    times = [info.start_time or 0]
    for key in run.data.metrics:
        if key.endswith("train/loss"):
            times += [metric.timestamp for metric in client.get_metric_history(info.run_id, key)]
    of_parent = f"tags.`{_PARENT}` = '{info.run_id}'"
    ended = client.search_runs([info.experiment_id], of_parent, max_results=1, order_by=["attributes.end_time DESC"])
    times += [each.info.end_time or 0 for each in ended]
    below = [each for each in running if each.data.tags.get(_PARENT) == info.run_id]
    return max([max(times) / 1000, *(_last_sign(client, each, running) for each in below)])


def _why_stale(tags: Mapping[str, str], last_sign: Callable[[], float]) -> str:
    if identity.is_dead(tags):
        return f"its process {tags[identity.PID]} is gone"
    if identity.is_alive_elsewhere(tags) or identity.own_tags().items() <= tags.items():
        return ""
    silent = time.time() - last_sign()
    if silent < _SILENT_SECONDS:
        return ""
    return f"nothing heard from {tags.get(identity.HOST, 'its process')} for {silent / 86400:.0f} days"


def end_stale(tracking: TrackingSettings, stale: list[StaleRun]) -> int:
    """End stale runs as FAILED, but for those that have ended since; they can be resumed. Return how many.

    Raises:
        TrackingError: if the store can't be written.
    """
    client = _client(tracking)
    still = {each.run_id for each in stale_runs(tracking)} & {each.run_id for each in stale}
    with mlflow_errors("ending runs", masked(tracking.tracking_uri or str(tracking.store))):
        for each in stale:
            if each.run_id in still:
                client.set_terminated(each.run_id, "FAILED")
                client.set_tag(each.run_id, Tag.MESSAGE, f"ended by rnatracker doctor: {each.reason}")
    return len(still)


def _client(tracking: TrackingSettings) -> MlflowClient:
    uri, _ = reach(tracking)
    with mlflow_errors("opening it", masked(tracking.tracking_uri or str(tracking.store))):
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def check_orphans(tracking: TrackingSettings) -> list[Finding]:
    """Look for artifacts that belong to nothing."""
    if tracking.tracking_uri is not None:
        return []
    others = orphans.databases(tracking.store)
    if others:
        text = f"not looked for: runs of {', '.join(others)} keep their files in {tracking.store} too"
        return [Finding("orphans", "ok", text)]
    found = orphans.find(tracking.store)
    if not found:
        return [Finding("orphans", "ok", "no artifacts without a run or a model")]
    total = size(sum(each.size_bytes for each in found))
    text = f"{folders(len(found))} of artifacts belonging to no run and no model, {total}"
    return [Finding("orphans", "note", text, "see and delete them: rnatracker doctor --clean")]


def check_champion(tracking: TrackingSettings) -> list[Finding]:
    """Look whether the champion can be loaded."""
    client = _client(tracking)
    from mlflow.exceptions import MlflowException

    with mlflow_errors("reading the registry", masked(tracking.tracking_uri or str(tracking.store))):
        try:
            aliases = client.get_registered_model(MODEL).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            aliases = {}
    if "champion" not in aliases:
        return [Finding("champion", "ok", "there is none yet: rnatracker promote RUN makes one")]
    try:
        resolve.resolve("champion", tracking)
    except RNATrackerError as error:
        text, _, remedy = str(error).rpartition("; ")
        if not text or "rnatracker " not in remedy:
            text, remedy = str(error), "return to the previous one with: rnatracker models --rollback"
        return [Finding("champion", "broken", text, remedy)]
    return [Finding("champion", "ok", f"version {aliases['champion']} loads, its checksums are right")]


CHECKS_OF_STORE: tuple[Check, ...] = (check_stale, check_orphans, check_champion)
"""Checks that need a store that can be opened."""


def examine(tracking: TrackingSettings, more: tuple[Check, ...] = ()) -> list[Finding]:
    """Do all checks.

    Args:
        tracking: which store.
        more: further checks of a store, from floors above.
    """
    found = [*check_machine(tracking), *check_store(tracking)]
    if any(each.check == "store" and (each.level == "broken" or "no store yet" in each.text) for each in found):
        return found
    for check in (*CHECKS_OF_STORE, *more):
        try:
            found += check(tracking)
        except TrackingError as error:
            found.append(Finding("store", "broken", str(error)))
    return found
