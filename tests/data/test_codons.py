"""Features of the longest open reading frame: sequences whose answers are known by hand, and ragged batches."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from rnatracker.config import EncodingConfig
from rnatracker.data.encoding import Encoded, cut, encode
from rnatracker.data.features import codons, kmers, reading_frames
from rnatracker.data.sequences import from_sequences
from tests.support.toys import sequence_of

_CODON = {codons.GENETIC_CODE[codon]: codon for codon in codons.CODONS}
"""One codon of each residue."""


def _encoded(sequences: list[str]) -> Encoded:
    transcripts = from_sequences(sequences)
    return cut(transcripts.codes, transcripts.offsets, EncodingConfig(full_length=True))


def _features(sequence: str) -> dict[str, float]:
    (found,) = codons.of_frames(_encoded([sequence]))
    return {name: float(value) for name, value in zip(codons.NAMES, found, strict=True)}


def _frame_of(protein: str) -> str:
    return "".join(_CODON[residue] for residue in protein) + "TAA"


def test_the_genetic_code_is_the_standard_one() -> None:
    assert Counter(codons.GENETIC_CODE.values()) == dict(
        zip("LSRAGPTVI*CDEFHKNQYMW", [6, 6, 6, 4, 4, 4, 4, 4, 3, 3] + [2] * 9 + [1, 1], strict=True)
    )
    stops = [codon for codon in codons.CODONS if codons.GENETIC_CODE[codon] == codons.STOP]
    assert stops == ["TAA", "TAG", "TGA"]
    known = {"ATG": "M", "TGG": "W", "AAA": "K", "TTT": "F", "CTG": "L", "GAT": "D", "CAC": "H", "AGA": "R", "ATA": "I"}
    assert {codon: codons.GENETIC_CODE[codon] for codon in known} == known


def test_hydropathy_is_that_of_the_paper() -> None:
    assert set(codons.HYDROPATHY) == set("ACDEFGHIKLMNPQRSTVWY")
    by_value = "".join(sorted(codons.HYDROPATHY, key=lambda each: (-codons.HYDROPATHY[each], each)))
    assert by_value == "IVLFCMAGTSWYPHDENQKR"
    assert sum(codons.HYDROPATHY.values()) == pytest.approx(-9.8)


def test_codons_are_shares_of_the_frame_with_its_stop() -> None:
    found = _features("ccATGGCTGCTtaaAAAA".upper())
    assert {name: value for name, value in found.items() if name.startswith("codon_") and value} == {
        "codon_ATG": 0.25, "codon_GCT": 0.5, "codon_TAA": 0.25,
    }  # fmt: skip


def test_ambiguous_codons_are_left_out_and_are_residues_of_0() -> None:
    found = _features("ATGGCNGCTNNNTAA")
    shares = {name: value for name, value in found.items() if name.startswith("codon_") and value}
    assert shares == pytest.approx({"codon_ATG": 1 / 3, "codon_GCT": 1 / 3, "codon_TAA": 1 / 3})
    assert found["start_mean"] == pytest.approx((1.9 + 0 + 1.8 + 0) / 4)


@pytest.mark.parametrize(
    ("sequence", "regions"),
    [
        ("CCATGGCTTAAAAAA", (2, 9, 4)),
        ("ATGTAA", (0, 6, 0)),
        ("CATGGCTG", (1, 6, 1)),  # open at its end
        ("CCCCC", (0, 0, 5)),  # without a frame all is behind it
        ("A", (0, 0, 1)),
    ],
)
def test_lengths_of_the_three_regions(sequence: str, regions: tuple[int, int, int]) -> None:
    found = _features(sequence)
    assert [found[name] for name in ("log_utr5", "log_frame", "log_utr3")] == pytest.approx(np.log1p(regions))


def test_without_a_frame_all_else_is_0() -> None:
    found = _features("CCCCCCCC")
    assert [name for name, value in found.items() if value] == ["log_utr3"]


def test_a_frame_without_its_stop_has_as_many_residues_as_codons() -> None:
    assert _features("ATGATT")["start_mean"] == pytest.approx((1.9 + 4.5) / 2)
    assert _features("ATGATTTAA")["start_mean"] == pytest.approx((1.9 + 4.5) / 2)


def _hydropathy(protein: str) -> dict[str, float]:
    found = _features("C" + _frame_of(protein) + "CC")
    return {name: found[name] for name in codons.NAMES[-5:]}


def test_hydropathy_of_a_protein_of_one_segment() -> None:
    assert _hydropathy("M" + "I" * 19) == pytest.approx(
        {
            "segment_highest": 4.5, "segments_share": 1.0, "segments": 2.0,
            "start_mean": (1.9 + 19 * 4.5) / 20, "signal_highest": 4.5,
        }
    )  # fmt: skip


def test_hydropathy_of_a_signal_peptide_and_a_soluble_rest() -> None:
    """M, 10 L and 100 K: a stretch of 10 at the beginning, and no segment of 19."""
    assert _hydropathy("M" + "L" * 10 + "K" * 100) == pytest.approx(
        {
            "segment_highest": (1.9 + 10 * 3.8 - 8 * 3.9) / 19, "segments_share": 0.0, "segments": 0.0,
            "start_mean": (1.9 + 10 * 3.8 - 19 * 3.9) / 30, "signal_highest": 3.8,
        },
        rel=1e-6,
    )  # fmt: skip


def test_a_segment_far_behind_is_no_signal() -> None:
    """M, 60 K, 25 L, 15 K: 101 residues and so 83 windows, 19 of which hold 14 L or more; of 13 the mean is 1.37."""
    found = _hydropathy("M" + "K" * 60 + "L" * 25 + "K" * 15)
    assert found["signal_highest"] == pytest.approx((1.9 - 9 * 3.9) / 10)
    assert found["segment_highest"] == pytest.approx(3.8)
    of_leucines = [min(19, n) for n in (*range(1, 20), *[19] * 5, *range(19, 3, -1))]  # 60 K before them: all are there
    spanning = sum(3.8 * n - 3.9 * (19 - n) > 1.6 * 19 for n in of_leucines)
    assert found["segments"] == spanning and found["segments_share"] == pytest.approx(spanning / 83)


def test_a_mean_of_exactly_the_threshold_is_not_above_it() -> None:
    """M + 16 A + R + V: 1.9 + 28.8 - 4.5 + 4.2 = 30.4 = 19 x 1.6."""
    at = _hydropathy("M" + "A" * 16 + "RV")
    assert at["segment_highest"] == pytest.approx(1.6) and at["segments"] == 0.0
    assert _hydropathy("M" + "A" * 16 + "RI")["segments"] == 1.0


@pytest.mark.parametrize(("n", "segment", "signal"), [(9, 0.0, 0.0), (10, 0.0, 1.9), (18, 0.0, 1.9), (19, 1.9, 1.9)])
def test_what_a_protein_is_too_short_for_is_0(n: int, segment: float, signal: float) -> None:
    found = _hydropathy("M" * n)
    assert (found["segment_highest"], found["signal_highest"]) == pytest.approx((segment, signal))
    assert found["start_mean"] == pytest.approx(1.9)


def _by_hand(sequence: str) -> list[float]:
    """Return the features in plain Python, of letters."""
    begin, end = reading_frames.longest(encode(sequence))
    frame = [sequence[i : i + 3] for i in range(begin, end, 3)]
    known = [codon for codon in frame if codon in codons.GENETIC_CODE]
    shares = [known.count(codon) / max(len(known), 1) for codon in codons.CODONS]
    protein = [codons.GENETIC_CODE.get(codon, "X") for codon in frame]
    values = [codons.HYDROPATHY.get(residue, 0.0) for residue in protein if residue != codons.STOP]

    def means(of: list[float], width: int) -> list[float]:
        return [sum(of[i : i + width]) / width for i in range(len(of) - width + 1)]

    segments, start = means(values, 19), values[:30]
    spanning = sum(each > 1.6 + 1e-9 for each in segments)
    lengths = [float(np.log(1 + n)) for n in (begin, end - begin, len(sequence) - end)]
    signal = max(means(values[:40], 10), default=0.0)
    highest, share = max(segments, default=0.0), spanning / max(len(segments), 1)
    return [*shares, *lengths, highest, share, float(spanning), sum(start) / max(len(start), 1), signal]


def test_ragged_batches_are_as_one_by_one_and_as_plain_python() -> None:
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGTN"), n, p=[0.2, 0.2, 0.2, 0.39, 0.01])) for n in rng.integers(1, 900, 80)]
    together = codons.of_frames(_encoded(sequences))
    assert together.dtype == np.float32 and together.shape == (80, len(codons.NAMES)) and np.isfinite(together).all()
    assert np.array_equal(together, np.concatenate([codons.of_frames(_encoded([each])) for each in sequences]))
    assert together == pytest.approx(np.array([_by_hand(each) for each in sequences]), rel=1e-5, abs=1e-6)
    picked = np.array([7, 3, 3, 79])
    assert np.array_equal(codons.of_frames(_encoded(sequences).take(picked)), together[picked])


def test_nothing_is_computed_of_no_transcripts() -> None:
    none = Encoded(np.empty(0, np.uint8), *(np.empty(0, np.int64) for _ in range(3)))
    assert codons.of_frames(none).shape == (0, len(codons.NAMES))


def test_names_are_one_for_each_column_and_none_is_a_word() -> None:
    assert len(codons.NAMES) == 72 == len({*codons.NAMES} - {*kmers.words()})


def test_features_of_some_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    features = kmers.Features(_encoded(["CATGGCTTAA", "TTTTTT", "ATGATTATTATTTGA"]))
    before = features.take(np.array([2, 0]))
    assert np.array_equal(before.frames, features.frames[[2, 0]])
    monkeypatch.setattr(kmers, "of_frames", lambda _encoded: pytest.fail("computed again"))
    after = features.take(np.array([2, 0]))
    assert np.array_equal(after.frames, before.frames) and np.array_equal(
        after.take(np.array([1])).frames, after.frames[1:]
    )


@pytest.mark.slow
def test_ten_thousand_transcripts_take_seconds() -> None:
    rng = np.random.default_rng(0)
    encoded = _encoded([sequence_of(rng, 3000)] * 10_000)
    began = time.process_time()
    codons.of_frames(encoded)
    assert time.process_time() - began < 20
