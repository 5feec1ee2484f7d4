"""Changing what a step sees of transcripts at random, so that a network doesn't learn them by heart.

Owns what is done to a batch's codes, and which stretch of each transcript there is. All is drawn by PyTorch's generator
of the device, whose state a resumed training takes over. Read next: `rnatracker/data/encoding.py` for codes.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from rnatracker.data.encoding import ANY, CHANNELS, NUCLEOTIDE, Offsets
from rnatracker.model.batching import Stretch


def noisy(codes: Tensor, mask: float, exchange: float) -> Tensor:
    """Return codes of which some are hidden and some are others; padding stays, and so does the place in a codon.

    Nothing is drawn where both are 0.

    Args:
        codes: (B, L) uint8, left as they are.
        mask: share of nucleotides that are read as any of the four.
        exchange: share of nucleotides in whose place one of the four stands, each equally likely.

    Returns:
        (B, L) uint8.
    """
    if not mask and not exchange:
        return codes
    drawn = torch.rand(codes.shape, device=codes.device)
    changed = torch.where(drawn < mask, torch.full_like(codes, ANY), codes)
    if exchange:
        others = torch.randint(1, len(CHANNELS) + 1, codes.shape, dtype=torch.uint8, device=codes.device)
        changed = torch.where((drawn >= mask) & (drawn < mask + exchange), others, changed)
    return torch.where(codes > 0, changed & NUCLEOTIDE | codes & ~NUCLEOTIDE & 0xFF, codes)


def stretch_of(window: int, shift: int, device: torch.device) -> Stretch | None:
    """Return what draws the stretch that a step sees of each transcript; None where that is all of it.

    Args:
        window: most nucleotides that are seen, from anywhere in the transcript; 0: all.
        shift: most nucleotides that are left out at the start, each number up to it equally likely; 0: none.
        device: whose generator draws.
    """
    return partial(_stretches, window, shift, device) if window or shift else None


def _stretches(window: int, shift: int, device: torch.device, lengths: Offsets) -> tuple[Offsets, Offsets]:
    """Return for each transcript, (B,), how many nucleotides are skipped, and how many are seen: at least one."""
    skip, kept = np.zeros_like(lengths), lengths
    if shift:
        skip = _up_to(np.minimum(shift, np.maximum(lengths - 1, 0)), device)
        kept = lengths - skip
    if window:
        skip = skip + _up_to(np.maximum(kept - window, 0), device)
        kept = np.minimum(kept, window)
    return skip, kept


def _up_to(most: Offsets, device: torch.device) -> Offsets:
    """Draw for each transcript a number from 0 to its most, each equally likely."""
    drawn = torch.rand(len(most), device=device).cpu().numpy().astype(np.float64)
    numbers: Offsets = np.minimum((drawn * (most + 1)).astype(np.int64), most)
    return numbers
