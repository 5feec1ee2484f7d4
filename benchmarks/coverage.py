"""How often the intervals of `rnatracker predict --interval` hold the measured fraction.

Cross-validates on each file, and for each fold makes intervals from the out-of-fold residuals of the other folds, so
that neither a network nor its intervals have seen the fold's transcripts.

    python benchmarks/coverage.py apexseq.fa tiger.fa.gz --sites Nucleus,Cytosol,ERM,OMM TG,ER,CY --epochs 15

Exits with 1 if the share, over all sites and folds of a file, is more than two percent off.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from rnatracker.prediction import intervals, run_table
from rnatracker.prediction.intervals import Residuals
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings

_OFF = 0.02


def main() -> None:
    """Print the share that is covered, per file and site; the least and the largest over folds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="labelled transcripts")
    parser.add_argument(
        "--sites", nargs="*", default=[], help="for each file the names of its sites; none: in the file"
    )
    parser.add_argument("--percent", type=float, default=90)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15)
    given = parser.parse_args()
    worst = 0.0
    for number, file in enumerate(given.files):
        sites = given.sites[number] if number < len(given.sites) else ""
        with tempfile.TemporaryDirectory() as folder:
            tables = _cross_validated(file, sites, given.folds, given.epochs, folder)
        worst = max(worst, _report(Path(file).name, tables, given.percent))
    sys.exit(worst > _OFF)


def _cross_validated(file: str, sites: str, folds: int, epochs: int, store: str) -> list[Residuals]:
    """Train, and return each fold's residuals, with predictions and measured fractions behind them."""
    command = [sys.executable, "-m", "rnatracker", "train", "--data", file, "--fold", str(folds), "--jobs", "2"]
    command += ["--epochs", str(epochs), "--store", store, *(["--sites", sites] if sites else [])]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children = open_tracker(TrackingSettings(Path(store))).find("exp1").children()
    tables = [child.files.test_predictions for _, child in sorted(children.items())]
    found = [(run_table.predicted_sites(path), run_table.read_predictions(path)) for path in tables]
    return [Residuals(names, np.abs(predicted - measured)) for names, (_, predicted, measured) in found]


def _report(name: str, folds: list[Residuals], percent: float) -> float:
    """Print a file's lines; return how far its share is off.

    An interval holds the measured fraction where the residual is no larger than the half width: cutting it off at 0
    and 1 changes nothing in that.
    """
    shares = []
    for fold in folds:
        others = np.concatenate([each.sizes for each in folds if each is not fold])
        half = intervals.Residuals(fold.sites, np.sort(others, axis=0)).half_widths(percent, fold.sites)
        shares.append((fold.sizes <= half).mean(axis=0))
    by_site = np.array(shares)
    for site, column in zip(folds[0].sites, by_site.T, strict=True):
        print(f"{name:<14} {site:<10} {column.mean():.3f}  ({column.min():.3f} to {column.max():.3f} over folds)")
    whole = float(by_site.mean())
    print(f"{name:<14} {'all':<10} {whole:.3f}  asked for {percent / 100:.3f}")
    return abs(whole - percent / 100)


if __name__ == "__main__":
    main()
