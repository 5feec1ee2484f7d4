"""Temporary folders, each with a note of the process that made it, and those that dead processes left.

Owns their names. A process that is killed outright can't remove what it made, so that it must be known later whose it
was. Must not know what is in them.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rnatracker.processes import identity

_PREFIX = "rnatracker-scratch-"
_OWNER = "owner.json"
_QUIET_SECONDS = 3600.0


@contextmanager
def folder() -> Iterator[Path]:
    """Make a temporary folder, and delete it in the end.

    Raises:
        OSError: if it can't be made; with the path in it.
    """
    made = make()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def make() -> Path:
    """Make a temporary folder that whoever asks for it deletes; those of dead processes are deleted first.

    Raises:
        OSError: if it can't be made; with the path in it.
    """
    for old in left_over():
        shutil.rmtree(old, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        (made / _OWNER).write_text(json.dumps(identity.own_tags()), encoding="utf-8")
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return made


def left_over() -> list[Path]:
    """Return this user's temporary folders whose processes are gone."""
    found = Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")
    return sorted(path for path in found if path.is_dir() and not path.is_symlink() and _is_left(path))


def _is_left(path: Path) -> bool:
    try:
        stat = path.stat()
        if hasattr(os, "getuid") and stat.st_uid != os.getuid():
            return False
        tags = json.loads((path / _OWNER).read_text(encoding="utf-8"))
        return isinstance(tags, dict) and identity.is_dead({str(key): str(value) for key, value in tags.items()})
    except FileNotFoundError:  # killed before it was noted
        return time.time() - stat.st_mtime > _QUIET_SECONDS
    except (OSError, ValueError):
        return False
