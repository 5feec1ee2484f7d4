"""What the settings of a study's best trials are worth, whatever luck their trainings had.

Owns the estimate; knows numbers only. Must not know optuna, torch or mlflow. Read next: `freeze_thaw.py`, which trains
the best again with fresh seeds by it; `search/refit.py`, which remains the judge.

The best of many values is too good: it is that of good settings with a lucky seed, on a validation part that suits
them. Of the trials with the best forecasts, paused ones too since they are what the best was chosen from, a value is
taken to be

    y(x, r) = true value(x) + d(r) + h(x, r)

in round r, which is 0 for the study's own training and 1, 2, ... for those with fresh seeds. A round has one seed and
one division for all, and d is how hard its validation part is; h is the training's own. All three parts are normal.
True values have an unknown mean; how far each part spreads is unknown too and averaged over, with priors that were
found on recorded curves (`benchmarks/curves/`), as shares of the spread of all values that the study has seen.

So where nothing was trained again, the best is pulled towards the others, as far as such studies let expect; a fresh
seed says more. Beside it the true value's epoch is still the best of its epochs on validation.

Source: Efron 2011 (doi:10.1198/jasa.2011.tm11181) for the best of many, and what shrinking does about it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from rnatracker.search.scheduling.curve_model import Array

_PRIORS = {"true": (0.2, 0.7), "division": (0.1, 0.6), "own": (0.1, 0.5)}
"""Median and standard deviation of the logarithm of each part's standard deviation, as a share of the spread."""
_NODES = 5
HALF_90 = 1.645
"""Half of the interval that has 90 %, in standard deviations."""


@dataclass(frozen=True)
class Estimate:
    """True values of trials: what their settings come to on average over seeds and divisions.

    Attributes:
        numbers: the trials.
        means: (M,).
        covariance: (M, M).
    """

    numbers: list[int]
    means: Array
    covariance: Array

    @property
    def best(self) -> int:
        """The trial with the highest estimate."""
        return self.numbers[int(np.argmax(self.means))]

    def challenger(self) -> tuple[int, float] | None:
        """Return the trial that is most likely better than the best, and how likely; None if there is but one."""
        if len(self.numbers) < 2:
            return None
        best, variances = int(np.argmax(self.means)), np.diag(self.covariance)
        variance = np.maximum(variances + variances[best] - 2 * self.covariance[best], 1e-12)
        z = (self.means - self.means[best]) / np.sqrt(variance)
        z[best] = -np.inf
        place = int(np.argmax(z))
        return self.numbers[place], float(special.ndtr(z[place]))

    def at(self, place: int) -> tuple[float, float]:
        """Return mean and standard deviation of the trial at a place."""
        return float(self.means[place]), math.sqrt(max(float(self.covariance[place, place]), 0.0))

    def only(self, numbers: Iterable[int]) -> Estimate:
        """Return the same of some trials; of those that it has."""
        wanted = set(numbers)
        places = [i for i, number in enumerate(self.numbers) if number in wanted]
        return Estimate([self.numbers[i] for i in places], self.means[places], self.covariance[np.ix_(places, places)])


def estimate(values: dict[int, float], again: Sequence[tuple[int, int, float]], spread: float) -> Estimate:
    """Return the true values of trials.

    Args:
        values: what each trial came to, or is expected to; at least one, the more the better.
        again: trial, round from 1 and value of each training with a fresh seed.
        spread: standard deviation of all values of the study.
    """
    numbers = list(values)
    trials = np.array([*range(len(numbers)), *(numbers.index(each[0]) for each in again)])
    rounds = np.array([*(0 for _ in numbers), *(each[1] for each in again)])
    y = np.array([*values.values(), *(each[2] for each in again)])
    same, together = trials[:, None] == trials[None, :], rounds[:, None] == rounds[None, :]
    chances, means, covariances = [], [], []
    for (true, w1), (division, w2), (own, w3) in itertools.product(*(_nodes(*each) for each in _PRIORS.values())):
        variance = (true * spread) ** 2
        seen = variance * same + (division * spread) ** 2 * together + (own * spread) ** 2 * np.eye(len(y))
        inverse = np.linalg.inv(seen)
        weight = inverse.sum()  # of the unknown mean, whose prior is flat
        centre = inverse.sum(axis=0) @ y / weight
        away = y - centre
        across = variance * same[: len(numbers)]
        left = 1 - across @ inverse.sum(axis=1)
        chances.append(w1 + w2 + w3 - 0.5 * (np.linalg.slogdet(seen)[1] + away @ inverse @ away + np.log(weight)))
        means.append(centre + across @ inverse @ away)
        covariances.append(
            variance * np.eye(len(numbers)) - across @ inverse @ across.T + np.outer(left, left) / weight
        )
    weights = special.softmax(chances)
    mean = weights @ np.array(means)
    away = np.array(means) - mean
    covariance = np.tensordot(weights, np.array(covariances), 1) + (away.T * weights) @ away
    return Estimate(numbers, mean, covariance)


def _nodes(median: float, sd: float) -> list[tuple[float, float]]:
    """Return values of a lognormal prior and the logarithms of their weights (Gauss and Hermite)."""
    places, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return list(zip(median * np.exp(sd * places), np.log(weights), strict=True))
