"""Artifacts in the store that belong to nothing, and deleting them.

Owns what an orphan is. Must not know MLflow. Read next: `rnatracker/doctor.py`; the command `doctor`, which asks first.

An orphan is a folder of a run, or of a logged model, directly in an experiment's folder of `artifacts/`, to which
nothing in the database refers: no run, deleted ones included since they can be restored, no logged model, no registered
version. Both are recorded before their folder is made, and folders are listed before the database is read, so that what
is being made just now is none. What was changed within the last hour, links, and whatever else lies there are left
alone. And where runs of another database have kept their files in this store, nothing is an orphan: `other-databases`
in the store lists those.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rnatracker.errors import TrackingError
from rnatracker.tracking import database, store

_RUN = re.compile(r"[0-9a-f]{32}")
_MODEL = re.compile(r"m-[0-9a-f]{32}")
_MODELS = "models"
_QUIET_SECONDS = 3600.0


@dataclass(frozen=True)
class Orphan:
    """A folder that belongs to nothing.

    Attributes:
        path: the folder.
        size_bytes: what its files take.
        changed: when the latest of them was changed, in seconds since 1970.
    """

    path: Path
    size_bytes: int
    changed: float


def find(folder: Path) -> list[Orphan]:
    """Return the orphans of a store, the largest first; none where other databases have files in it.

    Raises:
        TrackingError: if the database can't be read.
    """
    artifacts = folder / store.ARTIFACTS
    if artifacts.is_symlink() or not artifacts.is_dir() or store.other_databases(folder):
        return []
    candidates = list(_candidates(artifacts))  # before the references: see the module
    places = _referred(folder)
    # Whatever names a folder's id keeps it, however the path before it is spelt; and so does a place above it.
    names = {part for place in places for part in place.parts}
    kept = {path for path in candidates if path.name in names or not places.isdisjoint(path.parents)}
    lone = [_measured(path) for path in candidates if path not in kept]
    now = time.time()
    quiet = [each for each in lone if now - each.changed > _QUIET_SECONDS]
    return sorted(quiet, key=lambda each: (-each.size_bytes, each.path))


def delete(folder: Path, orphans: list[Orphan]) -> tuple[int, int]:
    """Delete orphans that still are some; return how many, and how many bytes that were.

    Raises:
        TrackingError: if the database can't be read, or a folder can't be deleted.
    """
    n_deleted = size = 0
    with store.lock(folder):
        still = {each.path for each in find(folder)}
        for each in orphans:
            if each.path not in still:
                continue
            try:
                shutil.rmtree(each.path)
            except OSError as error:
                raise TrackingError(f"{each.path}: can't be deleted ({error.strerror or error})", "allow it") from None
            n_deleted += 1
            size += each.size_bytes
    return n_deleted, size


def _candidates(artifacts: Path) -> Iterator[Path]:
    """Yield the folders that a run or a model may have made."""
    for experiment in _folders(artifacts):
        yield from (path for path in _folders(experiment) if _RUN.fullmatch(path.name))
        yield from (path for path in _folders(experiment / _MODELS) if _MODEL.fullmatch(path.name))


def _folders(folder: Path) -> list[Path]:
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def _referred(folder: Path) -> set[Path]:
    """Return all places that the database names."""
    path = folder / store.DATABASE
    try:
        return {_local(text) for text in database.artifact_places(path)}
    except database.DatabaseError as error:
        raise TrackingError(
            f"{path}: can't be read ({error.reason}), so nothing can be said of orphans",
            "end the program that keeps it locked, or go back to a copy of it",
        ) from None


def _local(place: str) -> Path:
    parts = urlsplit(place)
    return Path(url2pathname(parts.path) if parts.scheme == "file" else place)


def _measured(path: Path) -> Orphan:
    stats = [each.lstat() for each in (path, *path.rglob("*"))]
    return Orphan(path, sum(stat.st_size for stat in stats), max(stat.st_mtime for stat in stats))
