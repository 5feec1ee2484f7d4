"""Where a version's files lie, on this machine or brought to it, and adding to them.

Owns this machine's copies of models that are on a server, `work/models/` in the store's folder. Must not know what the
files are. Read next: `mlflow_model.py`, which does.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rnatracker.errors import RegistryError
from rnatracker.registry.version import Version
from rnatracker.tracking import store
from rnatracker.tracking.mlflow_run import Backend
from rnatracker.tracking.store import mlflow_errors


def folder(backend: Backend, version: Version, remedy: str) -> Path:
    """Return the folder of a version's files, downloaded where they are on a server; they may not be whole.

    Args:
        backend: the store or server.
        version: the version.
        remedy: what to do where there is none.

    Raises:
        RegistryError: if there is none.
        TrackingError: if it can't be downloaded.
    """
    with mlflow_errors(f"finding {version.label}", backend.location):
        uri = backend.client.get_model_version_download_uri(version.name, str(version.number))
    local = _local(uri)
    if local is None:
        return _downloaded(backend, uri, _copy(backend, version))
    if not local.is_dir():
        raise RegistryError(f"{version.label}: its files are gone from {local}", remedy)
    return local


def forget(backend: Backend, version: Version) -> bool:
    """Delete this machine's copy of a version's files; return whether there was one."""
    copy = _copy(backend, version)
    if not copy.exists():
        return False
    shutil.rmtree(copy, ignore_errors=True)
    return not copy.exists()


def add(backend: Backend, model_id: str, path: Path, place: str) -> None:
    """Put a file beside those of a logged model, in place of one of that name.

    Args:
        backend: the store or server.
        model_id: the logged model's id.
        path: the file.
        place: the folder below the model's that it goes into.

    Raises:
        TrackingError: if it can't be written.
    """
    with mlflow_errors(f"keeping {path.name}", backend.location):
        try:
            backend.client.log_model_artifact(model_id, str(path), place)
        except OSError as error:
            raise store.unwritable(Path(error.filename or backend.folder), error) from None
    (_added(backend, model_id) / place / path.name).unlink(missing_ok=True)  # this machine's copy of the former one


def added(backend: Backend, model_id: str, file: str) -> Path:
    """Return a file that was put beside those of a logged model; it may not be there.

    Args:
        backend: the store or server.
        model_id: the logged model's id.
        file: its path below the model's folder.

    Raises:
        TrackingError: if there is no such model, or it can't be downloaded.
    """
    with mlflow_errors(f"finding {file}", backend.location):
        uri = backend.client.get_logged_model(model_id).artifact_location
    local = _local(uri)
    if local is not None:
        return local / file
    return _downloaded(backend, f"{uri}/{file}", _added(backend, model_id) / file)


def _local(uri: str) -> Path | None:
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return None
    return Path(url2pathname(parts.path) if parts.scheme == "file" else uri)


def _copies(backend: Backend) -> Path:
    return backend.folder / store.WORK / "models"


def _copy(backend: Backend, version: Version) -> Path:
    return _copies(backend) / (version.model_id or f"{store.slug(version.name)}-{version.number}") / "model"


def _added(backend: Backend, model_id: str) -> Path:
    return _copies(backend) / model_id / "added"


def _downloaded(backend: Backend, uri: str, place: Path) -> Path:
    """Return this machine's copy of files that never change once they are there."""
    if place.exists():
        return place
    from mlflow.artifacts import download_artifacts

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as temporary:
            with mlflow_errors(f"downloading {uri}", backend.location):
                copied = Path(download_artifacts(artifact_uri=uri, dst_path=temporary, tracking_uri=backend.uri))
            with store.lock(backend.folder):
                if not place.exists():
                    shutil.move(copied, place)
    except OSError as error:
        raise store.unwritable(place, error) from None
    return place
