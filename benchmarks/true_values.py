"""What a study says its best is worth, against what that is worth, where the latter is known.

    python benchmarks/true_values.py [--space default] [--trials 40] [--seeds 100] [--fresh 0 default] [--jobs 2]

Nothing is trained. The studies are simulated from recorded curves (`record_curves.py`): a setting's true curve is the
mean of its two recorded trainings; a training of it is that, and the difference of the two trainings of some setting of
like value (with a random sign, over the root of two), and how hard its division is, the same for all trainings of a
round: as much as all curves of the two recorded divisions differ. Random search, scheduler freeze-thaw, then trainings
with fresh seeds as the scheduler decides.

Printed, with 95 % intervals over seeds: `claimed`, the best value minus the true value of its settings; `bias`, the
study's estimate of it minus the true value; `rms` of that; `covers`, how often its 90 % interval has the true value; by
how much the best settings begun are better, in true value, than the best by value (`regret, value`) and the best by
estimate (`regret, estimate`), which the study takes; the share of epochs of whole trainings without and with fresh
seeds.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from schedulers import interval, load

from rnatracker.search.scheduling.freeze_thaw import Course, FreezeThaw, State, What
from rnatracker.search.scheduling.true_value import HALF_90

_ROUNDS = 12
_LIKE = 8
"""Places up and down in the order of true values, among which another setting's difference is drawn."""


@dataclass(frozen=True)
class Outcome:
    """What a study claimed and what it was worth."""

    claimed: float
    error: float
    sd: float
    regret_by_value: float
    regret_by_estimate: float
    epochs: float
    fresh_epochs: float


def simulate(name: str, space_name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return settings (N, D), true curves (N, T) and those of trainings by round (N, R, T)."""
    curves, rng = load(name, space_name, 0), np.random.default_rng(seed)
    true, difference = curves.best.mean(axis=1), curves.best[:, 0] - curves.best[:, 1]
    harder = np.median(difference, axis=0)
    residuals = (difference - harder) / math.sqrt(2)
    order = true[:, -1].argsort()
    rank, n = order.argsort(), len(true)
    near = np.clip(rank[:, None] + rng.integers(-_LIKE, _LIKE + 1, (n, _ROUNDS)), 0, n - 1)
    own = residuals[order[near]] * rng.choice([-1, 1], (n, _ROUNDS, 1))
    shape = np.median(true, axis=0) / np.median(true, axis=0)[-1]
    divisions = rng.normal(0, abs(harder[-1]) / math.sqrt(2), _ROUNDS)
    return curves.scaled, true, true[:, None] + own + divisions[None, :, None] * shape


def study(name: str, space_name: str, seed: int, trials: int, fresh: int | None) -> Outcome:
    """Run a study."""
    settings, true, seen = simulate(name, space_name, seed)
    epochs = true.shape[1]
    order = [0, *(1 + np.random.default_rng([seed, 1]).permutation(len(true) - 1))][:trials]
    scheduler, reached = FreezeThaw(epochs, 1), [0] * 0
    again: list[set[int]] = []

    def until(trial: int, round_: int, last: int) -> dict[int, dict[int, float]]:
        return {1: {epoch: float(seen[order[trial], round_, epoch - 1]) for epoch in range(1, last + 1)}}

    def courses() -> list[Course]:
        found = []
        for i, last in enumerate(reached):
            state = State.COMPLETE if last == epochs else State.PAUSED
            rounds = {round_: until(i, round_, epochs) for round_ in again[i]}
            found.append(Course(i, settings[order[i]], until(i, 0, last), state, i == 0, rounds))
        return found

    while (decision := scheduler.decide(courses(), trials, fresh)).what != What.NOTHING:
        if decision.what == What.NEW:
            reached.append(decision.epoch)
            again.append(set())
        elif decision.what == What.RESUME:
            reached[decision.number] = decision.epoch
        else:
            again[decision.number].add(decision.round)
    found = scheduler.estimate(courses())
    by_value = max((i for i, last in enumerate(reached) if last == epochs), key=lambda i: seen[order[i], 0, -1])
    last = true[order, -1]
    mean, sd = found.at(found.numbers.index(found.best))
    whole = len(order) * epochs
    return Outcome(
        float(seen[order[by_value], 0, -1] - last[by_value]),
        float(mean - last[found.best]),
        sd,
        float(last.max() - last[by_value]),
        float(last.max() - last[found.best]),
        sum(reached) / whole,
        sum(map(len, again)) * epochs / whole,
    )


def _task(task: tuple[str, str, int, int, int | None]) -> Outcome:
    return study(*task)


def row(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the cells of a table."""
    covered = [abs(each.error) < HALF_90 * each.sd for each in outcomes]
    return [
        interval([each.claimed for each in outcomes]),
        interval([each.error for each in outcomes]),
        f"{math.sqrt(statistics.fmean(each.error**2 for each in outcomes)):.4f}",
        f"{statistics.fmean(covered):.0%}",
        interval([each.regret_by_value for each in outcomes]),
        interval([each.regret_by_estimate for each in outcomes]),
        f"{statistics.fmean(each.epochs for each in outcomes):.1%}",
        f"{statistics.fmean(each.epochs + each.fresh_epochs for each in outcomes):.1%}",
    ]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["simulated", "apexseq", "tiger"])
    parser.add_argument("--space", default="default")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--fresh", nargs="+", default=["0", "default"], help="trainings with fresh seeds, or `default`")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    print("| data | fresh | claimed | bias | rms | covers | regret, value | regret, estimate | epochs | with fresh |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for name in options.data:
            for fresh in options.fresh:
                most = None if fresh == "default" else int(fresh)
                tasks = [(name, options.space, seed, options.trials, most) for seed in range(options.seeds)]
                print(f"| {' | '.join([name, fresh, *row(list(pool.imap(_task, tasks)))])} |", flush=True)
    print(f"\n{options.trials} trials, {options.seeds} seeds, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
