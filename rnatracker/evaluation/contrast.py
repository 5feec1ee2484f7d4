"""How one run's predictions differ from another's, and whether that is more than chance.

Owns the corrected p-values and the verdict in words. Must not know where predictions come from. Read next:
`rnatracker/metrics.py` for the paired bootstrap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from rnatracker import metrics
from rnatracker.metrics import Difference

SIGNIFICANT = 0.05
"""Highest corrected p-value at which two runs are told apart."""


@dataclass(frozen=True)
class Contrast:
    """How one run differs from another.

    Attributes:
        first: name of the run that is compared.
        second: name of the run that it is compared with.
        differences: PCC of the first minus that of the second, for each site, the mean and overall.
        corrected: Holm's p-values: of the sites among all sites of all pairs of runs, of the mean among all pairs, also
            those that are not shown; NaN for `pcc_overall`, which is shown and not tested.
        verdict: the first is better, is worse, or they can't be told apart.
        text: the verdict in words.
    """

    first: str
    second: str
    differences: list[Difference]
    corrected: list[float]
    verdict: Literal["better", "worse", "alike"]
    text: str


def corrected_p_values(differences: list[list[Difference]]) -> list[list[float]]:
    """Correct the p-values of all sites of all pairs of runs together, and those of the means together.

    Args:
        differences: of all runs but the best from the best. Which that is was told by looking, so any pair might have
            been among these: the others are counted as if they had been tested too.
    """
    n_sites, unseen = len(differences[0]) - 2, _pairs(differences) - len(differences)
    tested = sum(not math.isnan(each.p) for each in differences[0][:n_sites])
    sites = metrics.holm([each.p for found in differences for each in found[:n_sites]], unseen * tested)
    means = metrics.holm([found[n_sites].p for found in differences], unseen)
    return [[*sites[i * n_sites : (i + 1) * n_sites], means[i], math.nan] for i in range(len(differences))]


def _pairs(differences: list[list[Difference]]) -> int:
    """Return how many pairs of runs there are, where all but one are compared with that one."""
    return math.comb(len(differences) + 1, 2)


def too_few_resamples(resamples: int, differences: list[list[Difference]]) -> list[str]:
    """Return a warning if even the lowest p-value that bootstrap samples can give is nothing once it is corrected."""
    pairs, n_sites = _pairs(differences), len(differences[0]) - 2
    needed = math.ceil(2 * pairs * n_sites / SIGNIFICANT)
    if pairs == 1 or resamples >= needed:
        return []
    return [
        f"{resamples} bootstrap samples are too few for {pairs} pairs of runs and {n_sites} sites: corrected for that, "
        f"not even the clearest difference at a site would count; give --resamples {needed} or more"
    ]


def of_relatives(contrast: Contrast, *, first_has_families: bool, alone: bool) -> Contrast:
    """Say of a run with folds at random and one with families kept together what their difference is.

    Neither is the better model for it: the one was measured on transcripts whose relatives it was trained on.

    Args:
        contrast: of the two.
        first_has_families: whether the first is the one with families.
        alone: whether nothing else differs in their settings.
    """
    mean = contrast.differences[-2]
    turned = (0 - mean.value, 0 - mean.high, 0 - mean.low)  # -0.0 would be shown as such
    value, low, high = turned if first_has_families else (mean.value, mean.low, mean.high)
    random, family = (contrast.second, contrast.first) if first_has_families else (contrast.first, contrast.second)
    shown = f"{value:+.3f} in mean PCC (95 % interval {low:+.3f} to {high:+.3f})"
    where = "relatives" if alone else "relatives and from what else differs in their settings"
    what = f"{shown} came from {where}" if low > 0 else f"{shown}, which isn't shown to come from {where}"
    text = f"{random} divided its transcripts at random, {family} kept families together: {what}."
    return replace(contrast, verdict="alike", text=text)


def judge(first: str, second: str, differences: list[Difference], corrected: list[float]) -> Contrast:
    """Return the contrast of two runs, with its verdict in words.

    Args:
        first: name of the run that is compared.
        second: name of the run that it is compared with.
        differences: PCC of the first minus that of the second: each site, then `pcc_mean`, then `pcc_overall`.
        corrected: their corrected p-values.
    """
    if all(each.value == each.low == each.high == 0 for each in differences):
        return Contrast(first, second, differences, corrected, "alike", f"{first} and {second} predict the same.")
    mean, p = differences[-2], corrected[-2]
    if math.isnan(mean.value):
        text = f"{first} and {second} can't be compared by PCC, which is undefined at every site."
        return Contrast(first, second, differences, corrected, "alike", text)
    interval = f"{mean.value:+.3f} in mean PCC, 95 % interval {mean.low:+.3f} to {mean.high:+.3f}"
    verdict: Literal["better", "worse", "alike"] = "alike"
    if p < SIGNIFICANT and mean.low > 0:
        verdict, text = "better", f"{first} is better than {second} ({interval})"
    elif p < SIGNIFICANT and mean.high < 0:
        verdict, text = "worse", f"{first} is worse than {second} ({interval})"
    else:
        text = f"{first} and {second} can't be told apart ({interval})"
    certain = [(d, q) for d, q in zip(differences[:-2], corrected[:-2], strict=True) if q < SIGNIFICANT]
    higher = [d.name for d, _ in certain if d.value > 0]
    lower = [d.name for d, _ in certain if d.value < 0]
    parts = [f"higher at {', '.join(higher)}"] * bool(higher) + [f"lower at {', '.join(lower)}"] * bool(lower)
    by_site = "; ".join(parts) or "no site tells them apart by itself"
    return Contrast(first, second, differences, corrected, verdict, f"{text}; {by_site}.")
