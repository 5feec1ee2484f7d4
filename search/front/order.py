"""An order of trials in which value and cost both count.

Knows numbers only. Must not know torch or mlflow. Read next: `pareto.py` for a study's front,
`search/scheduling/freeze_thaw.py` for who goes on.

Source: Schmucker et al. 2021 (multi-objective asynchronous successive halving, arXiv:2106.12639), whose order is this
one: front by front, and within a front so that its ends and gaps come first (their epsilon net).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rnatracker.search.front.cost import log_cost

_STEP = 1.05
"""Costs whose ratio is below this are about the same: a time is never measured much better."""


def nondominated(values: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Return the places of those that no other beats, the cheapest first; of equal ones the first.

    Args:
        values: the more the better.
        costs: the less the better.
    """
    found: list[int] = []
    for i in sorted(range(len(values)), key=lambda i: (costs[i], -values[i], i)):
        if not found or values[i] > values[found[-1]]:
            found.append(i)
    return found


def rough(costs: Sequence[float]) -> list[int]:
    """Return costs in steps of a few per cent, so that what costs about the same costs the same."""
    return [round(log_cost(cost) / math.log(_STEP)) for cost in costs]


def ordered(values: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Return the places of all, the best first: the front, the front of the rest, and so on.

    Within a front the best value is first, then always the one that is farthest from those before it, as shares of the
    ranges of values and of orders of magnitude of costs.

    Args:
        values: the more the better.
        costs: the less the better, above 0; what differs by a few per cent counts as the same.
    """
    steps = rough(costs)
    left, found = list(range(len(values))), list[int]()
    places = list(zip(_shares(values), _shares(steps), strict=True))
    while left:
        front = [left[i] for i in nondominated([values[i] for i in left], [steps[i] for i in left])]
        found += _spread(front[::-1], places)
        left = [i for i in left if i not in front]
    return found


def _spread(front: Sequence[int], places: Sequence[tuple[float, float]]) -> list[int]:
    """Return the same, the first one first, then always the farthest from those before."""
    found, rest = list(front[:1]), list(front[1:])
    while rest:
        farthest = max(rest, key=lambda i: min(math.dist(places[i], places[j]) for j in found))
        found.append(farthest)
        rest.remove(farthest)
    return found


def _shares(numbers: Sequence[float]) -> list[float]:
    """Return numbers as shares of their range."""
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    return [(number - low) / (high - low) if high > low else 0.0 for number in numbers]
