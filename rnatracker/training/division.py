"""Which transcripts train, which choose the epoch, which measure.

Owns the division of a single run and of k folds, and the digest that names it. Read next: `rnatracker/data/folds.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rnatracker.config import DataConfig
from rnatracker.data import folds
from rnatracker.data.encoding import Indices
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import about
from rnatracker.lineage.others import check_left

if TYPE_CHECKING:
    from rnatracker.training.request import PreparedRun

_STRICTER = 0.9
"""Identity that is advised where families are too large."""


@dataclass(frozen=True)
class Training:
    """Which transcripts do what in one training.

    Attributes:
        train: indices that are trained on.
        validation: indices on which the best epoch is chosen.
        fold: the fold's number, from 1; 0 where the transcripts are divided once.
        test: indices of the fold itself, on which it is measured; None where there are no folds.
    """

    train: Indices
    validation: Indices
    fold: int = 0
    test: Indices | None = None

    @property
    def name(self) -> str:
        """Name of the fold, `fold1`; empty where there are none."""
        return f"fold{self.fold}" if self.fold else ""

    @property
    def held_out(self) -> Indices:
        """Indices of all that is not trained on, but measured: the validation part, and the test part."""
        return self.validation if self.test is None else np.concatenate([self.validation, self.test])


def plan(prepared: PreparedRun) -> list[Training]:
    """Return a run's trainings, as `divide` does.

    Raises:
        DataError: if there are too few groups, or nothing of a further data set may be trained on.
    """
    trainings = divide(prepared.transcripts, prepared.config.data)
    check_left(prepared.others, [each.held_out for each in trainings])
    return trainings


def divide(transcripts: Transcripts, data: DataConfig) -> list[Training]:
    """Divide transcripts into trainings: one, or one for each fold. Groups are kept together.

    Raises:
        DataError: if there are too few groups.
    """
    groups, n = folds.default_groups(transcripts), len(transcripts)
    with about(transcripts.source):
        if transcripts.families is not None:
            _check_families(transcripts, groups, data)
        if not data.fold:
            return [Training(*folds.hold_out(n, groups, data.val, data.split_seed))]
        trainings = []
        for number, test in enumerate(folds.k_folds(n, groups, data.fold, data.split_seed), start=1):
            rest = np.setdiff1d(np.arange(n), test)
            of_rest = [groups[i] for i in rest]
            train, inner = folds.hold_out(len(rest), of_rest, data.inner_val, data.split_seed + number)
            trainings.append(Training(rest[train], rest[inner], number, test))
        return trainings


def _check_families(transcripts: Transcripts, groups: Sequence[str], data: DataConfig) -> None:
    n = len(groups)
    room = -(-n // data.fold) if data.fold else n - round(data.val * n)
    part = f"a fold of --fold {data.fold}" if data.fold else f"the training part with --val {data.val:g}"
    fewer = n // _largest(groups)
    remedies = ["use a smaller --val" if fewer == 1 and not data.fold and _largest(groups) < n else ""]
    if data.fold:
        remedies = [f"use --fold {fewer}" if fewer > 1 else "leave out --fold"]
    if data.identity < _STRICTER and _largest(folds.default_groups(replace(transcripts, families=None))) <= room:
        remedies.append(f"call only the more similar ones relatives, with --set data.identity={_STRICTER}")
    folds.check_largest(groups, room, part, ", or ".join(filter(None, remedies)) or "add transcripts of other families")


def _largest(groups: Sequence[str]) -> int:
    return max(Counter(groups).values())


def said_of_folds(found: Iterable[tuple[str, str]]) -> list[str]:
    """Word what is to be said of folds, each given by its name and a text: the same of several only once."""
    names: dict[str, list[str]] = {}
    for name, text in found:
        names.setdefault(text, []).append(name)
    return [": ".join(filter(None, (", ".join(filter(None, of)), text))) for text, of in names.items()]


def split_digest(prepared: PreparedRun) -> str:
    """Return what identifies the division of a run's transcripts."""
    return digest_of(plan(prepared), prepared.transcripts)


def digest_of(trainings: Iterable[Training], transcripts: Transcripts) -> str:
    """Return what identifies a division: the same for all runs that divide these transcripts so."""
    parts = [part for each in trainings for part in (each.train, each.validation, each.test) if part is not None]
    return folds.assignment_digest(parts, transcripts.ids)
