"""Baselines on a training's division: what each model is trained on, and what it predicts.

Owns that loop. Read next: `rnatracker/training/division.py`.

Nothing of a baseline is chosen on a fold's inner validation part, so in a cross-validation that part is trained on too:
the same transcripts have a part in it as in a network, and none of the fold that measures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnatracker.baselines.fit import fit
from rnatracker.baselines.models import Baseline
from rnatracker.choices import BaselineKind
from rnatracker.data.encoding import Indices
from rnatracker.data.features.kmers import Features
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.training.division import Training


def trained_on(training: Training) -> Indices:
    """Return the transcripts that a baseline is trained on: of a fold all that it doesn't measure."""
    if training.test is None:
        return training.train
    return np.sort(np.concatenate([training.train, training.validation]))


def measured_on(training: Training) -> Indices:
    """Return the transcripts that it is measured on: a fold's own, or the validation part."""
    return training.validation if training.test is None else training.test


def part_of(trainings: Sequence[Training], n: int) -> Indices:
    """Return which of n transcripts a division measures: all where there are folds, else the validation part."""
    return np.arange(n) if trainings[0].fold else trainings[0].validation


def predict(
    kind: BaselineKind,
    features: Features,
    transcripts: Transcripts,
    trainings: Sequence[Training],
    *,
    seed: int = 0,
    threads: int = 1,
) -> tuple[Fractions, list[Baseline]]:
    """Train a model on each training's part, and let it predict the part that measures it.

    Returns:
        The predictions, in the order of `part_of`, and the models.
    """
    measured = transcripts.measured()
    predicted, models = np.empty_like(measured), []
    for each in trainings:
        model = fit(kind, features, measured, transcripts.sites, trained_on(each), seed=seed, threads=threads)
        part = measured_on(each)
        predicted[part] = model.predict(features.take(part))
        models.append(model)
    return predicted[part_of(trainings, len(transcripts))], models
