"""Studies with a cost replayed on recorded curves: how much of the front they find, and for how many epochs.

    python benchmarks/fronts.py [--space default] [--cost seconds] [--trials 40] [--seeds 100] [--jobs 2]

Nothing is trained; settings are drawn at random (`record_curves.py`). For each scheduler, over the seeds: the share of
the epochs of the same study without a scheduler; the share of the area under that study's front (value against orders
of magnitude of cost, above the 10th percentile of values and below the dearest setting) that lies under the front of
the trials that were trained to their end; how many trials those two fronts have. 95 % intervals.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from schedulers import FOLDER, Replay, courses, freeze_thaw, i_epoch, interval, load, promoted

from rnatracker.search.front.order import nondominated
from rnatracker.search.scheduling.freeze_thaw import Course, FreezeThaw, What


def costs_of(name: str, space_name: str, cost: str) -> np.ndarray:
    """Return what each setting costs (N,)."""
    kept = np.load(FOLDER / f"{name}-{space_name}.npz")
    return kept["seconds"][:, 0] if cost == "seconds" else kept["parameters"].astype(float)


def with_cost(costs: np.ndarray) -> Callable[[Replay], None]:
    """Return what the tool's scheduler does in a study with a cost."""

    def run(study: Replay) -> None:
        scheduler, wanted = FreezeThaw(study.curves.epochs, 1), min(study.trials, len(study.curves.settings))

        def priced() -> list[Course]:
            return [replace(each, cost=float(costs[study.chosen[each.number]])) for each in courses(study)]

        while (decision := scheduler.decide(priced(), wanted)).what != What.NOTHING:
            number = study.begin() if decision.what == What.NEW else decision.number
            study.train(number, decision.epoch)

    return run


def area(values: Sequence[float], costs: Sequence[float], least: float, dearest: float) -> float:
    """Return the area under a front: value above the least, against the logarithm of cost up to the dearest."""
    total, front = 0.0, nondominated(values, costs)
    ends = [*(math.log(costs[i]) for i in front[1:]), math.log(dearest)]
    for place, end in zip(front, ends, strict=True):
        total += max(values[place] - least, 0.0) * max(end - math.log(costs[place]), 0.0)
    return total


def _task(task: tuple[str, str, str, str, int, int]) -> tuple[float, float, int, int]:
    name, space_name, cost, row, seed, trials = task
    curves, costs = load(name, space_name, 0), costs_of(name, space_name, cost)
    study = Replay(curves, "random", seed, trials)
    rows: dict[str, Callable[[Replay], None]] = {
        "freeze-thaw with cost": with_cost(costs),
        "freeze-thaw": freeze_thaw,
        "ASHA": promoted,
        "i-Epoch, K 5": i_epoch(5),
    }
    rows[row](study)
    last = curves.best[:, 0, -1]
    all_, done = study.chosen, [study.chosen[number] for number in study.complete]
    bounds = float(np.quantile(last[all_], 0.1)), float(costs[all_].max() * 1.05)
    whole = area(list(last[all_]), list(costs[all_]), *bounds)
    found = area(list(last[done]), list(costs[done]), *bounds)
    sizes = [len(nondominated(list(last[each]), list(costs[each]))) for each in (done, all_)]
    return study.spent / (len(all_) * curves.epochs), found / whole, sizes[0], sizes[1]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["simulated", "apexseq", "tiger"])
    parser.add_argument("--space", default="default")
    parser.add_argument("--cost", choices=["seconds", "parameters"], default="seconds")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    print(f"| data | scheduler | epochs | area under the front of value and {options.cost} | trials on it | unpruned |")
    print("|---|---|---|---|---|---|")
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for name in options.data:
            for row in ("i-Epoch, K 5", "ASHA", "freeze-thaw", "freeze-thaw with cost"):
                tasks = [
                    (name, options.space, options.cost, row, seed, options.trials) for seed in range(options.seeds)
                ]
                found = list(zip(*pool.imap(_task, tasks), strict=True))
                sizes = [f"{statistics.fmean(each):.1f}" for each in found[2:]]
                print(f"| {' | '.join([name, row, *map(interval, found[:2]), *sizes])} |", flush=True)
    print(f"\n{options.trials} trials, {options.seeds} seeds, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
