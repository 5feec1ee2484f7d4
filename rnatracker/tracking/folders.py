"""Runs without MLflow: one plain folder each, for `--no-track`.

Owns the folders below `untracked/` of the store. Must not know MLflow. Read `rnatracker/tracking/contract.py` first,
the contract.

A run's folder holds its files and `run.json` (id, name, status, parameters, tags), and `metrics.jsonl`, a line
for each step. A child's folder lies in its parent's. So a run without MLflow can be resumed and read too.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from typing_extensions import override

from rnatracker.errors import TrackingError
from rnatracker.files import write_text
from rnatracker.processes import identity
from rnatracker.tracking import filters, hints, store
from rnatracker.tracking.contract import (
    DatasetInput,
    RunningRun,
    Status,
    TrackedRun,
    Tracker,
    check_reopenable,
    one_of,
)
from rnatracker.tracking.database import runs as records
from rnatracker.tracking.database.connection import DatabaseError
from rnatracker.tracking.listing import HEADLINES, SO_FAR, TAGS, Listed, RunList
from rnatracker.tracking.names import as_text, check_name, metric_key, run_name, run_number
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag

RECORD = "run.json"
METRICS = "metrics.jsonl"

_log = logging.getLogger("rnatracker")


class FolderTracker(Tracker):
    """Runs in folders `<store>/untracked/exp<N>[_name]/`; see `Tracker` for what its methods promise."""

    def __init__(self, settings: TrackingSettings) -> None:
        """Take a store; its folder is made with the first run."""
        self._settings = settings
        self._folder = settings.store / store.UNTRACKED
        self.location = str(self._folder)

    @override
    def start(
        self,
        *,
        log_name: str | None,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        dataset: DatasetInput | None,
        parent: TrackedRun | None = None,
        name: str | None = None,
    ) -> TrackedRun:
        check_name(name or run_name(1, log_name), None if name else log_name)
        record: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "status": "RUNNING",
            "start_time": time.time(),
            "params": {key: as_text(value) for key, value in params.items()},
            "tags": {**identity.own_tags(), **tags},
            "dataset": vars(dataset) if dataset else None,
        }
        with store.lock(self._settings.store):
            above = parent.folder if parent else self._folder
            chosen = name or run_name(max(self.next_number(), self._next_in_mlflow()), log_name)
            folder = above / chosen
            if parent is not None:  # of one name the latest counts, also where the clock was set back since
                record["start_time"] = max([time.time(), *_after_those_called(chosen, above)])
            try:
                folder = _unused(folder)
                folder.mkdir(parents=True)
                write_text(folder / RECORD, json.dumps({"name": chosen, **record}, indent=1))
            except OSError as error:
                raise store.unwritable(folder, error) from None
        return FolderRun(folder)

    @override
    def find(self, run: str) -> TrackedRun:
        listing = hints.command(["runs"], self._settings)
        return one_of(self.matching(run), run, self.location, self.latest(), listing)

    def matching(self, run: str) -> list[FolderRun]:
        """Return the runs that may be meant by what a user calls one; see `one_of`."""
        for folder in (Path(run), self._folder / run):
            if FolderRun.is_one(folder):
                return [FolderRun(folder)]
        parent, _, child = run.rpartition("/")
        if parent:
            parents = self.matching(parent)
            return [each for above in parents for each in above.all_children() if each.name == child]
        if re.fullmatch(r"[0-9a-f]{6,32}", run):
            of_id = [each for each in _runs(self._records()) if each.id.startswith(run)]
            if of_id:
                return of_id
        named = (path for path in self._records() if path.parent.name.startswith(run)) if run else ()
        is_number = re.fullmatch(r"exp\d+", run) is not None
        return [each for each in _runs(named) if each.name == run or (is_number and each.name.startswith(f"{run}_"))]

    def latest(self) -> list[str]:
        """Return the names of the latest runs that are nobody's child."""
        names = [path.parent.name for path in self._folder.glob(f"*/{RECORD}")]
        return sorted(names, key=run_number, reverse=True)[:5]

    def next_number(self) -> int:
        """Return N of the next `exp<N>`, as far as folders are concerned."""
        return 1 + max((run_number(path.name) for path in self._folder.glob("exp*")), default=0)

    def _next_in_mlflow(self) -> int:
        """Return N of the next `exp<N>` in the store's database, so that no name means two runs.

        One that can't be read doesn't matter: it may be why a run is kept without it. A server isn't asked either.
        """
        path = store.database_of(self._settings)
        try:
            return records.next_number(path, self._settings.experiment) if path and path.exists() else 1
        except DatabaseError as error:
            _log.debug("its runs are not counted: %s", error)
            return 1

    @override
    def list_runs(self, where: str | None = None, enough: int | None = None) -> RunList:
        """All are read. Those whose process has died are ended first, as opening a store does."""
        conditions = filters.parse(where) if where else None
        listed = []
        for run in _runs(self._records()):
            with suppress(TrackingError):  # a folder that can't be written is listed as it is
                run.end_if_dead(self._settings)
            one = run.listed()
            one.matches = conditions is None or filters.admits(conditions, run.values())
            listed.append(one)
        return RunList(sorted(listed, key=lambda each: each.started, reverse=True))

    @override
    def known_names(self) -> dict[filters.Kind, set[str]]:
        found: dict[filters.Kind, set[str]] = {"metric": set(), "parameter": set(), "tag": set()}
        for run in _runs(self._records()):
            values = run.values()
            for kind, names in found.items():
                names.update(values[kind])
        return found

    @override
    def fill(self, runs: Sequence[Listed]) -> None:
        """Nothing is missing: `list_runs` gives all."""

    @override
    def running_runs(self) -> list[RunningRun]:
        running = [run for run in _runs(self._records()) if run.status() == "RUNNING"]
        return [RunningRun(run.id, run.full_name(), run.tags(), partial(_last_sign, run.folder)) for run in running]

    @override
    def end_stale(self, run_id: str, message: str) -> None:
        self.find(run_id).finish("FAILED", message)

    @override
    def model_aliases(self, model: str) -> dict[str, int]:
        return {}

    @override
    def ui_command(self, port: int = 5000) -> None:
        """There is no UI for folders."""

    @override
    def ui_url(self, port: int = 5000, view: str = "") -> None:
        """There is no UI for folders."""

    @override
    def has_view(self, key: str) -> bool:
        return False

    @override
    def keep_view(self, key: str, view: str) -> None:
        """There is no UI for folders."""

    def _records(self) -> list[Path]:
        """Return the records of all runs, children too."""
        return [path for depth in ("*", "*/*") for path in sorted(self._folder.glob(f"{depth}/{RECORD}"))]


class FolderRun(TrackedRun):
    """A run in a folder; see `TrackedRun` for what its methods promise."""

    def __init__(self, folder: Path) -> None:
        """Read a run's folder.

        Raises:
            TrackingError: if its `run.json` is missing or damaged.
        """
        self._folder = folder.resolve()
        record = self._read()
        self.id: str = record["id"]
        self.name: str = record["name"]
        self._is_finished = record["status"] != "RUNNING"
        self._unwritten: list[str] = []
        self._has_warned = False

    @staticmethod
    def is_one(folder: Path) -> bool:
        """Tell whether a folder is a run's."""
        try:
            return (folder / RECORD).is_file()
        except (OSError, ValueError):  # a name that no folder can have, as it is longer or has a null in it
            return False

    @property
    @override
    def folder(self) -> Path:
        return self._folder

    @property
    @override
    def can_be_registered(self) -> bool:
        return False

    @cached_property
    def _history(self) -> dict[str, dict[int, float]]:
        return _read_history(self._folder / METRICS)

    @override
    def status(self) -> str:
        return str(self._read()["status"])

    @override
    def params(self) -> dict[str, str]:
        return dict(self._read()["params"])

    @override
    def tags(self) -> dict[str, str]:
        return dict(self._read()["tags"])

    @override
    def metrics(self) -> dict[str, float]:
        return {key: values[max(values)] for key, values in self._history.items()}

    @override
    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        finite = {metric_key(key): float(value) for key, value in metrics.items() if math.isfinite(value)}
        for key, value in finite.items():
            self._history.setdefault(key, {})[step] = value
        self._unwritten.append(json.dumps({"step": step, "metrics": finite}) + "\n")
        self.flush()

    @override
    def flush(self) -> None:
        try:
            self._append()
        except TrackingError as error:
            if not self._has_warned:
                _log.warning("%s. The run goes on, and what is missing is written when it can be.", error)
            self._has_warned = True

    @override
    def history(self, key: str) -> dict[int, float]:
        return dict(self._history.get(metric_key(key), {}))

    @override
    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._update(tags={**self.tags(), **tags})

    @override
    def children(self) -> dict[str, TrackedRun]:
        return {run.name: run for run in sorted(self.all_children(), key=lambda run: run._read()["start_time"])}

    def all_children(self) -> list[FolderRun]:
        """Return the runs started under this one, those too that a later one of their name has replaced."""
        return list(_runs(sorted(self._folder.glob(f"*/{RECORD}"))))

    def full_name(self) -> str:
        """Return the name, after the parent's where there is one."""
        parent = self.parent_name()
        return f"{parent}/{self.name}" if parent else self.name

    def listed(self) -> Listed:
        """Return the run as a list has it."""
        record, metrics = self._read(), self.metrics()
        end = record.get("end_time")
        listed = Listed(self.id, self.name, record["status"], int(record["start_time"] * 1000), None, is_tracked=False)
        listed.ended = None if end is None else int(end * 1000)
        listed.tags = {key: record["tags"][key] for key in TAGS if key in record["tags"]}
        if FolderRun.is_one(self._folder.parent):
            listed.tags[Tag.PARENT] = FolderRun(self._folder.parent).id
        listed.params, listed.metrics = dict(record["params"]), metrics
        listed.so_far = None if HEADLINES.keys() & metrics.keys() else max(self.history(SO_FAR).values(), default=None)
        return listed

    def values(self) -> dict[filters.Kind, Mapping[str, Any]]:
        """Return what a filter may ask for."""
        record, listed = self._read(), self.listed()
        dataset = record.get("dataset") or {}
        return {
            "attribute": {
                "run_id": self.id,
                "run_name": self.name,
                "status": listed.status,
                "start_time": listed.started,
                "end_time": listed.ended,
                "artifact_uri": str(self._folder),
            },
            "parameter": listed.params,
            "metric": listed.metrics,
            "tag": {**record["tags"], **listed.tags},
            "dataset": {key: dataset.get(key) for key in ("name", "digest", "context")},
        }

    def end_if_dead(self, settings: TrackingSettings) -> None:
        """End the run as FAILED if it is RUNNING and its process, of this machine, is dead.

        Raises:
            TrackingError: if its folder can't be written.
        """
        if self.status() != "RUNNING" or not identity.is_dead(self.tags()):
            return
        above = self._folder.parent
        whole = FolderRun(above) if FolderRun.is_one(above) else self
        resume = hints.resume_command(whole, settings.without_mlflow())
        self.finish("FAILED", store.message_of_death(self.tags().get(Tag.KIND), resume, whole.folder))

    @override
    def _picture_links(self) -> list[str]:
        """Return nothing: no UI serves these pictures."""
        return []

    @override
    def parent_name(self) -> str | None:
        above = self._folder.parent
        return FolderRun(above).name if FolderRun.is_one(above) else None

    @override
    @override
    def publish(self, *, now: bool = False) -> bool:
        """Nothing is to be uploaded."""
        return True

    @override
    def reopen(self, *, even_finished: bool = False) -> None:
        with store.lock(self._folder):
            check_reopenable(self, even_finished=even_finished)
            self._update(status="RUNNING", end_time=None, tags={**self.tags(), **identity.own_tags(), Tag.MESSAGE: ""})
        self._is_finished = False

    @override
    def finish(self, status: Status, message: str = "") -> None:
        if self._is_finished:
            return
        failure: TrackingError | None = None
        try:
            tags = self.tags()
            if message or tags.get(Tag.MESSAGE):  # an old one doesn't outlive a good end
                tags[Tag.MESSAGE] = message
            self._update(status=status, end_time=time.time(), tags=tags)
        except TrackingError as error:
            failure = error
        try:
            self._append()
        except TrackingError as error:
            failure = failure or error
        if failure:
            raise failure
        self._is_finished = True

    def _read(self) -> dict[str, Any]:
        path = self._folder / RECORD
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return {key: record[key] for key in ("id", "name", "status", "params", "tags", "start_time")} | record
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrackingError(
                f"{path}: not the record of a run ({store.first_line(error)})",
                "give the folder of one that --no-track made",
            ) from None

    def _update(self, **changes: object) -> None:
        try:
            write_text(self._folder / RECORD, json.dumps({**self._read(), **changes}, indent=1))
        except OSError as error:
            raise store.unwritable(self._folder, error) from None

    def _append(self) -> None:
        """Write the waiting lines, on a line of their own even after one that a full disk or a kill has torn."""
        if not self._unwritten:
            return
        try:
            with (self._folder / METRICS).open("ab+", buffering=0) as file:
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    file.write(b"" if file.read(1) == b"\n" else b"\n")
                file.write("".join(self._unwritten).encode())
        except OSError as error:
            raise store.unwritable(self._folder, error) from None
        self._unwritten.clear()


def _runs(records: Iterable[Path]) -> Iterator[FolderRun]:
    """Yield runs by their records; one whose record is damaged keeps no other from being found."""
    for path in records:
        try:
            yield FolderRun(path.parent)
        except TrackingError as error:
            _log.debug("passed over: %s", error)


def _after_those_called(name: str, folder: Path) -> Iterator[float]:
    """Yield times after the start of each child of that name, in seconds since 1970."""
    children = _runs(sorted(folder.glob(f"{name}*/{RECORD}")))
    yield from (float(child._read()["start_time"]) + 0.001 for child in children if child.name == name)


def _last_sign(folder: Path) -> float:
    """Return when a record or metrics of a run, or of one below it, was last written, in seconds since 1970."""
    paths = (path for name in (RECORD, METRICS) for path in folder.rglob(name))
    return max(path.stat().st_mtime for path in paths)


def _unused(folder: Path) -> Path:
    """Return that folder, or if it is taken (a fold that is run again) the first of `fold1.2`, `fold1.3`, ..."""
    number = 2
    unused = folder
    while unused.exists():
        unused = folder.with_name(f"{folder.name}.{number}")
        number += 1
    return unused


def _read_history(path: Path) -> dict[str, dict[int, float]]:
    """Return each metric's values by step; torn lines are passed over."""
    history: dict[str, dict[int, float]] = {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        for key, value in row["metrics"].items():
            history.setdefault(key, {})[int(row["step"])] = value
    return history
