"""Whether the columns of a table can be fractions of one whole.

Owns that judgement. Must not know files.

Fractions, and abundances at a transcript's sites, have sums that vary little: those of rounding, or those between
replicates. A length or a score among them makes the sums vary, or holds nearly all of each, and a model that learns it
looks excellent: predicting nearly 1 everywhere has a high overall PCC.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_STEADY = 0.02
"""Share of the median by which sums of fractions differ at most, for rounding."""
_VARIED = 0.5
"""Share of the median over which nine of ten sums spread, where they are of no one whole: replicates differ less."""
_MOST = 0.9
_NEARLY_ALL = 0.95
_FEWEST = 10
"""Records from which sums say something by themselves."""
_WHOLES = (1.0, 100.0)

Values = npt.NDArray[np.float64]


def no_fraction(names: Sequence[str], values: Values) -> tuple[int, str] | None:
    """Return the column that can't be a fraction, and why; None where all can.

    Args:
        names: of the columns.
        values: (N, S) as written, rows with what is no number left out.
    """
    if len(values) < 2 or len(names) < 2:
        return None
    sums = values.sum(axis=1)
    return _besides(values, sums) or (_holds_most(values, sums) or _varied(values, sums) if _enough(values) else None)


def _enough(values: Values) -> bool:
    return len(values) >= _FEWEST


def _besides(values: Values, sums: Values) -> tuple[int, str] | None:
    """Find a column without which the sums would be steady."""
    if values.shape[1] < 3 or _range(sums) <= _STEADY:
        return None
    rests = sums[:, None] - values
    ranges = [_range(rest) for rest in rests.T]
    index = int(np.argmin(ranges))
    usual = float(np.median(rests[:, index]))
    is_whole = any(abs(usual - whole) <= _STEADY * whole for whole in _WHOLES)
    if ranges[index] > _STEADY or not (is_whole or _enough(values)):
        return None
    with_it = f"with it to between {sums.min():.4g} and {sums.max():.4g}"
    return index, f"without it the values of every record sum to {usual:.4g}, {with_it}"


def _holds_most(values: Values, sums: Values) -> tuple[int, str] | None:
    shares = values / sums[:, None]
    index = int(np.argmax(np.median(shares, axis=0)))
    n_most = int((shares[:, index] > _MOST).sum())
    if n_most < _NEARLY_ALL * len(values):
        return None
    return index, f"it holds more than {_MOST:.0%} of the sum in {n_most:,} of {len(values):,} records"


def _varied(values: Values, sums: Values) -> tuple[int, str] | None:
    if _spread(sums) <= _VARIED:
        return None
    index = int(np.argmin([_spread(sums - column) for column in values.T]))
    low, high = np.quantile(sums, (0.05, 0.95))
    why = f"the values of a record sum to anything between {low:.4g} and {high:.4g}, so they are not parts of one whole"
    return index, f"{why}, least of all with this column"


def _range(sums: Values) -> float:
    """Return the range of sums as a share of their median."""
    usual = float(np.median(sums))
    return float(np.ptp(sums)) / usual if usual > 0 else np.inf


def _spread(sums: Values) -> float:
    """Return the range of nine of ten sums as a share of their median."""
    low, usual, high = np.quantile(sums, (0.05, 0.5, 0.95))
    return float(high - low) / float(usual) if usual > 0 else np.inf
