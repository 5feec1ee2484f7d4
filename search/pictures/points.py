"""What pictures show of a study: each trial that has come to some value, also one that was pruned or is paused.

Owns what a trial's point is, and how it is told from others. Must not know matplotlib or plotly. Read next:
`courses.py` and `settings.py`, which draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from optuna.trial import FrozenTrial, TrialState

from rnatracker import plots
from rnatracker.search import summary
from rnatracker.search.front.cost import Cost, cost_of
from rnatracker.search.front.pareto import front
from rnatracker.search.pruning import START
from rnatracker.search.space import Dimension, Value
from rnatracker.search.study import Search

State = Literal["complete", "pruned", "paused"]

COLOURS: dict[str, str] = {"complete": plots.BLUE, "pruned": plots.GREY, "paused": plots.YELLOW}
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.WAITING: "paused",
}
START_NAME, BEST_NAME, FRONT_NAME = "starting config", "best", "front"


@dataclass(frozen=True)
class Point:
    """A trial that has come to some value.

    Attributes:
        number: its number.
        state: what has become of it.
        is_start: whether it has the starting config.
        value: its value; of one that was pruned or is paused what it had reached.
        settings: its value of each searched key, the starting config's where it has drawn none.
        keys: those that it has: a key may exist under a condition only.
        course: what it has reported, by step.
        cost: what it costs; None: not known, or the study has no cost.
        is_on_front: whether no complete trial beats it in value and cost.
    """

    number: int
    state: State
    is_start: bool
    value: float
    settings: dict[str, Value]
    keys: frozenset[str]
    course: dict[int, float]
    cost: float | None = None
    is_on_front: bool = False


@dataclass(frozen=True)
class Shown:
    """What pictures show of a study.

    Attributes:
        name: the study's.
        objective: what values are.
        maximize: whether more is better.
        epochs: of a fold.
        folds: of a trial.
        dimensions: the searched keys.
        points: its trials, by number.
        importances: of its keys, the largest first; empty with too few trials.
        cost: the second objective; None: there is none.
        best_number: the best trial; None: none is complete.
    """

    name: str
    objective: str
    maximize: bool
    epochs: int
    folds: int
    dimensions: tuple[Dimension, ...]
    points: list[Point]
    importances: dict[str, float]
    cost: Cost | None = None
    best_number: int | None = None

    @property
    def priced(self) -> list[Point]:
        """Those whose cost is known."""
        return [point for point in self.points if point.cost is not None]

    @property
    def front(self) -> list[Point]:
        """Those on the front, the cheapest first."""
        return sorted((point for point in self.points if point.is_on_front), key=lambda point: point.cost or 0.0)

    @property
    def best(self) -> Point | None:
        """The best of those that are complete."""
        return next((point for point in self.points if point.number == self.best_number), None)

    @property
    def start(self) -> Point | None:
        """The one with the starting config."""
        return next((point for point in self.points if point.is_start), None)

    def best_of(self, points: Sequence[Point]) -> Point | None:
        """Return the best of these that are complete."""
        completed = [point for point in points if point.state == "complete"]
        return (max if self.maximize else min)(completed, key=lambda point: point.value, default=None)

    def of_state(self, state: str) -> list[Point]:
        """Return those of a state, but for the starting config and the best."""
        return [point for point in self.points if point.state == state and point not in (self.start, self.best)]


def shown(search: Search) -> Shown:
    """Return what is shown of a study."""
    request = search.request
    on_front = {trial.number for trial in front(search)}
    points = [_point(search, trial, is_on_front=trial.number in on_front) for trial in summary.valued(search)]
    return Shown(
        request.name,
        request.config.train.objective,
        request.maximize,
        request.config.train.epochs,
        request.folds,
        request.space.dimensions,
        points,
        summary.importances(search),
        request.cost,
        next((trial.number for trial in summary.best(search, 1)), None),
    )


def _point(search: Search, trial: FrozenTrial, *, is_on_front: bool) -> Point:
    keys = [each.key for each in search.request.space]
    flat = {**search.request.config.flat(), **trial.params}
    return Point(
        trial.number,
        _STATES[trial.state],
        bool(trial.user_attrs.get(START)),
        summary.value_of(trial, search) or 0.0,
        {key: flat[key] for key in keys},
        frozenset(summary.settings_of(search, trial)),
        dict(sorted(trial.intermediate_values.items())),
        cost_of(trial),
        is_on_front,
    )
