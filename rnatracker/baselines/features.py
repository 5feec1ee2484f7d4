"""The features of transcripts, counted once for each data set and kept in the store.

Owns their files, `work/features/<digest of the data>.npy`, which can be deleted at any time. Must not know models. Read
next: `rnatracker/data/features/kmers.py`, which counts.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from rnatracker.config import EncodingConfig
from rnatracker.data.encoding import Encoded, cut
from rnatracker.data.features.kmers import N_WORDS, Features, Frequencies
from rnatracker.data.transcripts import Transcripts
from rnatracker.files import replacing
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.store import WORK

_KEPT = 4
"""Data sets whose features are kept: the latest."""


def whole(transcripts: Transcripts) -> Encoded:
    """Return transcripts of which nothing is cut."""
    return cut(transcripts.codes, transcripts.offsets, EncodingConfig(full_length=True))


def features_of(transcripts: Transcripts, tracking: TrackingSettings) -> Features:
    """Return the features of transcripts, from the store where they are there, else counted and kept.

    A file that can't be read or written is no error: they are counted then.
    """
    path = folder(tracking) / f"{transcripts.digest()}.npy"
    encoded = whole(transcripts)
    known = _load(path, len(transcripts))
    if known is not None:
        with suppress(OSError):
            path.touch()
        return Features(encoded, known)
    found = Features(encoded)
    with suppress(OSError):
        _keep(path, found.frequencies)
    return found


def folder(tracking: TrackingSettings) -> Path:
    """Return where a store keeps features."""
    return tracking.store / WORK / "features"


def _load(path: Path, n: int) -> Frequencies | None:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.dtype == np.float32 and found.shape == (n, N_WORDS) else None


def _keep(path: Path, found: Frequencies) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.save(file, found, allow_pickle=False)
    older = sorted(path.parent.glob("*.npy"), key=lambda each: each.stat().st_mtime, reverse=True)[_KEPT:]
    for each in older:
        each.unlink(missing_ok=True)
