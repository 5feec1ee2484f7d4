"""Codes, cutting and padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnatracker.config import EncodingConfig
from rnatracker.data import encoding

_LETTERS = encoding.LETTERS + encoding.LETTERS.lower()


def _ragged(*sequences: str) -> tuple[encoding.Codes, encoding.Offsets]:
    codes = np.concatenate([encoding.encode(sequence) for sequence in sequences])
    return codes, np.concatenate(([0], np.cumsum([len(sequence) for sequence in sequences]))).astype(np.int64)


def test_encode_gives_the_documented_codes() -> None:
    assert encoding.encode("ACGTUacgtuNnRY").tolist() == [1, 2, 3, 4, 4, 1, 2, 3, 4, 4, 5, 5, 5, 5]


def test_one_hot_has_channels_acgt_a_quarter_of_each_for_n_and_nothing_for_padding() -> None:
    expected = [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0.25] * 4]
    assert encoding.one_hot_table().tolist() == expected


def test_first_unknown_gives_its_position_when_a_letter_is_foreign() -> None:
    assert encoding.first_unknown(encoding.encode("ACGX-")) == 3
    assert encoding.first_unknown(encoding.encode("ACGN")) is None
    assert encoding.first_unknown(encoding.encode("")) is None


@given(st.text(alphabet=_LETTERS))
def test_decode_returns_the_sequence_when_ambiguous_letters_are_read_as_n(sequence: str) -> None:
    upper = sequence.upper().replace("U", "T")
    expected = "".join(letter if letter in "ACGT" else "N" for letter in upper)
    assert encoding.decode(encoding.encode(sequence)) == expected


@pytest.mark.parametrize(
    ("keep", "expected"), [("5p", ["AACCG", "ACG"]), ("3p", ["CGGTT", "ACG"]), ("both", ["AACTT", "ACG"])]
)
def test_cut_keeps_the_end_asked_for_when_a_transcript_is_too_long(keep: str, expected: list[str]) -> None:
    codes, offsets = _ragged("AACCGGTT", "ACG")
    encoded = encoding.cut(codes, offsets, EncodingConfig(max_length=5, keep=keep))  # type: ignore[arg-type]
    kept = [encoding.decode(encoded.sequence(i)) for i in range(len(encoded))]
    assert kept == expected
    assert encoded.total_lengths.tolist() == [8, 3]


@given(
    st.lists(st.text(alphabet="ACGT", max_size=30), min_size=1, max_size=6),
    st.integers(1, 40),
    st.sampled_from(["5p", "3p", "both"]),
)
def test_cut_keeps_prefix_and_suffix_of_the_sequence(sequences: list[str], max_length: int, keep: str) -> None:
    encoded = encoding.cut(*_ragged(*sequences), EncodingConfig(max_length=max_length, keep=keep))  # type: ignore[arg-type]
    for i, sequence in enumerate(sequences):
        kept = encoding.decode(encoded.sequence(i))
        head = len(kept) if keep == "5p" else 0 if keep == "3p" else (len(kept) + 1) // 2
        assert len(kept) == min(len(sequence), max_length)
        if len(sequence) > max_length:
            assert kept == sequence[:head] + sequence[len(sequence) - (len(kept) - head) :]
        else:
            assert kept == sequence


def test_cut_keeps_all_when_full_length_is_asked_for() -> None:
    codes, offsets = _ragged("AACCGGTT")
    encoded = encoding.cut(codes, offsets, EncodingConfig(max_length=5, full_length=True))
    assert encoded.codes is codes


def test_pad_puts_zeros_on_the_side_asked_for() -> None:
    encoded = encoding.cut(*_ragged("ACG", "T"), EncodingConfig())
    indices = np.array([1, 0])
    assert encoding.pad(encoded, indices, 4, front=True).tolist() == [[0, 0, 0, 4], [0, 1, 2, 3]]
    assert encoding.pad(encoded, indices, 4, front=False).tolist() == [[4, 0, 0, 0], [1, 2, 3, 0]]


def test_taken_transcripts_share_their_codes_when_an_end_is_cut() -> None:
    codes, offsets = _ragged("AACCGGTT", "ACG", "TTTTTTA")
    for keep in ("5p", "3p"):
        encoded = encoding.cut(codes, offsets, EncodingConfig(max_length=5, keep=keep)).take(np.array([2, 0]))  # type: ignore[arg-type]
        assert encoded.codes is codes
        assert encoded.total_lengths.tolist() == [7, 8]
        assert encoding.decode(encoded.sequence(0)) == ("TTTTT" if keep == "5p" else "TTTTA")
