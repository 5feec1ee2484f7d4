"""What the baseline codon-boosting owes to each part of the longest open reading frame.

    python benchmarks/frames.py ../shared/data/apexseq.fa --sites Nucleus,Cytosol,ERM,OMM

Prints the out-of-fold PCC of five folds, split seed 0, with some of the features only: what is left out is 0 for all
transcripts, so that no tree can divide them by it.
"""

from __future__ import annotations

import argparse

import numpy as np

from rnatracker import metrics
from rnatracker.baselines.division import predict
from rnatracker.baselines.features import whole
from rnatracker.config import DataConfig
from rnatracker.data.features.codons import CODONS, NAMES
from rnatracker.data.features.kmers import Features
from rnatracker.data.readers import read
from rnatracker.training.division import divide

_LENGTHS = range(len(CODONS), NAMES.index("log_utr3") + 1)
_PARTS: dict[str, tuple[bool, range]] = {
    "k-mers": (True, range(0)),
    "k-mers, lengths": (True, _LENGTHS),
    "k-mers, codons": (True, range(len(CODONS))),
    "k-mers, hydropathy": (True, range(_LENGTHS.stop, len(NAMES))),
    "codons, lengths, hydropathy": (False, range(len(NAMES))),
    "all": (True, range(len(NAMES))),
}
"""Whether k-mers are looked at, and which columns of the frame's features; the length is looked at always."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--sites")
    given = parser.parse_args()
    transcripts = read(given.data, sites=given.sites.split(",") if given.sites else None)
    trainings = divide(transcripts, DataConfig(path=given.data, fold=5, split_seed=0))
    everything = Features(whole(transcripts))
    print("| looked at | mean PCC | overall |\n|---|---:|---:|")
    for name, (words, columns) in _PARTS.items():
        features = everything.take(np.arange(len(transcripts)))
        features.frequencies[:] = everything.frequencies * words
        features.frames[:] = everything.frames * np.isin(np.arange(len(NAMES)), columns)
        predicted, _ = predict("codon-boosting", features, transcripts, trainings)
        scores = metrics.summarise(predicted, transcripts.measured(), transcripts.sites)
        print(f"| {name} | {scores['pcc_mean']:.3f} | {scores['pcc_overall']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
