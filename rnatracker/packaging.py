"""Registered models as files: what lies in a version's folder, and that it is what was registered.

Owns the layout of that folder and the checksums. Must not know the registry. Read next: `registry.py`, which keeps
versions; `rnatracker/checkpoint.py` for a file of weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from rnatracker import checkpoint
from rnatracker.checkpoint import Checkpoint
from rnatracker.errors import CheckpointError

WEIGHTS = "weights"
"""Folder of the weights' files, `model1.pt`, `model2.pt`, ..., one for each network of an ensemble."""


def checksums_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder by its name, sorted.

    Raises:
        OSError: if one can't be read.
    """
    return {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}


def sha256(path: Path) -> str:
    """Return a file's SHA-256, 64 hexadecimal digits.

    Raises:
        OSError: if it can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_weights(folder: Path, checksums: Mapping[str, str], what: str, remedy: str) -> list[Checkpoint]:
    """Load the files of weights in a folder, after holding each against its recorded checksum.

    Args:
        folder: where they lie.
        checksums: the recorded SHA-256 of each file by name.
        what: whose they are, for messages.
        remedy: what to do where they aren't what was recorded.

    Raises:
        CheckpointError: if there are no checksums, a file is missing, can't be read, or is another; nothing is then
            loaded.
    """
    if not checksums:
        raise CheckpointError(f"{what}: no checksums of its weights are recorded, so it is not loaded; {remedy}")
    for name, expected in checksums.items():
        try:
            found = sha256(folder / name)
        except OSError as error:
            raise CheckpointError(
                f"{what}: its weights {folder / name} can't be read ({error.strerror}); {remedy}"
            ) from None
        if found != expected:
            raise CheckpointError(
                f"{what}: its weights {folder / name} are not what was registered (SHA-256 {found[:12]}..., recorded "
                f"{expected[:12]}...): damaged or changed, so not loaded; {remedy}"
            )
    return [checkpoint.load(folder / name) for name in sorted(checksums, key=_number)]


def _number(name: str) -> tuple[int, str]:
    """Return a key that sorts `model2.pt` before `model10.pt`."""
    digits = "".join(letter for letter in name if letter.isdigit())
    return int(digits or 0), name
