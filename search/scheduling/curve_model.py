"""What a study's learning curves say of values that nobody has trained to yet.

Owns the model and nothing else: it knows numbers, not trials. Must not know optuna, torch or mlflow. Read next:
`freeze_thaw.py`, which decides by it.

A Gaussian process over settings and epochs. The value y of settings x after t epochs of a training is

    y(x, t) = m(t) + g(x, t) + h(training, t) + noise

with m what all curves have in common, g what follows from the settings (near settings have like curves), and h what is
a training's own: its seed, and what settings do that g can't say. g and h grow with t as a Wiener process does, on the
scale u(t) = log(1 + t) / log(1 + T): what two trainings differ in after a few epochs says little of where they end, and
how little is learned from those that have come farther. Amplitudes and the scales of the settings are those most
probable given the study's curves, under priors found on recorded ones (`benchmarks/curves/`).

Sources: Swersky, Snoek & Adams 2014 (freeze-thaw, arXiv:1406.3896) for the idea; Wistuba, Kadra & Grabocka 2022 (DyHPO,
arXiv:2202.09774) for one process over settings and epochs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

_JITTER = 1e-6
_STEPS = 30
_START = 0.25
"""Variance of g and h before the first epoch, as a share of that after the last."""
_COMMON_SCALE = 0.35
"""Length scale of m on the scale of u."""
_PRIORS = {"common": (0.5, 1.0), "settings": (-0.3, 1.0), "training": (-1.5, 0.7), "noise": (-6.0, 1.0)}
"""Mean and standard deviation of the logarithm of each variance, of standardised values."""
_RELEVANCE = (0.0, 1.5)
"""The same of each key's inverse squared length scale, of settings between 0 and 1."""


@dataclass(frozen=True)
class Points:
    """What has been seen: the value of a training after some epochs.

    Attributes:
        settings: (N, D) between 0 and 1.
        epochs: (N,) from 1.
        trainings: (N,) numbers, equal where it is the same training.
        values: (N,) the more the better.
    """

    settings: Array
    epochs: Array
    trainings: Numbers
    values: Array


class CurveModel:
    """A Gaussian process fitted to points.

    Args:
        points: what has been seen; at least one.
        n_epochs: of a whole training, T.
        start: where to begin to look for amplitudes and scales: `parameters` of an earlier model of the same study.
    """

    def __init__(self, points: Points, n_epochs: int, start: Array | None = None) -> None:
        self._points, self._n_epochs = points, n_epochs
        self._centre = float(points.values.mean())
        self._scale = max(float(points.values.std()), 1e-3)
        self._y = (points.values - self._centre) / self._scale
        self._u = self._scaled(points.epochs)
        self._differences = _squared(points.settings, points.settings)
        self._means = np.array([each[0] for each in _PRIORS.values()] + [_RELEVANCE[0]] * points.settings.shape[1])
        self._sds = np.array([each[1] for each in _PRIORS.values()] + [_RELEVANCE[1]] * points.settings.shape[1])
        self.parameters = self._fit(self._means if start is None else start)
        self._cholesky = linalg.cholesky(self._covariance(self.parameters), lower=True)
        self._weights = linalg.cho_solve((self._cholesky, True), self._y)

    @property
    def noise_sd(self) -> float:
        """Standard deviation of what is a training's own at its end, in the values' unit."""
        return float(np.exp(self.parameters[2] / 2)) * self._scale

    def predict(self, settings: Array, epochs: Array, trainings: Numbers) -> tuple[Array, Array]:
        """Return mean (M,) and covariance (M, M) of the values of trainings after some epochs.

        Args:
            settings: (M, D).
            epochs: (M,).
            trainings: (M,) as in the points; another number is another training, and -1 is the mean of all there
                could be: without what is a training's own.
        """
        points = self._points
        across = self._kernel(settings, epochs, trainings, points.settings, points.epochs, points.trainings)
        own = self._kernel(settings, epochs, trainings, settings, epochs, trainings)
        solved = linalg.solve_triangular(self._cholesky, across.T, lower=True)
        mean = across @ self._weights
        return mean * self._scale + self._centre, (own - solved.T @ solved) * self._scale**2

    def _scaled(self, epochs: Array) -> Array:
        return np.asarray(np.log1p(epochs) / np.log1p(self._n_epochs))

    def _kernel(self, x1: Array, t1: Array, n1: Numbers, x2: Array, t2: Array, n2: Numbers) -> Array:
        common, by_settings, own, _ = np.exp(self.parameters[:4])
        u1, u2 = self._scaled(t1), self._scaled(t2)
        near = np.exp(-0.5 * np.tensordot(np.exp(self.parameters[4:]), _squared(x1, x2), 1))
        same = (n1[:, None] == n2[None, :]) & (n1[:, None] >= 0)
        grown = _grown(u1, u2)
        return np.asarray(common * _smooth(u1, u2) + by_settings * near * grown + own * same * grown)

    def _parts(self, parameters: Array) -> tuple[Array, Array, Array]:
        """Return what m, g and h contribute to the covariance of the points, each (N, N)."""
        common, by_settings, own = np.exp(parameters[:3])
        grown, numbers = _grown(self._u, self._u), self._points.trainings
        near = np.exp(-0.5 * np.tensordot(np.exp(parameters[4:]), self._differences, 1))
        same = numbers[:, None] == numbers[None, :]
        return common * _smooth(self._u, self._u), by_settings * near * grown, own * same * grown

    def _covariance(self, parameters: Array) -> Array:
        n = len(self._y)
        return np.asarray(sum(self._parts(parameters)) + (np.exp(parameters[3]) + _JITTER) * np.eye(n))

    def _fit(self, start: Array) -> Array:
        bounds = [(mean - 5 * sd, mean + 5 * sd) for mean, sd in zip(self._means, self._sds, strict=True)]
        options = {"maxiter": _STEPS}
        found = optimize.minimize(  # type: ignore[call-overload]
            self._loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
        return np.asarray(found.x)

    def _loss(self, parameters: Array) -> tuple[float, Array]:
        """Return the negative logarithm of the posterior, and its gradient."""
        n, noise = len(self._y), np.exp(parameters[3])
        common, by_settings, own = self._parts(parameters)
        factor = linalg.cho_factor(common + by_settings + own + (noise + _JITTER) * np.eye(n), lower=True)
        weights, inverse = linalg.cho_solve(factor, self._y), linalg.cho_solve(factor, np.eye(n))
        away = (parameters - self._means) / self._sds
        loss = 0.5 * self._y @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
        inner = inverse - np.outer(weights, weights)
        amplitudes = [0.5 * np.sum(inner * each) for each in (common, by_settings, own)]
        amplitudes.append(0.5 * noise * np.trace(inner))
        relevance = -0.25 * np.exp(parameters[4:]) * np.tensordot(self._differences, inner * by_settings, 2)
        return float(loss), np.concatenate([amplitudes, relevance]) + away / self._sds


def _squared(x1: Array, x2: Array) -> Array:
    """Return the squared differences (D, N, M) of settings (N, D) and (M, D)."""
    return np.asarray((x1.T[:, :, None] - x2.T[:, None, :]) ** 2)


def _smooth(u1: Array, u2: Array) -> Array:
    return np.asarray(np.exp(-0.5 * ((u1[:, None] - u2[None, :]) / _COMMON_SCALE) ** 2))


def _grown(u1: Array, u2: Array) -> Array:
    return np.asarray(_START + (1 - _START) * np.minimum(u1[:, None], u2[None, :]))
