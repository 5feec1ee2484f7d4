"""One run in MLflow: recording, reading back, ending, continuing.

Owns the buffer of metrics, and upload to and download from a remote store. Must not know how a store is found or
opened. Read next: `rnatracker/tracking/mlflow_tracker.py`, which makes these.

A remote run's files are worked on in `work/<id>/` and uploaded. Each upload ends with a new random token in the run's
tag `rnatracker.revision`; `work/<id>.revision` lists those that the folder here contains. So if the server's is not
among them, another machine has gone on with the run, and the files here are old.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from rnatracker.errors import TrackingError
from rnatracker.processes import identity
from rnatracker.tracking import filters, mlflow_private, places, store
from rnatracker.tracking.contract import SUMMARY_STEP, Status, TrackedRun, check_reopenable
from rnatracker.tracking.database import runs as records
from rnatracker.tracking.listing import HEADLINES, SO_FAR, TAGS, Listed, RunList
from rnatracker.tracking.names import MAX_TAG, cut, masked, metric_key
from rnatracker.tracking.store import mlflow_errors
from rnatracker.tracking.tags import Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

_METRICS_PER_BATCH = 1000
_PAGE = 200
"""Runs of a list that are asked for at a time."""
_FLUSH_SECONDS, _SERVER_FLUSH_SECONDS = 1.0, 10.0
"""Between two recordings of metrics in a database, and on a server, which many workers may share."""
_RETRY_SECONDS = 30.0
_PUBLISH_SECONDS = 60.0

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
        is_copy: True if it is a copy of a store's database, which can be read only.
    """

    client: MlflowClient
    uri: str
    location: str
    experiment_id: str
    folder: Path
    database: Path | None
    is_remote: bool
    is_copy: bool = False

    def check_writable(self) -> None:
        """Check that something can be kept here.

        Raises:
            TrackingError: if it can't.
        """
        if self.is_copy:
            raise store.read_only(self.location)

    def search(self, filter_string: str, max_results: int = 1000) -> list[Run]:
        """Return the experiment's runs that MLflow's filter admits, the latest first."""
        runs: list[Run] = []
        token = None
        while len(runs) < max_results:
            page = self.client.search_runs(
                [self.experiment_id],
                filter_string,
                max_results=min(max_results - len(runs), 1000),
                order_by=["start_time DESC"],
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                break
        return runs

    def list_runs(self, where: str | None = None, enough: int | None = None) -> RunList:
        """List runs as `Tracker.list_runs` does, page by page; parameters and metrics come with them.

        Children are started after their parents and so come before them: when enough runs that are nobody's child
        have come, so have all of theirs.
        """
        matching = None
        if where:
            filters.parse(where)  # so that what is wrong with it is said as elsewhere
            matching = {run.run_id for run in self._pages(filters.quoted(where), None).runs}
        listed = self._pages("", None if where else enough)
        for run in listed.runs:
            run.matches = matching is None or run.run_id in matching
        return listed

    def known_names(self) -> dict[filters.Kind, set[str]]:
        """Return the names of metrics, parameters and tags of the latest runs."""
        found: dict[filters.Kind, set[str]] = {"metric": set(), "parameter": set(), "tag": set()}
        for run in self.search(""):
            found["metric"] |= run.data.metrics.keys()
            found["parameter"] |= run.data.params.keys()
            found["tag"] |= run.data.tags.keys()
        return found

    def fill(self, runs: Sequence[Listed]) -> None:
        """Look up the best value so far of runs that haven't ended; the rest is there."""
        with mlflow_errors("listing runs", self.location):
            for run in runs:
                if run.so_far is not None:
                    history = self.client.get_metric_history(run.run_id, SO_FAR)
                    run.so_far = max((each.value for each in history if each.value == each.value), default=run.so_far)

    def _pages(self, filter_string: str, enough: int | None) -> RunList:
        listed: list[Listed] = []
        token = None
        with mlflow_errors("listing runs", self.location):
            while True:
                page = self.client.search_runs(
                    [self.experiment_id],
                    filter_string,
                    max_results=_PAGE,
                    order_by=["attributes.start_time DESC"],
                    page_token=token,
                )
                listed += map(_listed, page)
                token = page.token
                tops = sum(run.parent_id is None for run in listed)
                if not token or (enough is not None and tops >= enough):
                    return RunList(listed, is_partial=bool(token))


def _listed(run: Run) -> Listed:
    info, data = run.info, run.data
    tags = {key: data.tags[key] for key in TAGS if key in data.tags}
    metrics = {key: value for key, value in data.metrics.items() if value == value}
    listed = Listed(info.run_id, info.run_name or info.run_id, info.status, info.start_time or 0, info.end_time)
    listed.tags, listed.params, listed.metrics = tags, dict(data.params), metrics
    listed.so_far = None if HEADLINES.keys() & metrics.keys() else metrics.get(SO_FAR)
    return listed


class MlflowRun(TrackedRun):
    """A run in MLflow; see `TrackedRun` for what its methods promise."""

    def __init__(self, backend: Backend, run: Run) -> None:
        """Wrap a run as the client gave it."""
        self._backend = backend
        self._client = backend.client
        self.id: str = run.info.run_id
        self.name: str = run.info.run_name or run.info.run_id
        self._artifact_uri: str = run.info.artifact_uri
        self._parent_id: str | None = run.data.tags.get(Tag.PARENT)
        self._work: Path = backend.folder / store.WORK / self.id
        self._revisions = self._work.with_name(f"{self.id}.revision")
        self._is_current = False
        self._waiting: list[Metric] = []
        self._stamp = mlflow_private.last_recorded(run)
        self._flush_seconds = _SERVER_FLUSH_SECONDS if backend.is_remote else _FLUSH_SECONDS
        self._flush_at = time.monotonic() + self._flush_seconds
        self._published: dict[Path, tuple[int, int]] = {}
        self._is_announced = True
        self._publish_at = 0.0
        self._is_lost = False
        self._has_warned = False
        self._is_finished = False

    @property
    @override
    def can_be_registered(self) -> bool:
        return True

    @property
    @override
    def folder(self) -> Path:
        """The artifact folder itself, or for a remote store the one that `publish` uploads.

        Files of a remote run that this machine doesn't have, or has older, are downloaded when this is first asked
        for; again, as long as there are none yet.
        """
        if not self._backend.is_remote:
            return places.local(self._artifact_uri)
        if not self._is_current:
            self._bring_up_to_date()
        return self._work

    def make_folder(self) -> None:
        """Make the folder of a run that is new.

        Raises:
            TrackingError: if it can't be made.
        """
        self._is_current = True
        self.check_own()
        self._ensure_folder(self.folder)

    def rename(self, name: str) -> None:
        """Give the run another name.

        Raises:
            TrackingError: if the store can't be written.
        """
        with self._asking("renaming"):
            self._client.update_run(self.id, name=name)
        self.name = name

    def _ensure_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise store.unwritable(folder, error) from None

    @override
    def check_own(self) -> None:
        self._backend.check_writable()
        if not self._backend.is_remote:
            places.check_own(self.folder, self._backend.folder, self._backend.uri)

    @override
    def status(self) -> str:
        return str(self._get().info.status)

    @override
    def params(self) -> dict[str, str]:
        return dict(self._get().data.params)

    @override
    def tags(self) -> dict[str, str]:
        return dict(self._get().data.tags)

    @override
    def metrics(self) -> dict[str, float]:
        self.flush()
        return dict(self._get().data.metrics)

    @override
    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics, with at most one database transaction a second, or one request in ten."""
        from mlflow.entities import Metric

        stamp = self._new_stamp(step)
        self._waiting += [
            Metric(metric_key(key), float(value), stamp, step) for key, value in metrics.items() if math.isfinite(value)
        ]
        if time.monotonic() >= self._flush_at:
            self.flush()

    def _new_stamp(self, step: int) -> int:
        """Return the time to record now, in ms since 1970: of one step MLflow shows the value with the latest.

        So it is always later than the one before, also where the clock was set back, and than those that were recorded
        when the run was found; for a summary, which another process may record too, than those of now.
        """
        if step == SUMMARY_STEP and not self._is_lost:
            with suppress(TrackingError):
                self._stamp = max(self._stamp, mlflow_private.last_recorded(self._get()))
        self._stamp = max(int(time.time() * 1000), self._stamp + 1)
        return self._stamp

    @override
    def flush(self) -> None:
        begun = time.monotonic()
        self._flush_at = begun + self._flush_seconds
        try:
            self._send_metrics()
        except TrackingError as error:
            # A server that hangs must not slow the training: ten times what it cost goes by in between.
            self._flush_at = time.monotonic() + max(_RETRY_SECONDS, 10 * (time.monotonic() - begun))
            self._warn(error)

    @override
    def history(self, key: str) -> dict[int, float]:
        name = metric_key(key)
        with self._asking("reading"):
            recorded = self._client.get_metric_history(self.id, name)
        waiting = (metric for metric in self._waiting if metric.key == name)
        ordered = sorted((*recorded, *waiting), key=lambda metric: metric.timestamp)
        return {int(metric.step): float(metric.value) for metric in ordered}

    @override
    def set_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self._backend.check_writable()
        with self._asking("tagging"):
            self._client.log_batch(self.id, tags=[RunTag(key, cut(value, MAX_TAG)) for key, value in tags.items()])

    @override
    def children(self) -> dict[str, TrackedRun]:
        with self._asking("reading"):
            runs = self._backend.search(f"tags.`{Tag.PARENT}` = '{self.id}'", max_results=100_000)
        # The latest comes first and so has the last word when read backwards.
        return {run.name: run for run in (MlflowRun(self._backend, each) for each in reversed(runs))}

    @override
    def parent_name(self) -> str | None:
        if self._parent_id is None:
            return None
        with self._asking("finding the parent of"):
            return str(self._client.get_run(self._parent_id).info.run_name)

    @override
    def publish(self, *, now: bool = False) -> bool:
        begun = time.monotonic()
        if not self._backend.is_remote:
            return True
        if begun < self._publish_at and not now:
            return False
        is_there = True
        try:
            self._upload()
        except TrackingError as error:
            self._warn(error)
            is_there = False
        # A slow line, or a server that hangs, must not slow the training: as with metrics.
        self._publish_at = time.monotonic() + max(_PUBLISH_SECONDS, 10 * (time.monotonic() - begun))
        return is_there

    @override
    def reopen(self, *, even_finished: bool = False) -> None:
        self.check_own()
        with store.lock(self._backend.folder), self._asking("reopening"):
            check_reopenable(self, even_finished=even_finished)
            self.set_tags({**identity.own_tags(), Tag.MESSAGE: ""})
            self._client.update_run(self.id, status="RUNNING")
            if self._backend.database:
                records.clear_end_time(self._backend.database, self.id)
        if not self._backend.is_remote:
            self._ensure_folder(self.folder)  # its process may have been killed before it was made
        self._is_finished = False

    @override
    def finish(self, status: Status, message: str = "") -> None:
        if self._is_finished:
            return
        steps = (lambda: self._end(status), self._send_metrics, lambda: self._explain(message), self._upload)
        failure = self._try_all(*steps)
        if failure:
            n_lost = len(self._waiting)
            values = f"{n_lost} metric value{'s are' if n_lost > 1 else ' is'}"
            lost = f"; {values} not recorded" if n_lost else ""
            folder = self._work if self._backend.is_remote else self.folder
            kind = store.ServerLostError if isinstance(failure, store.ServerLostError) else TrackingError
            raise kind(
                f"{failure.problem}{lost}; what run {self.name} has made lies in {folder}", failure.remedy
            ) from failure
        self._is_finished = True

    def _end(self, status: Status) -> None:
        if self._is_lost and self._backend.uri.startswith("http"):
            store.check_server(self._backend.uri)
        with self._asking("ending"):
            self._client.set_terminated(self.id, status)

    def _explain(self, message: str) -> None:
        if message or self.tags().get(Tag.MESSAGE):  # an old one, as of a run taken for dead, doesn't outlive the end
            self.set_tags({Tag.MESSAGE: masked(message)})

    def _try_all(self, *steps: Callable[[], None]) -> TrackingError | None:
        """Do all steps, whichever fail, and return the first failure; without a server the rest is left undone."""
        failure: TrackingError | None = None
        for step in steps:
            try:
                step()
            except store.ServerLostError as error:
                return failure or error
            except TrackingError as error:
                failure = failure or error
        return failure

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Word failures inside, and keep in mind whether the server has stopped answering."""
        try:
            with mlflow_errors(f"{doing} {self.name}", self._backend.location):
                yield
        except store.ServerLostError:
            self._is_lost = True
            raise
        self._is_lost = False

    def _get(self) -> Run:
        with self._asking("reading"):
            return self._client.get_run(self.id)

    def _send_metrics(self) -> None:
        while self._waiting:
            with self._asking("recording metrics of"):
                self._client.log_batch(self.id, metrics=self._waiting[:_METRICS_PER_BATCH])
            del self._waiting[:_METRICS_PER_BATCH]

    def _upload(self) -> None:
        """Upload what is new in the folder, and say so with a new revision."""
        if not self._backend.is_remote or not self._work.is_dir():
            return
        folder = self.folder
        try:
            for path, state in sorted(_states(folder).items()):
                if self._published.get(path) != state:
                    parent = path.parent.relative_to(folder).as_posix()
                    self._is_announced = False
                    with self._asking("uploading the files of"):
                        self._client.log_artifact(self.id, str(path), None if parent == "." else parent)
                    self._published[path] = state
            if not self._is_announced:
                revision = uuid.uuid4().hex
                # Here first: if the tag is set and the answer is lost, the files here must not pass for old.
                with self._revisions.open("a", encoding="ascii") as file:
                    file.write(f"{revision}\n")
                self.set_tags({Tag.REVISION: revision})
                self._is_announced = True
        except OSError as error:
            raise store.unwritable(folder, error) from None

    def _bring_up_to_date(self) -> None:
        """Download the files if there are none here, or another machine has published newer ones."""
        tags, folder = self.tags(), self._work
        revision = tags.get(Tag.REVISION, "")
        try:
            is_there = folder.is_dir() and any(folder.iterdir())
            known = self._revisions.read_text(encoding="ascii").split() if self._revisions.exists() else []
            is_ours = identity.own_tags().items() <= tags.items()
            if is_there and (not revision or revision in known or is_ours):
                self._is_current = True
                return
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{self.id}.") as temporary:
                self._download(Path(temporary), revision)
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise store.unwritable(folder, error) from None

    def _download(self, temporary: Path, revision: str) -> None:
        """Download into a temporary folder and put that in place of the run's; not if there is nothing."""
        new = temporary / "new"
        new.mkdir()
        with self._asking("downloading the files of"):
            for file in self._client.list_artifacts(self.id):
                self._client.download_artifacts(self.id, file.path, str(new))
        if not any(new.iterdir()):
            return
        with store.lock(self._backend.folder):
            self._revisions.unlink(missing_ok=True)
            if self._work.exists():
                self._work.rename(temporary / "old")
            new.rename(self._work)
            if revision:
                self._revisions.write_text(f"{revision}\n", encoding="ascii")
        self._published = _states(self._work)
        self._is_current = True

    def _warn(self, error: TrackingError) -> None:
        if not self._has_warned:
            _log.warning("%s. The run goes on, and what is missing is sent when it can be.", error)
        self._has_warned = True


def _states(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return the time (ns) and the size (bytes) of each file in a folder."""
    files = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in files}
