"""What the longest open reading frame of a transcript holds: its codons, its place, and its protein's hydropathy.

Owns these features and the names of their columns. Must not know files or models. Read next: `reading_frames.py`, which
finds the frame; `kmers.py`, whose `Features` hands them out.

That the longest frame is the one that is translated is a guess from the sequence. Where there is no frame, all of the
transcript counts as 3' UTR. A codon with an ambiguous letter is left out of the shares, and the hydropathy of its
residue is 0; a stop is a codon but no residue. The genetic code is the standard one.

Source: Kyte & Doolittle 1982 (doi:10.1016/0022-2836(82)90515-0) for the hydropathy of the residues, and for segments
that span a membrane: 19 neighbours whose mean is above 1.6. Signal peptides, with which proteins enter the endoplasmic
reticulum, have about 10 hydrophobic residues near the beginning.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from rnatracker.data.encoding import ANY, CHANNELS, Encoded
from rnatracker.data.features import reading_frames

Codes = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]

CODONS = tuple("".join(letters) for letters in itertools.product(CHANNELS, repeat=3))
"""AAA, AAC, ... TTT: the codons in the order of their columns."""
STOP = "*"
SEGMENT, SPANNING = 19, 1.6
"""Residues of a segment that spans a membrane, and the mean hydropathy that one is above."""
START = 30
"""Residues at the beginning whose mean hydropathy is taken."""
SIGNAL, SIGNAL_WITHIN = 10, 40
"""Neighbours of a signal peptide, and the residues at the beginning among which they are."""
HYDROPATHY = {
    "A": 1.8, "R": -4.5, "N": -3.5, "D": -3.5, "C": 2.5, "Q": -3.5, "E": -3.5, "G": -0.4, "H": -3.2, "I": 4.5,
    "L": 3.8, "K": -3.9, "M": 1.9, "F": 2.8, "P": -1.6, "S": -0.8, "T": -0.7, "W": -0.9, "Y": -1.3, "V": 4.2,
}  # fmt: skip
"""Of the 20 residues, from -4.5 (most hydrophilic) to 4.5."""
NAMES = (
    *(f"codon_{codon}" for codon in CODONS),
    "log_utr5", "log_frame", "log_utr3",
    "segment_highest", "segments_share", "segments", "start_mean", "signal_highest",
)  # fmt: skip
"""Names of the columns of `of_frames`."""

_RESIDUES = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
"""The standard genetic code, its codons in the order T, C, A, G."""
GENETIC_CODE = dict(zip(map("".join, itertools.product("TCAG", repeat=3)), _RESIDUES, strict=True))
"""The residue of each codon, or `STOP`."""
_AMBIGUOUS = len(CODONS)
"""Number of a codon that has an ambiguous letter."""
_TENTHS = np.array([round(10 * HYDROPATHY.get(GENETIC_CODE[codon], 0)) for codon in CODONS] + [0], np.int64)
"""Hydropathy by a codon's number, in tenths: sums of integers are exact."""
_STOPS = np.array([GENETIC_CODE[codon] == STOP for codon in CODONS] + [False])


def of_frames(encoded: Encoded) -> Values:
    """Return the features of each transcript's longest open reading frame, (N, 72) float32.

    The columns, named by `NAMES`, are:

    - the share of each of the 64 codons among the unambiguous codons of the frame, the stop included; 0 without any;
    - log(1 + nucleotides) before, inside and behind the frame;
    - of the protein's windows of 19 residues: the highest mean hydropathy, the share and the number of those above 1.6;
    - the mean hydropathy of the first 30 residues, or of as many as there are;
    - the highest mean hydropathy of 10 neighbours among the first 40 residues.

    What a protein is too short for is 0.

    Args:
        encoded: the transcripts, whole, their codes 1 to 5.
    """
    found = np.zeros((len(encoded), len(NAMES)), np.float32)
    for row in range(len(encoded)):
        codes = encoded.sequence(row)
        begin, end = reading_frames.longest(codes)
        codons = _numbers(codes[begin:end])
        found[row, : len(CODONS)] = _shares(codons)
        found[row, len(CODONS) :] = (
            *np.log1p([begin, end - begin, len(codes) - end]),
            *_of_protein(_TENTHS[codons[~_STOPS[codons]]]),
        )
    return found


def _numbers(frame: Codes) -> npt.NDArray[np.int64]:
    """Return the number of each codon of a frame: its place in `CODONS`, or `_AMBIGUOUS`."""
    triplets = frame.reshape(-1, 3).astype(np.int64)
    numbers = (triplets - 1) @ (len(CHANNELS) ** np.array([2, 1, 0]))
    return np.where((triplets == ANY).any(axis=1), _AMBIGUOUS, numbers)


def _shares(codons: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    counts = np.bincount(codons, minlength=_AMBIGUOUS + 1)[:_AMBIGUOUS]
    return counts / max(int(counts.sum()), 1)


def _of_protein(tenths: npt.NDArray[np.int64]) -> tuple[float, ...]:
    """Return what is computed of a protein's hydropathy, (residues,) in tenths, in the order of `NAMES`."""
    segments, signals = _sums(tenths, SEGMENT), _sums(tenths[:SIGNAL_WITHIN], SIGNAL)
    spanning = int((segments > round(10 * SPANNING) * SEGMENT).sum())
    start = tenths[:START]
    return (
        _highest(segments, SEGMENT),
        spanning / max(len(segments), 1),
        spanning,
        int(start.sum()) / (10 * max(len(start), 1)),
        _highest(signals, SIGNAL),
    )


def _sums(tenths: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.int64]:
    """Return the sum of each window of so many neighbours; none where there are fewer."""
    before = np.concatenate(([0], np.cumsum(tenths)))
    return before[width:] - before[:-width]


def _highest(sums: npt.NDArray[np.int64], width: int) -> float:
    return int(sums.max()) / (10 * width) if len(sums) else 0.0
