"""The longest open reading frame against a plain search, and what it leaves in codes."""

from __future__ import annotations

import numpy as np
import pytest

from rnatracker.config import EncodingConfig
from rnatracker.data.encoding import NUCLEOTIDE, cut, decode, encode
from rnatracker.data.features.reading_frames import FRAME_SHIFT, longest, marked


def _plain(sequence: str) -> tuple[int, int]:
    """Return the longest frame by trying every start."""
    best = (0, 0)
    for start in range(len(sequence) - 2):
        if sequence[start : start + 3] != "ATG":
            continue
        end = start
        while end + 3 <= len(sequence):
            end += 3
            if sequence[end - 3 : end] in ("TAA", "TAG", "TGA"):
                break
        if end - start > best[1] - best[0]:
            best = (start, end)
    return best


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [
        ("", (0, 0)),
        ("AT", (0, 0)),
        ("CCCCCCTAACC", (0, 0)),
        ("ATG", (0, 3)),
        ("ATGTAA", (0, 6)),
        ("CATGCCCTGACC", (1, 10)),
        ("ATGCCCCC", (0, 6)),  # it is open at the end: up to the last whole codon
        ("ATGTAACATGTAG", (0, 6)),  # of equal ones the first
        ("ATGCTGATTTAATAG", (0, 12)),  # the stop that counts is the one in its frame
        ("ATGTNAATGA", (0, 9)),  # an ambiguous codon ends nothing
        ("NTGATNATG", (6, 9)),
        ("AUGUAA", (0, 6)),
    ],
)
def test_known_frames(sequence: str, expected: tuple[int, int]) -> None:
    assert longest(encode(sequence)) == expected


def test_it_finds_what_a_plain_search_finds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        sequence = "".join(rng.choice(list("ACGTN"), int(rng.integers(0, 400)), p=[0.3, 0.15, 0.25, 0.29, 0.01]))
        assert longest(encode(sequence)) == _plain(sequence), sequence


def test_codes_say_the_place_in_a_codon() -> None:
    sequences = ["CATGCCCTGACC", "CCC", "", "ATGTAA"]
    codes = np.concatenate([encode(each) for each in sequences])
    offsets = np.cumsum([0, *(len(each) for each in sequences)]).astype(np.int64)
    before = codes.copy()
    found = marked(codes, offsets)
    assert np.array_equal(codes, before) and np.array_equal(found & NUCLEOTIDE, codes)
    places = "".join(map(str, found >> FRAME_SHIFT))
    assert places == "012312312300" + "000" + "123123"
    assert decode(found) == "".join(sequences)


@pytest.mark.parametrize("keep", ["5p", "3p", "both"])
def test_the_frame_is_that_of_the_whole_transcript_wherever_it_is_cut(keep: str) -> None:
    codes = encode("CATGCCCTGACC")
    whole = marked(codes, np.array([0, 12]))
    encoded = cut(codes, np.array([0, 12]), EncodingConfig(max_length=6, keep=keep), codons=True)  # type: ignore[arg-type]
    expected = {"5p": whole[:6], "3p": whole[6:], "both": np.concatenate([whole[:3], whole[9:]])}[keep]
    assert np.array_equal(encoded.sequence(0), expected)
