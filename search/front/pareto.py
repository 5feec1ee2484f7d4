"""The front of a study with a cost: complete trials of which no other has a better value and costs no more.

Owns which those are (the Pareto front). Must not know torch or mlflow. Read next: `search/summary.py` for a study's
other figures.
"""

from __future__ import annotations

from optuna.trial import FrozenTrial

from rnatracker.search import summary
from rnatracker.search.front.cost import cost_of
from rnatracker.search.front.order import nondominated
from rnatracker.search.study import Search


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
