"""Changing nucleotides at random, so that a network doesn't learn transcripts by heart.

Owns what is done to a batch's codes. Read next: `rnatracker/data/encoding.py` for codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rnatracker.data.encoding import ANY, CHANNELS


def noisy(codes: Tensor, mask: float, exchange: float) -> Tensor:
    """Return codes of which some are hidden and some are others; padding stays.

    Drawn by PyTorch's generator of the codes' device; nothing is drawn where both are 0.

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
    return torch.where(codes > 0, changed, codes)
