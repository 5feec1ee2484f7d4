"""Training models without a network.

Owns their settings, which were chosen once, and how each is fitted. Must not know runs. Read next: `models.py` for what
they look at; `docs/baselines.md` for how they were chosen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnatracker.baselines.models import (
    BOOSTED,
    Baseline,
    Boosted,
    Linear,
    feature_names,
    linear_design,
    softmax,
    tree_design,
)
from rnatracker.baselines.trees import as_text, lightgbm
from rnatracker.choices import BaselineKind
from rnatracker.data.encoding import Indices
from rnatracker.data.features.kmers import Features
from rnatracker.data.transcripts import Fractions
from rnatracker.errors import TrainingError

PENALTIES = tuple(float(value) for value in np.logspace(0, 5, 11))
"""Ridge penalties to choose from, for features of variance 1."""
ROUNDS = 400
BOOSTING: dict[str, Any] = {
    "num_leaves": 15,
    "learning_rate": 0.03,
    "feature_fraction": 0.2,
    "min_data_in_leaf": 20,
    "max_bin": 63,
}
"""Settings of LightGBM that aren't its defaults."""
FEWEST = 2 * BOOSTING["min_data_in_leaf"]
"""Transcripts below which no tree can divide them."""
_MACHINE = {"verbosity": -1, "deterministic": True, "force_row_wise": True}
_LEAST = 1e-6
"""A mean fraction, or the curvature of a tree's loss, is no less."""


def settings_of(kind: BaselineKind, seed: int) -> dict[str, object]:
    """Return the settings of a kind, as they are recorded."""
    if kind in BOOSTED:
        return {"rounds": ROUNDS, **BOOSTING, "seed": seed}
    shown = f"{len(PENALTIES)} from {PENALTIES[0]:g} to {PENALTIES[-1]:g}"  # the list would make tables wide
    return {"penalties": shown} if kind == "kmer-ridge" else {}


def fit(
    kind: BaselineKind,
    features: Features,
    measured: Fractions,
    sites: tuple[str, ...],
    train: Indices,
    *,
    seed: int = 0,
    threads: int = 1,
) -> Baseline:
    """Train one model.

    Args:
        kind: which.
        features: of all transcripts.
        measured: their fractions, (N, S).
        sites: names of the sites.
        train: indices of those that are trained on.
        seed: of the trees' columns; the others have nothing random.
        threads: CPU threads of the trees. On a machine that is shared, threads that wait for each other make it ten
            times slower; the trees are the same.

    Raises:
        TrainingError: if LightGBM can't train on these.
    """
    if kind in BOOSTED:
        design = tree_design(kind, features)[train]
        return _boosted(kind, design, measured[train], sites, {"seed": seed % 2**31, "num_threads": threads})
    lengths = features.log_length[train]
    center, scale = (float(lengths.mean()), float(lengths.std()) or 1.0) if kind != "mean" else (0.0, 1.0)
    linear = linear_design(kind, features, center, scale)[train]
    weights, intercept, penalty = _linear(linear, measured[train], ridge=kind == "kmer-ridge")
    return Linear(kind, sites, weights, intercept, center, scale, penalty)


def _linear(design: Fractions, measured: Fractions, *, ridge: bool) -> tuple[Fractions, Fractions, float]:
    """Return weights, intercept and penalty; the penalty is the one that predicts each left-out transcript best."""
    center, spread = design.mean(axis=0), design.std(axis=0)
    spread[spread < np.finfo(np.float64).eps * np.maximum(np.abs(center), 1)] = np.inf  # a constant tells nothing
    standardised = (design - center) / spread
    if not ridge or len(design) < 3:
        found, *_ = np.linalg.lstsq(standardised, measured - measured.mean(axis=0), rcond=None)
        weights, penalty = found / spread[:, None], 0.0
    else:
        from sklearn.linear_model import RidgeCV

        model = RidgeCV(alphas=PENALTIES).fit(standardised, measured)
        weights, penalty = model.coef_.T / spread[:, None], float(model.alpha_)
    return weights, measured.mean(axis=0) - center @ weights, penalty


def _boosted(
    kind: BaselineKind, design: Any, measured: Fractions, sites: tuple[str, ...], machine: dict[str, int]
) -> Boosted:
    """Boost trees under the loss of the networks: the softmax's divergence from the measured fractions."""
    library = lightgbm()
    n, n_sites = measured.shape
    base = np.log(np.maximum(measured.mean(axis=0), _LEAST))

    def gradient(raw: Any, _data: object) -> tuple[Fractions, Fractions]:
        fractions = softmax(np.asarray(raw).reshape(n, n_sites))
        return fractions - measured, np.maximum(2 * fractions * (1 - fractions), _LEAST)

    data = library.Dataset(
        design,
        label=np.zeros(n),  # what is learnt is in the gradient
        init_score=np.tile(base, (n, 1)),
        feature_name=feature_names(kind),
        params={**BOOSTING, **_MACHINE, **machine},
    )
    settings = {**BOOSTING, **_MACHINE, **machine, "num_class": n_sites, "objective": gradient}
    try:
        return Boosted(kind, sites, as_text(library.train(settings, data, ROUNDS)), base)
    except library.basic.LightGBMError as error:
        remedy = "use more transcripts, or another --kind"
        raise TrainingError(f"{kind}: LightGBM can't train on these {n} transcripts: {error}", remedy) from None
