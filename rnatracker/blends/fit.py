"""What each of several models counts in a blend.

Owns the fit of the weights and its cross-fitting. Must not know runs. Read next: `run.py`.

The weights are those of the mean that comes nearest to what was measured, by least squares over all transcripts and
sites; none is negative, and they sum to 1, so that what comes out are fractions again. They are fitted to out-of-fold
predictions: a model that has learned its training transcripts by heart gains nothing by it. But they have seen what
they are fitted to, so the blend's own figure comes from weights that have not: a fold is predicted with weights from
the other folds.

Source: Breiman 1996, doi:10.1007/BF00117832 (stacking with non-negative weights).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from rnatracker.data.encoding import Indices
from rnatracker.data.transcripts import Fractions

_FIRM = 1e4
"""How much heavier than any residual it weighs that the weights sum to 1."""
LEAST = 1e-4
"""A smaller weight is none."""


def fit_weights(each: npt.NDArray[np.float64], measured: Fractions) -> npt.NDArray[np.float64]:
    """Return what each model counts.

    Args:
        each: (K, N, S) predicted fractions of K models.
        measured: (N, S); rows that aren't finite are left out.

    Returns:
        (K,) 0 or more; they sum to 1. What would be less than `LEAST` is 0.
    """
    known = np.isfinite(measured).all(axis=1)
    design, target = each[:, known].reshape(len(each), -1).T, measured[known].ravel()
    firm = _FIRM * max(float(np.linalg.norm(design)), 1.0)
    weights, _ = nnls(np.vstack([design, np.full(len(each), firm)]), np.append(target, firm))
    weights[weights < LEAST * weights.sum()] = 0
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return shares


def cross_fit(
    each: npt.NDArray[np.float64], measured: Fractions, folds: Sequence[Indices]
) -> tuple[Fractions, npt.NDArray[np.float64]]:
    """Blend each fold with weights from the other folds.

    Args:
        each: (K, N, S) out-of-fold predictions.
        measured: (N, S).
        folds: the indices of each fold's transcripts; together all N, each once.

    Returns:
        The blend's predictions (N, S), and the weights of each fold, (F, K).
    """
    blended, weights = np.empty_like(measured), np.empty((len(folds), len(each)))
    for number, fold in enumerate(folds):
        others = np.setdiff1d(np.arange(len(measured)), fold)
        weights[number] = fit_weights(each[:, others], measured[others])
        blended[fold] = np.tensordot(weights[number], each[:, fold], axes=1)
    return blended, weights
