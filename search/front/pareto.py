"""The front of a study with a cost: complete trials of which no other has a better value and costs no more.

Owns which those are (the Pareto front). Must not know torch or mlflow. Read next: `search/summary.py` for a study's
other figures.
"""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from rnatracker.search import summary
from rnatracker.search.front.cost import cost_of
from rnatracker.search.study import Search


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


def front(search: Search) -> list[FrozenTrial]:
    """Return the trials of a study's front, the cheapest first; none where the study has no cost."""
    if search.request.cost is None:
        return []
    sign = 1.0 if search.request.maximize else -1.0
    known = [(trial, cost) for trial in summary.best(search) if (cost := cost_of(trial)) is not None]
    known.sort(key=lambda each: each[0].number)
    places = nondominated([sign * (trial.value or 0.0) for trial, _ in known], [cost for _, cost in known])
    return [known[i][0] for i in places]


def to_measure(search: Search) -> list[FrozenTrial]:
    """Return complete trials in the order in which a refit takes them: the front, its best value first, then others.

    Without a cost: the best first.
    """
    best = summary.best(search)
    numbers = {trial.number for trial in (*best[:1], *front(search))}  # of equal values the front has one only
    return sorted(best, key=lambda trial: trial.number not in numbers)  # stable: each part stays as it was
