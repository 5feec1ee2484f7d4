"""The estimate of true values: known by hand where little is seen, calibrated where much is simulated."""

from __future__ import annotations

import numpy as np
import pytest

from rnatracker.search.scheduling.true_value import HALF_90, Estimate, estimate

_SPREAD = 0.2


def test_the_best_of_many_is_pulled_towards_the_others() -> None:
    found = estimate({7: 0.56, 3: 0.52, 4: 0.5, 1: 0.49, 9: 0.5}, [], _SPREAD)
    assert found.numbers == [7, 3, 4, 1, 9]
    mean, sd = found.at(0)
    assert 0.5 < mean < 0.56
    assert 0.005 < sd < 0.05
    assert found.best == 7


def test_one_trial_alone_is_expected_to_do_again_what_it_did() -> None:
    mean, sd = estimate({0: 0.4}, [], _SPREAD).at(0)
    assert mean == pytest.approx(0.4)
    assert sd == pytest.approx(0.2 * _SPREAD, rel=0.5)  # a seed's and a division's luck, each a tenth of the spread


def test_fresh_seeds_count_and_make_it_surer() -> None:
    values = {0: 0.56, 1: 0.55, 2: 0.5, 3: 0.49, 4: 0.5}
    before = estimate(values, [], _SPREAD)
    after = estimate(values, [(0, 1, 0.5), (1, 1, 0.55), (0, 2, 0.49), (1, 2, 0.56)], _SPREAD)
    assert before.best == 0 and after.best == 1
    assert after.at(0)[0] < before.at(0)[0] - 0.01
    assert after.at(1)[1] < before.at(1)[1]


def test_a_hard_round_counts_against_nobody() -> None:
    """Two rounds in which all that were trained lost the same: the order stays, and who wasn't in them loses too."""
    values = {0: 0.55, 1: 0.54, 2: 0.53, 3: 0.4}
    again = [(i, r, values[i] - 0.08) for i in (0, 1) for r in (1, 2)]
    found = estimate(values, again, _SPREAD)
    assert found.best == 0
    assert found.means[0] - found.means[1] == pytest.approx(0.01, abs=0.01)
    assert found.means[2] < 0.53 - 0.02


def test_challenger_is_who_is_most_likely_better_though_another_has_a_higher_mean() -> None:
    surely = np.diag([1e-6, 1e-6, 0.01])
    found = Estimate([4, 5, 6], np.array([0.5, 0.49, 0.48]), surely)
    number, chance = found.challenger() or (0, 0.0)
    assert number == 6
    assert chance == pytest.approx(0.42, abs=0.01)  # 0.2 standard deviations below
    assert Estimate([4], np.array([0.5]), surely[:1, :1]).challenger() is None


def test_estimate_of_some_trials_is_that_of_all() -> None:
    whole = estimate({0: 0.56, 1: 0.55, 2: 0.5}, [(1, 1, 0.52)], _SPREAD)
    some = whole.only([2, 0, 99])
    assert some.numbers == [0, 2]
    assert some.at(1) == whole.at(2)


def test_it_scales_and_shifts_with_the_values() -> None:
    values, again = {0: 0.56, 1: 0.55, 2: 0.5}, [(0, 1, 0.5)]
    one = estimate(values, again, _SPREAD)
    other = estimate({k: 3 * v - 1 for k, v in values.items()}, [(0, 1, 3 * 0.5 - 1)], 3 * _SPREAD)
    np.testing.assert_allclose(other.means, 3 * one.means - 1)
    np.testing.assert_allclose(other.covariance, 9 * one.covariance)


@pytest.mark.parametrize("fresh", [0, 2])
def test_intervals_of_the_best_of_many_hold_what_they_promise(fresh: int) -> None:
    """The model's own world: true values, seeds and divisions as it supposes them. The best by value is looked at."""
    rng, held, errors = np.random.default_rng(3), [], []
    for _ in range(300):
        true_sd, division_sd, own_sd = _SPREAD * np.exp(rng.normal(np.log([0.2, 0.1, 0.1]), [0.7, 0.6, 0.5]))
        true, hard = 0.5 + rng.normal(0, true_sd, 12), rng.normal(0, division_sd, 1 + fresh)
        seen = true[:, None] + hard + rng.normal(0, own_sd, (12, 1 + fresh))
        best = int(seen[:, 0].argmax())
        again = [(best, r, float(seen[best, r])) for r in range(1, 1 + fresh)]
        found = estimate({i: float(seen[i, 0]) for i in range(12)}, again, _SPREAD)
        mean, sd = found.at(best)
        held.append(abs(mean - true[best]) < HALF_90 * sd)
        errors.append(mean - true[best])
    assert 0.86 < np.mean(held) < 0.95
    assert abs(np.mean(errors)) < 0.005
