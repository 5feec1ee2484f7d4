"""How well predicted fractions agree with measured ones: pure functions of two arrays.

Owns the Pearson correlation coefficient (PCC) in its three forms, Spearman's, the mean squared error, the
Kullback-Leibler divergence, and bootstrap intervals. Must not know torch or mlflow.

Every function takes `predicted` and `measured` of shape (N, S): N transcripts, S sites, fractions. Where a
number is undefined:
- a site whose *prediction* is the same for all transcripts has a PCC of 0: it explains nothing;
- a site whose *measurement* is the same for all can't be scored: NaN, and left out of `pcc_mean`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_RELATIVE_NOISE = 1e-7
"""A column whose standard deviation is below this share of its size is constant but for rounding."""
_CHUNK = 64
"""Bootstrap samples that are held in memory at a time."""


@dataclass(frozen=True)
class Score:
    """One figure with its interval.

    Attributes:
        measure: `pcc`, `spearman` or `mse`.
        site: a site's name, `mean` (over sites) or `overall` (all entries as one column).
        value: the figure on all transcripts.
        low: lower end of the bootstrap interval; NaN if it was not asked for.
        high: upper end.
    """

    measure: str
    site: str
    value: float
    low: float
    high: float


def pcc_per_site(predicted: Array, measured: Array) -> Array:
    """Return the PCC of each site, (S,)."""
    per_site: Array = _pcc(predicted[None], measured[None])[0]
    return per_site


def pcc_overall(predicted: Array, measured: Array) -> float:
    """Return the PCC of all entries taken as one column: what the ancestor prints as "overall".

    Predicting each site's mean already scores well above 0 in it.
    """
    return float(pcc_per_site(predicted.reshape(-1, 1), measured.reshape(-1, 1))[0])


def mean_over_sites(per_site: Array) -> float:
    """Return the mean of the sites' figures, without those that are NaN; NaN if all are."""
    known = per_site[~np.isnan(per_site)]
    return float(known.mean()) if len(known) else float("nan")


def summarise(predicted: Array, measured: Array, sites: Sequence[str]) -> dict[str, float]:
    """Return `pcc_<site>` for each site, `pcc_mean` and `pcc_overall`."""
    per_site = pcc_per_site(predicted, measured)
    scores = {f"pcc_{site}": float(value) for site, value in zip(sites, per_site, strict=True)}
    return {**scores, "pcc_mean": mean_over_sites(per_site), "pcc_overall": pcc_overall(predicted, measured)}


def kl_divergence(predicted: Array, measured: Array) -> float:
    """Return the mean over transcripts of KL(measured || predicted), in nats: the training loss."""
    predicted = np.maximum(predicted, np.finfo(np.float32).tiny)
    ratio = np.where(measured > 0, measured, 1.0) / predicted
    return float((measured * np.log(ratio)).sum() / len(measured))


def report(
    predicted: Array,
    measured: Array,
    sites: Sequence[str],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Score]:
    """Score predictions in every way, with bootstrap intervals over transcripts.

    Args:
        predicted: (N, S).
        measured: (N, S).
        sites: names of the columns.
        resamples: bootstrap samples; 0 gives NaN for the intervals.
        confidence: share of the bootstrap samples within an interval (percentile method).
        seed: seed of the resampling; the same samples serve all figures.

    Returns:
        PCC, Spearman and MSE for each site, then `mean`, then `overall`, in this order.
    """
    point = _measures(predicted, measured, np.arange(len(measured))[None])
    samples = _bootstrap(predicted, measured, resamples, seed)
    names = [*sites, "mean", "overall"]
    scores = []
    for measure, values in point.items():
        tail = (1 - confidence) / 2
        for column, site in enumerate(names):
            low, high = _interval(samples[measure][:, column], tail)
            scores.append(Score(measure, site, float(values[0, column]), low, high))
    return scores


def _interval(values: Array, tail: float) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def _bootstrap(predicted: Array, measured: Array, resamples: int, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    n, columns = len(measured), measured.shape[1] + 2
    parts: dict[str, list[Array]] = {"pcc": [], "spearman": [], "mse": []}
    for start in range(0, resamples, _CHUNK):
        chosen = rng.integers(0, n, (min(_CHUNK, resamples - start), n))
        for measure, values in _measures(predicted, measured, chosen).items():
            parts[measure].append(values)
    return {m: np.concatenate(v) if v else np.empty((0, columns)) for m, v in parts.items()}


def _measures(predicted: Array, measured: Array, chosen: npt.NDArray[np.int64]) -> dict[str, Array]:
    """Score samples of the transcripts: `chosen` (R, N) indices to (R, S + 2) of each measure."""
    p, m = predicted[chosen], measured[chosen]
    squared = ((p - m) ** 2).mean(axis=1)
    ranked = _ranks(p), _ranks(m)
    flat = (len(chosen), -1, 1)
    return {
        "pcc": _with_summaries(_pcc(p, m), _pcc(p.reshape(flat), m.reshape(flat))),
        "spearman": _with_summaries(_pcc(*ranked), _pcc(_ranks(p.reshape(flat)), _ranks(m.reshape(flat)))),
        "mse": _with_summaries(squared, squared.mean(axis=1, keepdims=True)),
    }


def _with_summaries(per_site: Array, overall: Array) -> Array:
    mean = np.array([[mean_over_sites(row)] for row in per_site])
    return np.concatenate([per_site, mean, overall], axis=1)


def _ranks(values: Array) -> Array:
    from scipy.stats import rankdata  # half a second that `summarise` does not need

    return np.asarray(rankdata(values, axis=1), np.float64)


def _pcc(x: Array, y: Array) -> Array:
    """PCC over axis 1 of (R, N, S) arrays, (R, S); degenerate columns as the module says."""
    x_centred = x - x.mean(axis=1, keepdims=True)
    y_centred = y - y.mean(axis=1, keepdims=True)
    x_size = np.sqrt((x_centred**2).mean(axis=1))
    y_size = np.sqrt((y_centred**2).mean(axis=1))
    x_constant = x_size <= _RELATIVE_NOISE * np.abs(x).max(axis=1, initial=0.0)
    y_constant = y_size <= _RELATIVE_NOISE * np.abs(y).max(axis=1, initial=0.0)
    product = (x_centred * y_centred).mean(axis=1)
    scale = np.where(x_constant | y_constant, 1.0, x_size * y_size)
    result = np.clip(product / scale, -1.0, 1.0)
    return np.where(y_constant, np.nan, np.where(x_constant, 0.0, result))
