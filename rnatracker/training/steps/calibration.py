"""Making predicted fractions as spread out as measured ones are.

Owns the fit of a temperature and of an offset for each site, and putting them into a network's last layer: so nothing
else needs to know that a network was calibrated.

Dropout and averaging shrink or shift what the softmax gives, which costs PCC over all entries and not at single sites.

Source: temperature scaling, Guo, Pleiss, Sun & Weinberger 2017 (arXiv 1706.04599), with an offset for each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from torch import Tensor

from rnatracker.data.transcripts import Fractions

_TINY = 1e-12
_PULL = 1.0
"""How strongly a calibration is drawn to none, as if so many transcripts spoke for it."""


@dataclass(frozen=True)
class Calibration:
    """What logits are multiplied with, and what is added then.

    Attributes:
        scale: above 0; 1: none.
        offsets: (S,) float64, which sum to 0.
    """

    scale: float
    offsets: npt.NDArray[np.float64]

    def apply(self, predicted: Fractions) -> Fractions:
        """Return calibrated fractions, (N, S)."""
        return _softmax(self.scale * _log(predicted) + self.offsets)

    def into(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a network's tensors with the calibration in its last layer."""
        weight, bias = weights["output.weight"], weights["output.bias"]
        offsets = bias.new_tensor(self.offsets)
        return {**weights, "output.weight": weight * self.scale, "output.bias": bias * self.scale + offsets}


def fit(predicted: Fractions, measured: Fractions) -> Calibration:
    """Return the calibration under which predictions come nearest to what was measured, by the mean divergence.

    Args:
        predicted: (N, S), of transcripts that were not trained on.
        measured: (N, S).
    """
    logs, n_sites = _log(predicted), predicted.shape[1]
    logs = logs - logs.mean(axis=1, keepdims=True)
    pull = _PULL / len(predicted)

    def divergence(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        scale, offsets = np.exp(parameters[0]), parameters[1:]
        fractions = _softmax(scale * logs + offsets)
        loss = -(measured * np.log(np.maximum(fractions, _TINY))).sum(axis=1).mean() + pull * (parameters**2).sum()
        off = (fractions - measured) / len(measured)
        slope = np.concatenate(([scale * (off * logs).sum()], off.sum(axis=0))) + 2 * pull * parameters
        return float(loss), slope

    found = minimize(divergence, np.zeros(1 + n_sites), jac=True, method="L-BFGS-B", bounds=[(-2, 2)] * (1 + n_sites))
    offsets = found.x[1:]
    return Calibration(float(np.exp(found.x[0])), offsets - offsets.mean())


def _log(fractions: Fractions) -> Fractions:
    logs: Fractions = np.log(np.maximum(fractions, _TINY))
    return logs


def _softmax(logits: Fractions) -> Fractions:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    fractions: Fractions = powers / powers.sum(axis=1, keepdims=True)
    return fractions
