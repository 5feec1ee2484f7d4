"""Relatives of simulated transcripts, of which it is known how alike they are.

Owns what an isoform and a paralog are here. Must not know zipcodes. Read next: `simulate.py`, which asks for them, and
`similarity.py`, which is to find them.

An isoform has the last 50 to 90 % of a transcript behind another beginning, 5 to 15 % as long. A paralog has
5, 10, 20 or 30 % of a transcript's nucleotides changed, and nothing inserted or deleted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnatracker.data.encoding import Codes, Offsets

CHANGED = (0.05, 0.10, 0.20, 0.30)
"""Shares of a paralog's nucleotides that differ."""
_KEPT = (0.5, 0.9)
_BEGINNING = (0.05, 0.15)


@dataclass(frozen=True)
class Relative:
    """A planted relative.

    Attributes:
        index: of the transcript.
        parent: index of the transcript that it was made from.
        changed: share of its nucleotides that differ; None: an isoform.
    """

    index: int
    parent: int
    changed: float | None

    @property
    def kind(self) -> str:
        """`isoform`, or `paralog20` for one with 20 % changed."""
        return "isoform" if self.changed is None else f"paralog{self.changed * 100:.0f}"


def plant(rng: np.random.Generator, codes: Codes, offsets: Offsets, n: int) -> tuple[list[Codes], list[Relative]]:
    """Make relatives of transcripts: of each parent one, while there are enough, of each kind in turn.

    Args:
        rng: draws.
        codes: of all parents, one after the other.
        offsets: (P + 1,) where each begins.
        n: how many relatives.

    Returns:
        The codes of each, and what it is; the first has the index P.
    """
    n_parents = len(offsets) - 1
    order = [parent for _ in range(-(-n // n_parents)) for parent in rng.permutation(n_parents).tolist()]
    kinds = (None, *CHANGED)
    found = [Relative(n_parents + i, order[i], kinds[i % len(kinds)]) for i in range(n)]
    made = []
    for each in found:
        parent = codes[offsets[each.parent] : offsets[each.parent + 1]]
        made.append(_isoform(rng, parent) if each.changed is None else _paralog(rng, parent, each.changed))
    return made, found


def _isoform(rng: np.random.Generator, parent: Codes) -> Codes:
    kept = int(len(parent) * rng.uniform(*_KEPT))
    beginning = rng.integers(1, 5, int(kept * rng.uniform(*_BEGINNING)), np.uint8)
    return np.concatenate([beginning, parent[len(parent) - kept :]])


def _paralog(rng: np.random.Generator, parent: Codes, changed: float) -> Codes:
    copy = parent.copy()
    where = rng.permutation(len(parent))[: int(changed * len(parent))]
    copy[where] = (copy[where] - 1 + rng.integers(1, 4, len(where), np.uint8)) % 4 + 1
    return copy
