"""A prediction as a table: the same columns on the command line, in MLflow's model and over HTTP.

Owns the names and the order of the columns: the sites in the model's order, `<site>_sd` of each where the model is an
ensemble, `<site>_low` and `<site>_high` of each where intervals are asked for, `most_likely`. Must not know mlflow or
files. Read next: `predictor.py`; `rnatracker/data/sequences.py` for what a sequence may be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rnatracker.data.sequences import from_sequences
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.errors import CheckpointError
from rnatracker.prediction.intervals import bounds
from rnatracker.prediction.predictor import Predictor, mean_of, spread_of

if TYPE_CHECKING:
    import pandas as pd

INPUT = "sequence"
"""The column that goes in."""
SPREAD = "_sd"
"""Suffix of the columns that hold the standard deviation over an ensemble's models."""
LOW, HIGH = "_low", "_high"
"""Suffixes of the columns that hold the ends of an interval."""
MOST_LIKELY = "most_likely"
ID = "id"


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for N transcripts.

    Attributes:
        ids: (N,).
        sites: (S,), in the model's order.
        fractions: (N, S) float64; of an ensemble the mean of its models, of a blend by their weights. Rows sum to 1.
        spread: (N, S) float64, standard deviation over an ensemble's K models, as `spread_of` says; None of one model.
        ends: lower and upper ends of the intervals, (N, S) float64 each; None where none were asked for.
    """

    ids: tuple[str, ...]
    sites: tuple[str, ...]
    fractions: Fractions
    spread: Fractions | None
    ends: tuple[Fractions, Fractions] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def blocks(self) -> list[Fractions]:
        """All figures in the order of `columns`, (N, S) each; of intervals the ends of a site stand side by side."""
        ends = [] if self.ends is None else [np.stack(self.ends, axis=2).reshape(len(self), -1)]
        return [self.fractions, *([] if self.spread is None else [self.spread]), *ends]

    @property
    def likely(self) -> list[str]:
        """(N,) the site with the largest fraction; of equal ones the first."""
        return [self.sites[index] for index in self.fractions.argmax(axis=1)]


def columns(sites: Sequence[str], ensemble: bool, interval: bool = False) -> list[str]:
    """Return the names of the columns, without `id`.

    Args:
        sites: names of the sites.
        ensemble: whether there is a spread.
        interval: whether there are intervals.

    Raises:
        CheckpointError: if a site has the name of another column.
    """
    ends = [f"{site}{end}" for site in sites for end in (LOW, HIGH) if interval]
    names = [*sites, *(f"{site}{SPREAD}" for site in sites if ensemble), *ends, MOST_LIKELY]
    twice = next((name for name in [ID, *names] if [ID, *names].count(name) > 1), None)
    if twice is not None:
        raise CheckpointError(
            f"the model's site {twice!r} has the name of another column of its predictions",
            "train it with other names: --sites",
        )
    return names


def predict(
    predictor: Predictor, transcripts: Transcripts, *, on_batch: Callable[[int], None] | None = None
) -> Prediction:
    """Predict transcripts.

    Args:
        predictor: one model or an ensemble.
        transcripts: any, measured or not.
        on_batch: called with the number of transcripts done so far, counting each once per model.
    """
    each = predictor.predict_each(transcripts, on_batch=on_batch)
    return summarise(transcripts.ids, predictor.sites, each, predictor.weights)


def summarise(
    ids: tuple[str, ...],
    sites: tuple[str, ...],
    each: Fractions,
    weights: Fractions | None = None,
    half_widths: Fractions | None = None,
) -> Prediction:
    """Put together what the models of an ensemble, or one alone, predict.

    Args:
        ids: (N,).
        sites: (S,).
        each: (K, N, S).
        weights: (K,) what each model counts; None: all the same.
        half_widths: (S,) how far intervals reach to either side; None: there are to be none.
    """
    mean, spread = mean_of(each, weights), spread_of(each, weights)
    return Prediction(ids, sites, mean, spread, None if half_widths is None else bounds(mean, half_widths))


def prediction_frame(predictor: Predictor, sequences: Sequence[str] | Transcripts) -> pd.DataFrame:
    """Predict sequences as a DataFrame of `columns`, one row each, in their order.

    Args:
        predictor: one model or an ensemble.
        sequences: letters, or transcripts.

    Raises:
        DataError: naming the first sequence that is none; as the readers of files refuse it.
        CheckpointError: if a site has the name of another column.
    """
    import pandas as pd

    names = columns(predictor.sites, len(predictor) > 1)
    transcripts = sequences if isinstance(sequences, Transcripts) else from_sequences(sequences)
    prediction = predict(predictor, transcripts)
    frame = pd.DataFrame(prediction.fractions, columns=list(prediction.sites))
    if prediction.spread is not None:
        frame[[f"{site}{SPREAD}" for site in prediction.sites]] = prediction.spread
    frame[MOST_LIKELY] = prediction.likely
    return frame[names]
