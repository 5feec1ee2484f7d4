"""Which transcripts a model was trained on, so that it is never measured on them.

Owns the fingerprints of sequences and their file. Must not know the registry. Read next:
`rnatracker/registry/test_set.py`, which asks.

A transcript is told by its sequence, whatever its id: 64 bits of a hash of it, so that the list can be kept with a
model (8 bytes a transcript) when the data themselves are gone. Two different sequences of a million have the same one
with a probability of 3 in 100 million.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from rnatracker.data.transcripts import Transcripts
from rnatracker.files import replacing

Fingerprints = npt.NDArray[np.uint64]


def fingerprints(transcripts: Transcripts) -> Fingerprints:
    """Return a fingerprint of each sequence, (N,) uint64, in the transcripts' order."""
    return np.frombuffer(b"".join(transcripts.sequence_digests(8)), "<u8").astype(np.uint64)


def seen(transcripts: Transcripts, trained_on: Fingerprints) -> npt.NDArray[np.int64]:
    """Return the indices of the transcripts whose sequences are among those that were trained on."""
    return np.flatnonzero(np.isin(fingerprints(transcripts), trained_on)).astype(np.int64)


def write(path: Path, trained_on: Fingerprints) -> None:
    """Write fingerprints, sorted, each once, and the folder if it isn't there.

    Raises:
        OSError: if they can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.save(file, np.unique(trained_on), allow_pickle=False)


def load(path: Path) -> Fingerprints | None:
    """Return what `write` wrote, or None if it isn't there or can't be read."""
    try:
        content = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return content if content.dtype == np.uint64 and content.ndim == 1 else None
