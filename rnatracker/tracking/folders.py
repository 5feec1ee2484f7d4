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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnatracker.errors import TrackingError
from rnatracker.files import write_text
from rnatracker.processes import identity
from rnatracker.tracking import store
from rnatracker.tracking.contract import DatasetInput, Status, TrackedRun, Tracker, check_reopenable, one_of
from rnatracker.tracking.names import as_text, check_name, metric_key, run_name, run_number
from rnatracker.tracking.tags import Tag

RECORD = "run.json"
METRICS = "metrics.jsonl"

_log = logging.getLogger("rnatracker")


class NullTracker(Tracker):
    """Runs in folders `<store>/untracked/exp<N>[_name]/`; see `Tracker` for what its methods promise."""

    def __init__(self, folder: Path) -> None:
        """Take a store's folder; it is made with the first run."""
        self._store = folder
        self._folder = folder / store.UNTRACKED
        self.location = str(self._folder)

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
        """See `Tracker.start`."""
        check_name(name or run_name(1, log_name), None if name else log_name)
        record = {
            "id": uuid.uuid4().hex,
            "status": "RUNNING",
            "start_time": time.time(),
            "params": {key: as_text(value) for key, value in params.items()},
            "tags": {**identity.own_tags(), **tags},
            "dataset": vars(dataset) if dataset else None,
        }
        with store.lock(self._store):
            above = parent.folder if parent else self._folder
            chosen = name or run_name(self._next_number(), log_name)
            folder = above / chosen
            try:
                folder = _unused(folder)
                folder.mkdir(parents=True)
                write_text(folder / RECORD, json.dumps({"name": chosen, **record}, indent=1))
            except OSError as error:
                raise store.unwritable(folder, error) from None
        return NullRun(folder)

    def find(self, run: str) -> TrackedRun:
        """See `Tracker.find`."""
        for folder in (Path(run), self._folder / run):
            if NullRun.is_one(folder):
                return NullRun(folder)
        tops = [NullRun(path.parent) for path in self._folder.glob(f"*/{RECORD}")]
        tops.sort(key=lambda each: run_number(each.name), reverse=True)
        all_runs = [each for top in tops for each in (top, *top.children().values())]
        found = [each for each in all_runs if _is_prefix(run, each.id)]
        found = found or [each for each in all_runs if each.name == run]
        if not found and re.fullmatch(r"exp\d+", run):
            found = [each for each in all_runs if each.name.startswith(f"{run}_")]
        return one_of(list(found), run, self.location, [each.name for each in tops[:5]])

    def ui_command(self, port: int = 5000) -> None:
        """See `Tracker.ui_command`: there is no UI for folders."""

    def ui_url(self, port: int = 5000, view: str = "") -> None:
        """See `Tracker.ui_url`: there is no UI for folders."""

    def has_view(self, key: str) -> bool:  # noqa: ARG002
        """See `Tracker.has_view`: there is no UI for folders."""
        return False

    def keep_view(self, key: str, view: str) -> None:
        """See `Tracker.keep_view`: there is no UI for folders."""

    def _next_number(self) -> int:
        return 1 + max((run_number(path.name) for path in self._folder.glob("exp*")), default=0)


class NullRun(TrackedRun):
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
        self._history = _read_history(self._folder / METRICS)
        self._is_finished = record["status"] != "RUNNING"
        self._unwritten: list[str] = []
        self._has_warned = False

    @staticmethod
    def is_one(folder: Path) -> bool:
        """Tell whether a folder is a run's."""
        return (folder / RECORD).is_file()

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self._folder

    def status(self) -> str:
        """See `TrackedRun.status`."""
        return str(self._read()["status"])

    def params(self) -> dict[str, str]:
        """See `TrackedRun.params`."""
        return dict(self._read()["params"])

    def tags(self) -> dict[str, str]:
        """See `TrackedRun.tags`."""
        return dict(self._read()["tags"])

    def metrics(self) -> dict[str, float]:
        """See `TrackedRun.metrics`."""
        return {key: values[max(values)] for key, values in self._history.items()}

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """See `TrackedRun.log_metrics`."""
        finite = {metric_key(key): float(value) for key, value in metrics.items() if math.isfinite(value)}
        for key, value in finite.items():
            self._history.setdefault(key, {})[step] = value
        self._unwritten.append(json.dumps({"step": step, "metrics": finite}) + "\n")
        self.flush()

    def flush(self) -> None:
        """See `TrackedRun.flush`."""
        try:
            self._append()
        except TrackingError as error:
            if not self._has_warned:
                _log.warning("%s. The run goes on, and what is missing is written when it can be.", error)
            self._has_warned = True

    def history(self, key: str) -> dict[int, float]:
        """See `TrackedRun.history`."""
        return dict(self._history.get(metric_key(key), {}))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """See `TrackedRun.set_tags`."""
        self._update(tags={**self.tags(), **tags})

    def children(self) -> dict[str, TrackedRun]:
        """See `TrackedRun.children`."""
        runs = [NullRun(path.parent) for path in self._folder.glob(f"*/{RECORD}")]
        return {run.name: run for run in sorted(runs, key=lambda run: run._read()["start_time"])}

    def _picture_links(self) -> list[str]:
        """Return nothing: no UI serves these pictures."""
        return []

    def parent_name(self) -> str | None:
        """See `TrackedRun.parent_name`."""
        above = self._folder.parent
        return NullRun(above).name if NullRun.is_one(above) else None

    def publish(self, *, now: bool = False) -> None:
        """See `TrackedRun.publish`: nothing to do."""

    def reopen(self, *, even_finished: bool = False) -> None:
        """See `TrackedRun.reopen`."""
        with store.lock(self._folder):
            check_reopenable(self, even_finished=even_finished)
            self._update(status="RUNNING", end_time=None, tags={**self.tags(), **identity.own_tags(), Tag.MESSAGE: ""})
        self._is_finished = False

    def finish(self, status: Status, message: str = "") -> None:
        """See `TrackedRun.finish`."""
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


def _is_prefix(run: str, identifier: str) -> bool:
    return len(run) >= 6 and identifier.startswith(run)


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
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        for key, value in row["metrics"].items():
            history.setdefault(key, {})[int(row["step"])] = value
    return history
