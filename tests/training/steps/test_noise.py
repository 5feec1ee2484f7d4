"""How often nucleotides are hidden or exchanged, and that padding stays."""

from __future__ import annotations

import pytest
import torch

from rnatracker.data.encoding import ANY
from rnatracker.training.steps.noise import noisy


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


def test_the_seed_decides() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(noisy(_codes(), 0.1, 0.1))
    assert torch.equal(*drawn)
