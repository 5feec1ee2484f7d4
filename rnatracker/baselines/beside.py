"""Simple models beside a run: on the same transcripts, computed once for each data set and division.

Owns which are shown, keeping what they predict, and the words. Must not know how networks are trained. Read next:
`rnatracker/training/beside.py` for where it goes.

What is kept lies in the store, `work/baselines/<digest of the data>-<digest of the division>/<kind>.npy`, and can be
deleted at any time. `rnatracker baseline` keeps what it predicts there too: that is how boosted trees come to stand
beside a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rnatracker import metrics
from rnatracker.baselines.division import part_of, predict
from rnatracker.baselines.features import features_of, whole
from rnatracker.baselines.fit import fit
from rnatracker.baselines.models import KINDS
from rnatracker.choices import BaselineKind
from rnatracker.data.features.kmers import Features
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.files import replacing
from rnatracker.metrics import Difference
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.store import WORK
from rnatracker.training.beside import Compared
from rnatracker.training.division import Training, digest_of
from rnatracker.training.request import PreparedRun

_SHOWN: tuple[BaselineKind, ...] = ("mean", "length", "kmer-ridge")
"""Kinds that are quick enough to be computed for every run."""
_RIVALS: dict[BaselineKind, str] = {
    "kmer-ridge": "k-mer ridge",
    "kmer-boosting": "k-mer boosting",
    "codon-boosting": "codon boosting",
}
"""Kinds that a run is compared with in words, and what they are called there."""
_RESAMPLES = 1000


@dataclass(frozen=True)
class Cache:
    """What baselines predict of some transcripts, kept in the store.

    Attributes:
        folder: where.
        shape: of each prediction.
    """

    folder: Path
    shape: tuple[int, int]

    def get(self, kind: BaselineKind) -> Fractions | None:
        """Return what is kept, or None where there is nothing that can be read."""
        try:
            found = np.load(self.folder / f"{kind}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        sound = found.dtype == np.float64 and found.shape == self.shape and bool(np.isfinite(found).all())
        return found if sound else None

    def put(self, kind: BaselineKind, predicted: Fractions) -> None:
        """Keep a prediction; where that can't be, it is computed again the next time."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / f"{kind}.npy") as file:
                np.save(file, predicted, allow_pickle=False)

    def filled(self, compute: Callable[[BaselineKind], Fractions]) -> dict[BaselineKind, Fractions]:
        """Return what the quick kinds predict, computed where it isn't kept, and others where they are kept."""
        found = {}
        for kind in KINDS:
            predicted = self.get(kind)
            if predicted is None and kind in _SHOWN:
                predicted = compute(kind)
                self.put(kind, predicted)
            if predicted is not None:
                found[kind] = predicted
        return found


def cache_of(transcripts: Transcripts, trainings: Sequence[Training], tracking: TrackingSettings) -> Cache:
    """Return what is kept of a data set and its division."""
    n = len(part_of(trainings, len(transcripts)))
    name = f"{transcripts.digest()}-{digest_of(trainings, transcripts)}"
    return Cache(tracking.store / WORK / "baselines" / name, (n, len(transcripts.sites)))


def beside(prepared: PreparedRun, trainings: Sequence[Training], predicted: Fractions) -> Compared:
    """Compare what a training has predicted with simple models on the same transcripts, as `beside_data` does."""
    return beside_data(prepared.transcripts, trainings, predicted, prepared.request.tracking)


def beside_data(
    transcripts: Transcripts, trainings: Sequence[Training], predicted: Fractions, tracking: TrackingSettings
) -> Compared:
    """Compare predictions with those of simple models of the same transcripts.

    Never the end of a run: where they can't be computed, that is said instead.

    Args:
        transcripts: the run's data.
        trainings: their division.
        predicted: of all transcripts out of fold, or of the validation part.
        tracking: the store.
    """
    return attempted(lambda: _beside(transcripts, trainings, predicted, tracking))


def attempted(compare: Callable[[], Compared]) -> Compared:
    """Return what a comparison gives, or that it can't be computed, which is no reason to end what it is made for."""
    try:
        return compare()
    except (ArithmeticError, ImportError, MemoryError, OSError, ValueError) as error:
        return Compared(lines=(f"baselines could not be computed: {str(error) or type(error).__name__}",))


def _beside(
    transcripts: Transcripts, trainings: Sequence[Training], predicted: Fractions, tracking: TrackingSettings
) -> Compared:
    features: list[Features] = []

    def compute(kind: BaselineKind) -> Fractions:
        if not features:
            features.append(features_of(transcripts, tracking))
        return predict(kind, features[0], transcripts, trainings)[0]

    found = cache_of(transcripts, trainings, tracking).filled(compute)
    measured = transcripts.measured()[part_of(trainings, len(transcripts))]
    return compared(predicted, found, measured, transcripts.sites)


def on_test_set(train: Transcripts, test: Transcripts, tracking: TrackingSettings) -> dict[BaselineKind, Fractions]:
    """Return what the quick kinds predict of a test set, trained on all of a data set of the same sites.

    Args:
        train: what they are trained on.
        test: what they predict, its sites in the same order.
        tracking: the store.
    """
    folder = tracking.store / WORK / "baselines" / f"{train.digest()}-on-{test.digest()}"
    features: list[Features] = []

    def compute(kind: BaselineKind) -> Fractions:
        if not features:
            features.extend((features_of(train, tracking), Features(whole(test))))
        model = fit(kind, features[0], train.measured(), train.sites, np.arange(len(train)))
        return model.predict(features[1])

    return Cache(folder, (len(test), len(test.sites))).filled(compute)


def compared(
    predicted: Fractions, baselines: Mapping[BaselineKind, Fractions], measured: Fractions, sites: tuple[str, ...]
) -> Compared:
    """Compare predictions with those of baselines: figures, a line that lists them, and a verdict on each rival."""
    figures: dict[str, float] = {}
    shown = []
    for kind, theirs in baselines.items():
        scores = metrics.summarise(theirs, measured, sites)
        figures |= {f"baseline/{kind}/{name}": value for name, value in scores.items()}
        shown.append(f"{kind} {metrics.shown(scores['pcc_mean'])}")
    lines = [f"baselines, mean PCC: {', '.join(shown)}"]
    for kind in _RIVALS:
        if kind in baselines:
            found = metrics.paired_differences(predicted, baselines[kind], measured, sites, resamples=_RESAMPLES)[-2]
            figures |= {
                f"baseline/{kind}/{name}": value
                for name, value in (("difference", found.value), ("low", found.low), ("high", found.high))
            }
            lines.append(verdict(kind, found))
    return Compared(figures, tuple(lines))


def verdict(kind: BaselineKind, difference: Difference) -> str:
    """Word whether a run is better than a baseline.

    Args:
        kind: the baseline.
        difference: of their mean PCC.
    """
    name = _RIVALS.get(kind, kind)
    if math.isnan(difference.value):
        return f"can't be compared with {name}: PCC is undefined at every site"
    if math.isnan(difference.low):
        return f"can't be told from {name}: the transcripts are too few for an interval"
    interval = f"95 % interval {difference.low:+.3f} to {difference.high:+.3f}"
    if difference.low > 0:
        return f"better than {name} by {difference.value:+.3f} ({interval})"
    if difference.high < 0:
        return f"worse than {name} by {difference.value:+.3f} ({interval})"
    return f"no better than {name}: {difference.value:+.3f} in mean PCC ({interval})"
