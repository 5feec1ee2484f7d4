"""Runs in MLflow: opening the store or server, starting runs, finding, listing and ending them.

Owns what is asked of MLflow about more than one run. Must not know the trainer or Optuna. It uses MLflow's client and
never its fluent functions, whose state is global. MLflow takes 1-3 s to import, so that happens inside functions. Read
`rnatracker/tracking/contract.py` first, the contract that is kept here; then `mlflow_run.py` for one run, and
`store.py` for the store itself.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import re
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from rnatracker.errors import TrackingError
from rnatracker.processes import identity
from rnatracker.tracking import filters, hints, places, store, ui_views
from rnatracker.tracking.contract import (
    DatasetInput,
    DeletedRunError,
    NoExperimentError,
    RunningRun,
    TrackedRun,
    Tracker,
    one_of,
)
from rnatracker.tracking.database import runs as records
from rnatracker.tracking.database.connection import DatabaseError
from rnatracker.tracking.folders import FolderTracker
from rnatracker.tracking.listing import Listed, RunList
from rnatracker.tracking.mlflow_run import Backend, MlflowRun
from rnatracker.tracking.names import MAX_TAG, as_text, check_name, cut, login_of, masked, run_name, run_number
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.store import is_database, mlflow_errors, reach
from rnatracker.tracking.tags import Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run


_MAX_PARAM = 6000
_PARAMS_PER_BATCH = 100
_TWIN_SECONDS = 0.5


class MlflowTracker(Tracker):
    """Runs in MLflow: in the store's database, in another one, or on a server."""

    def __init__(self, settings: TrackingSettings, *, for_reading: bool = False) -> None:
        """Open it; see `open_tracker`.

        Args:
            settings: where it is.
            for_reading: make no experiment that isn't there, and import MLflow only when it is needed.
        """
        store.quiet_mlflow()
        self._settings = settings
        self._for_reading = for_reading
        place = reach(settings)
        self._uri, self._database, self._is_copy = place.uri, place.database, place.is_copy
        self.location = masked(settings.tracking_uri or str(settings.store))
        self._folders = FolderTracker(settings)
        if not for_reading:
            _ = self._backend  # so that what is wrong with it is said now

    @cached_property
    def _client(self) -> MlflowClient:
        with mlflow_errors("opening it", self.location):
            from mlflow import MlflowClient

            return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    @cached_property
    def _backend(self) -> Backend:
        is_remote = self.is_remote
        with mlflow_errors("opening it", self.location):
            found = self._known_experiment() if self._is_for_reading else self._made_experiment(is_remote)
        return Backend(
            self._client,
            self._uri,
            self.location,
            found.experiment_id,
            self._settings.store,
            self._database,
            is_remote,
            self._is_copy,
        )

    @property
    @override
    def is_remote(self) -> bool:
        return not is_database(self._uri)

    @property
    def _is_for_reading(self) -> bool:
        return self._for_reading or self._is_copy

    @property
    def backend(self) -> Backend:
        """The open store or server, for what is kept there beside runs: `rnatracker.registry`."""
        return self._backend

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
        all_tags = {
            Tag.SOURCE_NAME: "rnatracker",
            Tag.SOURCE_TYPE: "LOCAL",
            **({Tag.PARENT: parent.id} if parent else {}),
            **_user(),
            **identity.own_tags(),
            **{key: cut(value, MAX_TAG) for key, value in tags.items()},
        }
        backend = self._backend
        backend.check_writable()
        run: MlflowRun | None = None
        try:
            with mlflow_errors("starting a run", self.location), store.lock(backend.folder):
                chosen = name or run_name(self._take_number(), log_name)
                begun = self._start_time(parent, name)
                run = MlflowRun(backend, backend.client.create_run(backend.experiment_id, begun, all_tags, chosen))
                if backend.is_remote and name is None:
                    self._rename_twin(run, log_name)
            run.make_folder()
            with mlflow_errors(f"recording the parameters of {chosen}", self.location):
                self._record(run.id, params, dataset)
        except BaseException as error:
            if run is not None:
                _abandon(run, error)
            raise
        return run

    def _rename_twin(self, run: MlflowRun, log_name: str | None) -> None:
        """Give a run another number as long as another one has its own, made by another host at the same moment.

        Both may do so: numbers then are left out, but none means two runs.
        """
        number = run_number(run.name)
        while any(each.info.run_id != run.id for each in self._of_number(number)):
            time.sleep(secrets.SystemRandom().uniform(0, _TWIN_SECONDS))
            number = max(self._take_number(), number + 1)
            run.rename(run_name(number, log_name))

    def _of_number(self, number: int) -> list[Run]:
        found = self._backend.search(f"attributes.run_name LIKE 'exp{number}%'")
        return [each for each in found if run_number(each.info.run_name or "") == number]

    def _start_time(self, parent: TrackedRun | None, name: str | None) -> int | None:
        """Return when a child begins, in ms since 1970: of those of one name the latest counts.

        None, which is now, unless the clock was set back since another child of its name began.
        """
        if parent is None or name is None:
            return None
        condition = f"tags.`{Tag.PARENT}` = '{parent.id}' AND attributes.run_name = '{name}'"
        before = [each.info.start_time or 0 for each in self._backend.search(condition)]
        return max([int(time.time() * 1000), *(each + 1 for each in before)]) if before else None

    @override
    def find(self, run: str) -> TrackedRun:
        with mlflow_errors("finding a run", self.location):
            matches: list[TrackedRun] = [MlflowRun(self._backend, each) for each in self._matching(run)]
            is_id = [each.id for each in matches] == [run]
            matches += [] if is_id else self._folders.matching(run)
            latest = [] if matches else [*self._latest(), *self._folders.latest()][:5]
        return one_of(matches, run, self.location, latest, hints.command(["runs"], self._settings))

    @override
    def list_runs(self, where: str | None = None, enough: int | None = None) -> RunList:
        """Of an SQLite database all runs are read: that is fast."""
        if self._database is None:
            return self._backend.list_runs(where, enough)
        conditions = filters.parse(where) if where else None
        with self._reading():
            experiments = records.experiments(self._database)
            if self._settings.experiment not in experiments:
                raise NoExperimentError(self._settings.experiment, self.location, list(experiments))
            return RunList(records.list_runs(self._database, experiments[self._settings.experiment], conditions))

    @override
    def known_names(self) -> dict[filters.Kind, set[str]]:
        if self._database is None:
            with mlflow_errors("listing names", self.location):
                return self._backend.known_names()
        with self._reading():
            experiment = records.experiments(self._database).get(self._settings.experiment, -1)
            return records.known_names(self._database, experiment)

    @override
    def fill(self, runs: Sequence[Listed]) -> None:
        if self._database is None:
            self._backend.fill(runs)
            return
        with self._reading():
            records.fill(self._database, runs)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Word what SQLite says when the runs can't be read."""
        try:
            yield
        except DatabaseError as error:
            raise store.failed(error, "read") from None

    @override
    def running_runs(self) -> list[RunningRun]:
        client = self._client
        with mlflow_errors("looking for running runs", self.location):
            experiments = [each.experiment_id for each in client.search_experiments()]
            running = client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1000)
            names = {run.info.run_id: run.info.run_name or run.info.run_id for run in running}
            runs = []
            for run in running:
                parent = run.data.tags.get(Tag.PARENT, "")
                above = names.get(parent) or (client.get_run(parent).info.run_name if parent else "")
                name = names[run.info.run_id]
                last_sign = partial(self._last_sign, run, running)
                full_name = f"{above}/{name}" if above else name
                runs.append(RunningRun(run.info.run_id, full_name, run.data.tags, last_sign))
        return runs

    def _last_sign(self, run: Run, running: Sequence[Run]) -> float:
        """Return when a run last wrote a metric, or else began, in seconds since 1970.

        The run of a study or a cross-validation itself writes nothing while its children work, so what they write
        counts, and when one last ended.
        """
        client, info = self._client, run.info
        with mlflow_errors("looking for running runs", self.location):
            times = [info.start_time or 0]
            for key in run.data.metrics:
                if key.endswith("train/loss"):
                    times += [metric.timestamp for metric in client.get_metric_history(info.run_id, key)]
            of_parent = f"tags.`{Tag.PARENT}` = '{info.run_id}'"
            ended = client.search_runs(
                [info.experiment_id], of_parent, max_results=1, order_by=["attributes.end_time DESC"]
            )
        times += [each.info.end_time or 0 for each in ended]
        below = [each for each in running if each.data.tags.get(Tag.PARENT) == info.run_id]
        return max([max(times) / 1000, *(self._last_sign(each, running) for each in below)])

    @override
    def end_stale(self, run_id: str, message: str) -> None:
        self._backend.check_writable()
        with mlflow_errors("ending runs", self.location):
            self._client.set_terminated(run_id, "FAILED")
            self._client.set_tag(run_id, Tag.MESSAGE, message)

    @override
    def model_aliases(self, model: str) -> dict[str, int]:
        from mlflow.exceptions import MlflowException

        with mlflow_errors("reading the registry", self.location):
            try:
                aliases = self._client.get_registered_model(model).aliases
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return {}
        return {str(alias): int(number) for alias, number in aliases.items()}

    @override
    def ui_command(self, port: int = 5000) -> str | None:
        """Return the command, without MLflow's job runner: the UI takes 0.5 GB then instead of 2.9."""
        backend = self._backend
        if backend.is_remote:
            return None
        beside = Path(sys.executable).with_name("mlflow")
        on_path = shutil.which("mlflow")
        mlflow = "mlflow" if on_path and Path(on_path) == beside else shlex.quote(str(beside))
        artifacts = shlex.quote(str(backend.folder / places.ARTIFACTS))
        return (
            f"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true {mlflow} server -w 1 "
            f"--backend-store-uri {shlex.quote(backend.uri)} --default-artifact-root {artifacts} "
            f"--host 127.0.0.1 --port {port}"
        )

    @override
    def ui_url(self, port: int = 5000, view: str = ui_views.RUNS) -> str | None:
        """Return the address; without its end MLflow shows a page for language models."""
        backend = self._backend
        if backend.is_remote and not backend.uri.startswith("http"):
            return None
        remote = backend.uri.replace(login_of(backend.uri), "").rstrip("/")
        base = remote if backend.is_remote else f"http://127.0.0.1:{port}"
        return (
            f"{base}/#/experiments/{backend.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={view}"
        )

    @override
    def has_view(self, key: str) -> bool:
        with mlflow_errors("reading", self.location):
            return ui_views.tag_of(key) in self._backend.client.get_experiment(self._backend.experiment_id).tags

    @override
    def keep_view(self, key: str, view: str) -> None:
        self._backend.check_writable()
        with mlflow_errors("keeping a view", self.location):
            self._backend.client.set_experiment_tag(self._backend.experiment_id, ui_views.tag_of(key), view)

    def _matching(self, run: str) -> list[Run]:
        search = self._backend.search
        if re.fullmatch(r"[0-9a-f]{32}", run):
            return self._by_id(run)
        if re.fullmatch(r"[0-9a-f]{6,31}", run):
            of_id = search(f"attributes.run_id LIKE '{run}%'", max_results=10)
            if of_id:
                return of_id
        of_name = self._of_name(run)
        if not of_name and "/" in run:
            return self._children_of(run)
        if of_name or not re.fullmatch(r"exp\d+", run):
            return of_name
        # In LIKE a _ stands for any character.
        near = search(f"attributes.run_name LIKE '{run}_%'", max_results=100)
        return [each for each in near if (each.info.run_name or "").startswith(f"{run}_")]

    def _of_name(self, name: str) -> list[Run]:
        """Return the runs of exactly that name: in MLflow's UI a run may be given any."""
        # A filter has no way to write a quote within quotes; in LIKE a _ stands for any character.
        condition = f"= '{name}'" if "'" not in name else f"LIKE '{name.replace(chr(39), '_')}'"
        found = self._backend.search(f"attributes.run_name {condition}")
        return [each for each in found if each.info.run_name == name][:10]

    def _children_of(self, name: str) -> list[Run]:
        """Return the runs that a name with slashes may mean: a parent's and its child's, perhaps with slashes too."""
        found: list[Run] = []
        for slash in re.finditer("/", name):
            above, below = name[: slash.start()], name[slash.end() :]
            parents = self._matching(above) if above and below else []
            if len(parents) == 1:
                children = self._backend.search(f"tags.`{Tag.PARENT}` = '{parents[0].info.run_id}'", 100_000)
                found += [each for each in children if each.info.run_name == below]
        return found

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
            raise DeletedRunError(
                f"{self.location}: run {run_id} was deleted",
                f"restore it with: {store.mlflow_command(['runs', 'restore', '--run-id', run_id], self._backend.uri)}",
            )
        return [run]

    def _latest(self) -> list[str]:
        """Return the names of the latest runs that are nobody's child."""
        runs = self._backend.search("", max_results=50)
        return [each.info.run_name or "" for each in runs if Tag.PARENT not in each.data.tags][:5]

    def _created(self, name: str, place: str | None, view: dict[str, str]) -> Experiment:
        """Return the experiment, made here, or at the same moment by another host."""
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_experiment(self._client.create_experiment(name, place, tags=view))
        except MlflowException:
            made = self._client.get_experiment_by_name(name)
            if made is None:
                raise
            return made

    def _take_number(self) -> int:
        """Return the next N and count on; under the lock. A tag keeps it, since a search costs 18 ms a run.

        Runs in plain folders count too, so that no name means two runs.
        """
        client, experiment_id = self._backend.client, self._backend.experiment_id
        kept = client.get_experiment(experiment_id).tags.get(Tag.NEXT_NUMBER, "")
        if kept.isdigit():
            number = int(kept)
        else:
            names = (run.info.run_name or "" for run in self._backend.search("", max_results=100_000))
            number = 1 + max(map(run_number, names), default=0)
        number = max(number, self._folders.next_number())
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

    def _known_experiment(self) -> Experiment:
        """Return the experiment.

        Raises:
            NoExperimentError: if there is none.
        """
        known = self._client.get_experiment_by_name(self._settings.experiment)
        if known is None:
            names = [each.name for each in self._client.search_experiments()]
            raise NoExperimentError(self._settings.experiment, self.location, names)
        return known

    def _made_experiment(self, is_remote: bool) -> Experiment:
        """Return the experiment, made if there is none, with its files in a folder of its name."""
        settings, client, uri, name = self._settings, self._client, self._uri, self._settings.experiment
        folder = settings.store / places.ARTIFACTS / store.slug(name)
        with store.lock(settings.store):
            if not is_remote and settings.tracking_uri and uri != store.database_uri(settings.store / places.DATABASE):
                places.note_database(settings.store, uri)
            known = client.get_experiment_by_name(name)
            if known is None:
                place, view = None if is_remote else str(folder), {ui_views.tag_of(ui_views.RUNS): ui_views.of_runs()}
                known = self._created(name, place, view)
        if known.lifecycle_stage == "deleted":
            restore = store.mlflow_command(["experiments", "restore", "-x", known.experiment_id], uri)
            raise TrackingError(
                f"{self.location}: the experiment {name!r} was deleted",
                f"choose another with --experiment, or restore it: {restore}",
            )
        if not is_remote:
            places.check_own(known.artifact_location, settings.store, uri)
        return known


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
