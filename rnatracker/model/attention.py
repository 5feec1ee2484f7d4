"""Where along transcripts a network's attention lies, in nucleotides of the whole sequences.

Owns which nucleotides a step of the network stands for. Must not know files or mlflow. Read next: `network.py` for the
steps, `rnatracker/data/encoding.py` for what is cut away.

A step reads `receptive_field` nucleotides of what the network sees, and its neighbour reads the same, shifted by
`pool**2`. So that no nucleotide counts twice, each is given to the step whose receptive field has its middle nearest to
it: a step stands for `pool**2` nucleotides, the first and the last one for those at the ends besides.

What is cut away has no weight, since the network has not seen it. Where both ends are kept, the step that lies across
the joint stands for two stretches and is divided between them by their lengths. An unmasked network looks at the
padding in front of a transcript too: weights are shares of what lies on the transcript, `on_padding` is the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rnatracker.config import EncodingConfig, ModelConfig
from rnatracker.data.encoding import Encoded, Indices, Offsets
from rnatracker.model.network import steps_of

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spans:
    """Where the attention lies along one transcript: stretches from its 5' end on, without overlap.

    Attributes:
        starts: (M,) int64, first nucleotide of each stretch, from 0.
        ends: (M,) int64, the nucleotide after its last.
        weights: (M,) float64, 0 or more; they sum to 1.
    """

    starts: Offsets
    ends: Offsets
    weights: Weights


class Attention:
    """Attention weights of N transcripts: the mean of one or more networks of the same sizes.

    Args:
        encoded: the transcripts as the networks see them.
        encoding: how they were cut.
        model: the networks' sizes.
    """

    def __init__(self, encoded: Encoded, encoding: EncodingConfig, model: ModelConfig) -> None:
        self._encoded = encoded
        self._keep = encoding.keep
        self._stride = model.pool**2
        # From the start of a receptive field to where the stretch of its step ends.
        self._first_end = (model.receptive_field + self._stride) // 2
        width = max(encoding.max_length, model.receptive_field)
        self._widths = encoded.lengths if model.masked else np.full(len(encoded), width, np.int64)
        steps = steps_of(torch.from_numpy(np.ascontiguousarray(self._widths)), model).numpy()
        self._offsets: Offsets = np.concatenate(([0], np.cumsum(steps))).astype(np.int64)
        self._sums = np.zeros(int(self._offsets[-1]))
        self.on_padding = np.zeros(len(encoded))
        """(N,) share of each transcript's attention that lies on no nucleotide; known once its `spans` are."""

    def __len__(self) -> int:
        return len(self._encoded)

    def add(self, indices: Indices, weights: npt.NDArray[np.float32]) -> None:
        """Take a batch's weights from one network.

        Args:
            indices: (B,) which transcripts.
            weights: (B, T), what `RNATracker.with_attention` gives.
        """
        for row, index in zip(weights, indices, strict=True):
            first, last = self._offsets[index], self._offsets[index + 1]
            self._sums[first:last] += row[: last - first]

    def spans(self, index: int) -> Spans:
        """Return where the attention of one transcript lies."""
        first, last = self._offsets[index], self._offsets[index + 1]
        width, length = int(self._widths[index]), int(self._encoded.lengths[index])
        edges = np.empty(last - first + 1, np.int64)
        edges[:-1] = self._first_end - self._stride + self._stride * np.arange(last - first)
        edges[0], edges[-1] = 0, width
        # An unmasked network's padding lies at the start.
        edges = (edges - (width - length)).clip(0, length)
        own = edges[1:] > edges[:-1]
        weights = self._sums[first:last][own]
        on_transcript, everywhere = weights.sum(), self._sums[first:last].sum()
        if on_transcript > 0:
            weights = weights / on_transcript
            self.on_padding[index] = max(1 - on_transcript / everywhere, 0.0)
        return self._in_the_whole(index, Spans(edges[:-1][own], edges[1:][own], weights))

    def _in_the_whole(self, index: int, spans: Spans) -> Spans:
        """Turn places in what is left of a transcript into places in the whole of it."""
        length, total = int(self._encoded.lengths[index]), int(self._encoded.total_lengths[index])
        if length == total or self._keep == "5p":
            return spans
        lost = total - length
        if self._keep == "3p":
            return Spans(spans.starts + lost, spans.ends + lost, spans.weights)
        joint = length - length // 2
        across = np.flatnonzero((spans.starts < joint) & (spans.ends > joint))
        starts, ends, weights = spans.starts, spans.ends, spans.weights
        if len(across):
            at = int(across[0])
            share = (joint - starts[at]) / (ends[at] - starts[at])
            weights = np.insert(weights, at, weights[at] * share)
            weights[at + 1] *= 1 - share
            starts, ends = np.insert(starts, at + 1, joint), np.insert(ends, at, joint)
        return Spans(starts + lost * (starts >= joint), ends + lost * (ends > joint), weights)
