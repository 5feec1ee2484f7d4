"""Sequences as integer codes: the alphabet, cutting to a length, and padded batches.

Owns what a nucleotide is to the network. Must not know files or mlflow. Read next: `transcripts.py` for where codes
come from, `rnatracker/model/network.py` for where they go.

Codes are uint8: 0 is padding, 1 to 4 are A, C, G, T, and 5 is any ambiguous letter. `U` is `T`, lower case
is upper case. Every IUPAC letter that stands for more than one nucleotide is taken as `N`: 0.25 in each
channel. Source: the encoding table of the original (Yan et al. 2019), whose channels A C G T we keep; the
PyTorch port has them in the order G A T C, so its weights are permuted when they are loaded. Two further bits may say
which of its codon's nucleotides one is (`features/reading_frames.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnatracker.config import EncodingConfig
from rnatracker.data.features import reading_frames

Codes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]

PADDING = 0
ANY = 5
UNKNOWN = 255
N_CODES = 6
NUCLEOTIDE = 7
"""The bits of a code that say which nucleotide it is."""
CHANNELS = "ACGT"
LETTERS = "ACGTURYSWKMBDHVN"
"""What a sequence may consist of, in either case."""

_TABLE = np.full(256, UNKNOWN, np.uint8)
for _letter in LETTERS:
    _code = CHANNELS.find(_letter.replace("U", "T")) + 1 or ANY
    _TABLE[[ord(_letter), ord(_letter.lower())]] = _code
_TRANSLATION = _TABLE.tobytes()
_DECODING = bytes.maketrans(bytes(range(N_CODES)), b"-ACGTN")


def one_hot_table() -> npt.NDArray[np.float32]:
    """Return what each code is to the network, (6, 4) float32 over the channels A C G T."""
    table = np.zeros((N_CODES, len(CHANNELS)), np.float32)
    table[1:5] = np.eye(4)
    table[ANY] = 0.25
    return table


def encode(sequence: str | bytes) -> Codes:
    """Turn a sequence into codes, (L,) uint8.

    A letter outside `LETTERS` becomes `UNKNOWN`, since only the caller can say in which record it stands:
    see `first_unknown`.
    """
    if isinstance(sequence, str):
        sequence = sequence.encode("utf-8", "surrogateescape")
    return np.frombuffer(sequence.translate(_TRANSLATION), np.uint8)


def first_unknown(codes: Codes) -> int | None:
    """Return the position, from 0, of the first `UNKNOWN` code, or None."""
    position = int(np.argmax(codes == UNKNOWN)) if len(codes) else 0
    return position if len(codes) and codes[position] == UNKNOWN else None


def decode(codes: Codes) -> str:
    """Turn codes back into letters; ambiguous letters come back as `N`, padding as `-`."""
    return (codes & NUCLEOTIDE).tobytes().translate(_DECODING).decode("ascii")


@dataclass(frozen=True)
class Encoded:
    """What the network sees of transcripts: where each lies in codes that are kept once, whoever looks at them.

    Attributes:
        codes: (all nucleotides,) uint8.
        starts: (N,) int64; transcript i is `codes[starts[i]:starts[i] + lengths[i]]`.
        lengths: (N,) int64, nucleotides after the cut.
        total_lengths: (N,) int64, nucleotides of the whole transcripts before the cut.
    """

    codes: Codes
    starts: Offsets
    lengths: Offsets
    total_lengths: Offsets

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, indices: Indices) -> Encoded:
        """Return these transcripts, in this order; the codes are shared, not copied."""
        return Encoded(self.codes, self.starts[indices], self.lengths[indices], self.total_lengths[indices])

    def within(self, skip: Offsets, kept: Offsets) -> Encoded:
        """Return stretches of these transcripts: of each so many nucleotides, (N,), behind those skipped, (N,)."""
        return Encoded(self.codes, self.starts + skip, kept, self.total_lengths)

    def sequence(self, index: int) -> Codes:
        """Return one transcript's codes, (length,) uint8."""
        return self.codes[self.starts[index] : self.starts[index] + self.lengths[index]]


def cut(codes: Codes, offsets: Offsets, config: EncodingConfig, *, codons: bool = False) -> Encoded:
    """Cut ragged transcripts to `max_length`, keeping the end or ends that `keep` says.

    With `both`, the first half and the last half are kept, the first being longer by one where `max_length` is odd, and
    joined without a gap; the codes are then copied. With `full_length` nothing is cut.

    Args:
        codes: (sum of lengths,) uint8.
        offsets: (N + 1,) int64.
        config: which end, how long.
        codons: whether the codes are to say where the codons of each whole transcript's longest open reading
            frame are; they are then copied.
    """
    if codons:
        codes = reading_frames.marked(codes, offsets)
    total = np.diff(offsets)
    if config.full_length or not len(total) or int(total.max()) <= config.max_length:
        return Encoded(codes, offsets[:-1], total, total)
    kept = np.minimum(total, config.max_length)
    if config.keep == "5p":
        return Encoded(codes, offsets[:-1], kept, total)
    if config.keep == "3p":
        return Encoded(codes, offsets[1:] - kept, kept, total)
    starts = np.concatenate(([0], np.cumsum(kept)[:-1]))
    out = np.empty(int(kept.sum()), np.uint8)
    for start, end, length, to in zip(offsets[:-1], offsets[1:], kept, starts, strict=True):
        head = length - length // 2
        out[to : to + head] = codes[start : start + head]
        out[to + head : to + length] = codes[end - length // 2 : end]
    return Encoded(out, starts, kept, total)


def pad(encoded: Encoded, indices: Indices, length: int, *, front: bool) -> Codes:
    """Gather transcripts into one rectangular batch.

    Args:
        encoded: all transcripts.
        indices: (B,) which of them.
        length: width of the batch, at least that of the longest of them.
        front: pad before the sequence, as the port and the original do and an unmasked network was trained to read;
            False: after it, where a masked network's result can't depend on it.

    Returns:
        (B, length) uint8.
    """
    batch = np.zeros((len(indices), length), np.uint8)
    for row, i in enumerate(indices):
        sequence = encoded.sequence(int(i))
        start = length - len(sequence) if front else 0
        batch[row, start : start + len(sequence)] = sequence
    return batch
