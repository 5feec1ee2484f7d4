"""Transcripts in a folder of arrays, so that several processes share one copy, and in one file, to be sent elsewhere.

Owns nothing but their layouts: the folder lives as long as a command, the file as long as a study. Must not know
readers.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rnatracker.data.transcripts import Transcripts
from rnatracker.files import naming

_ARRAYS = ("codes", "offsets", "fractions")
_TEXTS = ("ids", "sites", "groups", "families", "sites_named", "source", "columns", "notes")


def dump(transcripts: Transcripts, folder: Path) -> None:
    """Write transcripts into a folder; replicates are left out.

    Raises:
        OSError: if it can't be written, with the file.
    """
    for name in _ARRAYS:
        _write_array(folder / f"{name}.npy", np.ascontiguousarray(getattr(transcripts, name)))
    texts = {name: getattr(transcripts, name) for name in _TEXTS}
    with naming(folder / "texts.json"):
        (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")


def _write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array as `np.save` does, whose errors don't say that the disk is full."""
    with naming(path), path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


def pack(transcripts: Transcripts, path: Path) -> None:
    """Write transcripts into one file, compressed; replicates are left out.

    Raises:
        OSError: if it can't be written, with the file.
    """
    texts = json.dumps({name: getattr(transcripts, name) for name in _TEXTS})
    codes, offsets, fractions = (np.ascontiguousarray(getattr(transcripts, name)) for name in _ARRAYS)
    with naming(path), path.open("wb") as file:
        np.savez_compressed(file, texts=np.array(texts), codes=codes, offsets=offsets, fractions=fractions)


def unpack(path: Path) -> Transcripts:
    """Read what `pack` wrote.

    Raises:
        OSError: if it can't be read.
        ValueError: if it is something else, or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            codes, offsets, fractions = (kept[name] for name in _ARRAYS)
            texts = json.loads(str(kept["texts"]))
    except (KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"no packed transcripts ({error})") from None
    return _whole(codes, offsets, fractions, texts)


def open_shared(folder: Path) -> Transcripts:
    """Map what `dump` wrote into memory: the sequences are read from one copy by all who open them."""
    codes, offsets, fractions = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS)
    return _whole(codes, offsets, fractions, json.loads((folder / "texts.json").read_text(encoding="utf-8")))


def _whole(
    codes: npt.NDArray[Any], offsets: npt.NDArray[Any], fractions: npt.NDArray[Any], texts: dict[str, Any]
) -> Transcripts:
    groups, families = texts["groups"], texts["families"]
    transcripts = Transcripts(tuple(texts.pop("ids")), codes, np.asarray(offsets), fractions=np.asarray(fractions))
    return replace(
        transcripts,
        sites=tuple(texts["sites"]),
        groups=None if groups is None else tuple(groups),
        families=None if families is None else tuple(families),
        sites_named=texts["sites_named"],
        source=texts["source"],
        columns=texts["columns"],
        notes=tuple(texts["notes"]),
    )
