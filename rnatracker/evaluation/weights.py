"""The files of a model's members in one folder, and that they are what was recorded.

Owns their names, their checksums, and the file that holds what each member of a blend counts. Must not know mlflow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rnatracker.baselines import models as baselines
from rnatracker.baselines.models import Baseline
from rnatracker.errors import CheckpointError
from rnatracker.files import digest_of, write_text
from rnatracker.model import checkpoint
from rnatracker.model.checkpoint import Checkpoint

WEIGHTS = "weights"
"""Folder of the weights' files, and the name of that artifact of a model."""
CHECKSUMS = "weights_sha256"
"""Where a model's settings and its description hold the files' checksums."""
BLEND = "blend.json"
"""The file that holds what each member counts, where they don't all count the same."""
_FORMAT, _VERSION = "rnatracker-blend", 1
_EXACT = 1e-6
"""Weights sum to 1 as nearly as this."""

Member = Checkpoint | Baseline
"""One model of an ensemble, each with a file of its own kind."""


@dataclass(frozen=True)
class Members:
    """The models of an ensemble.

    Attributes:
        models: one or more.
        weights: what each counts in their mean, in the same order; they sum to 1. Empty: all count the same.
    """

    models: Sequence[Member]
    weights: tuple[float, ...] = ()


def checksums_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder by its name, sorted.

    Raises:
        OSError: if one can't be read.
    """
    return {path.name: digest_of(path) for path in sorted(folder.iterdir()) if path.is_file()}


def files_of_members(names: Collection[str]) -> list[str]:
    """Return those of a folder's files that hold a member, in the members' order."""
    return sorted((name for name in names if name != BLEND), key=_number)


def load_weights(folder: Path, checksums: Mapping[str, str], what: str, remedy: str) -> Members:
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
    members = files_of_members(checksums)
    weights = _read_blend(folder / BLEND, members) if BLEND in checksums else ()
    return Members([_load(folder / name) for name in members], weights)


def _read_blend(path: Path, members: Sequence[str]) -> tuple[float, ...]:
    """Return what each of the members' files counts."""
    problem = CheckpointError(
        f"{path}: not the weights of a blend of {len(members)} models: damaged, or of another rnatracker",
        "use another copy, or blend the runs again",
    )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["format"], content["version"]) != (_FORMAT, _VERSION) or set(content["weights"]) != set(members):
            raise problem
        found = tuple(float(content["weights"][name]) for name in members)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise problem from None
    if not all(0 <= each <= 1 for each in found) or not math.isclose(math.fsum(found), 1, abs_tol=_EXACT):
        raise problem
    return found


def _load(path: Path) -> Member:
    """Load one model by what its file's name ends with: each kind refuses the files of the others."""
    return baselines.load(path) if path.suffix == baselines.SUFFIX else checkpoint.load(path)


def _number(name: str) -> tuple[int, str]:
    """Return a key that sorts `model2.pt` before `model10.pt`."""
    digits = "".join(letter for letter in name if letter.isdigit())
    return int(digits or 0), name


def write_weights(folder: Path, members: Sequence[Member], weights: Sequence[float] = ()) -> dict[str, str]:
    """Write what is needed to predict, without what only training needs.

    A network becomes `model1.pt`, a baseline `model1.npz`, and so on in the order of the members.

    Args:
        folder: what is written; not there yet.
        members: the models.
        weights: what each counts; empty: all count the same.

    Returns:
        The files' checksums.

    Raises:
        OSError: if they can't be written.
    """
    folder.mkdir(parents=True)
    names = [
        f"model{number}{'.pt' if isinstance(each, Checkpoint) else baselines.SUFFIX}"
        for number, each in enumerate(members, start=1)
    ]
    for name, each in zip(names, members, strict=True):
        if isinstance(each, Checkpoint):
            checkpoint.save(replace(each, optimizer=None, progress=None), folder / name)
        else:
            baselines.save(each, folder / name)
    if len(weights):
        counts = dict(zip(names, map(float, weights), strict=True))
        content = {"format": _FORMAT, "version": _VERSION, "weights": counts}
        write_text(folder / BLEND, json.dumps(content, indent=2) + "\n")
    return checksums_of(folder)
