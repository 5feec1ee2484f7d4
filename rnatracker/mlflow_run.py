"""One run in MLflow: recording, reading back, ending, continuing.

Owns the buffer of metrics, the upload to a remote store, and the wording of MLflow's failures. Must not know
how a store is found or opened. Read next: `tracking.py`, which makes these.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rnatracker import process, store
from rnatracker.errors import TrackingError
from rnatracker.tracked import MESSAGE_TAG, Status, TrackedRun, check_reopenable, cut, metric_key

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

MAX_TAG = 8000
"""Characters of a tag; MLflow cuts the rest without a word."""

_METRICS_PER_BATCH = 1000
_FLUSH_SECONDS = 1.0
_RETRY_SECONDS = 30.0

_log = logging.getLogger("rnatracker")


@dataclass(frozen=True)
class Backend:
    """An experiment in an open store or server.

    Attributes:
        client: MLflow's client for it.
        uri: its address for MLflow.
        location: what to call it in messages.
        experiment_id: the experiment's number.
        folder: the store's folder, where also the files of remote runs are worked on.
        database: the SQLite file, if it is one.
        is_remote: True if `folder` isn't where MLflow keeps files.
    """

    client: MlflowClient
    uri: str
    location: str
    experiment_id: str
    folder: Path
    database: Path | None
    is_remote: bool

    def search(self, filter_string: str, max_results: int = 1000) -> list[Run]:
        """Return the experiment's runs that MLflow's filter admits, the latest first."""
        found: list[Run] = []
        token = None
        while len(found) < max_results:
            page = self.client.search_runs(
                [self.experiment_id],
                filter_string,
                max_results=min(max_results - len(found), 1000),
                order_by=["start_time DESC"],
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                break
        return found


class MlflowRun(TrackedRun):
    """A run in MLflow; see `TrackedRun` for what its methods promise."""

    def __init__(self, backend: Backend, run: Run) -> None:
        """Wrap a run as the client gave it."""
        self._backend = backend
        self._client = backend.client
        self.id: str = run.info.run_id
        self.name: str = run.info.run_name or run.info.run_id
        self._artifact_uri: str = run.info.artifact_uri
        self._waiting: list[Metric] = []
        self._flush_at = time.monotonic() + _FLUSH_SECONDS
        self._published: dict[Path, tuple[int, int]] = {}
        self._has_warned = False
        self._is_finished = False

    @property
    def folder(self) -> Path:
        """The artifact folder itself, or for a remote store the one that `publish` uploads.

        Files of a remote run that this machine doesn't have are downloaded when this is first asked for.
        """
        if not self._backend.is_remote:
            parts = urlsplit(self._artifact_uri)
            return Path(url2pathname(parts.path) if parts.scheme == "file" else self._artifact_uri)
        folder = self._backend.folder / store.WORK / self.id
        if not folder.exists():
            self._download(folder)
        return folder

    def make_folder(self) -> None:
        """Make the folder of a run that is new.

        Raises:
            TrackingError: if it can't be made.
        """
        backend = self._backend
        folder = backend.folder / store.WORK / self.id if backend.is_remote else self.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise store.unwritable(folder, error) from None

    def status(self) -> str:
        """See `TrackedRun.status`."""
        return str(self._get().info.status)

    def params(self) -> dict[str, str]:
        """See `TrackedRun.params`."""
        return dict(self._get().data.params)

    def tags(self) -> dict[str, str]:
        """See `TrackedRun.tags`."""
        return dict(self._get().data.tags)

    def metrics(self) -> dict[str, float]:
        """See `TrackedRun.metrics`."""
        self.flush()
        return dict(self._get().data.metrics)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """See `TrackedRun.log_metrics`. One database transaction a second at most."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [
            Metric(metric_key(key), float(value), now, step) for key, value in metrics.items() if math.isfinite(value)
        ]
        if time.monotonic() >= self._flush_at:
            self.flush()

    def flush(self) -> None:
        """See `TrackedRun.flush`."""
        begun = time.monotonic()
        self._flush_at = begun + _FLUSH_SECONDS
        try:
            self._send_metrics()
        except TrackingError as error:
            # A server that hangs must not slow the training: ten times what it cost goes by in between.
            self._flush_at = time.monotonic() + max(_RETRY_SECONDS, 10 * (time.monotonic() - begun))
            self._warn(error)

    def logged_steps(self, key: str) -> set[int]:
        """See `TrackedRun.logged_steps`."""
        name = metric_key(key)
        with mlflow_errors(f"reading {self.name}", self._backend.location):
            recorded = {int(metric.step) for metric in self._client.get_metric_history(self.id, name)}
        return recorded | {int(metric.step) for metric in self._waiting if metric.key == name}

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """See `TrackedRun.set_tags`."""
        from mlflow.entities import RunTag

        with mlflow_errors(f"tagging {self.name}", self._backend.location):
            self._client.log_batch(self.id, tags=[RunTag(key, cut(value, MAX_TAG)) for key, value in tags.items()])

    def children(self) -> dict[str, TrackedRun]:
        """See `TrackedRun.children`."""
        with mlflow_errors(f"reading {self.name}", self._backend.location):
            found = self._backend.search(f"tags.`mlflow.parentRunId` = '{self.id}'", max_results=100_000)
        # The latest comes first and so has the last word when read backwards.
        return {run.name: run for run in (MlflowRun(self._backend, each) for each in reversed(found))}

    def publish(self) -> None:
        """See `TrackedRun.publish`."""
        try:
            self._upload()
        except TrackingError as error:
            self._warn(error)

    def reopen(self, *, even_finished: bool = False) -> None:
        """See `TrackedRun.reopen`."""
        backend = self._backend
        with store.lock(backend.folder), mlflow_errors(f"reopening {self.name}", backend.location):
            check_reopenable(self, even_finished=even_finished)
            self.set_tags({**process.own_tags(), MESSAGE_TAG: ""})
            self._client.update_run(self.id, status="RUNNING")
            if backend.database:
                store.clear_end_time(backend.database, self.id)
        self._is_finished = False

    def finish(self, status: Status, message: str = "") -> None:
        """See `TrackedRun.finish`."""
        if self._is_finished:
            return
        try:
            self._send_metrics()
            self._upload()
            if message:
                self.set_tags({MESSAGE_TAG: message})
            with mlflow_errors(f"ending {self.name}", self._backend.location):
                self._client.set_terminated(self.id, status)
        except TrackingError as error:
            lost = f"; {len(self._waiting)} metric values are not recorded" if self._waiting else ""
            raise TrackingError(f"{error}{lost}; what run {self.name} has made lies in {self.folder}") from error
        self._is_finished = True

    def _get(self) -> Run:
        with mlflow_errors(f"reading {self.name}", self._backend.location):
            return self._client.get_run(self.id)

    def _send_metrics(self) -> None:
        with mlflow_errors(f"recording metrics of {self.name}", self._backend.location):
            while self._waiting:
                self._client.log_batch(self.id, metrics=self._waiting[:_METRICS_PER_BATCH])
                del self._waiting[:_METRICS_PER_BATCH]

    def _upload(self) -> None:
        if not self._backend.is_remote:
            return
        folder = self.folder
        with mlflow_errors(f"uploading the files of {self.name}", self._backend.location):
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                stat = path.stat()
                if self._published.get(path) != (stat.st_mtime_ns, stat.st_size):
                    parent = path.parent.relative_to(folder).as_posix()
                    self._client.log_artifact(self.id, str(path), None if parent == "." else parent)
                    self._published[path] = (stat.st_mtime_ns, stat.st_size)

    def _download(self, folder: Path) -> None:
        temporary = folder.with_name(f"{folder.name}.tmp")
        try:
            temporary.mkdir(parents=True, exist_ok=True)
            with mlflow_errors(f"downloading the files of {self.name}", self._backend.location):
                for file in self._client.list_artifacts(self.id):
                    self._client.download_artifacts(self.id, file.path, str(temporary))
            temporary.replace(folder)
        except OSError as error:
            raise store.unwritable(folder, error) from None

    def _warn(self, error: TrackingError) -> None:
        if not self._has_warned:
            _log.warning("%s. The run goes on, and what is missing is sent when it can be.", error)
        self._has_warned = True


@contextmanager
def mlflow_errors(doing: str, location: str) -> Iterator[None]:
    """Turn MLflow's failures inside into a `TrackingError` that says what to do.

    Args:
        doing: what failed, as in `starting a run`.
        location: the store or server.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, RequestException) as error:
        reason = store.first_line(error).rstrip(".")
        raise TrackingError(f"{location}: {doing} failed: {reason}; {_remedy(str(error))}") from error


def _remedy(reason: str) -> str:
    """Return what to do about a failure of MLflow's."""
    for sign, remedy in {
        "out-of-date database schema": "keep a copy of mlflow.db, then: mlflow db upgrade sqlite:///PATH/mlflow.db",
        "disk is full": "free some space",
        "disk I/O error": "see whether the disk is full",
        "readonly database": "allow writing to that folder, or choose another with --store",
        "database is locked": "end the program that keeps it locked",
        "API request to": "see whether the server is still up",
    }.items():
        if sign in reason:
            return remedy
    return "see whether the store is whole, or choose another with --store"
