"""Figures of agreement, against answers known by hand and against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rnatracker import metrics


def _random(n: int = 60, sites: int = 3, seed: int = 0) -> tuple[metrics.Array, metrics.Array]:
    rng = np.random.default_rng(seed)
    measured = rng.dirichlet(np.ones(sites), n)
    predicted = 0.6 * measured + 0.4 * rng.dirichlet(np.ones(sites), n)
    return predicted, measured


def test_pcc_is_one_and_minus_one_when_columns_are_linear() -> None:
    measured = np.array([[0.1, 0.9], [0.2, 0.8], [0.4, 0.6]])
    predicted = np.stack([measured[:, 0] * 0.5 + 0.3, 1 - measured[:, 1]], axis=1)
    assert metrics.pcc_per_site(predicted, measured) == pytest.approx([1.0, -1.0])


def test_pcc_agrees_with_scipy() -> None:
    predicted, measured = _random()
    expected = [stats.pearsonr(predicted[:, i], measured[:, i]).statistic for i in range(3)]
    assert metrics.pcc_per_site(predicted, measured) == pytest.approx(expected, abs=1e-12)
    assert metrics.pcc_overall(predicted, measured) == pytest.approx(
        stats.pearsonr(predicted.ravel(), measured.ravel()).statistic, abs=1e-12
    )


def test_pcc_mean_and_overall_differ_when_sites_have_different_means() -> None:
    # Predicting each site's mean explains the difference between sites, and nothing within one.
    measured = np.array([[0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
    predicted = np.tile(measured.mean(axis=0), (3, 1))
    scores = metrics.summarise(predicted, measured, ["A", "B"])
    assert (scores["pcc_A"], scores["pcc_B"], scores["pcc_mean"]) == (0, 0, 0)
    assert scores["pcc_overall"] > 0.9


def test_pcc_is_zero_when_a_prediction_is_constant_but_for_rounding() -> None:
    measured = np.array([[0.1], [0.5], [0.2]])
    predicted = np.full((3, 1), 1 / 3) + np.array([[0], [1e-16], [-1e-16]])
    assert metrics.pcc_per_site(predicted, measured).tolist() == [0.0]


def test_pcc_mean_leaves_out_a_site_when_its_measurement_is_constant() -> None:
    measured = np.array([[0.1, 0.5], [0.3, 0.5], [0.2, 0.5]])
    scores = metrics.summarise(measured, measured, ["A", "B"])
    assert math.isnan(scores["pcc_B"])
    assert scores["pcc_mean"] == pytest.approx(1.0)


def test_pcc_is_undefined_when_there_is_one_transcript() -> None:
    assert math.isnan(metrics.summarise(np.array([[0.4, 0.6]]), np.array([[0.5, 0.5]]), ["A", "B"])["pcc_mean"])


def test_kl_divergence_is_the_known_value() -> None:
    measured = np.array([[1.0, 0.0], [0.5, 0.5]])
    predicted = np.array([[0.5, 0.5], [0.25, 0.75]])
    by_hand = (math.log(2) + 0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)) / 2
    assert metrics.kl_divergence(predicted, measured) == pytest.approx(by_hand)


def test_kl_divergence_is_finite_when_a_prediction_is_zero() -> None:
    assert math.isfinite(metrics.kl_divergence(np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])))


def test_report_agrees_with_scipy_and_brackets_the_value() -> None:
    predicted, measured = _random()
    scores = {(s.measure, s.site): s for s in metrics.report(predicted, measured, ["A", "B", "C"], resamples=300)}
    for i, site in enumerate("ABC"):
        column = predicted[:, i], measured[:, i]
        assert scores["spearman", site].value == pytest.approx(stats.spearmanr(*column).statistic)
        assert scores["mse", site].value == pytest.approx(np.mean((column[0] - column[1]) ** 2))
    assert scores["pcc", "mean"].value == pytest.approx(np.mean([scores["pcc", s].value for s in "ABC"]))
    assert all(score.low <= score.value <= score.high for score in scores.values())


def test_report_interval_agrees_with_fishers_when_the_data_are_normal() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(400)
    y = 0.6 * x + 0.8 * rng.standard_normal(400)
    score = metrics.report(x[:, None], y[:, None], ["A"], resamples=2000)[0]
    interval = stats.pearsonr(x, y).confidence_interval(0.95)
    assert (score.low, score.high) == pytest.approx((interval.low, interval.high), abs=0.02)


def test_report_is_the_same_twice_when_the_seed_is_the_same() -> None:
    predicted, measured = _random()
    first, second = (metrics.report(predicted, measured, ["A", "B", "C"], resamples=70, seed=5) for _ in range(2))
    assert first == second


def test_figures_over_trainings_leave_out_those_that_are_undefined() -> None:
    nan = math.nan
    assert metrics.mean_of([0.2, nan, 0.4]) == pytest.approx(0.3)
    assert metrics.sd_of([0.2, nan, 0.4]) == pytest.approx(0.02**0.5)
    assert math.isnan(metrics.mean_of([nan, nan])) and math.isnan(metrics.sd_of([0.2, nan]))


def test_whether_a_figure_is_defined_is_known_from_what_is_measured() -> None:
    same, varied = np.tile([0.5, 0.3, 0.2], (20, 1)), np.tile([0.5, 0.3, 0.2], (20, 1))
    varied[0] = [0.5, 0.2, 0.3]
    third = np.full((4, 2), 0.5)
    assert [metrics.is_defined(each, same) for each in ("pcc_mean", "pcc_overall", "val_loss")] == [False, True, True]
    assert metrics.is_defined("pcc_mean", varied)
    assert not metrics.is_defined("pcc_overall", third)
    assert metrics.unscored_sites(varied, ["A", "B", "C"]) == ["A"]


@pytest.mark.parametrize(("n", "is_warned"), [(1, True), (9, True), (10, False)])
def test_reader_is_warned_of_few_transcripts_and_of_sites_without_a_figure(n: int, is_warned: bool) -> None:
    measured = np.random.default_rng(0).dirichlet([1, 1, 1], n)
    found = metrics.cautions(measured, ["A", "B", "C"])
    assert any("PCC says little" in text for text in found) is is_warned
    constant = np.tile([1.0, 0.0], (n, 1))
    assert any("undefined at A, B" in text for text in metrics.cautions(constant, ["A", "B"]))
    many = metrics.cautions(np.full((20, 40), 0.025), [f"s{i}" for i in range(40)])
    assert len(many) == 1 and "s4 and 35 more sites" in many[0]
