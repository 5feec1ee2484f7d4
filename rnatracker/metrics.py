"""How well predicted fractions agree with measured ones: pure functions of two arrays.

Owns the Pearson correlation coefficient (PCC) in its three forms, Spearman's, the mean squared error, the
Kullback-Leibler divergence, bootstrap intervals, and the paired comparison of two predictions. Must not know torch or
mlflow.

Every function takes `predicted` and `measured` of shape (N, S): N transcripts, S sites, fractions. Where a
number is undefined:
- a site whose *prediction* is the same for all transcripts has a PCC of 0: it explains nothing;
- a site whose *measurement* is the same for all can't be scored: NaN, and left out of `pcc_mean`.

Whether a PCC is defined is therefore known before anything is predicted. Figures over several trainings leave out
those in which they are undefined.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

FEW = 10
"""Transcripts below which a PCC is shown with a warning: of three, two that are unrelated have one above 0.9 or below
-0.9 in 3 of 10 cases, of ten hardly ever."""
_NAMED = 5
"""Sites that a sentence names."""
_RELATIVE_NOISE = 1e-7
"""A column whose standard deviation is below this share of its size is constant but for rounding."""
_ENTRIES = 4_000_000
"""Entries of bootstrap samples that are held in memory at a time, 32 MB in each of some ten arrays."""
_NOTHING = 1e-12
"""Two PCCs that differ by no more differ by rounding, which depends on how the arrays lie in memory."""
_UNKNOWN = (float("nan"), float("nan"))
"""The ends of an interval where there is none."""


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


@dataclass(frozen=True)
class Difference:
    """How much better one prediction is than another, with an interval.

    Attributes:
        name: a site's name, `pcc_mean` (over sites) or `pcc_overall` (all entries as one column).
        value: PCC of the first prediction minus that of the second; NaN where the site can't be scored.
        low: lower end of the bootstrap interval.
        high: upper end.
        p: two-sided, that there is no difference; at least 2 / (resamples + 1), not corrected for several sites.
    """

    name: str
    value: float
    low: float
    high: float
    p: float


def pcc_per_site(predicted: Array, measured: Array) -> Array:
    """Return the PCC of each site, (S,)."""
    once = np.ones((1, len(measured)))
    return np.array([_pcc(predicted[:, i], measured[:, i], once)[0] for i in range(measured.shape[1])])


def pcc_overall(predicted: Array, measured: Array) -> float:
    """Return the PCC of all entries taken as one column: what the port prints as "overall".

    Predicting each site's mean already scores well above 0 in it.
    """
    return float(pcc_per_site(predicted.reshape(-1, 1), measured.reshape(-1, 1))[0])


def mean_over_sites(per_site: Array) -> float:
    """Return the mean of the sites' figures, without those that are NaN; NaN if all are."""
    known = per_site[~np.isnan(per_site)]
    return float(known.mean()) if len(known) else float("nan")


def unscored_sites(measured: Array, sites: Sequence[str]) -> list[str]:
    """Return the sites that can't be scored on these transcripts, (N, S): their measured fraction never varies."""
    return [site for site, value in zip(sites, pcc_per_site(measured, measured), strict=True) if np.isnan(value)]


def is_defined(figure: str, measured: Array) -> bool:
    """Tell whether `pcc_mean` or `pcc_overall` is defined on these transcripts, (N, S); any other figure is."""
    scores = summarise(measured, measured, [str(i) for i in range(measured.shape[1])])
    return not math.isnan(scores.get(figure, 0.0))


def few(n: int, noun: str = "transcript") -> str:
    """Word what a PCC of n transcripts is worth, where they are few; empty where they aren't."""
    return "" if n >= FEW else f"PCC says little of {_amount(n, noun)}: below {FEW}, chance alone makes it large"


def cautions(measured: Array, sites: Sequence[str], noun: str = "transcript") -> list[str]:
    """Word what a reader of PCCs should know: that transcripts are few, and at which sites none is defined.

    Args:
        measured: (N, S).
        sites: names of the columns.
        noun: what to call one of them, as `validation transcript`.
    """
    constant, n = unscored_sites(measured, sites), len(measured)
    more = f" and {len(constant) - _NAMED} more sites" if len(constant) > _NAMED else ""
    undefined = (
        f"PCC is undefined at {', '.join(constant[:_NAMED])}{more}, and left out: the measured fraction doesn't vary "
        f"in {_amount(n, noun)}"
    )
    return [*filter(None, [few(n, noun)]), *([undefined] if constant else [])]


def _amount(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def shown(value: float | None) -> str:
    """Write a PCC with three digits; `-` where it is undefined."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def mean_of(values: Iterable[float]) -> float:
    """Return the mean of those that are no NaN; NaN if all are."""
    return mean_over_sites(np.fromiter(values, np.float64))


def sd_of(values: Iterable[float]) -> float:
    """Return the standard deviation of those that are no NaN; NaN for less than two."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else math.nan


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


def paired_differences(
    first: Array,
    second: Array,
    measured: Array,
    sites: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Difference]:
    """Compare two predictions of the same transcripts by PCC, with bootstrap intervals over transcripts.

    Each bootstrap sample is given to both predictions, so that what makes its transcripts easy or hard for both
    cancels.

    Args:
        first: (N, S).
        second: (N, S).
        measured: (N, S).
        sites: names of the columns, in order; as many as there are.
        resamples: bootstrap samples; 0 gives NaN for intervals and p.
        seed: seed of the resampling.
        confidence: share of the bootstrap samples within an interval (percentile method).

    Returns:
        The difference at each site, then in `pcc_mean`, then in `pcc_overall`.
    """
    n, tail = len(measured), (1 - confidence) / 2

    def difference(counts: Array) -> Array:
        found = _pcc_of_samples(first, measured, counts) - _pcc_of_samples(second, measured, counts)
        return np.where(np.abs(found) <= _NOTHING, 0.0, found)

    point = difference(np.ones((1, n)))
    rng = np.random.default_rng(seed)
    samples = [difference(_draw(rng, n, size)) for size in _blocks(resamples, n)]
    drawn = np.concatenate(samples) if samples else np.empty((0, point.shape[1]))
    names = [*sites, "pcc_mean", "pcc_overall"]
    return [
        Difference(name, float(value), *(_interval(column, tail) if np.isfinite(value) else _UNKNOWN), _p_of(column))
        for name, value, column in zip(names, point[0], drawn.T, strict=True)
    ]


def holm(p_values: Sequence[float], unseen: int = 0) -> list[float]:
    """Return p-values corrected for there being several, in the same order; NaN stays NaN and doesn't count.

    Args:
        p_values: the p-values.
        unseen: how many more tests there are, whose p-values are not given: each counts as the largest of all, which
            never corrects too little.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    values = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(len(values), np.nan)
    order = [i for i in np.argsort(values, kind="stable") if not np.isnan(values[i])]
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) + unseen - rank) * float(values[i])))
        corrected[i] = highest
    return [float(value) for value in corrected]


def _p_of(differences: Array) -> float:
    """Return how often, in twice the rarer direction, bootstrap samples have no difference or the opposite one."""
    known = differences[~np.isnan(differences)]
    if not len(known):
        return float("nan")
    fewest = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (fewest + 1) / (len(known) + 1))


def _interval(values: Array, tail: float) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return _UNKNOWN
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def _bootstrap(predicted: Array, measured: Array, resamples: int, seed: int) -> dict[str, Array]:
    """Score bootstrap samples of the transcripts, each as often as it was drawn: (R, S + 2) of each measure."""
    rng = np.random.default_rng(seed)
    n, columns = len(measured), measured.shape[1] + 2
    parts: dict[str, list[Array]] = {"pcc": [], "spearman": [], "mse": []}
    for size in _blocks(resamples, n * measured.shape[1]):
        counts = _draw(rng, n, size)
        for measure, values in _measures(predicted, measured, counts).items():
            parts[measure].append(values)
    return {m: np.concatenate(v) if v else np.empty((0, columns)) for m, v in parts.items()}


def _blocks(resamples: int, entries: int) -> list[int]:
    """Divide bootstrap samples of so many entries into blocks that fit into memory; return the blocks' sizes."""
    at_a_time = max(1, _ENTRIES // entries)
    return [min(at_a_time, resamples - start) for start in range(0, resamples, at_a_time)]


def _draw(rng: np.random.Generator, n: int, resamples: int) -> Array:
    """Draw bootstrap samples of n transcripts: how often each is in each, (R, N)."""
    return rng.multinomial(n, np.full(n, 1 / n), resamples).astype(np.float64)


def _pcc_of_samples(predicted: Array, measured: Array, counts: Array) -> Array:
    """PCC of each site, their mean and the overall one, in samples as counts (R, N): (R, S + 2).

    All by matrix products of the counts with sums of squares, which is many times faster than `_measures`.
    """
    sites = _pcc_from_sums(predicted[:, :, None], measured[:, :, None], counts)
    overall = _pcc_from_sums(predicted[:, None, :], measured[:, None, :], counts)
    return _with_mean(np.concatenate([sites, overall], axis=1))


def _pcc_from_sums(x: Array, y: Array, counts: Array) -> Array:
    """PCC of columns that have several entries for each transcript, (N, columns, entries), to (R, columns).

    Degenerate columns are as the module says.
    """
    total = counts.sum(axis=1, keepdims=True) * x.shape[2]
    # Centred first: a variance as a difference of two large sums would be rounding.
    x_centred, y_centred = x - x.mean(axis=(0, 2), keepdims=True), y - y.mean(axis=(0, 2), keepdims=True)
    terms = (x_centred, y_centred, x_centred**2, y_centred**2, x_centred * y_centred)
    x_mean, y_mean, x_square, y_square, product = (counts @ term.sum(axis=2) / total for term in terms)
    x_size = np.sqrt(np.maximum(x_square - x_mean**2, 0.0))
    y_size = np.sqrt(np.maximum(y_square - y_mean**2, 0.0))
    x_constant = x_size <= _RELATIVE_NOISE * np.abs(x).max(axis=(0, 2), initial=0.0)
    y_constant = y_size <= _RELATIVE_NOISE * np.abs(y).max(axis=(0, 2), initial=0.0)
    scale = np.where(x_constant | y_constant, 1.0, x_size * y_size)
    result = np.clip((product - x_mean * y_mean) / scale, -1.0, 1.0)
    found: Array = np.where(y_constant, np.nan, np.where(x_constant, 0.0, result))
    return found


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
    sites, known = values[:, :-1], ~np.isnan(values[:, :-1])
    number = known.sum(axis=1, keepdims=True)
    mean = np.where(known, sites, 0.0).sum(axis=1, keepdims=True) / np.where(number, number, np.nan)
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
