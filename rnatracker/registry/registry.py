"""MLflow's model registry: versions of a model, and their aliases.

Owns the use of MLflow's registry, but for the doctor's look at aliases. Must not know torch, nor what makes a
champion. Read next: `promotion.py`, which does; `version.py` for what a version is, `mlflow_model.py` for its files.

An alias names one version at a time, so there is never more than one champion. Aliases are changed under the store's
lock. MLflow moves one at a time; where several are moved together, a tag of the model says so first, in one step, and
whoever reads meanwhile, or after the process was killed, takes the tag's word for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rnatracker.errors import CheckpointError, RegistryError, UsageError
from rnatracker.files import digest_of
from rnatracker.processes import scratch
from rnatracker.registry import model_files
from rnatracker.registry.version import CHAMPION, NAME, PREVIOUS, Version, version_of
from rnatracker.tracking import store
from rnatracker.tracking.hints import model_command
from rnatracker.tracking.names import described
from rnatracker.tracking.open import open_backend
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.store import mlflow_errors
from rnatracker.tracking.tags import Tag

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

    from rnatracker.evaluation.models import Model
    from rnatracker.prediction.intervals import Residuals

_MAX_DESCRIPTION = 5000
"""Characters of a version's description; a database other than SQLite takes no more."""


class Registry:
    """The versions of one registered model, in the same store or server as the runs.

    Args:
        tracking: where that is.
        name: the model's name.

    Attributes:
        name: the same.
        tracking: the same.
        location: what to call the store or server in messages.

    Raises:
        TrackingError: if it can't be reached or used.
        RegistryError: if there can be no model of that name, or runs are kept without MLflow.
    """

    def __init__(self, tracking: TrackingSettings, name: str = NAME) -> None:
        if not re.fullmatch(r"[\w.+ -]{1,100}", name):
            raise UsageError(
                f"--name {name!r}: expected up to 100 letters, digits, spaces and _ . + - for a model's name"
            )
        self.name = name
        self.tracking = tracking
        self.backend = open_backend(tracking)
        self.location = self.backend.location
        self._client = self.backend.client

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store's lock: of processes and threads on this machine one at a time. Not to be nested.

        What a killed process has left undone with the aliases is done first.
        """
        self.backend.check_writable()
        with store.lock(self.backend.folder):
            self._finish_moving(_moves(self.model_tags()))
            yield

    def aliases(self) -> dict[str, int]:
        """Return the version that each alias names; none where there is no such model."""
        found = self._model()
        if found is None:
            return {}
        named = {str(alias): int(number) for alias, number in found.aliases.items()} | _moves(found.tags)
        return {alias: number for alias, number in named.items() if number is not None}

    def move_aliases(self, moves: Mapping[str, int | None]) -> None:
        """Make each of these aliases name its version, or nothing (None): all of them or none. Under the lock."""
        self.set_model_tags({Tag.MOVING: json.dumps(dict(moves))})
        self._finish_moving(moves)

    def _finish_moving(self, moves: Mapping[str, int | None]) -> None:
        for alias, number in moves.items():
            if number is None:
                self.delete_alias(alias)
            else:
                self.set_alias(alias, number)
        if moves:
            self.set_model_tags({Tag.MOVING: ""})

    def versions(self) -> list[Version]:
        """Return all versions, the latest first."""
        aliases = self.aliases()
        found: list[ModelVersion] = []
        token = None
        with self._asking("reading the versions of"):
            while True:
                page = self._client.search_model_versions(f"name='{self.name}'", max_results=1000, page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        return sorted((version_of(each, aliases) for each in found), key=lambda each: -each.number)

    def version(self, number: int) -> Version:
        """Return one version.

        Raises:
            RegistryError: if there is none of that number, or it was deleted.
        """
        found = self._get(number)
        if found is None:
            known = ", ".join(str(each.number) for each in self.versions()) or "none"
            raise RegistryError(
                f"Model {self.name!r} has no version {number}",
                f"it has {known}; see them with: {self.command('models')}",
            )
        return found

    def by_alias(self, alias: str) -> Version | None:
        """Return the version that an alias names, or None.

        Raises:
            RegistryError: if the alias names a version that was deleted.
        """
        number = self.aliases().get(alias)
        if number is None:
            return None
        found = self._get(number)
        if found is None:
            raise RegistryError(f"Model {self.name!r}: its {alias}, version {number}, was deleted", self._remedy(alias))
        return found

    def named(self, alias: str) -> Version:
        """Return the version that an alias names.

        Raises:
            RegistryError: if it names none.
        """
        found = self.by_alias(alias)
        if found is not None:
            return found
        known = sorted(self.aliases())
        if alias in (CHAMPION, PREVIOUS) or not known:
            raise RegistryError(f"Model {self.name!r} has no {alias}", self._remedy(alias))
        raise RegistryError(
            f"Model {self.name!r} has no {alias}",
            f"it has {', '.join(known)}, and versions by number; see them with: {self.command('models')}",
        )

    def set_alias(self, alias: str, number: int) -> None:
        """Make an alias name this version, in one step and whichever it named before."""
        with self._changing(f"making version {number} the {alias} of"):
            self._client.set_registered_model_alias(self.name, alias, str(number))

    def delete_alias(self, alias: str) -> None:
        """Make an alias name nothing."""
        with self._changing(f"taking away the {alias} of"):
            self._client.delete_registered_model_alias(self.name, alias)

    def register(
        self, run_id: str, build: Callable[[str, Path], None], tags: Mapping[str, str], description: str
    ) -> Version:
        """Make a new version of this model, which is there whole or not at all.

        Its files are those of a logged model of MLflow's, which outlives the run.

        Args:
            run_id: the run that trained it.
            build: writes the files of a model of this id into a folder that isn't there yet.
            tags: tags of the version.
            description: what MLflow shows above it, as Markdown.
        """
        client = self._client
        with self._changing("registering a version of"):
            experiment = client.get_run(run_id).info.experiment_id
            made = client.create_logged_model(experiment, self.name.replace(".", "_"), run_id)
            try:
                with scratch.folder() as temporary:
                    build(made.model_id, temporary / "model")
                    client.log_model_artifacts(made.model_id, str(temporary / "model"))
                client.finalize_logged_model(made.model_id, "READY")
                number = self._create_version(made.model_id, made.artifact_location, run_id, tags, description)
            except BaseException:
                with suppress(Exception):  # what stopped it is the thing to tell
                    if not any(each.model_id == made.model_id for each in self.versions()):
                        client.delete_logged_model(made.model_id)
                raise
        return self.version(number)

    def describe(self, number: int, description: str) -> None:
        """Set what MLflow shows above a version, as Markdown; what a user has typed there stays, and ours below it."""
        with self._changing(f"describing version {number} of"):
            found = self._client.get_model_version(self.name, str(number))
            mark = dict(found.tags).get(Tag.OWN_NOTE, "")
            note, mark = described(found.description or "", mark, description, _MAX_DESCRIPTION)
            self._client.update_model_version(self.name, str(number), note)
            self._client.set_model_version_tag(self.name, str(number), Tag.OWN_NOTE, mark)

    def _create_version(self, model_id: str, place: str, run_id: str, tags: Mapping[str, str], description: str) -> int:
        from mlflow.exceptions import MlflowException

        client = self._client
        try:
            client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # In a database of its own, MLflow would look for models:/ID in the store that the process uses globally.
        source = f"models:/{model_id}" if self.backend.uri.startswith("http") else place
        description, mark = described("", "", description, _MAX_DESCRIPTION)
        own = {Tag.MODEL_ID: model_id, Tag.OWN_NOTE: mark}
        made = client.create_model_version(
            self.name, source, run_id, {**tags, **own}, description=description, model_id=model_id
        )
        listed = json.dumps([{"name": self.name, "version": str(made.version)}])
        client.set_logged_model_tags(model_id, {Tag.MODEL_VERSIONS: listed})
        return int(made.version)

    def model_tags(self) -> dict[str, str]:
        """Return the tags of the model as a whole; none where there is no such model."""
        found = self._model()
        return dict(found.tags) if found else {}

    def set_model_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the model as a whole."""
        with self._changing("tagging"):
            for key, value in tags.items():
                self._client.set_registered_model_tag(self.name, key, value)

    def set_tags(self, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        with self._changing(f"tagging version {number} of"):
            for key, value in tags.items():
                self._client.set_model_version_tag(self.name, str(number), key, value)

    def model(self, version: Version) -> Model:
        """Load a version's weights, after holding them against their recorded checksums.

        Raises:
            RegistryError: if its files are gone.
            CheckpointError: if they aren't what was registered.
        """
        try:
            return self._load(version)
        except CheckpointError:
            if not model_files.forget(self.backend, version):
                raise
            return self._load(version)  # a copy from a server was damaged: fetched again

    def _load(self, version: Version) -> Model:
        from rnatracker.evaluation.models import Model
        from rnatracker.evaluation.weights import WEIGHTS, load_weights
        from rnatracker.registry.mlflow_model import ARTIFACTS

        folder = self.folder(version) / ARTIFACTS / WEIGHTS
        found = load_weights(folder, version.checksums, version.label, self.mending(version))
        description = version.tags.get(Tag.DESCRIPTION) or f"{len(found.models)} models"
        return Model(
            version.label,
            found.models,
            version.tags.get(Tag.DATA_DIGEST, ""),
            f"run {version.run_name}, {description}",
            partial(self._residuals, version, found.models[0].sites),
            found.weights,
        )

    def _residuals(self, version: Version, sites: Sequence[str]) -> Residuals | None:
        from rnatracker.prediction import intervals
        from rnatracker.registry.mlflow_model import RESIDUALS_FILE

        if Tag.RESIDUALS_DIGEST not in version.tags:
            return None
        return intervals.read(self.checked_file(version, RESIDUALS_FILE, Tag.RESIDUALS_DIGEST), sites)

    def checked_file(self, version: Version, name: str, tag: str) -> Path:
        """Return a file beside a version's weights, after holding it against its recorded digest.

        Args:
            version: the version.
            name: the file's name; it may not be there where nothing is recorded.
            tag: where its digest is recorded; versions from before there was one have none.

        Raises:
            CheckpointError: if it isn't what was registered.
        """
        from rnatracker.registry.mlflow_model import ARTIFACTS

        path = self.folder(version) / ARTIFACTS / name
        recorded = version.tags.get(tag)
        if recorded and (not path.is_file() or digest_of(path) != recorded):
            raise CheckpointError(f"{version.label}: {path} is not what was registered", self.mending(version))
        return path

    def _model(self) -> RegisteredModel | None:
        from mlflow.exceptions import MlflowException

        with self._asking("reading"):
            try:
                return self._client.get_registered_model(self.name)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise

    def _get(self, number: int) -> Version | None:
        from mlflow.exceptions import MlflowException

        with self._asking(f"reading version {number} of"):
            try:
                found = self._client.get_model_version(self.name, str(number))
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise
        return version_of(found, self.aliases())

    def command(self, *words: str) -> str:
        """Return a command about this model, as `rnatracker models`, that finds the store that this one is in."""
        return model_command(list(words), self.tracking, self.name)

    def mending(self, version: Version) -> str:
        """Return what to do where a version's files are gone or damaged."""
        again = f"register its run again with: {self.command('promote', version.run_name)}"
        if CHAMPION not in version.aliases:
            return again
        return f"{again}, or return to the previous champion with: {self.command('models', '--rollback')}"

    def folder(self, version: Version) -> Path:
        """Return the folder of a version's files, downloaded where they are on a server; they may not be whole.

        Raises:
            RegistryError: if there is none.
            TrackingError: if it can't be downloaded.
        """
        return model_files.folder(self.backend, version, self.mending(version))

    def _remedy(self, alias: str) -> str:
        choose = f"choose one with: {self.command('promote', 'RUN_ID')}"
        if alias == CHAMPION and PREVIOUS in self.aliases():
            return f"{choose}, or return to the previous one with: {self.command('models', '--rollback')}"
        return choose

    @contextmanager
    def _changing(self, doing: str) -> Iterator[None]:
        self.backend.check_writable()
        with self._asking(doing):
            yield

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        with mlflow_errors(f"{doing} the model {self.name!r}", self.location):
            yield


def _moves(tags: Mapping[str, str]) -> dict[str, int | None]:
    """Return what aliases a model's tags say are on their way; see `Registry.move_aliases`."""
    return dict(json.loads(tags.get(Tag.MOVING) or "{}"))
