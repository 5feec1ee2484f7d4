"""How far a prediction may be off: split-conformal intervals.

Owns the residuals that intervals come from, and the file in which a registered model keeps them. Must not know runs.
Read next: `table.py` for the columns of an interval.

In cross-validation each transcript is predicted by a network that never saw it. What those predictions were off by is
what a new one may be off by: with n residuals of a site, the interval of 90 % reaches as far to both sides as the
ceil(.9 (n + 1))-th smallest of them. So it covers the measured fraction of 90 % of transcripts like these, whatever the
network is worth; it says nothing of transcripts unlike them, nor of a single one more than of another.

Source: Lei, G'Sell, Rinaldo, Tibshirani & Wasserman 2018, doi:10.1080/01621459.2017.1307116, section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rnatracker.data.transcripts import Fractions
from rnatracker.errors import CheckpointError, UsageError
from rnatracker.files import replacing


@dataclass(frozen=True)
class Residuals:
    """What out-of-fold predictions were off by.

    Attributes:
        sites: (S,).
        sizes: (n, S) float64, without sign; of each site in ascending order.
    """

    sites: tuple[str, ...]
    sizes: Fractions

    @classmethod
    def of(cls, sites: Sequence[str], predicted: Fractions, measured: Fractions) -> Residuals:
        """Return the residuals of predictions (n, S); those of transcripts that were not measured are left out."""
        sizes = np.abs(predicted - measured)
        return cls(tuple(sites), np.sort(sizes[np.isfinite(sizes).all(axis=1)], axis=0))

    def ordered(self, sites: Sequence[str]) -> Residuals:
        """Return the same with the sites in another order.

        Raises:
            CheckpointError: if these are residuals of other sites.
        """
        if sorted(sites) != sorted(self.sites):
            raise CheckpointError(
                f"out-of-fold residuals of {', '.join(self.sites)}: the model predicts {', '.join(sites)}",
                "leave out --interval",
            )
        return Residuals(tuple(sites), self.sizes[:, [self.sites.index(site) for site in sites]])

    def half_widths(self, percent: float, sites: Sequence[str]) -> Fractions:
        """Return how far the interval reaches to either side of a prediction.

        Args:
            percent: the share of transcripts whose measured fraction is to lie in it, between 0 and 100.
            sites: (S,) the sites in the order that is wanted.

        Returns:
            (S,) float64.

        Raises:
            UsageError: if there are too few residuals for so large a share.
            CheckpointError: if these are residuals of other sites.
        """
        n = len(self.sizes)
        rank = math.ceil((n + 1) * percent / 100)
        if rank > n:
            most = math.floor(100 * n / (n + 1))
            raise UsageError(
                f"--interval {percent:g}: {n} out-of-fold residuals are too few for that",
                f"give at most {most}" if most else "leave it out",
            )
        widths: Fractions = self.ordered(sites).sizes[rank - 1]
        return widths


def bounds(fractions: Fractions, half_widths: Fractions) -> tuple[Fractions, Fractions]:
    """Return the lower and the upper ends (N, S) of the intervals around fractions (N, S), within 0 and 1."""
    return np.clip(fractions - half_widths, 0, 1), np.clip(fractions + half_widths, 0, 1)


def write(path: Path, residuals: Residuals) -> None:
    """Write residuals as an array of NumPy's, without pickle, in float32; the sites are in the model's order.

    Raises:
        OSError: if it can't be written.
    """
    with replacing(path) as file:
        np.save(file, residuals.sizes.astype(np.float32), allow_pickle=False)


def read(path: Path, sites: Sequence[str]) -> Residuals:
    """Read what `write` wrote.

    Raises:
        CheckpointError: if it can't be read, or isn't such a file.
    """
    try:
        sizes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path}: not readable residuals ({error})", "register the run again") from None
    if sizes.ndim != 2 or sizes.shape[1] != len(sites) or sizes.dtype != np.float32:
        raise CheckpointError(
            f"{path}: not the residuals of {len(sites)} sites ({sizes.dtype}, {sizes.shape})", "register the run again"
        )
    return Residuals(tuple(sites), sizes.astype(np.float64))
