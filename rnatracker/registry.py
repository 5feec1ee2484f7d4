"""MLflow's model registry: versions of a model, their aliases, and any model by what a user calls it.

Owns every use of MLflow's registry. Must not know torch, nor what makes a champion: `promotion.py` does, and is to be
read next, with `packaging.py` for a version's files.

An alias names one version at a time and is moved in one step, so there is never more than one champion. Aliases are
changed under the store's lock.
"""

from __future__ import annotations

import difflib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rnatracker import store
from rnatracker.errors import CheckpointError, RegistryError, TrackingError
from rnatracker.store import mlflow_errors
from rnatracker.tracking import MlflowTracker, TrackingSettings

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from rnatracker.evaluation import Model

NAME = "rnatracker"
"""What the registered model is called where the user gives no other name."""
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
ALIASES = (CHAMPION, CHALLENGER, PREVIOUS)

CHECKSUMS_TAG = "rnatracker.weights_sha256"
RUN_NAME_TAG = "rnatracker.run_name"
DATA_TAG = "rnatracker.data_digest"
DESCRIPTION_TAG = "rnatracker.description"
MODEL_ID_TAG = "rnatracker.model_id"


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        name: the model's.
        number: from 1, never used twice.
        aliases: those that name it, `champion` first.
        run_id: the run that trained it.
        created: seconds since 1970.
        tags: all its tags.
    """

    name: str
    number: int
    aliases: tuple[str, ...]
    run_id: str
    created: float
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What to call it in messages: `rnatracker version 3`."""
        return f"{self.name} version {self.number}"

    @property
    def run_name(self) -> str:
        """The run's name, or its id where that was not recorded."""
        return self.tags.get(RUN_NAME_TAG) or self.run_id

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of each file of weights; empty where none was recorded."""
        try:
            return dict(json.loads(self.tags.get(CHECKSUMS_TAG, "{}")))
        except (ValueError, TypeError):
            return {}


class Registry:
    """The versions of one registered model, in the same store or server as the runs.

    Args:
        tracking: where that is.
        name: the model's name.

    Attributes:
        name: the same.
        location: what to call the store or server in messages.

    Raises:
        TrackingError: if it can't be reached or used.
        RegistryError: if there can be no model of that name, or runs are kept without MLflow.
    """

    def __init__(self, tracking: TrackingSettings, name: str = NAME) -> None:
        if not re.fullmatch(r"[\w.+ -]{1,100}", name):
            raise RegistryError(
                f"--name {name!r}: expected up to 100 letters, digits, spaces and _ . + - for a model's name"
            )
        if not tracking.enabled:
            raise RegistryError("a model can't be registered without tracking; leave out --no-track")
        self.name = name
        self.backend = MlflowTracker(tracking).backend
        self.location = self.backend.location
        self._client = self.backend.client

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store's lock: of processes and threads on this machine one at a time. Not to be nested."""
        with store.lock(self.backend.folder):
            yield

    def aliases(self) -> dict[str, int]:
        """Return the version that each alias names; empty where there is no such model."""
        from mlflow.exceptions import MlflowException

        with self._asking("reading the aliases of"):
            try:
                found = self._client.get_registered_model(self.name).aliases
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return {}
                raise
        return {str(alias): int(number) for alias, number in found.items()}

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
        return sorted((_version(each, aliases) for each in found), key=lambda each: -each.number)

    def version(self, number: int) -> Version:
        """Return one version.

        Raises:
            RegistryError: if there is none of that number, or it was deleted.
        """
        found = self._get(number)
        if found is None:
            known = ", ".join(str(each.number) for each in self.versions()) or "none"
            raise RegistryError(
                f"Model {self.name!r} has no version {number}; it has {known}. See them with: rnatracker models"
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
            raise RegistryError(
                f"Model {self.name!r}: its {alias}, version {number}, was deleted. {self._remedy(alias)}"
            )
        return found

    def named(self, alias: str) -> Version:
        """Return the version that an alias names.

        Raises:
            RegistryError: if it names none.
        """
        found = self.by_alias(alias)
        if found is None:
            raise RegistryError(f"Model {self.name!r} has no {alias}. {self._remedy(alias)}")
        return found

    def set_alias(self, alias: str, number: int) -> None:
        """Make an alias name this version, in one step and whichever it named before."""
        with self._asking(f"making version {number} the {alias} of"):
            self._client.set_registered_model_alias(self.name, alias, str(number))

    def delete_alias(self, alias: str) -> None:
        """Make an alias name nothing."""
        with self._asking(f"taking away the {alias} of"):
            self._client.delete_registered_model_alias(self.name, alias)

    def set_tags(self, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        with self._asking(f"tagging version {number} of"):
            for key, value in tags.items():
                self._client.set_model_version_tag(self.name, str(number), key, value)

    def folder(self, version: Version) -> Path:
        """Return the folder of a version's files, downloaded where they are on a server; they may not be whole.

        Raises:
            RegistryError: if there is none.
        """
        with self._asking(f"finding version {version.number} of"):
            uri = self._client.get_model_version_download_uri(self.name, str(version.number))
        parts = urlsplit(uri)
        if parts.scheme not in ("", "file"):
            return self._downloaded(version, uri)
        folder = Path(url2pathname(parts.path) if parts.scheme == "file" else uri)
        if not folder.is_dir():
            raise RegistryError(f"{version.label}: its files are gone from {folder}; {self._mending(version)}")
        return folder

    def model(self, version: Version) -> Model:
        """Load a version's weights, after holding them against their recorded checksums.

        Raises:
            RegistryError: if its files are gone.
            CheckpointError: if they aren't what was registered.
        """
        from rnatracker import packaging
        from rnatracker.evaluation import Model

        folder = self.folder(version) / "artifacts" / packaging.WEIGHTS
        found = packaging.load_weights(folder, version.checksums, version.label, self._mending(version))
        description = version.tags.get(DESCRIPTION_TAG) or f"{len(found)} networks"
        return Model(version.label, found, version.tags.get(DATA_TAG, ""), f"run {version.run_name}, {description}")

    def _get(self, number: int) -> Version | None:
        from mlflow.exceptions import MlflowException

        with self._asking(f"reading version {number} of"):
            try:
                found = self._client.get_model_version(self.name, str(number))
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise
        return _version(found, self.aliases())

    def _downloaded(self, version: Version, uri: str) -> Path:
        """Return the folder of this machine's copy of a version's files, which never change once registered."""
        place = self.backend.folder / store.WORK / "models" / store.slug(self.name) / str(version.number)
        if place.is_dir():
            return place
        from mlflow.artifacts import download_artifacts

        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place.parent) as temporary, self._asking("downloading"):
                download_artifacts(artifact_uri=uri, dst_path=temporary, tracking_uri=self.backend.uri)
                copied = next(iter(Path(temporary).rglob("MLmodel")), Path(temporary) / "MLmodel").parent
                if not place.exists():
                    shutil.move(copied, place)
        except OSError as error:
            raise store.unwritable(place, error) from None
        return place

    def _remedy(self, alias: str) -> str:
        choose = "Choose one with: rnatracker promote RUN_ID"
        if alias == CHAMPION and PREVIOUS in self.aliases():
            return f"{choose}, or return to the previous one with: rnatracker models --rollback"
        return choose

    def _mending(self, version: Version) -> str:
        back = ", or return to the previous champion with: rnatracker models --rollback"
        return (
            f"delete that version and register its run again with: rnatracker promote {version.run_name}"
            f"{back if CHAMPION in version.aliases else ''}"
        )

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        with mlflow_errors(f"{doing} the model {self.name!r}", self.location):
            yield


def _version(found: ModelVersion, aliases: Mapping[str, int]) -> Version:
    number = int(found.version)
    own = tuple(sorted((alias for alias, of in aliases.items() if of == number), key=_alias_order))
    return Version(found.name, number, own, found.run_id or "", found.creation_timestamp / 1000, dict(found.tags))


def _alias_order(alias: str) -> tuple[int, str]:
    return (ALIASES.index(alias) if alias in ALIASES else len(ALIASES)), alias


def resolve(reference: str, tracking: TrackingSettings, name: str = NAME) -> Model:
    """Return a model by what a user calls it.

    Args:
        reference: `champion`, `challenger` or `previous`; a version's number; `models:/NAME@ALIAS` or
            `models:/NAME/VERSION`; a run's id, name or folder; a file of weights. Where a file has the name of
            a run, `exp3` say, the run is meant.
        tracking: where runs and models are kept.
        name: the registered model that an alias or number is of.

    Raises:
        RegistryError: if there is no such version, or its files are gone.
        TrackingError: if there is no such run.
        CheckpointError: if its weights can't be loaded, or aren't what was registered.
    """
    from rnatracker import evaluation

    registered = _registered(reference, name)
    if registered is not None:
        registry = Registry(tracking, registered[0])
        which = registered[1]
        version = registry.version(int(which)) if which.isdigit() else registry.named(which)
        return registry.model(version)
    is_file = Path(reference).is_file()
    if is_file and not re.fullmatch(r"exp\d+(_.*)?|[0-9a-f]{6,32}", reference):
        return evaluation.model_of_file(reference)
    if not is_file and (Path(reference).suffix == ".pt" or reference.count("/") > 1) and not Path(reference).is_dir():
        raise CheckpointError(f"{reference}: no such file of weights; give a file, a run, a version or champion")
    try:
        return evaluation.model_of_run(reference, tracking)
    except TrackingError as error:
        if is_file:
            return evaluation.model_of_file(reference)
        near = difflib.get_close_matches(reference.lower(), ALIASES, n=1, cutoff=0.75)
        if near:
            raise TrackingError(f"{error}; did you mean {near[0]}?") from None
        raise


def _registered(reference: str, name: str) -> tuple[str, str] | None:
    """Return the model's name and the alias or number that a reference means, or None for a run or file."""
    if reference.startswith("models:"):
        match = re.fullmatch(r"models:/+([^/@]+)(?:@([^/@]+)|/(\d+))", reference)
        if not match:
            raise RegistryError(
                f"{reference}: expected models:/NAME@ALIAS or models:/NAME/VERSION, as in models:/{name}@{CHAMPION}"
            )
        return match[1], match[2] or match[3]
    if reference in ALIASES or re.fullmatch(r"[1-9]\d{0,4}", reference):
        return name, reference
    return None
