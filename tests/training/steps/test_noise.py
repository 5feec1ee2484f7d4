"""How often nucleotides are hidden or exchanged, and that padding stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rnatracker.config import EncodingConfig
from rnatracker.data.encoding import ANY, NUCLEOTIDE, cut, decode
from rnatracker.data.features.reading_frames import FRAME_SHIFT
from rnatracker.model.batching import Batches
from rnatracker.training.steps.noise import noisy, stretch_of
from tests.support.toys import toy_transcripts


def _codes() -> torch.Tensor:
    codes = torch.full((40, 1000), 2, dtype=torch.uint8)
    codes[:, 800:] = 0
    return codes


def test_nothing_is_drawn_where_nothing_is_asked_for() -> None:
    before, codes = torch.get_rng_state(), _codes()
    assert noisy(codes, 0, 0) is codes
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("mask", "exchange"), [(0.1, 0.0), (0.0, 0.2), (0.1, 0.2)])
def test_as_many_are_changed_as_asked_for(mask: float, exchange: float) -> None:
    torch.manual_seed(0)
    codes = _codes()
    found = noisy(codes, mask, exchange)
    assert torch.equal(codes, _codes()) and found.dtype == torch.uint8
    inside = found[:, :800]
    assert float((inside == ANY).float().mean()) == pytest.approx(mask, abs=0.01)
    for other in (1, 3, 4):
        assert float((inside == other).float().mean()) == pytest.approx(exchange / 4, abs=0.01)
    assert not found[:, 800:].any()


def test_the_place_in_a_codon_stays() -> None:
    torch.manual_seed(0)
    places = torch.arange(40000).reshape(40, 1000) % 4 << FRAME_SHIFT
    codes = _codes() + places.to(torch.uint8) * (_codes() > 0)
    found = noisy(codes, 0.3, 0.3)
    assert torch.equal(found & ~NUCLEOTIDE, codes & ~NUCLEOTIDE)
    assert 0.4 < float((found & NUCLEOTIDE != codes & NUCLEOTIDE)[:, :800].float().mean()) < 0.6


def test_the_seed_decides() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(noisy(_codes(), 0.1, 0.1))
    assert torch.equal(*drawn)


def test_a_stretch_lies_within_its_transcript_and_anywhere_in_it() -> None:
    torch.manual_seed(0)
    lengths = np.repeat(np.array([1, 30, 100]), 2000)
    draw = stretch_of(40, 0, torch.device("cpu"))
    assert draw is not None
    skip, kept = draw(lengths)
    assert (skip + kept <= lengths).all() and (kept == np.minimum(lengths, 40)).all()
    assert not skip[lengths < 41].any()
    assert set(skip[lengths == 100]) == set(range(61))


def test_a_shift_leaves_something_of_each_transcript() -> None:
    torch.manual_seed(0)
    lengths = np.repeat(np.array([1, 3, 100]), 2000)
    draw = stretch_of(0, 5, torch.device("cpu"))
    assert draw is not None
    skip, kept = draw(lengths)
    assert (skip + kept == lengths).all() and (kept > 0).all()
    assert [set(skip[lengths == n]) for n in (1, 3, 100)] == [{0}, {0, 1, 2}, set(range(6))]
    assert stretch_of(0, 0, torch.device("cpu")) is None


@pytest.mark.parametrize("masked", [True, False])
def test_a_batch_holds_the_stretches(masked: bool) -> None:
    transcripts = toy_transcripts(6)
    encoding = EncodingConfig(max_length=90)
    batches = Batches(cut(transcripts.codes, transcripts.offsets, encoding), encoding, masked, torch.device("cpu"))
    skip, kept = np.array([0, 3, 5]), np.array([10, 12, 4])
    batch = batches.gather(np.array([4, 0, 2]), lambda _: (skip, kept))
    assert batch.lengths.tolist() == kept.tolist()
    for row, i in enumerate((4, 0, 2)):
        codes = batch.codes[row].numpy()
        codes = codes[: kept[row]] if masked else codes[-kept[row] :]
        assert decode(codes) == transcripts.sequence(i)[skip[row] : skip[row] + kept[row]]
        assert batch.total_lengths[row] == len(transcripts.sequence(i))
