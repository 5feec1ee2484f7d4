"""Schedulers and samplers replayed on recorded learning curves (`record_curves.py`): what they spend, what they find.

    python benchmarks/schedulers.py [--space default] [--trials 40] [--seeds 100] [--samplers random tpe] [--jobs 2]

Nothing is trained. A suggestion is taken for the nearest recorded setting that the study has not had; how near that is,
and how much values of neighbours differ, is printed. For each scheduler, over the seeds: the share of the epochs of the
unpruned study of the same sampler and seed, its best minus this one's (regret), in how many studies that is at most
0.005, the regret when both have spent 15 % of those epochs, and whether some other row is better in both, epochs and
regret (then it is not on the Pareto front). 95 % intervals over seeds. `true` is the regret by the other recorded
training of the same settings, with another seed and division: what the best was worth, not what it seemed to be.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from rnatracker.search import sampling, space
from rnatracker.search.pruning import START, TwoLevelPruner
from rnatracker.search.scheduling.freeze_thaw import Course, FreezeThaw, State, What
from rnatracker.search.space import Space

FOLDER = Path(__file__).parent / "curves"
_CLOSE = 0.005
_BUDGET = 0.15


@dataclass(frozen=True)
class Curves:
    """Recorded settings of a data set.

    Attributes:
        space: what was drawn from.
        settings: of each, by key.
        scaled: (N, D) the same between 0 and 1.
        best: (N, 2, T) the best value so far, of two trainings.
    """

    space: Space
    settings: list[dict[str, Any]]
    scaled: np.ndarray
    best: np.ndarray

    @property
    def epochs(self) -> int:
        """T."""
        return self.best.shape[2]


@cache
def load(name: str, space_name: str, repeat: int) -> Curves:
    """Read what `record_curves.py` has written; with `repeat` 1 the two trainings change places."""
    kept, searched = np.load(FOLDER / f"{name}-{space_name}.npz"), space.load(space_name)
    settings = [json.loads(str(each)) for each in kept["settings"]]
    values = np.nan_to_num(kept["values"].astype(float), nan=-1.0)
    best = np.maximum.accumulate(values, axis=2)
    best = best[:, ::-1] if repeat else best
    return Curves(searched, settings, np.array([searched.scaled(each) for each in settings]), best)


@dataclass
class Replay:
    """A study on recorded curves.

    Attributes:
        curves: these.
        sampler: its name.
        seed: of the study.
        trials: how many settings it may begin.
        chosen: the setting of each trial.
        reached: epochs of each.
        trace: epochs spent, and the best value of a whole training then.
    """

    curves: Curves
    sampler: str
    seed: int
    trials: int
    chosen: list[int] = field(default_factory=list)
    reached: list[int] = field(default_factory=list)
    trace: list[tuple[int, float]] = field(default_factory=list)
    forecasts: Callable[[], dict[int, float]] = dict

    def __post_init__(self) -> None:
        order = 1 + np.random.default_rng(self.seed).permutation(len(self.curves.settings) - 1)
        self._order = [0, *(int(i) for i in order)]

    @property
    def can_begin(self) -> bool:
        """Whether settings are left to begin."""
        return len(self.chosen) < min(self.trials, len(self._order))

    @property
    def spent(self) -> int:
        """Epochs trained so far."""
        return sum(self.reached)

    def begin(self) -> int:
        """Begin a trial; return its number."""
        number = len(self.chosen)
        self.chosen.append(self._order[number] if self.sampler == "random" or number == 0 else self._suggested())
        self.reached.append(0)
        return number

    def train(self, number: int, epoch: int) -> float:
        """Train a trial up to an epoch; return its best value so far."""
        self.reached[number] = max(self.reached[number], epoch)
        if epoch == self.curves.epochs:
            self.trace.append((self.spent, max(self.value(n) for n in self.complete)))
        return self.value(number)

    def value(self, number: int, epoch: int | None = None) -> float:
        """Return the best value that a trial has had, or had by an epoch."""
        return float(self.curves.best[self.chosen[number], 0, (epoch or self.reached[number]) - 1])

    @property
    def complete(self) -> list[int]:
        """Trials that were trained to their end."""
        return [n for n, epoch in enumerate(self.reached) if epoch == self.curves.epochs]

    def frozen(self, number: int) -> FrozenTrial:
        """Return a trial as Optuna has it."""
        values = {epoch: self.value(number, epoch) for epoch in range(1, self.reached[number] + 1)}
        is_complete = self.reached[number] == self.curves.epochs
        state = TrialState.COMPLETE if is_complete else TrialState.PRUNED
        params = self.curves.settings[self.chosen[number]]
        return create_trial(
            state=state,
            value=max(values.values()) if values else None,
            params=params,
            distributions={key: each for key, each in _distributions(self.curves.space).items() if key in params},
            intermediate_values=values,
            user_attrs={START: True} if number == 0 else {},
        )

    def _suggested(self) -> int:
        """Ask the sampler; return the nearest setting that the study has not had."""
        study = optuna.create_study(direction="maximize")
        study.add_trials([self.frozen(number) for number in range(len(self.chosen))])
        study.sampler = sampling.make(
            self.sampler,  # type: ignore[arg-type]
            study,
            self.seed,
            len(self.chosen),
            conditional=self.curves.space.has_conditions,
            forecasts=self.forecasts(),
        )
        wanted = np.array(self.curves.space.scaled(self.curves.space.draw(study.ask())))
        distances = ((self.curves.scaled - wanted) ** 2).sum(axis=1)
        distances[self.chosen] = math.inf
        return int(distances.argmin())


_known: dict[str, dict[str, Any]] = {}


def _distributions(searched: Space) -> dict[str, Any]:
    """Return Optuna's distributions of a space."""
    if searched.name not in _known:
        found: dict[str, Any] = {}
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(50):  # those under a condition turn up in some
            trial = study.ask()
            searched.draw(trial)
            found |= trial.distributions
        _known[searched.name] = found
    return _known[searched.name]


def unpruned(study: Replay) -> None:
    """Train all."""
    while study.can_begin:
        study.train(study.begin(), study.curves.epochs)


class _Others:
    """What a pruner asks of a study."""

    direction = StudyDirection.MAXIMIZE

    def __init__(self, trials: list[FrozenTrial]) -> None:
        self._trials = trials

    def get_trials(self, **_: Any) -> list[FrozenTrial]:
        return self._trials


def pruned(name: str) -> Callable[[Replay], None]:
    """Return how a pruner of the tool prunes."""

    def run(study: Replay) -> None:
        epochs, others = study.curves.epochs, []
        pruner = TwoLevelPruner(name, epochs, 1)  # type: ignore[arg-type]
        study.forecasts = lambda: _forecasts(study, FreezeThaw(epochs, 1))
        while study.can_begin:
            number = study.begin()
            for epoch in range(1, epochs + 1):
                study.train(number, epoch)
                trial = study.frozen(number)
                trial.number, trial.state = number, TrialState.RUNNING
                if epoch < epochs and pruner.prune(_Others([*others, trial]), trial):  # type: ignore[arg-type]
                    break
            ended = study.frozen(number)
            ended.number = number
            others.append(ended)

    return run


def i_epoch(k: int, first: int = 1) -> Callable[[Replay], None]:
    """Return how i-Epoch does it: all for so many epochs, then the best k to their end. Source: arXiv:2307.15422."""

    def run(study: Replay) -> None:
        while study.can_begin:
            study.train(study.begin(), first)
        for number in sorted(range(len(study.chosen)), key=study.value, reverse=True)[:k]:
            study.train(number, study.curves.epochs)

    return run


def promoted(study: Replay) -> None:
    """Promote the best third at 1, 3, 9 and 27 epochs, without waiting for a rung to fill. Source: arXiv:1810.05934."""
    epochs = study.curves.epochs
    rungs = [*(3**i for i in range(10) if 3**i < epochs), epochs]
    at: list[list[int]] = [[] for _ in rungs]
    gone: list[set[int]] = [set() for _ in rungs]
    while True:
        for i in reversed(range(len(rungs) - 1)):
            ordered = sorted(at[i], key=lambda n: study.value(n, rungs[i]), reverse=True)
            best = [n for n in ordered[: len(at[i]) // 3] if n not in gone[i]]
            if best:
                gone[i].add(best[0])
                study.train(best[0], rungs[i + 1])
                at[i + 1].append(best[0])
                break
        else:
            if not study.can_begin:
                break
            number = study.begin()
            study.train(number, 1)
            at[0].append(number)
    if not study.complete:  # too few for the last rung
        study.train(max(range(len(study.chosen)), key=study.value), epochs)


def courses(study: Replay) -> list[Course]:
    """Return a study as the tool's scheduler sees it."""
    made = []
    for number, chosen in enumerate(study.chosen):
        reached = study.reached[number]
        values = {1: {epoch: study.value(number, epoch) for epoch in range(1, reached + 1)}}
        state = State.COMPLETE if reached == study.curves.epochs else State.PAUSED
        made.append(Course(number, study.curves.scaled[chosen], values, state, number == 0))
    return made


def _forecasts(study: Replay, scheduler: FreezeThaw) -> dict[int, float]:
    found = scheduler.forecast(courses(study))
    return dict(zip(found.numbers, map(float, found.means), strict=True))


def freeze_thaw(study: Replay) -> None:
    """Do as the tool's scheduler says."""
    scheduler = FreezeThaw(study.curves.epochs, 1)
    study.forecasts = lambda: _forecasts(study, scheduler)
    while True:
        decision = scheduler.decide(courses(study), min(study.trials, len(study.curves.settings)))
        if decision.what == What.NOTHING:
            return
        number = study.begin() if decision.what == What.NEW else decision.number
        study.train(number, decision.epoch)


ROWS: dict[str, Callable[[Replay], None]] = {
    "none": unpruned,
    "median": pruned("median"),
    "hyperband": pruned("hyperband"),
    "forecast": pruned("forecast"),
    "i-Epoch, K 3": i_epoch(3),
    "i-Epoch, K 5": i_epoch(5),
    "3 epochs, K 2": i_epoch(2, 3),
    "ASHA": promoted,
    "freeze-thaw": freeze_thaw,
}


@dataclass(frozen=True)
class Outcome:
    """What a study came to."""

    spent: int
    best: float
    true: float
    complete: int
    at_budget: float


def replay(curves: Curves, row: str, sampler: str, seed: int, trials: int) -> Outcome:
    """Replay a study."""
    study = Replay(curves, sampler, seed, trials)
    ROWS[row](study)
    best = max(study.complete, key=study.value)
    budget = _BUDGET * min(trials, len(curves.settings)) * curves.epochs
    found = [value for spent, value in study.trace if spent <= budget]
    true = float(curves.best[study.chosen[best], 1, -1])
    return Outcome(study.spent, study.value(best), true, len(study.complete), found[-1] if found else math.nan)


def _task(task: tuple[str, str, int, str, str, int, int]) -> Outcome:
    import warnings

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name, space_name, repeat, row, sampler, seed, trials = task
    return replay(load(name, space_name, repeat), row, sampler, seed, trials)


def interval(values: Sequence[float]) -> str:
    """Return a mean and half of its 95 % interval."""
    half = 1.96 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.fmean(values):.4f} ± {half:.4f}"


def nearness(curves: Curves) -> str:
    """Say how good it is to take the nearest recorded setting for a suggested one."""
    distances = ((curves.scaled[:, None] - curves.scaled[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, math.inf)
    nearest, last = distances.argmin(axis=1), curves.best[:, 0, -1]
    error = float(np.sqrt(np.mean((last - last[nearest]) ** 2)))
    spread = float(np.sqrt(2) * last.std())
    return f"nearest neighbours' values differ by {error:.3f} (root mean square), those of any two by {spread:.3f}"


def table(name: str, options: argparse.Namespace, map_: Callable[..., Iterator[Outcome]]) -> None:
    """Print the rows of one data set."""
    curves = load(name, options.space, options.repeat)
    n = min(options.trials, len(curves.settings))
    print(f"\n{name}, {options.space}: {len(curves.settings)} settings recorded; {nearness(curves)}")
    print("| sampler | scheduler | epochs | regret | within .005 | true | at 15 % | complete | front |")
    print("|---|---|---|---|---|---|---|---|---|")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for sampler in options.samplers:
        found: dict[str, list[Outcome]] = {}
        for row in ["none", *(each for each in options.rows if each != "none")]:
            tasks = [(name, options.space, options.repeat, row, sampler, seed, options.trials) for seed in seeds]
            found[row] = list(map_(_task, tasks))
        all_epochs = n * curves.epochs
        places = {
            row: (
                statistics.fmean(each.spent for each in outcomes),
                statistics.fmean(whole.best - each.best for whole, each in zip(found["none"], outcomes, strict=True)),
            )
            for row, outcomes in found.items()
        }
        for row, outcomes in found.items():
            pairs = list(zip(found["none"], outcomes, strict=True))
            regrets = [whole.best - each.best for whole, each in pairs]
            beaten = [r for r, p in places.items() if r != row and p[0] <= places[row][0] and p[1] <= places[row][1]]
            at_budget = [whole.best - each.at_budget for whole, each in pairs if not math.isnan(each.at_budget)]
            cells = [
                sampler,
                row,
                interval([each.spent / all_epochs for each in outcomes]),
                interval(regrets),
                f"{statistics.fmean(regret <= _CLOSE for regret in regrets):.0%}",
                interval([whole.true - each.true for whole, each in pairs]),
                f"{statistics.fmean(at_budget):.4f}" if len(at_budget) == len(pairs) else "-",
                f"{statistics.fmean(each.complete for each in outcomes):.1f}",
                "" if beaten else "yes",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
        print(f"best of unpruned, {sampler}: {interval([each.best for each in found['none']])}", flush=True)


def main() -> None:
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["simulated", "apexseq", "tiger"])
    parser.add_argument("--space", default="default")
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe"])
    parser.add_argument("--rows", nargs="+", default=list(ROWS))
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=0, help="1: search on the second training, judge by the first")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for name in options.data:
            table(name, options, pool.imap)
    print(f"\n{options.trials} trials, {options.seeds} seeds, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
