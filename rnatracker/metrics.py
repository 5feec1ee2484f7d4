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
_ENTRIES = 4_000_000
"""Entries of bootstrap samples that are held in memory at a time, 32 MB in each of some ten arrays."""


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
    once = np.ones((1, len(measured)))
    return np.array([_pcc(predicted[:, i], measured[:, i], once)[0] for i in range(measured.shape[1])])


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
    point = _measures(predicted, measured, np.ones((1, len(measured))))
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
    """Score bootstrap samples of the transcripts, each as often as it was drawn: (R, S + 2) of each measure."""
    rng = np.random.default_rng(seed)
    n, columns = len(measured), measured.shape[1] + 2
    parts: dict[str, list[Array]] = {"pcc": [], "spearman": [], "mse": []}
    at_a_time = max(1, _ENTRIES // (n * measured.shape[1]))
    for start in range(0, resamples, at_a_time):
        counts = rng.multinomial(n, np.full(n, 1 / n), min(at_a_time, resamples - start)).astype(np.float64)
        for measure, values in _measures(predicted, measured, counts).items():
            parts[measure].append(values)
    return {m: np.concatenate(v) if v else np.empty((0, columns)) for m, v in parts.items()}


def _measures(predicted: Array, measured: Array, counts: Array) -> dict[str, Array]:
    """Score samples given as how often each transcript is in them, (R, N), to (R, S + 2) of each measure."""
    columns = [(predicted[:, site], measured[:, site], counts) for site in range(measured.shape[1])]
    columns.append((predicted.ravel(), measured.ravel(), np.repeat(counts, measured.shape[1], axis=1)))
    squared = counts @ ((predicted - measured) ** 2) / counts.sum(axis=1, keepdims=True)
    mse = np.concatenate([squared, squared.mean(axis=1, keepdims=True)], axis=1)
    pcc = np.stack([_pcc(x, y, weights) for x, y, weights in columns], axis=1)
    ranked = [(_ranks(x, weights), _ranks(y, weights), weights) for x, y, weights in columns]
    spearman = np.stack([_pcc(x, y, weights) for x, y, weights in ranked], axis=1)
    return {name: _with_mean(values) for name, values in (("pcc", pcc), ("spearman", spearman), ("mse", mse))}


def _with_mean(values: Array) -> Array:
    """Put the mean over sites between the sites and the overall figure."""
    mean = np.array([[mean_over_sites(row[:-1])] for row in values])
    return np.concatenate([values[:, :-1], mean, values[:, -1:]], axis=1)


def _ranks(values: Array, weights: Array) -> Array:
    """Rank values, (N,), in samples that hold each of them so many times, (R, N); ties share their mean rank."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    in_tie = np.add.reduceat(weights[:, order], starts, axis=1)
    rank_of_tie = np.cumsum(in_tie, axis=1) - in_tie + (in_tie + 1) / 2
    ranks = np.empty_like(weights)
    ranks[:, order] = np.repeat(rank_of_tie, np.diff(np.append(starts, len(values))), axis=1)
    return ranks


def _pcc(x: Array, y: Array, weights: Array) -> Array:
    """PCC of x and y, (N,) or (R, N), in samples that hold entries so many times, (R, N): (R,).

    Degenerate columns are as the module says.
    """
    total = weights.sum(axis=1, keepdims=True)
    x_centred = x - (weights * x).sum(axis=1, keepdims=True) / total
    y_centred = y - (weights * y).sum(axis=1, keepdims=True) / total
    x_size = np.sqrt((weights * x_centred**2).sum(axis=1) / total[:, 0])
    y_size = np.sqrt((weights * y_centred**2).sum(axis=1) / total[:, 0])
    x_constant = x_size <= _RELATIVE_NOISE * np.abs(x).max(initial=0.0)
    y_constant = y_size <= _RELATIVE_NOISE * np.abs(y).max(initial=0.0)
    product = (weights * x_centred * y_centred).sum(axis=1) / total[:, 0]
    scale = np.where(x_constant | y_constant, 1.0, x_size * y_size)
    result = np.clip(product / scale, -1.0, 1.0)
    found: Array = np.where(y_constant, np.nan, np.where(x_constant, 0.0, result))
    return found
