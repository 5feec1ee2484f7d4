"""The one data type of the package: transcripts with, perhaps, measured fractions.

Owns the arrays and their digest. Must not know files. Read next: `readers.py`, which makes it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rnatracker import site_names
from rnatracker.data.encoding import Codes, Indices, Offsets, decode
from rnatracker.errors import UsageError

Fractions = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Transcripts:
    """Transcripts as codes, kept once, with what was measured of them.

    Attributes:
        ids: one for each transcript, in the file's order, all different.
        codes: all sequences one after the other, uint8 (`rnatracker.data.encoding`).
        offsets: (N + 1,) int64; transcript i is `codes[offsets[i]:offsets[i + 1]]`.
        sites: names of the columns of `fractions`; empty where nothing was measured.
        fractions: (N, S) float64, rows sum to 1; None where nothing was measured.
        replicates: the two (N, S) measurements, each normalised, where the file has two.
        groups: one for each transcript (its gene, say); transcripts of one group are never divided.
        families: one for each transcript, where similar ones are not to be divided either; not part of the digest.
        sites_named: True where the file or the user named the sites, False where a model or an earlier run did.
        source: the file's name, for messages.
        columns: which column of a table was taken for what; empty where it is no table.
        notes: what a user should know of how the file was read, whole sentences.
    """

    ids: tuple[str, ...]
    codes: Codes
    offsets: Offsets
    sites: tuple[str, ...] = ()
    fractions: Fractions | None = None
    replicates: tuple[Fractions, Fractions] | None = None
    groups: tuple[str, ...] | None = None
    families: tuple[str, ...] | None = None
    sites_named: bool = True
    source: str = ""
    columns: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Offsets:
        """(N,) int64, nucleotides."""
        return np.diff(self.offsets)

    def measured(self) -> Fractions:
        """Return the fractions, (N, S) float64.

        Raises:
            ValueError: if nothing was measured; a program's mistake, since readers check it.
        """
        if self.fractions is None:
            raise ValueError(f"{self.source}: these transcripts have no measured fractions")
        return self.fractions

    def sequence(self, index: int) -> str:
        """Return one transcript's sequence as letters; ambiguous ones come back as `N`."""
        return decode(self.codes[self.offsets[index] : self.offsets[index + 1]])

    def take(self, indices: Indices) -> Transcripts:
        """Return the transcripts of these indices, in this order."""
        lengths = self.lengths[indices]
        parts = [self.codes[self.offsets[i] : self.offsets[i + 1]] for i in indices]
        return replace(
            self,
            ids=tuple(self.ids[i] for i in indices),
            codes=np.concatenate(parts) if parts else np.empty(0, np.uint8),
            offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
            fractions=None if self.fractions is None else self.fractions[indices],
            replicates=(
                None if self.replicates is None else (self.replicates[0][indices], self.replicates[1][indices])
            ),
            groups=None if self.groups is None else tuple(self.groups[i] for i in indices),
            families=None if self.families is None else tuple(self.families[i] for i in indices),
        )

    def sequence_digests(self, n_bytes: int) -> Iterator[bytes]:
        """Yield a hash of `n_bytes` of each sequence, in the transcripts' order: equal sequences have equal ones."""
        codes = self.codes.data
        for start, end in itertools.pairwise(self.offsets):
            yield hashlib.blake2b(codes[start:end], digest_size=n_bytes).digest()

    def digest(self) -> str:
        """Return 32 hexadecimal digits that change with any id, sequence, fraction, group or site.

        MLflow admits 36 characters, and its own digests look at the first rows only.
        """
        hasher = hashlib.sha256()
        hasher.update("\x1f".join([*self.ids, "", *self.sites, "", *(self.groups or ())]).encode())
        hasher.update(np.ascontiguousarray(self.offsets, "<i8").data)
        hasher.update(np.ascontiguousarray(self.codes).data)
        if self.fractions is not None:
            hasher.update(np.ascontiguousarray(self.fractions, "<f8").data)
        return hasher.hexdigest()[:32]


def checked_sites(sites: Sequence[str]) -> tuple[str, ...]:
    """Return names of sites that a user gives, without blanks around them.

    Raises:
        UsageError: if there are fewer than two, or a site can't be called so.
    """
    names = tuple(site.strip() for site in sites)
    if len(names) < 2:
        raise UsageError(f"--sites: expected two or more names, got {','.join(names)!r}")
    fault = site_names.fault(names)
    if fault:
        raise UsageError(f"--sites: {fault}", "use another name")
    return names
