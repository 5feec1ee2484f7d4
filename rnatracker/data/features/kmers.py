"""How often each k-mer stands in a transcript, and how long it is: what models without a network look at.

Owns counting, and the order of the counts. Must not know files or models. Read next: `rnatracker/data/encoding.py`
for the codes, `rnatracker/baselines/` for the models.

A word's number is its bijective numeration with the digits A 1, C 2, G 3, T 4, which are the codes: 0 is the empty
word, 1 to 4 are the letters, 5 is AA, and so on. Words of all lengths have different numbers, and those that a word and
one more letter make have four numbers in a row, so one pass over the codes is enough for all k. Letters that stand for
several nucleotides break a word.
"""

from __future__ import annotations

import itertools
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rnatracker.data.encoding import CHANNELS, Encoded, Indices, Offsets

Counts = npt.NDArray[np.int32]
Frequencies = npt.NDArray[np.float32]

K = 5
"""The longest words."""
_STARTS = tuple(sum(len(CHANNELS) ** k for k in range(before)) for before in range(K + 2))
"""Number of the first word of each length, from 0 to K; then that of the words that are too long."""
N_WORDS = _STARTS[-1] - 1
"""Words of 1 to K letters."""
_BREAK = 0
_BLOCK = 1 << 20
"""Nucleotides that are counted at a time: what fits into a processor's cache."""


def words() -> list[str]:
    """Return the words that `count` counts, in its order: A, C, G, T, AA, AC, ... TTTTT."""
    return ["".join(letters) for k in range(1, K + 1) for letters in itertools.product(CHANNELS, repeat=k)]


def columns(k: int) -> slice:
    """Return where the words of k letters are among those that `count` counts."""
    return slice(_STARTS[k] - 1, _STARTS[k + 1] - 1)


def count(encoded: Encoded) -> Counts:
    """Count all words of 1 to K letters, overlapping ones each, (N, N_WORDS) int32, in the order of `words`."""
    counts = np.empty((len(encoded), N_WORDS), np.int32)
    for first, last in _blocks(encoded.lengths):
        counts[first:last] = _count(encoded, first, last)
    return counts


def frequencies(encoded: Encoded) -> Frequencies:
    """Return each word's share of a transcript's words of as many letters, (N, N_WORDS); 0 where there are none."""
    counts = count(encoded)
    found = np.empty(counts.shape, np.float32)
    for k in range(1, K + 1):
        of_k = counts[:, columns(k)]
        found[:, columns(k)] = of_k / np.maximum(of_k.sum(axis=1, keepdims=True), 1)
    return found


def _blocks(lengths: Offsets) -> list[tuple[int, int]]:
    """Divide transcripts into runs of about `_BLOCK` nucleotides: the first and the one behind the last of each."""
    number = np.cumsum(lengths) // _BLOCK
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(lengths)] if len(lengths) else [0]
    return list(itertools.pairwise(edges))


def _count(encoded: Encoded, first: int, last: int) -> Counts:
    n, lengths = last - first, encoded.lengths[first:last]
    # Between two transcripts, and behind the last, there is a break: no word goes over it.
    row = np.repeat(np.arange(n), lengths)
    place = np.arange(len(row)) + row
    letters = np.zeros(len(row) + n + K, np.uint8)
    letters[place] = np.concatenate([encoded.sequence(i) for i in range(first, last)])
    letters[letters > len(CHANNELS)] = _BREAK
    longest = np.zeros(len(row) + n, np.int16)
    unbroken = np.ones(len(longest), bool)
    for k in range(K):
        next_letter = letters[k : k + len(longest)]
        unbroken &= next_letter != _BREAK
        longest += (longest * 3 + next_letter) * unbroken
    # Each place is counted by the longest word that begins there, of K letters but before a break; then each word is
    # counted wherever a longer one begins with it.
    size = N_WORDS + 1
    counts = np.bincount(row * size + longest[place], minlength=n * size).reshape(n, size).astype(np.int32)
    for k in range(K, 1, -1):
        longer = counts[:, _STARTS[k] : _STARTS[k + 1]].reshape(n, -1, len(CHANNELS))
        counts[:, _STARTS[k - 1] : _STARTS[k]] += longer.sum(axis=2, dtype=np.int32)
    return counts[:, 1:]


class Features:
    """What is looked at of transcripts, each counted when it is first asked for.

    Args:
        encoded: the transcripts, whole: nothing is cut.
        counted: what `frequencies` has made of them before, if it has.
    """

    def __init__(self, encoded: Encoded, counted: Frequencies | None = None) -> None:
        self._encoded = encoded
        if counted is not None:
            self.__dict__["frequencies"] = counted

    def __len__(self) -> int:
        return len(self._encoded)

    def take(self, indices: Indices) -> Features:
        """Return those of these transcripts, in this order; what has been counted isn't counted again."""
        counted = self.__dict__.get("frequencies")
        return Features(self._encoded.take(indices), None if counted is None else counted[indices])

    @cached_property
    def frequencies(self) -> Frequencies:
        """(N, N_WORDS) float32, see `frequencies`."""
        return frequencies(self._encoded)

    @property
    def log_length(self) -> npt.NDArray[np.float64]:
        """(N,) natural logarithm of the number of nucleotides; 0 of an empty transcript."""
        return np.log(np.maximum(self._encoded.total_lengths, 1)).astype(np.float64)
