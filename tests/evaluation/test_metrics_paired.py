"""Two predictions of the same transcripts: against answers known by hand, a naive loop, and simulated truth."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from rnatracker import metrics
from rnatracker.metrics import Array


def _correlated(rng: np.random.Generator, n: int, strengths: list[float]) -> tuple[Array, Array]:
    """Return predictions, (N, S), whose true PCC with the measurements is known, and the measurements."""
    measured = rng.standard_normal((n, len(strengths)))
    noise = rng.standard_normal(measured.shape)
    strength = np.array(strengths)
    return strength * measured + np.sqrt(1 - strength**2) * noise, measured


def _two(rng: np.random.Generator, n: int, first: float, second: float) -> tuple[Array, Array, Array]:
    """Return two predictions of one column, of known PCC, whose errors have half of their variance in common."""
    measured, shared = rng.standard_normal((n, 1)), rng.standard_normal((n, 1))
    predictions = []
    for strength in (first, second):
        error = np.sqrt(0.5) * shared + np.sqrt(0.5) * rng.standard_normal((n, 1))
        predictions.append(strength * measured + math.sqrt(1 - strength**2) * error)
    return predictions[0], predictions[1], measured


def test_differences_are_those_of_summarise_in_order() -> None:
    rng = np.random.default_rng(0)
    first, measured = _correlated(rng, 50, [0.9, 0.2, 0.5])
    second = rng.standard_normal(measured.shape)
    found = metrics.paired_differences(first, second, measured, ["A", "B", "C"], resamples=10)
    one, two = (metrics.summarise(each, measured, ["A", "B", "C"]) for each in (first, second))
    assert [each.name for each in found] == ["A", "B", "C", "pcc_mean", "pcc_overall"]
    expected = [one[key] - two[key] for key in ("pcc_A", "pcc_B", "pcc_C", "pcc_mean", "pcc_overall")]
    assert [each.value for each in found] == pytest.approx(expected, abs=1e-12)


def test_difference_is_two_when_one_prediction_is_the_others_mirror() -> None:
    measured = np.array([[0.1], [0.4], [0.2], [0.7], [0.5]])
    site, *_ = metrics.paired_differences(measured, 1 - measured, measured, ["A"], resamples=99)
    assert (site.value, site.low, site.high) == pytest.approx((2, 2, 2))
    assert site.p == pytest.approx(2 * 1 / 100)


def test_differences_are_zero_and_p_is_one_when_predictions_are_equal() -> None:
    predicted, measured = _correlated(np.random.default_rng(0), 40, [0.5, 0.5])
    for other in (predicted, np.asfortranarray(predicted), predicted + 1e-16):
        for each in metrics.paired_differences(predicted, other, measured, ["A", "B"], resamples=50):
            assert (each.value, each.low, each.high, each.p) == (0, 0, 0, 1)


def test_differences_change_sign_when_predictions_are_swapped() -> None:
    rng = np.random.default_rng(3)
    first, measured = _correlated(rng, 60, [0.7, 0.3])
    second = first + rng.standard_normal(first.shape)
    forth = metrics.paired_differences(first, second, measured, ["A", "B"], resamples=200)
    back = metrics.paired_differences(second, first, measured, ["A", "B"], resamples=200)
    assert [(d.value, d.low, d.high, d.p) for d in forth] == [
        pytest.approx((-d.value, -d.high, -d.low, d.p)) for d in back
    ]


def test_differences_agree_with_a_loop_over_repeated_transcripts() -> None:
    rng = np.random.default_rng(1)
    measured = rng.dirichlet(np.ones(3), 30)
    first, second = (0.6 * measured + 0.4 * rng.dirichlet(np.ones(3), 30) for _ in range(2))
    sites, resamples = ["A", "B", "C"], 40
    found = metrics.paired_differences(first, second, measured, sites, resamples=resamples, seed=7, confidence=0.9)
    counts = np.random.default_rng(7).multinomial(30, np.full(30, 1 / 30), resamples)
    loop = []
    for row in counts:
        chosen = np.repeat(np.arange(30), row)
        one, two = (metrics.summarise(each[chosen], measured[chosen], sites) for each in (first, second))
        loop.append([one[key] - two[key] for key in one])
    for column, each in zip(np.array(loop).T, found, strict=True):
        assert (each.low, each.high) == pytest.approx(tuple(np.quantile(column, [0.05, 0.95])), abs=1e-12)
        fewest = min((column <= 0).sum(), (column >= 0).sum())
        assert each.p == pytest.approx(min(1.0, 2 * (fewest + 1) / (resamples + 1)))


def test_differences_do_not_depend_on_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, measured = _two(np.random.default_rng(0), 50, 0.6, 0.5)
    whole = metrics.paired_differences(first, second, measured, ["A"], resamples=100)
    monkeypatch.setattr(metrics, "_ENTRIES", 700)
    in_blocks = metrics.paired_differences(first, second, measured, ["A"], resamples=100)
    assert [vars(each) for each in in_blocks] == [pytest.approx(vars(each)) for each in whole]


def test_site_is_undefined_and_left_out_of_the_mean_when_its_measurement_is_constant() -> None:
    predicted, measured = _correlated(np.random.default_rng(0), 30, [0.8, 0.8])
    measured[:, 1] = 0.25
    a, b, mean, _ = metrics.paired_differences(predicted, -predicted, measured, ["A", "B"], resamples=50)
    assert all(math.isnan(x) for x in (b.value, b.low, b.high, b.p))
    assert (mean.value, mean.low, mean.p) == pytest.approx((a.value, a.low, a.p))


def test_difference_is_the_others_pcc_when_one_prediction_is_constant_but_for_rounding() -> None:
    predicted, measured = _correlated(np.random.default_rng(0), 30, [0.8])
    constant = np.full_like(predicted, 1 / 3) + np.resize([0, 1e-16, -1e-16], predicted.shape)
    site, *_ = metrics.paired_differences(predicted, constant, measured, ["A"], resamples=50)
    assert site.value == pytest.approx(metrics.pcc_per_site(predicted, measured)[0])


def test_interval_is_unknown_when_there_are_no_resamples() -> None:
    predicted, measured = _correlated(np.random.default_rng(0), 30, [0.8])
    site, *_ = metrics.paired_differences(predicted, -predicted, measured, ["A"], resamples=0)
    assert site.value > 1
    assert all(math.isnan(x) for x in (site.low, site.high, site.p))


@pytest.mark.parametrize(("first", "second"), [(0.6, 0.6), pytest.param(0.7, 0.5, marks=pytest.mark.slow)])
def test_interval_holds_the_true_difference_as_often_as_it_says(first: float, second: float) -> None:
    rng = np.random.default_rng(12)
    tries, held, wrong = 400, 0, 0
    for seed in range(tries):
        predictions = _two(rng, 200, first, second)
        site, *_ = metrics.paired_differences(*predictions, ["A"], resamples=400, seed=seed)
        held += site.low <= first - second <= site.high
        wrong += site.p < 0.05
    # 0.95 within three standard errors of 400 tries, and the percentile method's small lack.
    assert 0.91 <= held / tries <= 0.985
    assert wrong / tries < 0.09 if first == second else wrong / tries > 0.9


def test_differences_are_fast() -> None:
    rng = np.random.default_rng(0)
    measured = rng.dirichlet(np.ones(4), 500)
    first, second = (measured + rng.normal(0, 0.2, measured.shape) for _ in range(2))
    begun = time.process_time()
    for seed in range(10):
        metrics.paired_differences(first, second, measured, ["A", "B", "C", "D"], resamples=1000, seed=seed)
    assert time.process_time() - begun < 3


def test_holm_is_the_known_correction() -> None:
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_never_exceeds_one_and_keeps_a_single_value() -> None:
    assert metrics.holm([0.2]) == [0.2]
    assert metrics.holm([0.9, 0.6]) == [1.0, 1.0]
    assert metrics.holm([]) == []


def test_holm_leaves_out_what_is_undefined() -> None:
    corrected = metrics.holm([0.02, math.nan, 0.03])
    assert [corrected[0], corrected[2]] == pytest.approx([0.04, 0.04])
    assert math.isnan(corrected[1])


def test_holm_counts_tests_that_are_not_shown() -> None:
    shown = metrics.holm([0.01, 0.03], unseen=2)
    assert shown == pytest.approx(metrics.holm([0.01, 0.03, 1.0, 1.0])[:2])
    assert shown == pytest.approx([0.04, 0.09])
