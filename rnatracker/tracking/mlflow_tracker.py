"""Runs in MLflow: opening the store or server, starting runs, recording, finding them again.

Owns every use of MLflow for runs. Must not know the trainer or Optuna. It uses MLflow's client and never its
fluent functions, whose state is global. MLflow takes 1-3 s to import, so that happens inside functions. Read
`rnatracker/tracking/contract.py` first, the contract that is kept here; then `store.py` for the store itself.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rnatracker.errors import TrackingError
from rnatracker.processes import identity
from rnatracker.tracking import orphans, store, ui_views
from rnatracker.tracking.contract import DatasetInput, TrackedRun, Tracker, one_of
from rnatracker.tracking.folders import NullRun
from rnatracker.tracking.mlflow_run import MAX_TAG, Backend, MlflowRun
from rnatracker.tracking.names import as_text, check_name, cut, login_of, masked, run_name, run_number
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.store import is_database, mlflow_errors, reach
from rnatracker.tracking.tags import Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run


_MAX_PARAM = 6000
_PARAMS_PER_BATCH = 100


class MlflowTracker(Tracker):
    """Runs in MLflow: in the store's database, in another one, or on a server."""

    def __init__(self, settings: TrackingSettings) -> None:
        """Open it; see `open_tracker`."""
        store.quiet_mlflow()
        uri, database = reach(settings)
        self.location = masked(settings.tracking_uri or str(settings.store))
        with mlflow_errors("opening it", self.location):
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            is_remote = not is_database(uri)
            experiment = _experiment(client, settings, uri, is_remote)
        self._backend = Backend(
            client, uri, self.location, experiment.experiment_id, settings.store, database, is_remote
        )

    @property
    def backend(self) -> Backend:
        """The open store or server, for what is kept there beside runs: `rnatracker.registry`."""
        return self._backend

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
        all_tags = {
            Tag.SOURCE_NAME: "rnatracker",
            Tag.SOURCE_TYPE: "LOCAL",
            **({Tag.PARENT: parent.id} if parent else {}),
            **_user(),
            **identity.own_tags(),
            **{key: cut(value, MAX_TAG) for key, value in tags.items()},
        }
        backend = self._backend
        run: MlflowRun | None = None
        try:
            with mlflow_errors("starting a run", self.location), store.lock(backend.folder):
                chosen = name or run_name(self._next_number(), log_name)
                run = MlflowRun(backend, backend.client.create_run(backend.experiment_id, None, all_tags, chosen))
            run.make_folder()
            with mlflow_errors(f"recording the parameters of {chosen}", self.location):
                self._record(run.id, params, dataset)
        except BaseException as error:
            if run is not None:
                _abandon(run, error)
            raise
        return run

    def find(self, run: str) -> TrackedRun:
        """See `Tracker.find`."""
        with mlflow_errors("finding a run", self.location):
            found = self._matching(run)
            if not found and NullRun.is_one(Path(run)):
                return NullRun(Path(run))
            latest = [] if found else self._latest()
        return one_of([MlflowRun(self._backend, each) for each in found], run, self.location, latest)

    def ui_command(self, port: int = 5000) -> str | None:
        """See `Tracker.ui_command`. Without its job runner the UI takes 0.5 GB instead of 2.9."""
        backend = self._backend
        if backend.is_remote:
            return None
        beside = Path(sys.executable).with_name("mlflow")
        on_path = shutil.which("mlflow")
        mlflow = "mlflow" if on_path and Path(on_path) == beside else shlex.quote(str(beside))
        artifacts = shlex.quote(str(backend.folder / store.ARTIFACTS))
        return (
            f"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true {mlflow} server -w 1 "
            f"--backend-store-uri {shlex.quote(backend.uri)} --default-artifact-root {artifacts} "
            f"--host 127.0.0.1 --port {port}"
        )

    def ui_url(self, port: int = 5000, view: str = ui_views.RUNS) -> str | None:
        """See `Tracker.ui_url`. Without the end of that address MLflow shows a page for language models."""
        backend = self._backend
        if backend.is_remote and not backend.uri.startswith("http"):
            return None
        remote = backend.uri.replace(login_of(backend.uri), "").rstrip("/")
        base = remote if backend.is_remote else f"http://127.0.0.1:{port}"
        return (
            f"{base}/#/experiments/{backend.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={view}"
        )

    def has_view(self, key: str) -> bool:
        """See `Tracker.has_view`."""
        with mlflow_errors("reading", self.location):
            return ui_views.tag_of(key) in self._backend.client.get_experiment(self._backend.experiment_id).tags

    def keep_view(self, key: str, view: str) -> None:
        """See `Tracker.keep_view`."""
        with mlflow_errors("keeping a view", self.location):
            self._backend.client.set_experiment_tag(self._backend.experiment_id, ui_views.tag_of(key), view)

    def _matching(self, run: str) -> list[Run]:
        search = self._backend.search
        if re.fullmatch(r"[0-9a-f]{32}", run):
            return self._by_id(run)
        if re.fullmatch(r"[0-9a-f]{6,31}", run):
            found = search(f"attributes.run_id LIKE '{run}%'", max_results=10)
            if found:
                return found
        if not re.fullmatch(r"[\w.+ -]+", run):
            return self._children_of(*run.rsplit("/", 1)) if re.fullmatch(r"[\w.+ -]+/[\w.+ -]+", run) else []
        found = search(f"attributes.run_name = '{run}'", max_results=10)
        if found or not re.fullmatch(r"exp\d+", run):
            return found
        # In LIKE a _ stands for any character.
        near = search(f"attributes.run_name LIKE '{run}_%'", max_results=100)
        return [each for each in near if (each.info.run_name or "").startswith(f"{run}_")]

    def _children_of(self, parent: str, name: str) -> list[Run]:
        found = [each.info.run_id for each in self._matching(parent)]
        wanted = f"tags.`mlflow.parentRunId` = '{found[0]}' and attributes.run_name = '{name}'" if found else ""
        return self._backend.search(wanted) if len(found) == 1 else []

    def _by_id(self, run_id: str) -> list[Run]:
        """Return the run of that id in any experiment, or nothing."""
        from mlflow.exceptions import MlflowException

        try:
            run = self._backend.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return []
            raise
        if run.info.lifecycle_stage == "deleted":
            raise TrackingError(
                f"{self.location}: run {run_id} was deleted",
                "restore it with: "
                f"MLFLOW_TRACKING_URI={shlex.quote(masked(self._backend.uri))} mlflow runs restore --run-id {run_id}",
            )
        return [run]

    def _latest(self) -> list[str]:
        """Return the names of the latest runs that are nobody's child."""
        runs = self._backend.search("", max_results=50)
        return [each.info.run_name or "" for each in runs if Tag.PARENT not in each.data.tags][:5]

    def _next_number(self) -> int:
        """Return the next N and count on; under the lock. A tag keeps it, since a search costs 18 ms a run."""
        client, experiment_id = self._backend.client, self._backend.experiment_id
        kept = client.get_experiment(experiment_id).tags.get(Tag.NEXT_NUMBER, "")
        if kept.isdigit():
            number = int(kept)
        else:
            names = (run.info.run_name or "" for run in self._backend.search("", max_results=100_000))
            number = 1 + max(map(run_number, names), default=0)
        client.set_experiment_tag(experiment_id, Tag.NEXT_NUMBER, str(number + 1))
        return number

    def _record(self, run_id: str, params: Mapping[str, object], dataset: DatasetInput | None) -> None:
        from mlflow.entities import Dataset, InputTag, Param
        from mlflow.entities import DatasetInput as Input

        client = self._backend.client
        texts = [Param(key, cut(as_text(value), _MAX_PARAM)) for key, value in params.items()]
        for i in range(0, len(texts), _PARAMS_PER_BATCH):
            client.log_batch(run_id, params=texts[i : i + _PARAMS_PER_BATCH])
        if dataset:
            entity = Dataset(
                name=dataset.name,
                digest=dataset.digest,
                source_type="local",
                source=json.dumps({"uri": dataset.source}),
                profile=json.dumps({"num_rows": dataset.n_records}),
            )
            client.log_inputs(run_id, [Input(entity, [InputTag(Tag.DATA_CONTEXT, dataset.context)])])


def _experiment(client: MlflowClient, settings: TrackingSettings, uri: str, is_remote: bool) -> Experiment:
    """Return the experiment, made if there is none, with its files in a folder of its name."""
    name = settings.experiment
    folder = settings.store / store.ARTIFACTS / store.slug(name)
    with store.lock(settings.store):
        if not is_remote and settings.tracking_uri and uri != store.database_uri(settings.store / store.DATABASE):
            orphans.note_database(settings.store, uri)
        found = client.get_experiment_by_name(name)
        if found is None:
            place, view = None if is_remote else str(folder), {ui_views.tag_of(ui_views.RUNS): ui_views.of_runs()}
            return client.get_experiment(client.create_experiment(name, place, tags=view))
    if found.lifecycle_stage == "deleted":
        place = masked(settings.tracking_uri or str(settings.store))
        raise TrackingError(
            f"{place}: the experiment {name!r} was deleted",
            "choose another "
            f"with --experiment, or restore it: MLFLOW_TRACKING_URI={shlex.quote(masked(uri))} mlflow experiments "
            f"restore -x {found.experiment_id}",
        )
    return found


def _abandon(run: MlflowRun, error: BaseException) -> None:
    """End a run that could not be started: what stopped it is the thing to tell, even if this fails too."""
    is_stop = isinstance(error, KeyboardInterrupt | SystemExit)
    message = "stopped while it was being started" if is_stop else str(error) or type(error).__name__
    with contextlib.suppress(TrackingError, OSError):
        run.finish("KILLED" if is_stop else "FAILED", message)


def _user() -> dict[str, str]:
    """Return the tag with the user's name, if the system has one for them; in a container it may not."""
    try:
        return {Tag.USER: getpass.getuser()}
    except (OSError, KeyError, ImportError):
        return {}
