"""What tracking costs: the same training with MLflow and without, interleaved, in one process.

    python benchmarks/tracking_cost.py [--records 700] [--epochs 3] [--repeats 3]

Prints the ratio of wall times, of CPU times, and whether the weights are the same. The wall time of another process's
making is in the first ratio but not in the second.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch

from rnatracker import config
from rnatracker.data import simulate, writers
from rnatracker.model import checkpoint
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.run_files import RunFiles
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.reporting import NullReporter
from rnatracker.training.request import RunRequest
from rnatracker.training.run import train
from rnatracker.training.trainer import EpochResult


class _Quiet(NullReporter):
    """A reporter that keeps the epochs' seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def epoch(self, label: str, result: EpochResult, epochs: int, objective: str) -> None:
        """Keep the seconds."""
        self.seconds.append(result.epoch_seconds)


def _run(data: Path, store: Path, enabled: bool, epochs: int) -> tuple[float, float, list[float], Path]:
    settings = config.build(
        config.nest({"data.path": str(data), "train.epochs": epochs, "train.threads": 1, "train.batch_size": 32}),
        "here",
    )
    quiet = _Quiet()
    wall, cpu = time.perf_counter(), time.process_time()
    outcome = train(RunRequest(settings, TrackingSettings(store, enabled=enabled)), quiet)
    return time.perf_counter() - wall, time.process_time() - cpu, quiet.seconds, outcome.folder


def main() -> None:
    """Run both variants in turn and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=700)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, store = Path(folder) / "data.tsv", Path(folder) / "mlruns"
        writers.write(simulate.simulate(options.records).transcripts, data)
        open_tracker(TrackingSettings(store))  # making the store, once in its life, is not part of a run
        _run(data, store, True, 1)
        walls: dict[bool, list[float]] = {True: [], False: []}
        cpus: dict[bool, list[float]] = {True: [], False: []}
        seconds: list[float] = []
        weights = {}
        for repeat in range(options.repeats):
            for enabled in (True, False) if repeat % 2 else (False, True):
                wall, cpu, epochs, where = _run(data, store, enabled, options.epochs)
                walls[enabled].append(wall)
                cpus[enabled].append(cpu)
                seconds += epochs
                weights[enabled] = checkpoint.load(RunFiles(where).training().last).weights
        same = all(torch.equal(weights[True][name], weights[False][name]) for name in weights[True])
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, 1 thread")
    print(f"epochs of {statistics.median(seconds):.1f} s, {options.epochs} a run, {options.repeats} runs of each")
    for name, times in (("wall", walls), ("CPU", cpus)):
        ratios = sorted(a / b for a, b in zip(times[True], times[False], strict=True))
        spread = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{name} time with MLflow / without: median {statistics.median(ratios):.3f} ({spread})")
    print(f"same weights: {'yes' if same else 'NO'}")


if __name__ == "__main__":
    main()
