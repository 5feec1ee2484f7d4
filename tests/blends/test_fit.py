"""The weights of a blend: known by hand, and never fitted to what they are measured on."""

from __future__ import annotations

import numpy as np
import pytest

from rnatracker.blends.fit import LEAST, cross_fit, fit_weights

_RNG = np.random.default_rng(0)


def _fractions(n: int, sites: int = 3) -> np.ndarray:
    return _RNG.dirichlet(np.ones(sites), n)


def test_what_was_mixed_is_found_again() -> None:
    each = np.stack([_fractions(50) for _ in range(3)])
    assert fit_weights(each, 0.7 * each[0] + 0.3 * each[2]) == pytest.approx([0.7, 0, 0.3], abs=1e-6)


def test_a_model_that_would_count_less_than_nothing_counts_nothing() -> None:
    truth, noise = _fractions(200), _fractions(200)
    wrong = (1 - truth) / 2  # high where the truth is low
    weights = fit_weights(np.stack([0.8 * truth + 0.2 * noise, wrong]), truth)
    assert weights == pytest.approx([1, 0]) and weights[1] == 0


def test_weights_are_those_of_least_squares_by_hand() -> None:
    """Of two models, whose weights sum to 1, the first counts (d . r) / (d . d)."""
    first, second, measured = _fractions(40), _fractions(40), _fractions(40)
    apart, off = (first - second).ravel(), (measured - second).ravel()
    expected = float(np.clip(apart @ off / (apart @ apart), 0, 1))
    assert 0 < expected < 1
    assert fit_weights(np.stack([first, second]), measured) == pytest.approx([expected, 1 - expected], abs=1e-6)


@pytest.mark.parametrize("copies", [2, 5])
def test_equal_models_are_no_trouble(copies: int) -> None:
    each = np.stack([_fractions(30)] * copies)
    weights = fit_weights(each, _fractions(30))
    assert weights.sum() == pytest.approx(1, abs=1e-12) and (weights >= 0).all()
    assert np.tensordot(weights, each, 1) == pytest.approx(each[0])


def test_transcripts_that_were_not_measured_have_no_say() -> None:
    each = np.stack([_fractions(50), _fractions(50)])
    measured = 0.5 * each[0] + 0.5 * each[1]
    measured[::2] = np.nan
    assert fit_weights(each, measured) == pytest.approx([0.5, 0.5], abs=1e-6)


def test_a_fold_is_blended_with_weights_that_have_not_seen_it() -> None:
    each, measured = np.stack([_fractions(60), _fractions(60)]), _fractions(60)
    folds = [np.arange(start, 60, 3) for start in range(3)]
    blended, weights = cross_fit(each, measured, folds)
    for number, fold in enumerate(folds):
        rest = np.setdiff1d(np.arange(60), fold)
        assert weights[number] == pytest.approx(fit_weights(each[:, rest], measured[rest]))
        assert blended[fold] == pytest.approx(np.tensordot(weights[number], each[:, fold], 1))
    other = measured.copy()
    other[folds[0]] = _fractions(len(folds[0]))  # what is measured in a fold changes nothing of its prediction
    assert cross_fit(each, other, folds)[0][folds[0]] == pytest.approx(blended[folds[0]], abs=1e-12)
    assert blended.sum(axis=1) == pytest.approx(1)


def test_a_tiny_weight_is_none() -> None:
    each = np.stack([_fractions(80), _fractions(80)])
    measured = (1 - LEAST / 2) * each[0] + LEAST / 2 * each[1]
    assert fit_weights(each, measured).tolist() == [1, 0]
