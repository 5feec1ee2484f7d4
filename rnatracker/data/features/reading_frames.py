"""The longest open reading frame of a transcript: where a protein is most likely encoded.

Owns how it is found and how it is written into codes. Read next: `rnatracker/data/encoding.py`, whose codes these are.

An open reading frame goes from an ATG to the first stop codon (TAA, TAG, TGA) in its frame, that one included, or to
the last whole codon where the transcript ends before. Only the strand that is given is read: transcripts are mRNAs. Of
several of the same length the first is taken. Source: Agarwal & Kelley 2022 (doi:10.1186/s13059-022-02811-x) give their
network for mRNA half-lives the annotated codons; here the longest frame stands for them, so that a sequence is enough.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

FRAME_SHIFT = 3
"""Where in a code the two bits begin that hold the place in a codon: 1 to 3, 0 outside of the open reading frame."""
_STARTS = ("ATG",)
_STOPS = ("TAA", "TAG", "TGA")
_BASE = 6
"""Codes of a nucleotide, so that three of them are one number below 216."""


def _numbers(codons: tuple[str, ...]) -> list[int]:
    codes = [["ACGT".index(letter) + 1 for letter in codon] for codon in codons]
    return [(a * _BASE + b) * _BASE + c for a, b, c in codes]


_KINDS = np.zeros(_BASE**3, np.uint8)
_KINDS[_numbers(_STARTS)] = 1
_KINDS[_numbers(_STOPS)] = 2


def longest(codes: Codes) -> tuple[int, int]:
    """Return where the longest open reading frame begins and ends, (0, 0) where there is no ATG.

    Args:
        codes: of one transcript, (L,) uint8, 0 to 5.
    """
    if len(codes) < 3:
        return 0, 0
    kinds = _KINDS[(codes[:-2] * np.uint8(_BASE) + codes[1:-1]) * np.uint8(_BASE) + codes[2:]]
    starts = np.flatnonzero(kinds == 1)
    if not len(starts):
        return 0, 0
    # By frame, then by position: a start's stop is the next one in this order, if it is of the same frame.
    n, stops = len(codes), np.flatnonzero(kinds == 2)
    keys = np.sort(np.concatenate([stops % 3 * n + stops, np.arange(1, 4) * n - 1]))
    nearest = keys[np.searchsorted(keys, starts % 3 * n + starts)]
    last = n - (n - starts) % 3  # behind the last whole codon
    ends = np.where(np.isin(nearest, np.arange(1, 4) * n - 1), last, nearest % n + 3)
    chosen = int(np.argmax(ends - starts))
    return int(starts[chosen]), int(ends[chosen])


def marked(codes: Codes, offsets: Offsets) -> Codes:
    """Return codes of ragged transcripts that say of each nucleotide which of its codon's three it is.

    Args:
        codes: (sum of lengths,) uint8, 0 to 5; left as they are.
        offsets: (N + 1,) int64.

    Returns:
        The same shape: 8, 16 or 24 is added to the codes of the first, second and third nucleotides of the codons in
        each transcript's longest open reading frame.
    """
    out = codes.copy()
    for begin, end in pairwise(offsets):
        start, stop = longest(codes[begin:end])
        out[begin + start : begin + stop] |= _places(stop - start)
    return out


def _places(n: int) -> npt.NDArray[np.uint8]:
    """Return 8, 16, 24, 8, ... for so many nucleotides."""
    return ((np.arange(n) % 3 + 1) << FRAME_SHIFT).astype(np.uint8)
