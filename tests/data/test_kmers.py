"""Counting k-mers: against counting by hand, broken by N, never over the end of a transcript."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from rnatracker.config import EncodingConfig
from rnatracker.data.encoding import Encoded, cut
from rnatracker.data.features import kmers
from rnatracker.data.sequences import from_sequences
from tests.support.toys import sequence_of


def _encoded(sequences: list[str]) -> Encoded:
    transcripts = from_sequences(sequences)
    return cut(transcripts.codes, transcripts.offsets, EncodingConfig(full_length=True))


def _by_hand(sequence: str) -> list[int]:
    found = Counter(sequence[i : i + k] for k in range(1, kmers.K + 1) for i in range(len(sequence) - k + 1))
    return [found[word] for word in kmers.words()]


def test_words_stand_in_the_order_that_is_promised() -> None:
    words = kmers.words()
    assert words[:6] == ["A", "C", "G", "T", "AA", "AC"] and words[-1] == "TTTTT"
    assert len(words) == kmers.N_WORDS == 4 + 16 + 64 + 256 + 1024
    assert words[kmers.columns(3)] == [word for word in words if len(word) == 3]


@pytest.mark.parametrize("sequence", ["A", "ACGT", "AAAAA", "AAAAAA", "ACGNTTGCA", "NNNN", "NACGTAN", "ACGTACGTTT" * 7])
def test_counts_are_those_by_hand(sequence: str) -> None:
    assert kmers.count(_encoded([sequence]))[0].tolist() == _by_hand(sequence)


def test_no_word_goes_over_the_end_of_a_transcript_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sequences = [sequence_of(rng, int(length)) for length in rng.integers(1, 60, 50)]
    expected = [_by_hand(sequence) for sequence in sequences]
    assert kmers.count(_encoded(sequences)).tolist() == expected
    monkeypatch.setattr(kmers, "_BLOCK", 70)
    assert kmers.count(_encoded(sequences)).tolist() == expected
    picked = np.array([7, 3, 3, 49])
    assert kmers.count(_encoded(sequences).take(picked)).tolist() == [expected[i] for i in picked]


def test_frequencies_are_shares_of_the_words_of_one_length() -> None:
    found = kmers.frequencies(_encoded(["AACN", "AC"]))
    words = kmers.words()
    of_first = {word: float(value) for word, value in zip(words, found[0], strict=True) if value}
    assert of_first == pytest.approx({"A": 2 / 3, "C": 1 / 3, "AA": 0.5, "AC": 0.5, "AAC": 1.0})
    assert found[1, words.index("AC")] == 1.0
    assert not found[1, kmers.columns(3)].any()  # too short: 0, not NaN


def test_nothing_is_counted_of_no_transcripts() -> None:
    none = Encoded(np.empty(0, np.uint8), *(np.empty(0, np.int64) for _ in range(3)))
    assert kmers.count(none).shape == (0, kmers.N_WORDS)


def test_features_of_some_are_those_of_all() -> None:
    features = kmers.Features(_encoded(["ACGT", "TTTTTT", "GATTACA"]))
    before = features.take(np.array([2, 0]))
    assert np.array_equal(before.frequencies, features.frequencies[[2, 0]])
    assert np.array_equal(features.take(np.array([2, 0])).frequencies, before.frequencies)
    assert before.log_length.tolist() == [np.log(7), np.log(4)]
