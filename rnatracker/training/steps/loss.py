"""What a step makes smaller.

Owns the loss of a batch. Read next: `rnatracker/metrics.py` for the same over a whole part, in float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_TINY = 1e-12


def loss_of(logits: Tensor, target: Tensor, pcc_weight: float = 0.0) -> Tensor:
    """Return the mean Kullback-Leibler divergence of a batch in nats, and perhaps what PCC is short of 1.

    Args:
        logits: (B, S).
        target: (B, S) measured fractions.
        pcc_weight: what 1 minus the mean over sites of the batch's PCC counts; 0: it is left out, as it is in a batch
            of fewer than 3 transcripts.

    Source: the loss of the port and the original, the Kullback-Leibler divergence; divided by the number of
    transcripts (`batchmean`), where the port sums, so that the step doesn't depend on the batch's size.
    """
    logits = logits.float()
    loss = F.kl_div(F.log_softmax(logits, dim=1), target, reduction="batchmean")
    if pcc_weight and len(logits) > 2:
        loss = loss + pcc_weight * (1 - _mean_pcc(torch.softmax(logits, dim=1), target))
    return loss


def _mean_pcc(predicted: Tensor, measured: Tensor) -> Tensor:
    """Return the mean over sites of PCC, where a site that doesn't vary counts 0."""
    predicted, measured = predicted - predicted.mean(dim=0), measured - measured.mean(dim=0)
    products = (predicted * measured).sum(dim=0)
    norms = (predicted.square().sum(dim=0) * measured.square().sum(dim=0) + _TINY).sqrt()  # a root's slope at 0 is none
    return (products / norms).mean()
