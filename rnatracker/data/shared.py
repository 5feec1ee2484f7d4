"""Transcripts in a folder of arrays, so that several processes share one copy of them.

Owns nothing but that folder's layout, which lives as long as a command. Must not know readers.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from rnatracker.data.transcripts import Transcripts

_ARRAYS = ("codes", "offsets", "fractions")


def dump(transcripts: Transcripts, folder: Path) -> None:
    """Write transcripts into a folder; replicates are left out."""
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(transcripts, name))
    texts = {name: getattr(transcripts, name) for name in ("ids", "sites", "groups", "sites_named", "source")}
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")


def open_shared(folder: Path) -> Transcripts:
    """Map what `dump` wrote into memory: the sequences are read from one copy by all who open them."""
    codes, offsets, fractions = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS)
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    groups = texts.pop("groups")
    transcripts = Transcripts(tuple(texts.pop("ids")), codes, np.asarray(offsets), fractions=np.asarray(fractions))
    return replace(
        transcripts,
        sites=tuple(texts["sites"]),
        groups=None if groups is None else tuple(groups),
        sites_named=texts["sites_named"],
        source=texts["source"],
    )
