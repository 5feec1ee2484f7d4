"""Where the files of a store lie, also after it was moved or copied, and whose they are.

Owns the note of where a store was last used, and what is another store's. Must not know MLflow. Read next:
`database/places.py` for the columns in which MLflow keeps places, all absolute.

Nothing outside of a store's own folder is written or deleted, unless an experiment was made with a place of its own
that is no other store's, and the files are not also those of the store that this one was copied from. So a store that
was moved or copied must be known as such: by its note `place`, and by runs whose files lie here at the same place below
it as the database says they do elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rnatracker.errors import TrackingError
from rnatracker.files import write_text
from rnatracker.tracking.database import places as columns
from rnatracker.tracking.database.connection import DatabaseError
from rnatracker.tracking.names import masked

DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"
NOTE = "place"
"""File in a store that says where it is: elsewhere than it lies, if it was moved or copied since."""
OTHERS = "other-databases"
"""File in a store that lists other databases whose runs have their files in it."""
ORIGINALS = "copied-from"
"""File in a store that lists the stores that it was copied from."""
MODELS = "models"
"""Folder, within an experiment's, of logged models."""

_RUN = re.compile(r"[0-9a-f]{32}")
_MODEL = re.compile(r"m-[0-9a-f]{32}")


def mend(path: Path, folder: Path) -> list[Path]:
    """Rewrite a database's places where its store was moved or copied; return where it was before.

    Args:
        path: the store's own database.
        folder: the store.

    Raises:
        DatabaseError: if the database can't be read or written.
        OSError: if the note can't be written.
    """
    former = _former(path, folder)
    for old in former:
        if (old / DATABASE).exists():  # copied, not moved: what lies outside of both is that one's
            _add_line(folder / ORIGINALS, str(old))
    for old in former:
        columns.move(path, old, folder)
    if _noted(folder) != folder:
        write_text(folder / NOTE, f"{folder}\n")
    return former


def rewrite(path: Path, folder: Path) -> None:
    """Rewrite the places in a store's database, or in a copy of it, and leave the store as it is; see `mend`.

    Raises:
        DatabaseError: if the database can't be read or written.
    """
    for old in _former(path, folder):
        columns.move(path, old, folder)


def _noted(folder: Path) -> Path | None:
    try:
        text = (folder / NOTE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    return Path(text) if text.startswith("/") else None


def _former(path: Path, folder: Path) -> list[Path]:
    """Return where a store was, of all that is told by its note and by the files that came with it."""
    noted = _noted(folder)
    former = {noted} if noted and noted != folder else set()
    lying = _strangers(columns.of_files(path, folder), folder)
    former |= {root for place in lying for root in _roots(place) if (folder / place.relative_to(root)).exists()}
    if noted is None and not any(place.exists() for place in lying):
        # Made before there were notes, and no file tells: a place of our own making that is gone, or is a store.
        made = {root for place in _strangers(columns.of_experiments(path, folder), folder) for root in _roots(place)}
        former |= {root for root in made if not root.exists() or (root / DATABASE).exists()}
    return sorted(former, key=lambda root: -len(root.parts))


def _roots(place: Path) -> Iterator[Path]:
    """Yield what may be the store of a place like `<store>/artifacts/<experiment>/<run>`."""
    yield from (parent.parent for parent in place.parents if parent.name == ARTIFACTS)


def _strangers(texts: Iterable[str], folder: Path) -> set[Path]:
    """Return the places on this machine's disks that are outside of the store."""
    lying = {local(text) for text in texts if urlsplit(text).scheme in ("", "file")}
    return {place for place in lying if not place.is_relative_to(folder)}


def local(text: str) -> Path:
    """Return a place of files, as MLflow writes it (a path, or `file://...`), as a path."""
    parts = urlsplit(text)
    return Path(url2pathname(parts.path) if parts.scheme == "file" else text)


def known(path: Path) -> set[Path]:
    """Return all places of files that a database names.

    Raises:
        DatabaseError: if it can't be read.
    """
    return {local(text) for text in columns.of_files(path)}


def outside(path: Path, folder: Path) -> list[Path]:
    """Return the places of files that a store's database names outside of the store.

    Raises:
        DatabaseError: if it can't be read.
    """
    return sorted(_strangers(columns.of_files(path, folder) | columns.of_experiments(path, folder), folder))


def check_own(place: str | Path, folder: Path, uri: str) -> None:
    """Check that a place is neither in another store, unless that one knows of this database, nor an original's.

    Args:
        place: where something would be written or deleted.
        folder: the store.
        uri: the database's address for MLflow.

    Raises:
        TrackingError: if it is.
    """
    path = local(str(place))
    for parent in path.parents:
        if parent == folder:
            return
        if (parent / DATABASE).exists() and masked(uri) not in other_databases(parent):
            raise TrackingError(
                f"{path}: it is in another store, {parent}, so {folder} writes and deletes nothing there",
                f"use that store: --store {parent}",
            )
    for original in map(Path, _lines(folder / ORIGINALS)):
        if _names(original / DATABASE, path):
            raise TrackingError(
                f"{path}: these are files of {original}, which {folder} is a copy of, so it leaves them alone",
                f"use that store: --store {original}",
            )


def _names(database: Path, place: Path) -> bool:
    """Tell whether a database names a place of files; one that is there and can't be asked may."""
    try:
        return database.exists() and place in known(database)
    except DatabaseError:
        return True


def note_database(folder: Path, uri: str) -> None:
    """Keep in mind that runs of another database than the store's own have their files in the store.

    Raises:
        OSError: if that can't be written.
    """
    _add_line(folder / OTHERS, masked(uri))


def other_databases(folder: Path) -> list[str]:
    """Return the other databases whose runs have their files in this store."""
    return _lines(folder / OTHERS)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _add_line(path: Path, line: str) -> None:
    lines = _lines(path)
    if line not in lines:
        write_text(path, "\n".join([*lines, line]) + "\n")


def folders_of_runs(folder: Path) -> Iterator[Path]:
    """Yield the folders in a store's artifacts that a run or a logged model may have made."""
    artifacts = folder / ARTIFACTS
    for experiment in _folders(artifacts):
        yield from (path for path in _folders(experiment) if _RUN.fullmatch(path.name))
        yield from (path for path in _folders(experiment / MODELS) if _MODEL.fullmatch(path.name))


def lost_runs(folder: Path) -> int:
    """Return how many runs or models have files in a store that only its own database can have known."""
    return 0 if other_databases(folder) else sum(1 for _ in folders_of_runs(folder))


def _folders(folder: Path) -> list[Path]:
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
