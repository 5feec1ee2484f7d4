"""What fresh seeds say of a study's best settings: the figures, and how they are kept with the study.

Owns how settings are compared. Must not know torch, mlflow or typer. Read next: `rnatracker/search/refit.py`, which
trains them.

Interval: of the paired differences over folds and seeds, with the variance corrected for training parts that overlap.
Source: Nadeau & Bengio 2003 (doi:10.1023/A:1024068626366), the corrected resampled t-test, for repeated
cross-validation as in Bouckaert & Frank 2004 (doi:10.1007/978-3-540-24775-3_3), which divides anew each time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnatracker import metrics
from rnatracker.search.study import Search

VERDICT = "verdict"
"""Attribute of a study: its latest verdict as plain values, undefined ones as null."""

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Refitted:
    """One setting under fresh seeds.

    Attributes:
        trial: its trial's number.
        is_start: whether it is the starting config.
        claimed: what the study said of it; NaN where its trial has no value.
        values: (seeds, folds), the objective on the folds' test parts; NaN where it is undefined, which depends on a
            fold's transcripts and so is the same for all settings.
        run_ids: the cross-validation of each seed.
        over_baselines: by how much each seed's mean PCC exceeds that of baselines, by their kind; empty: not compared.
        run_names: names of the runs.
    """

    trial: int
    is_start: bool
    claimed: float
    values: np.ndarray
    run_ids: tuple[str, ...]
    over_baselines: dict[str, tuple[float, ...]] = field(default_factory=dict)
    run_names: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """Mean over seeds and folds."""
        return metrics.mean_of(self.values.ravel())

    @property
    def sd(self) -> float:
        """Standard deviation over seeds and folds."""
        return metrics.sd_of(self.values.ravel())

    @property
    def optimism(self) -> float:
        """What the study claimed minus what fresh seeds give."""
        return self.claimed - self.mean


@dataclass(frozen=True)
class Verdict:
    """What fresh seeds say.

    Attributes:
        objective: what `values` are.
        refitted: all settings, the best under fresh seeds first.
        difference: the best other setting minus the starting config.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    objective: str
    refitted: list[Refitted]
    difference: float
    low: float
    high: float

    @property
    def winner(self) -> Refitted:
        """The best under fresh seeds."""
        return self.refitted[0]

    @property
    def start(self) -> Refitted:
        """The starting config."""
        return next(each for each in self.refitted if each.is_start)

    def of(self, trial: int) -> Refitted | None:
        """Return what fresh seeds say of a trial; None if it is none of those."""
        return next((each for each in self.refitted if each.trial == trial), None)


def judge(objective: str, refitted: list[Refitted]) -> Verdict:
    """Order settings by what fresh seeds give, and compare the best other one with the starting config."""
    ordered = sorted(refitted, key=lambda each: each.mean, reverse=True)
    start = next(each for each in ordered if each.is_start)
    challenger = next((each for each in ordered if not each.is_start), start)
    difference, low, high = paired_interval(challenger.values - start.values)
    return Verdict(objective, ordered, difference, low, high)


def paired_interval(differences: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of paired differences, (seeds, folds), and its 95 % interval; NaN ends for less than two.

    Those that are undefined (NaN) are left out.
    """
    from scipy import stats

    known, folds = differences[~np.isnan(differences)], differences.shape[1]
    n, mean = known.size, metrics.mean_of(known)
    if n < 2:
        return mean, math.nan, math.nan
    variance = float(known.var(ddof=1)) * (1 / n + 1 / (folds - 1))
    half = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, n - 1)) * math.sqrt(variance)
    return mean, mean - half, mean + half


def keep(search: Search, verdict: Verdict) -> None:
    """Keep a verdict with its study, in place of an earlier one."""
    search.study.set_user_attr(VERDICT, as_plain(verdict))


def kept(search: Search) -> Verdict | None:
    """Return a study's latest verdict; None if it has none, or one of an earlier version, which its run has only.

    The differences are reckoned anew, from the values that are kept.
    """
    found: Mapping[str, Any] | None = search.study.user_attrs.get(VERDICT)
    if found is None:
        return None
    return judge(
        found["objective"],
        [
            Refitted(
                each["trial"],
                each["in_use"],
                _number(each["claimed"]),
                np.array([[_number(value) for value in row] for row in each["values"]]),
                tuple(each["run_ids"]),
                {kind: tuple(map(_number, values)) for kind, values in each["over_baselines"].items()},
                tuple(each["run_names"]),
            )
            for each in found["settings"]
        ],
    )


def as_plain(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON has it: `null` where a figure is undefined."""
    plain = {
        "objective": verdict.objective,
        "winner": verdict.winner.trial,
        "run_id": verdict.winner.run_ids[0],
        "run": next(iter(verdict.winner.run_names), ""),
        "difference": verdict.difference,
        "interval": [verdict.low, verdict.high],
        "settings": [
            {
                "trial": each.trial,
                "in_use": each.is_start,
                "claimed": each.claimed,
                "mean": each.mean,
                "sd": each.sd,
                "optimism": each.optimism,
                "values": each.values.tolist(),
                "run_ids": list(each.run_ids),
                "run_names": list(each.run_names),
                "over_baselines": {kind: list(values) for kind, values in each.over_baselines.items()},
            }
            for each in verdict.refitted
        ],
    }
    return dict(_defined(plain))


def _defined(value: Any) -> Any:
    """Return plain values with None in place of numbers that are none."""
    if isinstance(value, dict):
        return {key: _defined(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_defined(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value
