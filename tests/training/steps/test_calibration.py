"""A calibration that is known is found, and does the same in a network as on its predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rnatracker import metrics
from rnatracker.prediction.predictor import Predictor
from rnatracker.training.steps.calibration import Calibration, fit
from tests.support.toys import toy_checkpoint, toy_transcripts

_RNG = np.random.default_rng(0)


def _shrunk(measured: np.ndarray, scale: float, offsets: np.ndarray) -> np.ndarray:
    """Return predictions of which the calibration with this scale and these offsets makes what was measured."""
    logits = (np.log(measured) - offsets) / scale
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shrunk: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shrunk


def test_what_was_shrunk_and_shifted_is_found_again() -> None:
    measured, offsets = _RNG.dirichlet(np.full(4, 5.0), 5000), np.array([0.3, -0.2, 0.1, -0.2])
    predicted = _shrunk(measured, 2.0, offsets)
    found = fit(predicted, measured)
    assert found.scale == pytest.approx(2, rel=0.01)
    assert found.offsets == pytest.approx(offsets, abs=0.01)
    assert metrics.kl_divergence(found.apply(predicted), measured) < 1e-4


def test_of_few_transcripts_little_is_believed() -> None:
    predicted, measured = _RNG.dirichlet(np.ones(3), 2), _RNG.dirichlet(np.ones(3), 2)
    found = fit(predicted, measured)
    assert 0.3 < found.scale < 3 and np.abs(found.offsets).max() < 1


def test_fit_never_makes_the_divergence_larger() -> None:
    for n in (5, 50, 500):
        predicted, measured = _RNG.dirichlet(np.ones(3), n), _RNG.dirichlet(np.ones(3), n)
        after = metrics.kl_divergence(fit(predicted, measured).apply(predicted), measured)
        assert after <= metrics.kl_divergence(predicted, measured) + 1e-9


def test_certain_predictions_are_no_trouble() -> None:
    predicted, measured = np.eye(3)[[0, 1, 2, 0]], np.eye(3)[[0, 1, 2, 1]]
    found = fit(predicted, measured)
    assert np.isfinite([found.scale, *found.offsets]).all()
    assert np.isfinite(found.apply(predicted)).all()


def test_a_calibrated_network_predicts_the_calibrated_fractions() -> None:
    from dataclasses import replace

    transcripts, calibration = toy_transcripts(20), Calibration(1.7, np.array([0.2, -0.3, 0.1]))
    plain = toy_checkpoint(3)
    calibrated = replace(plain, weights=calibration.into(plain.weights))
    predicted = [Predictor([each], torch.device("cpu")).predict(transcripts) for each in (plain, calibrated)]
    assert predicted[1] == pytest.approx(calibration.apply(predicted[0]), abs=1e-6)
    assert plain.weights["output.weight"].dtype == calibrated.weights["output.weight"].dtype
