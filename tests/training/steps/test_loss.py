"""The loss of a batch, against NumPy and by finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rnatracker import metrics
from rnatracker.training.steps.loss import loss_of

_RNG = np.random.default_rng(0)
_LOGITS = torch.from_numpy(_RNG.normal(size=(12, 4)))
_TARGET = torch.from_numpy(_RNG.dirichlet(np.ones(4), 12)).float()


def test_divergence_is_that_of_the_metrics() -> None:
    predicted = torch.softmax(_LOGITS, dim=1).numpy()
    expected = metrics.kl_divergence(predicted, _TARGET.double().numpy())
    assert float(loss_of(_LOGITS, _TARGET)) == pytest.approx(expected, rel=1e-5)


def test_what_pcc_is_short_of_1_counts_as_much_as_is_asked_for() -> None:
    predicted, measured = torch.softmax(_LOGITS, dim=1).numpy(), _TARGET.double().numpy()
    pcc = metrics.mean_over_sites(metrics.pcc_per_site(predicted, measured))
    added = float(loss_of(_LOGITS, _TARGET, 2.0)) - float(loss_of(_LOGITS, _TARGET))
    assert added == pytest.approx(2 * (1 - pcc), rel=1e-4)


def test_gradient_is_that_of_finite_differences() -> None:
    logits = torch.from_numpy(_RNG.normal(size=(6, 3))).float().requires_grad_()
    target = torch.from_numpy(_RNG.dirichlet(np.ones(3), 6)).float()
    loss_of(logits, target, 0.7).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    for place in ((0, 0), (3, 2), (5, 1)):
        step = torch.zeros_like(logits)
        step[place] = 1e-2
        with torch.no_grad():
            slope = (loss_of(logits + step, target, 0.7) - loss_of(logits - step, target, 0.7)) / 2e-2
        assert float(logits.grad[place]) == pytest.approx(float(slope), abs=2e-3)


@pytest.mark.parametrize("n", [1, 2])
def test_batches_too_small_for_a_correlation_have_the_divergence_alone(n: int) -> None:
    assert torch.equal(loss_of(_LOGITS[:n], _TARGET[:n], 1.0), loss_of(_LOGITS[:n], _TARGET[:n]))


def test_a_site_that_does_not_vary_is_no_trouble() -> None:
    logits = torch.zeros(8, 3, requires_grad=True)
    loss = loss_of(logits, torch.full((8, 3), 1 / 3), 1.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss) and logits.grad is not None and torch.isfinite(logits.grad).all()
