"""Artifacts in the store that belong to nothing, and deleting them.

Owns what an orphan is. Must not know MLflow. Read next: `rnatracker/doctor.py`; the command `doctor`, which asks first.

An orphan is a folder of a run, or of a logged model, directly in an experiment's folder of `artifacts/`, to which
nothing in the database refers: no run, deleted ones included since they can be restored, no logged model, no registered
version. Both are recorded before their folder is made, and folders are listed before the database is read, so that what
is being made just now is none. What was changed within the last hour, links, and whatever else lies there are left
alone. And where runs of another database have kept their files in this store, nothing is an orphan: `other-databases`
in the store lists those. Nor is anything where the database knows no run at all: more likely it is not the one that
belongs here. Temporary files and folders of processes that were killed are no orphans, but can be deleted as they can.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from rnatracker.errors import TrackingError
from rnatracker.processes import scratch
from rnatracker.tracking import places, store
from rnatracker.tracking.database import places as columns
from rnatracker.tracking.database.connection import DatabaseError

_PARTS = ("*.part", f"{places.DATABASE}.*.tmp*")
_QUIET_SECONDS = 3600.0


@dataclass(frozen=True)
class Orphan:
    """A folder or file that belongs to nothing.

    Attributes:
        path: where it is.
        size_bytes: what its files take.
        changed: when the latest of them was changed, in seconds since 1970.
    """

    path: Path
    size_bytes: int
    changed: float


def why_unknown(folder: Path) -> str:
    """Return why nothing can be said of orphans in a store; empty: it can.

    Raises:
        TrackingError: if the database can't be read.
    """
    others = places.other_databases(folder)
    if others:
        return f"runs of {', '.join(others)} keep their files in {folder} too"
    if any(places.folders_of_runs(folder)) and not _knows_runs(folder):
        return f"{folder / places.DATABASE} knows no run, though there are files of some: it may be another store's"
    return ""


def find(folder: Path) -> list[Orphan]:
    """Return the orphans of a store, the largest first; none where nothing can be said of them.

    Raises:
        TrackingError: if the database can't be read.
    """
    if (folder / places.ARTIFACTS).is_symlink() or why_unknown(folder):
        return []
    candidates = list(places.folders_of_runs(folder))  # before the references: see the module
    referred = _referred(folder)
    # Whatever names a folder's id keeps it, however the path before it is spelt; and so does a place above it.
    names = {part for place in referred for part in place.parts}
    kept = {path for path in candidates if path.name in names or not referred.isdisjoint(path.parents)}
    return _quiet([_measured(path) for path in candidates if path not in kept])


def left_over(folder: Path) -> list[Orphan]:
    """Return temporary files in a store, and temporary folders anywhere, of processes that are gone; largest first."""
    files = (path for pattern in _PARTS for path in folder.rglob(pattern) if path.is_file() and not path.is_symlink())
    scratch_folders = [_measured(path) for path in scratch.left_over()]
    return _by_size([*_quiet([_measured(path) for path in files]), *scratch_folders])


def _quiet(found: list[Orphan]) -> list[Orphan]:
    now = time.time()
    return _by_size([each for each in found if now - each.changed > _QUIET_SECONDS])


def _by_size(found: list[Orphan]) -> list[Orphan]:
    return sorted(found, key=lambda each: (-each.size_bytes, each.path))


def delete(folder: Path, orphans: list[Orphan]) -> tuple[int, int]:
    """Delete orphans and what was left over, as far as it still is; return how many, and how many bytes that were.

    Raises:
        TrackingError: if the database can't be read, or something can't be deleted.
    """
    n_deleted = size = 0
    with store.lock(folder):
        still = {each.path for each in (*find(folder), *left_over(folder))}
        for each in orphans:
            if each.path not in still:
                continue
            try:
                if each.path.is_dir():
                    shutil.rmtree(each.path)
                else:
                    each.path.unlink()
            except OSError as error:
                raise TrackingError(f"{each.path}: can't be deleted ({error.strerror or error})", "allow it") from None
            n_deleted += 1
            size += each.size_bytes
    return n_deleted, size


def _referred(folder: Path) -> set[Path]:
    """Return all places that the database names."""
    try:
        return places.known(folder / places.DATABASE)
    except DatabaseError as error:
        raise store.failed(error, "read") from None


def _knows_runs(folder: Path) -> bool:
    try:
        return columns.knows_runs(folder / places.DATABASE)
    except DatabaseError as error:
        raise store.failed(error, "read") from None


def _measured(path: Path) -> Orphan:
    stats = [each.lstat() for each in (path, *path.rglob("*"))]
    return Orphan(path, sum(stat.st_size for stat in stats), max(stat.st_mtime for stat in stats))
