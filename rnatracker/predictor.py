"""Trained networks and transcripts to site fractions.

Owns prediction, of one network or of an ensemble's mean. Must not know the trainer or mlflow. Read next:
`rnatracker/checkpoint.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from rnatracker.batching import Batches
from rnatracker.checkpoint import Checkpoint
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.encoding import cut
from rnatracker.errors import CheckpointError
from rnatracker.model import RNATracker


def predict_fractions(
    model: RNATracker, batches: Batches, *, on_batch: Callable[[int], None] | None = None
) -> Fractions:
    """Predict in evaluation mode, that is without dropout.

    Args:
        model: the network; its mode is restored afterwards.
        batches: the transcripts.
        on_batch: told the number of transcripts done so far.

    Returns:
        (N, S) float64 in the transcripts' order; rows sum to 1.
    """
    fractions = np.empty((len(batches), model.n_sites))
    was_training = model.training
    model.eval()
    done = 0
    with torch.inference_mode():
        for indices in batches.evaluation_order():
            batch = batches.gather(indices)
            logits = model(batch.codes, batch.lengths, batch.total_lengths)
            fractions[indices] = torch.softmax(logits.float().cpu().double(), dim=1).numpy()
            done += len(indices)
            if on_batch:
                on_batch(done)
    model.train(was_training)
    return fractions


class Predictor:
    """Predicts with one checkpoint, or with the mean of several: the folds of a cross-validation.

    Args:
        checkpoints: at least one, all of the same sites and encoding.
        device: where to compute.

    Raises:
        CheckpointError: if the checkpoints don't predict the same sites from the same input.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint], device: torch.device) -> None:
        self.sites = checkpoints[0].sites
        self.encoding = checkpoints[0].encoding
        for other in checkpoints[1:]:
            if (other.sites, other.encoding) != (self.sites, self.encoding):
                raise CheckpointError(
                    f"the ensemble's checkpoints differ in their sites or encoding: {self.sites}, {self.encoding} "
                    f"and {other.sites}, {other.encoding}; use checkpoints of one run"
                )
        self._networks = [checkpoint.network().to(device) for checkpoint in checkpoints]
        self._device = device

    def predict(self, transcripts: Transcripts, *, on_batch: Callable[[int], None] | None = None) -> Fractions:
        """Return predicted fractions, (N, S) float64, in the transcripts' order: the mean over the networks.

        Args:
            transcripts: any, measured or not.
            on_batch: told the number of transcripts done so far, counting each once per network.
        """
        fractions: Fractions = self.predict_each(transcripts, on_batch=on_batch).mean(axis=0)
        return fractions

    def predict_each(self, transcripts: Transcripts, *, on_batch: Callable[[int], None] | None = None) -> Fractions:
        """Return every network's fractions, (K, N, S) float64, in the transcripts' order.

        Args:
            transcripts: any, measured or not.
            on_batch: told the number of transcripts done so far, counting each once per network.
        """
        encoded = cut(transcripts.codes, transcripts.offsets, self.encoding)
        each = np.empty((len(self._networks), len(transcripts), len(self.sites)))
        for number, network in enumerate(self._networks):
            batches = Batches(encoded, self.encoding, network.config.masked, self._device)

            def tell(done: int, before: int = number * len(transcripts)) -> None:
                if on_batch:
                    on_batch(before + done)

            each[number] = predict_fractions(network, batches, on_batch=tell)
        return each

    def __len__(self) -> int:
        return len(self._networks)
