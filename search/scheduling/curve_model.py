"""What a study's learning curves say of values that nobody has trained to yet.

Owns the model and nothing else: it knows numbers, not trials. Must not know optuna, torch or mlflow. Read next:
`freeze_thaw.py`, which decides by it.

A Gaussian process over settings and epochs. The value y of settings x after t epochs of a training is

    y(x, t) = m(t) + g(x, t) + h(training, t) + e(x, training, t) + noise

with m what all curves have in common, g what follows from the settings (near settings have like curves), h what is a
training's own (its seed, and what settings do that g can't say), and e how fast it starts, which is forgotten. Time
runs on a scale from u = 0 before the first epoch to u = 1 after the last,

    u(t) = (1 - (1 + t)^-a) / (1 - (1 + T)^-a)

on which g and h grow as Wiener processes, and e shrinks. With a large a all is decided early; with a small one it is on
a logarithmic scale, and late epochs still change much. How it is on these data, a and all variances and the scales of
the settings say: they are the most probable ones given the study's curves, under priors that were found on recorded
curves (`benchmarks/curves/`).

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
_COMMON_SCALE = 0.35
"""Length scale of m on the scale of u."""
_START = 0.02
"""Variance of g and h before the first epoch, as a share of that after the last."""
_PRIORS = {
    "common": (1.5, 1.5),
    "settings": (0.3, 0.8),
    "training": (-1.0, 0.8),
    "early": (0.5, 2.0),
    "noise": (-10.0, 1.5),
    "speed": (0.4, 0.6),
}
"""Mean and standard deviation of the logarithm of each variance, of standardised values, and of the exponent a."""
_RELEVANCE = (0.0, 1.5)
"""The same of each key's inverse squared length scale, of settings between 0 and 1."""
_N = len(_PRIORS)
_SMALL = 1e-4


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
        self._differences = _squared(points.settings, points.settings)
        self._same = points.trainings[:, None] == points.trainings[None, :]
        self._means = np.array([each[0] for each in _PRIORS.values()] + [_RELEVANCE[0]] * points.settings.shape[1])
        self._sds = np.array([each[1] for each in _PRIORS.values()] + [_RELEVANCE[1]] * points.settings.shape[1])
        self.parameters = self._fit(self._means if start is None else start)
        seen = self._kernel(*self._seen, *self._seen)
        noise = np.exp(self.parameters[4]) + _JITTER
        self._cholesky = linalg.cholesky(seen + noise * np.eye(len(self._y)), lower=True)
        self._weights = linalg.cho_solve((self._cholesky, True), self._y)

    def has(self, points: Points) -> bool:
        """Tell whether it was fitted to just these points."""
        pairs = zip(vars(self._points).values(), vars(points).values(), strict=True)
        return all(np.array_equal(one, other) for one, other in pairs)

    def predict(self, settings: Array, epochs: Array, trainings: Numbers) -> tuple[Array, Array]:
        """Return mean (M,) and covariance (M, M) of the values of trainings after some epochs.

        Args:
            settings: (M, D).
            epochs: (M,).
            trainings: (M,) as in the points; another number is another training, and -1 is the mean of all there
                could be: without what is a training's own.
        """
        across = self._kernel(settings, epochs, trainings, *self._seen)
        own = self._kernel(settings, epochs, trainings, settings, epochs, trainings)
        solved = linalg.solve_triangular(self._cholesky, across.T, lower=True)
        mean = across @ self._weights
        return mean * self._scale + self._centre, (own - solved.T @ solved) * self._scale**2

    @property
    def spread(self) -> float:
        """Standard deviation of all values that it was fitted to."""
        return self._scale

    @property
    def _seen(self) -> tuple[Array, Array, Numbers]:
        return self._points.settings, self._points.epochs, self._points.trainings

    def _scaled(self, epochs: Array, speed: float) -> Array:
        """Return u of some epochs, with a as an exponent's logarithm."""
        exponent = np.exp(speed)
        return np.asarray(np.expm1(-exponent * np.log1p(epochs)) / np.expm1(-exponent * np.log1p(self._n_epochs)))

    def _kernel(self, x1: Array, t1: Array, n1: Numbers, x2: Array, t2: Array, n2: Numbers) -> Array:
        near = _near(self.parameters, _squared(x1, x2))
        same = (n1[:, None] == n2[None, :]) & (n1[:, None] >= 0)
        u1, u2 = (self._scaled(each, self.parameters[_N - 1]) for each in (t1, t2))
        return np.asarray(sum(_parts(self.parameters, near, same, u1[:, None], u2[None, :])))

    def _fit(self, start: Array) -> Array:
        bounds = [(mean - 5 * sd, mean + 5 * sd) for mean, sd in zip(self._means, self._sds, strict=True)]
        options = {"maxiter": _STEPS}
        found = optimize.minimize(  # type: ignore[call-overload]
            self._loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
        return np.asarray(found.x)

    def _loss(self, parameters: Array) -> tuple[float, Array]:
        """Return the negative logarithm of the posterior, and its gradient."""
        n, noise, speed = len(self._y), np.exp(parameters[4]), parameters[_N - 1]
        near, u = _near(parameters, self._differences), self._scaled(self._points.epochs, speed)
        parts = _parts(parameters, near, self._same, u[:, None], u[None, :])
        factor = linalg.cho_factor(sum(parts) + (noise + _JITTER) * np.eye(n), lower=True)
        weights, inverse = linalg.cho_solve(factor, self._y), linalg.cho_solve(factor, np.eye(n))
        away = (parameters - self._means) / self._sds
        loss = 0.5 * self._y @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
        inner = inverse - np.outer(weights, weights)
        slopes = [0.5 * np.sum(inner * each) for each in (*parts[:3], parts[3] + parts[4])]
        slopes.append(0.5 * noise * np.trace(inner))
        later = self._scaled(self._points.epochs, speed + _SMALL)
        change = (sum(_parts(parameters, near, self._same, later[:, None], later[None, :])) - sum(parts)) / _SMALL
        slopes.append(0.5 * np.sum(inner * change))
        by_near = inner * (parts[1] + parts[3])
        relevance = -0.25 * np.exp(parameters[_N:]) * np.tensordot(self._differences, by_near, 2)
        return float(loss), np.concatenate([slopes, relevance]) + away / self._sds


def _near(parameters: Array, differences: Array) -> Array:
    """Return how near settings are (N, M), 1 being the same, by their squared differences (D, N, M)."""
    return np.asarray(np.exp(-0.5 * np.tensordot(np.exp(parameters[_N:]), differences, 1)))


def _parts(parameters: Array, near: Array, same: Array, u1: Array, u2: Array) -> list[Array]:
    """Return what contributes to a covariance, (N, M): m, g, h, and of e what follows from the settings and the rest.

    Args:
        parameters: the logarithms of their variances first.
        near: (N, M) how near the settings are, 1 being the same.
        same: (N, M) whether it is the same training.
        u1: (N, 1).
        u2: (1, M).
    """
    common, settings, own, early = np.exp(parameters[:4])
    grown = _START + (1 - _START) * np.minimum(u1, u2)
    smooth = np.exp(-0.5 * ((u1 - u2) / _COMMON_SCALE) ** 2)
    left = (1 - u1) * (1 - u2)
    started = early * 0.5 * left
    return [common * smooth, settings * near * grown, own * same * grown, near * started, same * started]


def _squared(x1: Array, x2: Array) -> Array:
    """Return the squared differences (D, N, M) of settings (N, D) and (M, D)."""
    return np.asarray((x1.T[:, :, None] - x2.T[:, None, :]) ** 2)
