"""How long an epoch takes with one config, beside another: whole trainings as a user runs them, in turn.

    python benchmarks/epochs.py apexseq.fa --sites Nucleus,Cytosol,ERM,OMM [--config v1 default] [--threads 1]

Prints the median wall time of an epoch (training and validation, tracked) of each config, and the ratio to the
first's. `--set` changes all but the first config. The first epoch of each training is left out: it reads the file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from rnatracker import config
from rnatracker.config import Config
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.reporting import NullReporter
from rnatracker.training.run import train
from rnatracker.training.session import RunRequest
from rnatracker.training.trainer import EpochResult


class _Stopwatch(NullReporter):
    """A reporter that notes when each epoch ended."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def epoch(self, label: str, result: EpochResult, epochs: int, objective: str) -> None:
        """Note the time."""
        self.at.append(time.perf_counter())


def seconds_of(settings: Config, store: Path) -> list[float]:
    """Train and return the wall time of each epoch but the first, which reads the file."""
    watch = _Stopwatch()
    train(RunRequest(settings, TrackingSettings(store)), watch)
    return [after - before for before, after in zip(watch.at, watch.at[1:], strict=False)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--sites")
    parser.add_argument("--config", nargs="+", default=["v1", "default"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    fixed = [f"train.threads={options.threads}", f"train.epochs={options.epochs}", f"data.path={options.data}"]
    fixed += [f"data.sites={options.sites.split(',')}"] if options.sites else []
    settings = [
        config.assemble(name, {}, {}, [*fixed, *(options.set if number else [])])
        for number, name in enumerate(options.config)
    ]
    seconds: list[list[float]] = [[] for _ in settings]
    with tempfile.TemporaryDirectory() as folder:
        open_tracker(TrackingSettings(Path(folder)))  # making the store, once in its life, is not part of a run
        for _ in range(options.repeats):
            for each, of_config in zip(settings, seconds, strict=True):
                of_config += seconds_of(each, Path(folder))
    first = statistics.median(seconds[0])
    for name, of_config in zip(options.config, seconds, strict=True):
        median = statistics.median(of_config)
        spread = f"{min(of_config):.2f} to {max(of_config):.2f}"
        print(f"{name}: {median:.2f} s an epoch ({spread}), ratio {median / first:.2f}, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
