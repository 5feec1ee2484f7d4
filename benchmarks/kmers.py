"""How long it takes to count the k-mers of a file of transcripts, k 1 to 5 in one pass.

    python benchmarks/kmers.py ../shared/data/tiger.fa.gz --sites TG,ER,CY

Prints the seconds of counting, of reading the same from the store's cache, of computing what the longest open reading
frames hold, and of fitting each baseline once.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from rnatracker.baselines.features import features_of
from rnatracker.baselines.fit import fit
from rnatracker.baselines.models import KINDS
from rnatracker.data.readers import read
from rnatracker.tracking.settings import TrackingSettings


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--sites")
    arguments = parser.parse_args()
    transcripts = read(arguments.data, sites=arguments.sites.split(",") if arguments.sites else None)
    print(f"{len(transcripts):,} transcripts, {len(transcripts.codes):,} nt")
    with tempfile.TemporaryDirectory() as folder:
        tracking = TrackingSettings(Path(folder))
        for name in ("counting k-mers, and keeping them", "reading what was kept"):
            began = time.perf_counter()
            features = features_of(transcripts, tracking)
            _ = features.frequencies
            print(f"{name:<40} {time.perf_counter() - began:7.2f} s")
    began = time.perf_counter()
    _ = features.frames
    print(f"{'looking into the longest frames':<40} {time.perf_counter() - began:7.2f} s")
    for kind in KINDS:
        began = time.perf_counter()
        fit(kind, features, transcripts.measured(), transcripts.sites, np.arange(len(transcripts)))
        print(f"{'fitting ' + kind:<40} {time.perf_counter() - began:7.2f} s")


if __name__ == "__main__":
    main()
