"""Where a database says that files lie: all of it, and putting it right when a store was moved or copied.

Owns the columns that hold places. Must not import mlflow. Read next: `rnatracker/tracking/places.py`, which decides
where a store was before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rnatracker.tracking.database.connection import reading, writing

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
_SOURCES = ("model_versions", "source")
_REFERENCES = (*_COLUMNS[1:], _SOURCES)


def of_experiments(path: Path, outside: Path) -> set[str]:
    """Return where experiments put the files of new runs, of those that don't lie in a folder.

    Args:
        path: the database.
        outside: the folder.

    Raises:
        DatabaseError: if it can't be read.
    """
    return _texts(path, _COLUMNS[:1], outside)


def of_files(path: Path, outside: Path | None = None) -> set[str]:
    """Return all places of files that runs (deleted ones too), models and registered versions name.

    Args:
        path: the database.
        outside: only those that don't lie in this folder.

    Raises:
        DatabaseError: if it can't be read.
    """
    return _texts(path, _REFERENCES, outside)


def _texts(path: Path, columns: Sequence[tuple[str, str]], outside: Path | None) -> set[str]:
    texts: set[str] = set()
    prefix = f"{outside}/" if outside else None
    with reading(path) as connection:
        for table, column in columns:
            query = f"SELECT DISTINCT {column} FROM {table} WHERE {column} <> ''"  # noqa: S608 (our own names)
            if prefix:
                found = connection.execute(f"{query} AND substr({column}, 1, ?) <> ?", (len(prefix), prefix))
            else:
                found = connection.execute(query)
            texts |= {text for (text,) in found}
    return texts


def knows_runs(path: Path) -> bool:
    """Tell whether there is a run, deleted ones too, or a model.

    Raises:
        DatabaseError: if it can't be read.
    """
    with reading(path) as connection:
        tables = ("runs", "logged_models")
        return any(connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in tables)  # noqa: S608


def move(path: Path, old: Path, new: Path) -> None:
    """Rewrite all places below a folder as below another, as paths and as addresses (`file://...`).

    Raises:
        DatabaseError: if it can't be written; nothing is rewritten then.
    """
    with writing(path) as connection:
        for table, column in (*_COLUMNS, _SOURCES):
            for before, after in ((f"{old}/", f"{new}/"), (f"{old.as_uri()}/", f"{new.as_uri()}/")):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 (our own names)
                    f"WHERE substr({column}, 1, ?) = ?",
                    (after, len(before) + 1, len(before), before),
                )
