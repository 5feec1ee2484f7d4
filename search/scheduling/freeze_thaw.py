"""Freeze and thaw: begin many trials, pause them after a look, and go on with those that deserve it.

Owns the decision; knows numbers only. Must not know optuna, torch or mlflow. Read next: `curve_model.py` for the
forecasts; `search/study.py`, which carries the decision out; `docs/search.md`, which says the same for users.

Whoever is free asks `decide` for a piece of work: new settings, or a paused trial and how far it is to go. A piece ends
at a look: after 1, 2, 3, 4, 7, 11, 17 and 27 of 27 epochs of the first fold, then at the end of each further fold.
There the trial asks too, and is paused if something else is worth more. No trial waits for others, and none is given
up: a paused one can be resumed for as long as the study goes on.

- Of the trials that have come to a look, the best `_SHARE` go on to the next. The best by the forecast of their last
  values, not by what they have: who starts slowly isn't lost. As forecasts change with all that the study sees, the
  best change too, and a paused trial may be resumed late. In a study with a cost, the best by forecast and cost, front
  by front (`search/front/order.py`).
- New settings are begun until there are as many as wanted, but never by more than `_LOOKING` of the epochs, so that
  what is learned from those that go on helps to choose the next.
- A large study comes to an end after 40 trials, and 80, and so on, as if it had no more (`stages`), so that something
  is complete whenever it is stopped. One that has so much time, or so many epochs, first begins no more than it can
  bring to an end in them (`fits`).
- It is over when all settings have been begun and none goes on by these rules. If none has come to its end by then, the
  best goes on.
- At the very end the best are trained again with fresh seeds, to tell them apart and to know what they are worth
  (`true_value.py`): in turn the best by the estimate and the one most likely better, until the latter is unlikely.
- In a study with a cost, all that are expected to be on the front go on then, one after another, for as long as that
  stays so: a front of one trial is none.

Sources: Li et al. 2020 (ASHA, arXiv:1810.05934) for promotion without waiting; Swersky, Snoek & Adams 2014
(freeze-thaw, arXiv:1406.3896) for forecasts and pauses. Shares and looks were chosen on recorded curves
(`benchmarks/schedulers.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from rnatracker.search.front.order import nondominated, ordered, rough
from rnatracker.search.scheduling.curve_model import Array, CurveModel, Points
from rnatracker.search.scheduling.true_value import Estimate, estimate

_FIRST = 1 / 27
"""Share of a fold's epochs before the first look."""
_LOOKS = 8
_SHARE = 0.54
"""Of the trials that have come to a look, how many go on."""
_LOOKING = 0.7
"""Share of the epochs that may go into new trials' first looks while others wait to go on."""
_FRESH = 2
"""Trainings with fresh seeds at a study's end at most,"""
_FRESH_EPOCHS = 2 / 3
"""if they have no more than this of the epochs spent before."""
_DOUBT = 0.1
"""Chance that another is better than the best, below which nothing is trained with fresh seeds any more."""
_SECOND_THOUGHTS = 1.3
"""Epochs that a study takes, as a multiple of what it would if no forecast ever changed. On recorded curves (4 to 64
trials) it was 1.1 to 1.3 on two data sets, and up to 2 on the third."""
_FIRST_STAGE = 40
LEAST = 6
"""Trials that an estimate of true values looks at: so many at least, or a third. With fewer there is none."""
_POINTS = 250
"""Points of curves that the model is fitted to: its time grows with their cube; so a decision takes half a second."""
_ELSEWHERE = 10**6
"""Places in a model from here on are no trial's."""
_AT_ONCE = 64
"""Trials that are forecast together: a covariance of all of a large study's would be large."""


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
        fresh: its settings trained again with fresh seeds: by round, from 1, as `values`; empty of one just begun.
        cost: what it costs; None: not known, or the study has no cost.
    """

    number: int
    settings: Array
    values: dict[int, dict[int, float]]
    state: State
    is_start: bool = False
    fresh: Mapping[int, dict[int, dict[int, float]]] = field(default_factory=dict)
    cost: float | None = None

    @property
    def epochs(self) -> int:
        """Epochs trained in all its folds."""
        return _epochs(self.values)

    @property
    def fresh_epochs(self) -> int:
        """Epochs trained with fresh seeds."""
        return sum(map(_epochs, self.fresh.values()))


class What(StrEnum):
    """What to do next."""

    NEW = "new settings"
    RESUME = "go on"
    FRESH = "train again with a fresh seed"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Decision:
    """The next piece of work.

    Attributes:
        what: new settings, a paused trial, or nothing.
        number: the paused trial, or that whose settings are trained again.
        fold: the piece goes on to this fold,
        epoch: and this epoch of it.
        why: for people.
        round: which time its settings are trained again, from 1.
    """

    what: What
    number: int = -1
    fold: int = 1
    epoch: int = 0
    why: str = ""
    round: int = 0


def looks(epochs: int) -> list[int]:
    """Return the epochs of a fold after which trials are looked at, the last one included."""
    places = np.geomspace(max(_FIRST * epochs, 1.0), epochs, _LOOKS)
    return sorted({round(float(place)) for place in places})


def stages(trials: int) -> list[int]:
    """Return after how many trials a study of more is brought to an end before others are begun."""
    found = [_FIRST_STAGE]
    while found[-1] < trials:
        found.append(2 * found[-1])
    return found[:-1]


@dataclass(frozen=True)
class Forecast:
    """Last values of trials, as their curves let expect them.

    Attributes:
        numbers: the trials.
        means: (M,) of the value that the trial will have.
        sds: (M,).
    """

    numbers: list[int]
    means: Array
    sds: Array

    @cached_property
    def _by_number(self) -> dict[int, tuple[float, float]]:
        return {n: (float(m), float(s)) for n, m, s in zip(self.numbers, self.means, self.sds, strict=True)}

    def has(self, number: int) -> bool:
        """Tell whether a trial is in it."""
        return number in self._by_number

    def of(self, number: int) -> tuple[float, float]:
        """Return mean and standard deviation for a trial."""
        return self._by_number[number]


class FreezeThaw:
    """Decides by the curves of one study.

    Args:
        epochs: of each fold.
        folds: of each trial.
    """

    def __init__(self, epochs: int, folds: int) -> None:
        self._epochs, self._folds, self._looks = epochs, folds, looks(epochs)
        self._latest: CurveModel | None = None
        self._basis: tuple[Sequence[Course], Forecast] | None = None

    def decide(
        self,
        courses: Sequence[Course],
        wanted: int,
        fresh: int | None = 0,
        *,
        in_a_hurry: bool = False,
        ahead: Forecast | None = None,
    ) -> Decision:
        """Return the next piece of work.

        Args:
            courses: all trials that have been begun.
            wanted: how many there are to be.
            fresh: how many trainings with fresh seeds there are to be at most; None: two, if that isn't too much.
            in_a_hurry: whether the best paused trials go on, one for each who asks, as long as none is complete: time
                may be over before another worker's is.
            ahead: what was forecast a moment ago; of trials that are not in it, it is made now.
        """
        self._basis = None
        can_begin = len(courses) < wanted
        new = Decision(What.NEW, epoch=self._looks[0])
        paused = [each for each in courses if each.state == State.PAUSED]
        if can_begin and not self.is_asked(courses, wanted):
            return new
        if not paused:
            return self._fresh(courses, fresh)
        forecast = self.forecast(courses, ahead)
        self._basis = courses, forecast
        chosen = self._to_go_on(courses, forecast)
        if chosen is None and can_begin:
            return new
        if chosen is None:
            chosen = _on_front(paused, courses, forecast)
        enough = (State.COMPLETE,) if in_a_hurry else (State.COMPLETE, State.RUNNING)
        if chosen is None and not any(each.state in enough for each in courses):
            chosen = max(paused, key=lambda each: forecast.of(each.number)[0])
        if chosen is None:
            return self._fresh(courses, fresh)
        return self._go_on(chosen, self.outlook(chosen.number))

    def is_asked(self, courses: Sequence[Course], wanted: int) -> bool:
        """Tell whether a decision needs forecasts: some trials are paused, and new ones aren't all there is to do."""
        if not any(each.state == State.PAUSED for each in courses):
            return False
        return len(courses) >= wanted or not self._looked_less(courses)

    def _to_go_on(self, courses: Sequence[Course], forecast: Forecast) -> Course | None:
        """Return the paused trial that goes on, the farthest first; None if none does."""
        able = [each for each in courses if each.values]
        for look in sorted({each.epochs for each in able if each.state == State.PAUSED}, reverse=True):
            there = _best_first([each for each in able if each.epochs >= look], forecast)
            best = there[: int(len(there) * _SHARE)]
            found = [each for each in best if each.state == State.PAUSED and each.epochs == look]
            if found:
                return found[0]
        return None

    def outlook(self, number: int) -> str:
        """Word what the last decision was based on: what a trial may come to, and its place among those as far."""
        if self._basis is None:
            return "new settings are begun first"
        courses, forecast = self._basis
        course = next(each for each in courses if each.number == number)
        mean, sd = forecast.of(number)
        there = _best_first([each for each in courses if each.values and each.epochs >= course.epochs], forecast)
        place = [each.number for each in there].index(number) + 1
        cheap = _best_as_cheap(course, courses, forecast)
        among = f"place {place} of {len(there)} that have come so far, of which {int(len(there) * _SHARE)} go on"
        return f"may come to {mean:.4f} ± {sd:.4f}, the best to {max(forecast.means):.4f}{cheap}; {among}"

    def fits(self, epochs: float) -> int:
        """Return how many trials are brought to an end in so many epochs: most paused, the best at their last."""
        n = 1
        while _SECOND_THOUGHTS * self._folds * self._epochs_of(n + 1) <= epochs:
            n += 1
        return n

    def _epochs_of(self, trials: int) -> float:
        """Return how many epochs a study of a fold takes if no forecast ever changes, with one trial at its end."""
        steps = zip(self._looks, [0, *self._looks], strict=False)
        return sum(max(trials * _SHARE**i, 1.0) * (look - before) for i, (look, before) in enumerate(steps))

    def _fresh(self, courses: Sequence[Course], most: int | None) -> Decision:
        """Return that the best or its challenger is trained with a fresh seed; NOTHING if that has been enough."""
        complete = [each for each in courses if each.state == State.COMPLETE]
        if sum(bool(each.values) for each in courses) < LEAST:
            return Decision(What.NOTHING)
        n = sum(len(each.fresh) for each in courses)
        if not complete or n >= (_FRESH if most is None else most):
            return Decision(What.NOTHING)
        if most is None and (n + 1) * self._epochs * self._folds > _FRESH_EPOCHS * sum(each.epochs for each in courses):
            return Decision(What.NOTHING)
        found, by_number = self.estimate(courses), {each.number: each for each in complete}
        best, challenger = by_number[found.best], found.challenger()
        if challenger is None:
            other, chance = best, 1.0
        else:
            other, chance = by_number[challenger[0]], challenger[1]
        if best.fresh and chance < _DOUBT:
            return Decision(What.NOTHING)
        if len(other.fresh) < len(best.fresh):
            chosen, why = other, f"may be better than trial {best.number}, with a chance of {chance:.0%}"
        else:
            chosen, why = best, "is the best so far"
        return Decision(What.FRESH, chosen.number, why=why, round=len(chosen.fresh) + 1)

    def estimate(self, courses: Sequence[Course]) -> Estimate:
        """Return the true values of complete trials, at least one: with the best forecasts, or trained again."""
        seen = [each for each in courses if each.values]
        forecast = self.forecast(seen)
        done = [forecast.of(each.number)[0] for each in seen if each.state == State.COMPLETE]
        least = min(sorted(forecast.means)[-min(max(LEAST, len(seen) // 3), len(seen))], max(done))
        kept = [each for each in seen if forecast.of(each.number)[0] >= least or each.fresh]
        whole = [(each, round_, values) for each in kept for round_, values in each.fresh.items()]
        again = [
            (each.number, round_, _mean(values))
            for each, round_, values in whole
            if _epochs(values) == self._epochs * self._folds
        ]
        values = {each.number: forecast.of(each.number)[0] for each in kept}
        found = estimate(values, again, self._model(seen).spread / math.sqrt(self._folds))
        return found.only(each.number for each in kept if each.state == State.COMPLETE)

    def _looked_less(self, courses: Sequence[Course]) -> bool:
        looked = sum(min(each.epochs, self._looks[0]) for each in courses)
        return looked < _LOOKING * sum(each.epochs for each in courses)

    def on_to_next_look(self, course: Course) -> Decision:
        """Return how far a trial goes that is to go on."""
        return self._go_on(course, "")

    def _go_on(self, course: Course, why: str) -> Decision:
        """Return that a trial goes on to its next look: in folds after the first, to the fold's end."""
        fold = max(course.values, default=1)
        last = max(course.values.get(fold, {0: 0}))
        if last >= self._epochs and fold < self._folds:
            fold, last = fold + 1, 0
        following = next((look for look in self._looks if look > last), self._epochs) if fold == 1 else self._epochs
        return Decision(What.RESUME, course.number, fold, following, why)

    def value(self, course: Course) -> float | None:
        """Return the mean over folds of the last value; None if there is none."""
        return _mean(course.values) if any(course.values.values()) else None

    def forecast(self, courses: Sequence[Course], ahead: Forecast | None = None) -> Forecast:
        """Return what trials are expected to come to.

        Args:
            courses: the trials.
            ahead: what was forecast a moment ago, and is taken as it is. Of a trial that is not in it, what its
                settings let expect is: its own values are in the next forecast.
        """
        seen = [each for each in courses if each.values]
        if ahead is None or self._latest is None:
            means, sds = self._last(self._model(seen), np.array([each.settings for each in seen]), range(len(seen)))
        else:
            means, sds = self._with_new(seen, ahead, self._latest)
        for i, each in enumerate(seen):  # what is known is not forecast
            if each.state == State.COMPLETE:
                means[i], sds[i] = self.value(each) or 0.0, 0.0
        return Forecast([each.number for each in seen], means, sds)

    def _with_new(self, seen: Sequence[Course], ahead: Forecast, model: CurveModel) -> tuple[Array, Array]:
        """Return mean and standard deviation (M,) of trials' last values, those of trials that are new by a model."""
        new = [i for i, each in enumerate(seen) if not ahead.has(each.number)]
        means, sds = (np.empty(len(seen)) for _ in range(2))
        if new:
            others = range(_ELSEWHERE, _ELSEWHERE + len(new))
            means[new], sds[new] = self._last(model, np.array([seen[i].settings for i in new]), others)
        for i, each in enumerate(seen):
            if ahead.has(each.number):
                means[i], sds[i] = ahead.of(each.number)
        return means, sds

    def _model(self, courses: Sequence[Course]) -> CurveModel:
        points = self._points(courses)
        if self._latest is None or not self._latest.has(points):
            self._latest = CurveModel(points, self._epochs, None if self._latest is None else self._latest.parameters)
        return self._latest

    def _last(self, model: CurveModel, settings: Array, indices: Iterable[int]) -> tuple[Array, Array]:
        """Return mean and standard deviation (M,) of the last values of settings (M, D): means over the folds.

        Args:
            model: the model.
            settings: which.
            indices: the trials' places in the model, or others.
        """
        folds, places, means, variances = self._folds, list(indices), [], []
        for i in range(0, len(settings), _AT_ONCE):
            some = settings[i : i + _AT_ONCE]
            n, own = len(some), [_training(j, fold) for j in places[i : i + _AT_ONCE] for fold in range(1, folds + 1)]
            repeated = np.repeat(some, folds, axis=0)
            mean, covariance = model.predict(repeated, np.full(n * folds, float(self._epochs)), np.array(own))
            means.append(mean.reshape(n, folds).mean(axis=1))
            variances.append(np.diag(covariance.reshape(n, folds, n, folds).mean(axis=(1, 3))))
        return np.concatenate(means), np.sqrt(np.maximum(np.concatenate(variances), 0.0))

    def _points(self, courses: Sequence[Course]) -> Points:
        """Return what the model is to know: each training's last value, and those at its looks, up to `_POINTS`.

        Where there are too many, those of the longest trainings count most: they say how curves go on.
        """
        last, before = [], []
        for i, each in enumerate(courses):
            for fold, values in each.values.items():
                place = (len(values), each.settings, _training(i, fold))
                last.append((*place, float(max(values)), values[max(values)]))
                before += [(*place, float(e), values[e]) for e in values if e in self._looks and e != max(values)]
        rows = sorted(last, key=lambda row: row[0], reverse=True) + sorted(before, key=lambda row: row[0], reverse=True)
        columns = [np.array(column) for column in zip(*rows[:_POINTS], strict=True)]
        return Points(columns[1], columns[3], columns[2].astype(np.int64), columns[4])


def _best_first(courses: list[Course], forecast: Forecast) -> list[Course]:
    """Order trials by the forecast of their last values; in a study with a cost, by that and the cost."""
    means, costs = [forecast.of(each.number)[0] for each in courses], [each.cost for each in courses]
    known = [cost for cost in costs if cost is not None]
    if not known:
        return sorted(courses, key=lambda each: forecast.of(each.number)[0], reverse=True)
    dearest = max(known)
    return [courses[i] for i in ordered(means, [dearest if cost is None else cost for cost in costs])]


def _on_front(paused: Sequence[Course], courses: Sequence[Course], forecast: Forecast) -> Course | None:
    """Return the paused trial that goes on since it is expected to be on the front, the farthest first."""
    able = [(each, each.cost) for each in courses if each.values and each.state != State.ENDED]
    known = [(each, cost) for each, cost in able if cost is not None]
    means = [forecast.of(each.number)[0] for each, _ in known]
    front = {known[i][0].number for i in nondominated(means, rough([cost for _, cost in known]))}
    return max((each for each in paused if each.number in front), key=lambda each: each.epochs, default=None)


def _best_as_cheap(course: Course, courses: Sequence[Course], forecast: Forecast) -> str:
    """Word what the best comes to of other trials that cost no more, in a study with a cost."""
    own = course.cost
    if own is None:
        return ""
    others = [each for each in courses if each.number != course.number and each.values and each.cost is not None]
    found = [forecast.of(each.number)[0] for each in others if each.cost is not None and each.cost <= own]
    return f", of those that cost no more to {max(found):.4f}" if found else ", and none costs less"


def _epochs(values: Mapping[int, dict[int, float]]) -> int:
    """Return how many epochs have been trained in all folds."""
    return sum(max(each) for each in values.values() if each)


def _mean(values: Mapping[int, dict[int, float]]) -> float:
    """Return the mean over folds of the last value."""
    found = [each[max(each)] for each in values.values() if each]
    return sum(found) / len(found)


def _training(index: int, fold: int) -> int:
    return index * 1000 + fold
