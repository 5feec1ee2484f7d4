"""When a study says that it has found enough, against what more trials would have found.

    python benchmarks/stopping.py [--space default] [--seeds 100] [--trials 20 30 40 60] [--jobs 2]

Nothing is trained: random search on recorded curves (`record_curves.py`). What ten more trials gain is known: on
average over all tens of the recorded settings that the study hasn't begun. Each rule is asked after so many trials
whether that is below 0.005. False: it says so, and it isn't. Missed: it is, and the rule doesn't say so.

Rules: `--until gain:0.005` in a study with the scheduler freeze-thaw, whose paused trials count with their forecasts,
and in one without a scheduler; Optuna's terminator (regret bound, static error 0.005) in the latter, since it knows
completed trials only. `said` and `gain` are means of what a rule expects and of what it would have been.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import optuna
from optuna.terminator import RegretBoundEvaluator
from schedulers import Replay, courses, freeze_thaw, load, unpruned

from rnatracker.search.scheduling.freeze_thaw import FreezeThaw
from rnatracker.search.scheduling.stopping import GAIN_TRIALS, expected_gain

_ENOUGH = 0.005


def true_gain(study: Replay) -> float:
    """Return how far ten more trials come above the best of those begun, on average over all tens."""
    last = study.curves.best[:, 0, -1]
    best = max(last[study.chosen])
    rest = np.sort(np.delete(last, study.chosen))[::-1]
    n = len(rest)
    chances = [math.comb(n - 1 - i, GAIN_TRIALS - 1) / math.comb(n, GAIN_TRIALS) for i in range(n - GAIN_TRIALS + 1)]
    return float(sum(chance * max(value - best, 0.0) for chance, value in zip(chances, rest, strict=False)))


def _by_forecasts(study: Replay) -> float:
    freeze_thaw(study)
    found = FreezeThaw(study.curves.epochs, 1).forecast(courses(study))
    return expected_gain([float(each) for each in found.means]) or math.nan


def _by_values(study: Replay) -> float:
    unpruned(study)
    return expected_gain([study.value(number) for number in study.complete]) or math.nan


def _by_optuna(study: Replay) -> float:
    unpruned(study)
    trials = [study.frozen(number) for number in study.complete]
    return float(RegretBoundEvaluator(seed=0).evaluate(trials, optuna.study.StudyDirection.MAXIMIZE))


RULES: dict[str, Callable[[Replay], float]] = {
    "gain, freeze-thaw": _by_forecasts,
    "gain, no scheduler": _by_values,
    "Optuna's terminator": _by_optuna,
}


def _task(task: tuple[str, str, int, int, str]) -> tuple[float, float]:
    """Return what a rule expects, and what ten more trials gain."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name, space_name, seed, trials, rule = task
    study = Replay(load(name, space_name, 0), "random", seed, trials)
    return RULES[rule](study), true_gain(study)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["simulated", "apexseq", "tiger"])
    parser.add_argument("--space", default="default")
    parser.add_argument("--trials", nargs="+", type=int, default=[20, 40, 60])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    print("| data | trials | rule | said | gain | below 0.005 | false | missed |")
    print("|---|---|---|---|---|---|---|---|")
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for name in options.data:
            for trials in options.trials:
                for rule in RULES:
                    tasks = [(name, options.space, seed, trials, rule) for seed in range(options.seeds)]
                    found = list(pool.imap(_task, tasks))
                    shares = [
                        statistics.fmean(gain < _ENOUGH for _, gain in found),
                        statistics.fmean(said < _ENOUGH <= gain for said, gain in found),
                        statistics.fmean(gain < _ENOUGH <= said for said, gain in found),
                    ]
                    means = [f"{statistics.fmean(column):.4f}" for column in zip(*found, strict=True)]
                    cells = [name, str(trials), rule, *means, *(f"{share:.0%}" for share in shares)]
                    print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{options.seeds} seeds, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
