"""How many parameters the network of a trial has, before it is made.

Must not know optuna or mlflow.
"""

from __future__ import annotations

import torch

from rnatracker.config import ModelConfig
from rnatracker.model.network import RNATracker


def n_parameters(model: ModelConfig, n_sites: int) -> int:
    """Return how many numbers a network learns.

    Args:
        model: its sizes.
        n_sites: number of sites.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # makes no weights, and draws none
        network = RNATracker(model.model_copy(update={"kernel": "torch"}), n_sites)
    return sum(parameter.numel() for parameter in network.parameters())
