"""What it costs to show simple models beside a training: the first time, and when they are kept already.

    python benchmarks/baseline_cost.py ../shared/data/apexseq.fa --sites Nucleus,Cytosol,ERM,OMM --epochs 3 --fold 3

Prints for two runs that differ in their seed how long they took, and which share of it was spent on baselines.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rnatracker import config
from rnatracker.baselines.beside import beside
from rnatracker.data.transcripts import Fractions
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.beside import Compared
from rnatracker.training.division import Training
from rnatracker.training.reporting import NullReporter
from rnatracker.training.request import PreparedRun, RunRequest
from rnatracker.training.run import train


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--sites")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--fold", type=int, default=0)
    arguments = parser.parse_args()
    sites = arguments.sites.split(",") if arguments.sites else None
    given = {"data.path": arguments.data, "data.sites": sites, "data.fold": arguments.fold}
    spent = 0.0

    def timed(prepared: PreparedRun, trainings: Sequence[Training], predicted: Fractions) -> Compared:
        nonlocal spent
        began = time.perf_counter()
        found = beside(prepared, trainings, predicted)
        spent = time.perf_counter() - began
        return found

    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(("first run", "second run, baselines kept")):
            settings = config.assemble(None, {}, {**given, "train.epochs": arguments.epochs, "train.seed": seed}, [])
            began = time.perf_counter()
            train(RunRequest(settings, TrackingSettings(Path(folder), enabled=False)), NullReporter(), beside=timed)
            whole = time.perf_counter() - began
            print(f"{name:<28} {whole:7.1f} s, of it baselines {spent:6.2f} s: {spent / whole:.1%}")


if __name__ == "__main__":
    main()
