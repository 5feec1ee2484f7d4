"""Which transcripts train, which choose the epoch, which measure.

Owns the division of a single run and of k folds, and the digest that names it. Read next: `rnatracker/data/folds.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnatracker.data import folds
from rnatracker.data.encoding import Indices
from rnatracker.errors import about
from rnatracker.training.request import PreparedRun


def split_digest(prepared: PreparedRun) -> str:
    """Return what identifies the division of the transcripts."""
    if prepared.config.data.fold:
        return _folds_digest(prepared, plan_folds(prepared))
    return folds.assignment_digest(divide(prepared), prepared.transcripts.ids)


def divide(prepared: PreparedRun) -> tuple[Indices, Indices]:
    """Return the indices of the training and of the validation part of a single run."""
    data, transcripts = prepared.config.data, prepared.transcripts
    with about(transcripts.source):
        return folds.hold_out(len(transcripts), folds.default_groups(transcripts), data.val, data.split_seed)


@dataclass(frozen=True)
class FoldPlan:
    """Which transcripts do what in one fold.

    Attributes:
        number: from 1.
        train: indices that are trained on.
        inner: indices on which the best epoch is chosen.
        test: indices of the fold itself, on which it is measured.
    """

    number: int
    train: Indices
    inner: Indices
    test: Indices

    @property
    def name(self) -> str:
        """Name of the fold's run."""
        return f"fold{self.number}"


def plan_folds(prepared: PreparedRun) -> list[FoldPlan]:
    """Divide the transcripts into folds, groups kept together.

    Raises:
        DataError: if there are too few groups.
    """
    data, n = prepared.config.data, len(prepared.transcripts)
    groups = folds.default_groups(prepared.transcripts)
    plans = []
    with about(prepared.transcripts.source):
        for number, test in enumerate(folds.k_folds(n, groups, data.fold, data.split_seed), start=1):
            rest = np.setdiff1d(np.arange(n), test)
            of_rest = [groups[i] for i in rest]
            train, inner = folds.hold_out(len(rest), of_rest, data.inner_val, data.split_seed + number)
            plans.append(FoldPlan(number, rest[train], rest[inner], test))
    return plans


def _folds_digest(prepared: PreparedRun, plans: list[FoldPlan]) -> str:
    """Return what identifies this division into folds and inner parts."""
    parts = [part for each in plans for part in (each.train, each.inner, each.test)]
    return folds.assignment_digest(parts, prepared.transcripts.ids)
