"""Trained models and transcripts to site fractions.

Owns prediction, of one model or of an ensemble's mean, and what a model is to it: a network's checkpoint, or what looks
at features of the sequence. Must not know the trainer or mlflow. Read next: `rnatracker/model/checkpoint.py`,
`rnatracker/baselines/models.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from rnatracker.config import EncodingConfig
from rnatracker.data.encoding import Encoded, cut
from rnatracker.data.features.kmers import Features
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.errors import CheckpointError
from rnatracker.model.attention import Attention
from rnatracker.model.batching import Batches
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.model.network import RNATracker

_REHEARSED, _REHEARSED_LENGTH = 32, 2000
"""Sequences and their nucleotides: enough for several threads, little enough to take some hundredths of a second."""


class FeatureModel(Protocol):
    """A model without a network, which looks at features of whole transcripts."""

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of its outputs."""

    def named(self, sites: tuple[str, ...]) -> FeatureModel:
        """Return itself: it knows its sites' names."""

    def predict(self, features: Features) -> Fractions:
        """Return predicted fractions, (N, S) float64; rows sum to 1."""


Member = Checkpoint | FeatureModel
"""One model of an ensemble, as its file holds it."""
_WHOLE = EncodingConfig(full_length=True)
"""How features see transcripts."""


@dataclass(frozen=True)
class _Sight:
    """What a member sees of transcripts."""

    encoding: EncodingConfig
    codons: bool

    @classmethod
    def of(cls, member: Member) -> _Sight:
        if isinstance(member, Checkpoint):
            return cls(member.encoding, member.model.codons)
        return cls(_WHOLE, False)

    def of_all(self, transcripts: Transcripts) -> Encoded:
        return cut(transcripts.codes, transcripts.offsets, self.encoding, codons=self.codons)


def predict_fractions(
    model: RNATracker,
    batches: Batches,
    *,
    on_batch: Callable[[int], None] | None = None,
    batch_size: int = 0,
    attention: Attention | None = None,
) -> Fractions:
    """Predict in evaluation mode, that is without dropout.

    Args:
        model: the network; its mode is restored afterwards.
        batches: the transcripts.
        on_batch: called with the number of transcripts done so far.
        batch_size: the maximum number of transcripts in a batch; 0: as many as fit into memory.
        attention: gets the network's attention weights too.

    Returns:
        (N, S) float64 in the transcripts' order; rows sum to 1.
    """
    fractions = np.empty((len(batches), model.n_sites))
    was_training = model.training
    model.eval()
    done = 0
    with torch.inference_mode():
        for indices in batches.evaluation_order(batch_size):
            batch = batches.gather(indices)
            if attention is None:
                logits = model(batch.codes, batch.lengths, batch.total_lengths)
            else:
                logits, weights = model.with_attention(batch.codes, batch.lengths, batch.total_lengths)
                attention.add(indices, weights.float().cpu().numpy())
            fractions[indices] = torch.softmax(logits.float().cpu().double(), dim=1).numpy()
            done += len(indices)
            if on_batch:
                on_batch(done)
    model.train(was_training)
    return fractions


def mean_of(each: Fractions, weights: Fractions | None) -> Fractions:
    """Return the mean (N, S) of what several models predict, (K, N, S), each counting its weight, (K,), or the same."""
    mean: Fractions = each.mean(axis=0) if weights is None else np.tensordot(weights, each, axes=1)
    return mean


def spread_of(each: Fractions, weights: Fractions | None) -> Fractions | None:
    """Return the standard deviation (N, S) over several models, (K, N, S); None of one.

    Without weights the divisor is K - 1. With weights w it is 1 - sum(w^2), which is the same where all are 1 / K.
    """
    if len(each) < 2:
        return None
    if weights is None:
        spread: Fractions = each.std(axis=0, ddof=1)
        return spread
    squares = np.tensordot(weights, (each - mean_of(each, weights)) ** 2, axes=1)
    of_weights: Fractions = np.sqrt(squares / (1 - np.sum(weights**2)))
    return of_weights


class Predictor:
    """Predicts with one model, or with the mean of several: the folds of a cross-validation, the runs of a blend.

    Args:
        members: at least one, all of the same sites.
        device: where to compute.
        weights: (K,) what each counts in the mean; empty: all the same. They sum to 1.
        batch_size: the maximum number of transcripts in a batch; 0: as many as fit into memory.

    Attributes:
        sites: (S,).
        weights: (K,) float64; None where all count the same.
        encoding: what a network sees; of networks that differ in that, the one that sees least of long transcripts.

    Raises:
        CheckpointError: if the members don't predict the same sites.
    """

    def __init__(
        self, members: Sequence[Member], device: torch.device, *, weights: Sequence[float] = (), batch_size: int = 0
    ) -> None:
        self.sites = members[0].sites
        for other in members[1:]:
            if other.sites != self.sites:
                theirs = f"{', '.join(self.sites)} and {', '.join(other.sites)}"
                raise CheckpointError(f"the ensemble's models differ in their sites: {theirs}", "use models of one run")
        self.weights = np.array(weights) if len(weights) else None
        self._sights = [_Sight.of(each) for each in members]
        seen = [each.encoding for each in members if isinstance(each, Checkpoint)]
        self.encoding = min(seen, key=lambda each: math.inf if each.full_length else each.max_length, default=_WHOLE)
        self._models = [each.network().to(device) if isinstance(each, Checkpoint) else each for each in members]
        self._networks = [each for each in self._models if isinstance(each, RNATracker)]
        self.device = device
        self._batch_size = batch_size

    def predict(self, transcripts: Transcripts, *, on_batch: Callable[[int], None] | None = None) -> Fractions:
        """Return predicted fractions, (N, S) float64, in the transcripts' order: the weighted mean over the models.

        Args:
            transcripts: any, measured or not.
            on_batch: called with the number of transcripts done so far, counting each once per model.
        """
        return mean_of(self.predict_each(transcripts, on_batch=on_batch), self.weights)

    def predict_each(self, transcripts: Transcripts, *, on_batch: Callable[[int], None] | None = None) -> Fractions:
        """Return every model's fractions, (K, N, S) float64, in the transcripts' order.

        Args:
            transcripts: any, measured or not.
            on_batch: called with the number of transcripts done so far, counting each once per model.
        """
        return self._each(transcripts, on_batch, None)

    def with_attention(
        self, transcripts: Transcripts, *, on_batch: Callable[[int], None] | None = None
    ) -> tuple[Fractions, Attention]:
        """Return what `predict_each` does, and where along the transcripts the networks' attention lies.

        Raises:
            CheckpointError: if a network has no attention, or they are not of one size.
        """
        self.check_attention()
        attention = Attention(self.encode(transcripts), self.encoding, self._networks[0].config)
        return self._each(transcripts, on_batch, attention), attention

    def check_attention(self) -> None:
        """Check that there is attention to look at, and that it can be averaged.

        Raises:
            CheckpointError: if not.
        """
        shapes = {
            (config.pool, config.conv1_kernel, config.conv2_kernel, config.masked, encoding)
            for config, encoding in (
                (model.config, sight.encoding)
                for model, sight in zip(self._models, self._sights, strict=True)
                if isinstance(model, RNATracker)
            )
        }
        if len(self._networks) < len(self._models):
            raise CheckpointError(
                "this model is no network, or not only networks, so there is no attention to show",
                "leave out --attention",
            )
        if not self.has_attention:
            raise CheckpointError(
                "this model was trained with model.attention: false, or another model.pooling: there is no attention "
                "to show",
                "leave out --attention, or use a model that has it",
            )
        if len(shapes) > 1:
            raise CheckpointError(
                "the ensemble's networks differ in their kernels, pooling, mask or encoding, so that their attention "
                "has no mean",
                "leave out --attention, or use one of them",
            )

    @property
    def has_attention(self) -> bool:
        """Whether all models are networks that have attention."""
        return all(isinstance(each, RNATracker) and each.config.attends for each in self._models)

    @property
    def has_networks(self) -> bool:
        """Whether there is a network among the models."""
        return bool(self._networks)

    def rehearse(self) -> None:
        """Let a network predict some sequences whose result nobody needs: to be timed; there must be one."""
        network, n, length = self._networks[0], _REHEARSED, min(_REHEARSED_LENGTH, self.encoding.max_length)
        if not network.config.masked:
            length = self.encoding.max_length
        codes = torch.ones((n, length), dtype=torch.uint8, device=self.device)
        lengths = torch.full((n,), length)
        with torch.inference_mode():
            network(codes, lengths, lengths)

    def encode(self, transcripts: Transcripts) -> Encoded:
        """Return what the networks see of transcripts."""
        return cut(transcripts.codes, transcripts.offsets, self.encoding)

    def _each(
        self, transcripts: Transcripts, on_batch: Callable[[int], None] | None, attention: Attention | None
    ) -> Fractions:
        seen = {each: each.of_all(transcripts) for each in {*self._sights}}
        features: Features | None = None
        n = len(transcripts)
        each = np.empty((len(self), n, len(self.sites)))
        for number, (model, sight) in enumerate(zip(self._models, self._sights, strict=True)):

            def report(done: int, before: int = number * n) -> None:
                if on_batch:
                    on_batch(before + done)

            if isinstance(model, RNATracker):
                batches = Batches(seen[sight], sight.encoding, model.config.masked, self.device)
                each[number] = predict_fractions(
                    model, batches, on_batch=report, batch_size=self._batch_size, attention=attention
                )
            else:
                features = features or Features(seen[sight])
                each[number] = model.predict(features)
                report(n)
        return each

    def __len__(self) -> int:
        return len(self._models)
