"""The further data sets of a training, `data.also`: reading them, and which of their transcripts it must not see.

A transcript of another data set that is also in the validation or test part of the run's own would be remembered there,
even if it was measured at other sites. Owns which these are: those of equal sequences and, where the run divides by
families, their relatives. Must not know networks. Read next: `rnatracker/also.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rnatracker import also, site_names
from rnatracker.config import DataConfig
from rnatracker.data import similarity
from rnatracker.data.encoding import Indices
from rnatracker.data.readers import read
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import DataError
from rnatracker.tracking.tags import Tag


@dataclass(frozen=True)
class Other:
    """A further data set.

    Attributes:
        transcripts: what it holds.
        own: (K,) of each pair of the same, or of relatives, the index of the run's own transcript.
        same: (K,) the index of the other's.
    """

    transcripts: Transcripts
    own: Indices
    same: Indices

    def without(self, held_out: Indices) -> Indices:
        """Return the indices of the transcripts that may be trained on, sorted.

        Args:
            held_out: indices of the run's own transcripts on which it chooses or is measured.
        """
        return np.setdiff1d(np.arange(len(self.transcripts)), self.same[np.isin(self.own, held_out)])


def read_all(data: DataConfig) -> list[Transcripts]:
    """Read the further data sets that a run's settings name.

    Raises:
        DataError: if one can't be read, or has fewer than two sites.
    """
    return [_read(text, data) for text in data.also or ()]


def others_of(data: DataConfig, own: Transcripts) -> tuple[Other, ...]:
    """Read the further data sets, and find what they have in common with the run's own.

    Raises:
        DataError: as `read_all`, and as `rnatracker.data.similarity.between` where families are asked for.
    """
    return tuple(Other(each, *_pairs(own, each, data)) for each in read_all(data))


def check_left(others: Sequence[Other], held_out: Iterable[Indices]) -> None:
    """Check that something of each further data set may be trained on in each training.

    Args:
        others: the further data sets.
        held_out: of each training, indices of the run's own transcripts that it doesn't see.

    Raises:
        DataError: naming the first of which nothing is left.
    """
    for each in others:
        if any(not len(each.without(indices)) for indices in held_out):
            raise DataError(
                f"--also {each.transcripts.source}: all of its {len(each.transcripts)} transcripts, or relatives of "
                "them, are in a validation or test part of the data, so nothing of it can be trained on",
                "give other data, or leave it out",
            )


def said(others: Sequence[Other], held_out: Indices) -> Iterator[str]:
    """Yield for each further data set how much of it is trained on.

    Args:
        others: the further data sets.
        held_out: indices of the run's own transcripts that the training doesn't see.
    """
    for each in others:
        n, left = len(each.transcripts), len(each.without(held_out))
        why = " (the same, or relatives, are measured here)" if left < n else ""
        yield f"also training on {left} transcripts of {each.transcripts.source}, {n - left} left out{why}"


def digests(others: Sequence[Other]) -> str:
    """Return the digests of further data sets, as a tag keeps them; empty where there are none."""
    return ",".join(each.transcripts.digest() for each in others)


def check_same(others: Sequence[Other], tags: Mapping[str, str], called: str) -> None:
    """Check that further data sets are those that a run has recorded.

    Raises:
        DataError: naming the first that isn't.
    """
    recorded = tags.get(Tag.ALSO_DIGESTS, "").split(",")
    for each, digest in zip(others, recorded, strict=False):
        if each.transcripts.digest() != digest:
            raise DataError(
                f"--also {each.transcripts.source}: not the transcripts that {called} was trained on too (their digest "
                "differs)",
                "put the original file back",
            )


def _read(text: str, data: DataConfig) -> Transcripts:
    file, sites = also.parts(text)
    one, _, site = file.rpartition(":")
    if sites is None and one and not Path(file).exists() and Path(one).is_file():
        raise DataError(f"--also {text}: expected two or more sites behind the colon, got {site!r}", "name them all")
    try:
        found = read(file, sites=sites, labels=data.labels)
    except DataError as error:
        named = "" if sites else f"; sites stand behind the file's name: --also {file}:SITE1,SITE2"
        raise DataError(f"--also {error.problem}", f"{error.remedy}{named}") from None
    fault = site_names.fault(found.sites)
    if len(found.sites) < 2 or fault:
        raise DataError(f"--also {file}: {fault or 'expected two or more sites'}", f"use {file}:SITE1,SITE2")
    return found


def _pairs(own: Transcripts, other: Transcripts, data: DataConfig) -> tuple[Indices, Indices]:
    """Return the pairs of an own transcript and another's that must not stand on both sides of a division."""
    places: dict[bytes, list[int]] = {}
    for i, digest in enumerate(own.sequence_digests(16)):
        places.setdefault(digest, []).append(i)
    pairs = [(i, j) for j, digest in enumerate(other.sequence_digests(16)) for i in places.get(digest, ())]
    found = np.array(pairs, np.int64).reshape(-1, 2)
    if data.group_by == "similarity":
        relatives = similarity.between(own, other).at(data.identity, data.coverage)
        found = np.concatenate([found, np.column_stack(relatives)])
    return found[:, 0], found[:, 1]
