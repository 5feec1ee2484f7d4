"""What a paused trial would gain a study with a cost: a better value below some limit of the cost.

Owns how value and cost are weighed against each other; knows numbers only. Read next: `freeze_thaw.py`, which asks.

A user of such a study has a limit of what a network may cost, which nobody knows: it may be anywhere between the lowest
and the highest cost seen, by orders of magnitude, or there is none. A trial's gain is its expected gain over the best
value that stands below a limit, in the mean over limits: half of the weight at no limit, half spread over the range.
Under limits below its own cost a trial gains nothing; where nothing is complete that is cheap enough, it gains over the
lowest value that any trial is expected to come to. It is the expected growth of the area below the Pareto front, on a
logarithmic scale of costs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rnatracker.search.front.cost import log_cost

_LIMITED = 0.5
"""Weight of there being a limit of the cost."""


@dataclass(frozen=True)
class Rivals:
    """What a study's trials have come to, and what they cost.

    Attributes:
        values: of complete trials, the more the better.
        costs: of the same, on the logarithmic scale.
        floor: value where nothing is complete that is cheap enough.
        low: the lowest cost of any trial, on the logarithmic scale.
        high: the highest.
    """

    values: Sequence[float]
    costs: Sequence[float]
    floor: float
    low: float
    high: float

    @staticmethod
    def of(known: Sequence[tuple[float, float | None]], costs: Sequence[float], floor: float) -> Rivals:
        """Return them.

        Args:
            known: values and costs of complete trials.
            costs: of all trials, as far as they are known; at least one.
            floor: the lowest value that any trial is expected to come to.
        """
        logs = [log_cost(cost) for cost in costs]
        theirs = [math.inf if cost is None else log_cost(cost) for _, cost in known]
        return Rivals([value for value, _ in known], theirs, floor, min(logs), max(logs))

    def best_below(self, limit: float) -> float | None:
        """Return the best value of complete trials that cost no more than a limit, on the logarithmic scale."""
        return max((v for v, cost in zip(self.values, self.costs, strict=True) if cost <= limit), default=None)

    def mean_gain(self, cost: float | None, gain_over: Callable[[float], float]) -> float:
        """Return a trial's mean gain over limits.

        Args:
            cost: the trial's; None: not known, so that it counts without a limit only.
            gain_over: returns its expected gain over a value.
        """
        best = self.best_below(math.inf)
        free = gain_over(-math.inf if best is None else best)
        if best is None or self.high <= self.low:  # none to weigh it against, or all cost the same
            return free
        if cost is None:
            return (1 - _LIMITED) * free
        own = log_cost(cost)
        limits = sorted({own, self.high, *(each for each in self.costs if own < each < self.high)})
        under = 0.0
        for lower, upper in itertools.pairwise(limits):
            bar = self.best_below(lower)
            under += (upper - lower) * gain_over(self.floor if bar is None else bar)
        return (1 - _LIMITED) * free + _LIMITED * under / (self.high - self.low)
