"""The files of weights in a model's folder, and that they are what was registered.

Owns their names and their checksums. Must not know mlflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rnatracker.baselines import models as baselines
from rnatracker.errors import CheckpointError
from rnatracker.evaluation.models import Member
from rnatracker.files import digest_of
from rnatracker.model import checkpoint
from rnatracker.model.checkpoint import Checkpoint

WEIGHTS = "weights"
"""Folder of the weights' files, and the name of that artifact of a model."""
CHECKSUMS = "weights_sha256"
"""Where a model's settings and its description hold the files' checksums."""


def checksums_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder by its name, sorted.

    Raises:
        OSError: if one can't be read.
    """
    return {path.name: digest_of(path) for path in sorted(folder.iterdir()) if path.is_file()}


def load_weights(folder: Path, checksums: Mapping[str, str], what: str, remedy: str) -> list[Member]:
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
        raise CheckpointError(
            f"{what}: no checksums of its weights are recorded, so nothing of it is loaded: rnatracker has not made it",
            remedy,
        )
    for name, expected in checksums.items():
        try:
            found = digest_of(folder / name)
        except OSError as error:
            raise CheckpointError(
                f"{what}: its weights {folder / name} can't be read ({error.strerror})", remedy
            ) from None
        if found != expected:
            raise CheckpointError(
                f"{what}: its weights {folder / name} are not what was registered (SHA-256 {found[:12]}..., recorded "
                f"{expected[:12]}...): damaged or changed, so not loaded",
                remedy,
            )
    return [_load(folder / name) for name in sorted(checksums, key=_number)]


def _load(path: Path) -> Member:
    """Load one model by what its file's name ends with: each kind refuses the files of the others."""
    return baselines.load(path) if path.suffix == baselines.SUFFIX else checkpoint.load(path)


def _number(name: str) -> tuple[int, str]:
    """Return a key that sorts `model2.pt` before `model10.pt`."""
    digits = "".join(letter for letter in name if letter.isdigit())
    return int(digits or 0), name


def write_weights(folder: Path, members: Sequence[Member]) -> dict[str, str]:
    """Write what is needed to predict, without what only training needs.

    A network becomes `model1.pt`, a baseline `model1.npz`, and so on in the order of the members.

    Returns:
        The files' checksums.

    Raises:
        OSError: if they can't be written.
    """
    folder.mkdir(parents=True)
    for number, each in enumerate(members, start=1):
        if isinstance(each, Checkpoint):
            checkpoint.save(replace(each, optimizer=None, progress=None), folder / f"model{number}.pt")
        else:
            baselines.save(each, folder / f"model{number}{baselines.SUFFIX}")
    return checksums_of(folder)
