"""Whether two runs have the same figures, at every step of every part.

Owns the comparison. Must not know why they should. Read next: `rnatracker/training/replay.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rnatracker.tracking.contract import TrackedRun

TOLERANCE = 1e-6
"""Largest difference at which figures agree."""

_NOT_FIGURES = ("time", "saved", "baseline")
"""Parts of the names of metrics that are not what training gives: how long something took, what other models reach."""


@dataclass(frozen=True)
class Gap:
    """How far one metric of a run is from the record.

    Attributes:
        metric: its name, behind the fold's where the run has children: `fold1/val/loss`.
        step: where the difference is largest.
        recorded: the record's value there.
        found: the other's; None if it has none.
    """

    metric: str
    step: int
    recorded: float
    found: float | None

    @property
    def size(self) -> float:
        """The difference; infinite where there is no value."""
        return abs(self.found - self.recorded) if self.found is not None else float("inf")


@dataclass(frozen=True)
class Agreement:
    """How far all figures of a run are from the record.

    Attributes:
        gaps: for each metric of the record where it differs most, the largest first.
        n_values: how many values were compared.
    """

    gaps: list[Gap]
    n_values: int

    @property
    def largest(self) -> float:
        """The largest difference."""
        return self.gaps[0].size if self.gaps else 0.0

    @property
    def agrees(self) -> bool:
        """Whether all figures agree within the tolerance."""
        return bool(self.gaps) and self.largest <= TOLERANCE

    @property
    def words(self) -> str:
        """How well they agree: `bit-identical`, `within 1e-06`, or the largest difference."""
        if not self.gaps:
            return "nothing to compare"
        if self.largest == 0:
            return "bit-identical"
        return f"within {TOLERANCE:g}" if self.agrees else f"not: they differ by up to {self.largest:.3g}"


def compare(record: TrackedRun, other: TrackedRun) -> Agreement:
    """Compare every value that a run has recorded, and those of its children, with another run's of the same name."""
    gaps, n_values = [], 0
    for prefix, one, two in _pairs(record, other):
        for key in sorted(one.metrics()):
            if not {*key.split("/")[:-1]}.isdisjoint(_NOT_FIGURES):
                continue
            values = one.history(key)
            others = two.history(key) if two else {}
            n_values += len(values)
            gaps.append(max((Gap(prefix + key, s, v, others.get(s)) for s, v in values.items()), key=lambda g: g.size))
    return Agreement(sorted(gaps, key=lambda gap: gap.size, reverse=True), n_values)


def _pairs(record: TrackedRun, other: TrackedRun) -> Iterator[tuple[str, TrackedRun, TrackedRun | None]]:
    yield "", record, other
    others = other.children()
    for name, child in sorted(record.children().items()):
        yield f"{name}/", child, others.get(name)
