"""Freeze and thaw: begin many trials, pause them after a look, and go on with those that deserve it.

Owns the decision; knows numbers only. Must not know optuna, torch or mlflow. Read next: `curve_model.py` for the
forecasts; `search/study.py`, which carries the decision out; `docs/search.md`, which says the same for users.

Whoever is free asks `decide` for a piece of work: new settings, or a paused trial and how far it is to go. A piece ends
at a look: after 2, 3, 4, 7, 10, 15, 23 of 27 epochs of a fold, or at its end. There the trial asks too, and is paused
if something else is worth more. No trial waits for others, and none is given up: a paused one can be resumed for as
long as the study goes on.

- The starting config is trained to its end first.
- New settings are begun until there are as many as wanted, but never by more than `_LOOKING` of the epochs, so that
  what is learned from those that go on helps to choose the next.
- A paused trial is worth its expected gain over the best value there is, by the forecast of its last value, for each
  epoch that it still takes. In a study with a cost, by the mean over limits of the cost (`worth.py`).
- It is over when all settings have been begun and going on with every paused trial would gain less than `_ENOUGH`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import stats

from rnatracker.search.front.cost import log_cost
from rnatracker.search.scheduling.curve_model import Array, CurveModel, Points
from rnatracker.search.scheduling.worth import Rivals

_FIRST = 2 / 27
"""Share of a fold's epochs before the first look. Earlier ranks say nothing of the last ones."""
_GROWTH = 1.5
_LOOKING = 0.7
"""Share of the epochs that may go into new trials' first looks while others wait to go on."""
_ENOUGH = 0.003
"""Gain, in the objective's unit, below which no paused trial is resumed any more."""


class State(StrEnum):
    """What a trial is doing."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    ENDED = "ended"  # pruned, failed: it can't go on


@dataclass(frozen=True)
class Course:
    """How far a trial has come.

    Attributes:
        number: the trial.
        settings: (D,) between 0 and 1.
        values: by fold, from 1: by epoch, the best value so far, the more the better.
        state: what it is doing.
        is_start: whether it has the starting config.
        cost: what it costs; None: not known, or the study has no cost.
    """

    number: int
    settings: Array
    values: dict[int, dict[int, float]]
    state: State
    is_start: bool = False
    cost: float | None = None

    @property
    def epochs(self) -> int:
        """Epochs trained in all its folds."""
        return sum(max(each) for each in self.values.values() if each)


class What(StrEnum):
    """What to do next."""

    NEW = "new settings"
    RESUME = "go on"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Decision:
    """The next piece of work.

    Attributes:
        what: new settings, a paused trial, or nothing.
        number: the paused trial.
        fold: the piece goes on to this fold,
        epoch: and this epoch of it.
        why: for people.
    """

    what: What
    number: int = -1
    fold: int = 1
    epoch: int = 0
    why: str = ""


def looks(epochs: int) -> list[int]:
    """Return the epochs of a fold after which trials are looked at, the last one included."""
    found: list[int] = []
    place = max(_FIRST * epochs, 1.0)
    while round(place) < epochs:
        if not found or round(place) > found[-1]:
            found.append(round(place))
        place *= _GROWTH
    return [*found, epochs]


@dataclass(frozen=True)
class Forecast:
    """Last values of trials, as their curves let expect them.

    Attributes:
        numbers: the trials.
        means: (M,) of the value that the trial will have.
        sds: (M,).
        noise_sd: what differs between trainings of the same settings.
    """

    numbers: list[int]
    means: Array
    sds: Array
    noise_sd: float

    def of(self, number: int) -> tuple[float, float]:
        """Return mean and standard deviation for a trial."""
        i = self.numbers.index(number)
        return float(self.means[i]), float(self.sds[i])


class FreezeThaw:
    """Decides by the curves of one study.

    Args:
        epochs: of each fold.
        folds: of each trial.
    """

    def __init__(self, epochs: int, folds: int) -> None:
        self._epochs, self._folds, self._looks = epochs, folds, looks(epochs)
        self._parameters: Array | None = None
        self._outlooks: dict[int, str] = {}

    def decide(self, courses: Sequence[Course], wanted: int) -> Decision:
        """Return the next piece of work.

        Args:
            courses: all trials that have been begun.
            wanted: how many there are to be.
        """
        self._outlooks = {}
        paused = [each for each in courses if each.state == State.PAUSED]
        start = next((each for each in paused if each.is_start), None)
        if start is not None:
            return self._go_on(start, self._epochs, "the starting config is trained to its end")
        can_begin = len(courses) < wanted
        new = Decision(What.NEW, epoch=self._looks[0])
        is_any_complete = any(each.state == State.COMPLETE for each in courses)
        if can_begin and (not paused or not is_any_complete or self._looked_less(courses)):
            return new
        if not paused:
            return Decision(What.NOTHING)
        forecast = self.forecast(courses)
        known = [self.value(each) for each in courses if each.state == State.COMPLETE]
        best = max((v for v in known if v is not None), default=-math.inf)
        rivals = self._rivals(courses, forecast)
        gains = {each.number: self._gain_of(each, forecast.of(each.number), best, rivals) for each in paused}
        rates = {each.number: gains[each.number] / self._left(each) for each in paused}
        against = f"the best has {best:.4f}" if math.isfinite(best) else "none is complete"
        for each in paused:
            mean, sd = forecast.of(each.number)
            self._outlooks[each.number] = f"may come to {mean:.4f} ± {sd:.4f}, {against}{_beside(each, rivals)}"
        chosen = max(paused, key=lambda each: rates[each.number])
        if sum(gains.values()) < _ENOUGH:
            return new if can_begin else Decision(What.NOTHING, why=f"going on would gain {sum(gains.values()):.4f}")
        return self._go_on(chosen, None, self.outlook(chosen.number))

    def outlook(self, number: int) -> str:
        """Word what the last decision was based on for a paused trial."""
        return self._outlooks.get(number, "new settings are begun first")

    def _looked_less(self, courses: Sequence[Course]) -> bool:
        first = self._looks[0]
        looked = sum(min(each.epochs, first) for each in courses)
        return looked < _LOOKING * sum(each.epochs for each in courses if not each.is_start)

    def _rivals(self, courses: Sequence[Course], forecast: Forecast) -> Rivals | None:
        """Return what trials have come to at what cost; None where the study has no cost."""
        costs = [each.cost for each in courses if each.cost is not None]
        complete = [(self.value(each), each.cost) for each in courses if each.state == State.COMPLETE]
        known = [(value, cost) for value, cost in complete if value is not None]
        return Rivals.of(known, costs, float(forecast.means.min())) if costs else None

    def _gain_of(self, course: Course, forecast: tuple[float, float], best: float, rivals: Rivals | None) -> float:
        if rivals is None:
            return self._gain(forecast, best)
        return rivals.mean_gain(course.cost, lambda bar: self._gain(forecast, bar))

    def _gain(self, forecast: tuple[float, float], best: float) -> float:
        mean, sd = forecast
        if not math.isfinite(best):
            return mean + 10.0  # nothing is complete: the one that is expected to be best
        z = (mean - best) / max(sd, 1e-9)
        return float(sd * (z * stats.norm.cdf(z) + stats.norm.pdf(z)))

    def _left(self, course: Course) -> int:
        return max(self._folds * self._epochs - course.epochs, 1)

    def on_to_next_look(self, course: Course) -> Decision:
        """Return how far a trial goes that is to go on."""
        return self._go_on(course, None, "")

    def _go_on(self, course: Course, epoch: int | None, why: str) -> Decision:
        """Return that a trial goes on to its next look, or to an epoch of its fold."""
        fold = max(course.values, default=1)
        last = max(course.values.get(fold, {0: 0}))
        if last >= self._epochs and fold < self._folds:
            fold, last = fold + 1, 0
        following = next((look for look in self._looks if look > last), self._epochs)
        return Decision(What.RESUME, course.number, fold, epoch or following, why)

    def value(self, course: Course) -> float | None:
        """Return the mean over folds of the last value; None if there is none."""
        found = [values[max(values)] for values in course.values.values() if values]
        return sum(found) / len(found) if found else None

    def forecast(self, courses: Sequence[Course]) -> Forecast:
        """Return what trials are expected to come to."""
        seen = [each for each in courses if each.values]
        points = self._points(seen)
        model = CurveModel(points, self._epochs, self._parameters)
        self._parameters = model.parameters
        n, folds = len(seen), self._folds
        settings = np.repeat(np.array([each.settings for each in seen]), folds, axis=0)
        trainings = np.array([_training(i, fold) for i in range(n) for fold in range(1, folds + 1)])
        mean, covariance = model.predict(settings, np.full(n * folds, float(self._epochs)), trainings)
        means = mean.reshape(n, folds).mean(axis=1)
        blocks = covariance.reshape(n, folds, n, folds).mean(axis=(1, 3))
        sds = np.sqrt(np.maximum(np.diag(blocks), 0))
        for i, each in enumerate(seen):  # what is known is not forecast
            if each.state == State.COMPLETE:
                means[i], sds[i] = self.value(each) or 0.0, 0.0
        return Forecast([each.number for each in seen], means, sds, model.noise_sd)

    def _points(self, courses: Sequence[Course]) -> Points:
        rows = []
        for i, each in enumerate(courses):
            for fold, values in each.values.items():
                chosen = [e for e in values if e in self._looks or e == max(values)]
                rows += [(each.settings, float(e), _training(i, fold), values[e]) for e in chosen]
        columns = [np.array(column) for column in zip(*rows, strict=True)]
        return Points(columns[0], columns[1], columns[2].astype(np.int64), columns[3])


def _beside(course: Course, rivals: Rivals | None) -> str:
    """Word what a trial has to beat at its own cost."""
    if rivals is None or course.cost is None:
        return ""
    found = rivals.best_below(log_cost(course.cost))
    return (
        ", and none that costs no more is complete" if found is None else f", the best that costs no more {found:.4f}"
    )


def _training(index: int, fold: int) -> int:
    return index * 1000 + fold
