"""Which transcripts go together into a batch, and the tensors of one.

Owns the order of an epoch and the padding of a batch. Must not know files, mlflow or training. Read next:
`rnatracker/data/encoding.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rnatracker.config import EncodingConfig
from rnatracker.data.encoding import Encoded, Indices, Offsets, pad

_POOL_OF_BATCHES = 16
"""Batches among which transcripts are sorted by length: enough that a batch has like lengths, few enough that
the same transcripts don't share a batch in every epoch."""
_EVALUATION_NUCLEOTIDES = 64 * 4000
"""Padded nucleotides in a batch without gradients: bounds memory whatever the lengths."""


Stretch = Callable[[Offsets], tuple[Offsets, Offsets]]
"""Given the lengths of transcripts, (B,), returns how many nucleotides of each to skip and how many to take."""


@dataclass(frozen=True)
class Batch:
    """The network's input for B transcripts.

    Attributes:
        indices: (B,) int64, which transcripts.
        codes: (B, L) uint8 on the device.
        lengths: (B,) int64 on the CPU.
        total_lengths: (B,) int64 on the CPU.
    """

    indices: Indices
    codes: Tensor
    lengths: Tensor
    total_lengths: Tensor


class Resident:
    """Transcripts kept in a device's memory, one byte a nucleotide, and padded into batches there.

    Only where a batch's transcripts begin and how long they are crosses to the device.

    Args:
        encoded: the transcripts.
        device: where they are kept.
    """

    def __init__(self, encoded: Encoded, device: torch.device) -> None:
        self._codes = torch.from_numpy(np.array(encoded.codes)).to(device)

    def pad(self, chosen: Encoded, width: int, *, front: bool) -> Tensor:
        """Return what `rnatracker.data.encoding.pad` does with all of these, (B, width) uint8, on the device."""
        device = self._codes.device
        starts = torch.from_numpy(chosen.starts).to(device, non_blocking=True).unsqueeze(1)
        lengths = torch.from_numpy(chosen.lengths).to(device, non_blocking=True).unsqueeze(1)
        position = torch.arange(width, device=self._codes.device).unsqueeze(0)
        if front:
            position = position - (width - lengths)
        inside = (position >= 0) & (position < lengths)
        where = (starts + position).clamp(0, max(len(self._codes) - 1, 0))
        return self._codes[where] * inside


class Batches:
    """Cuts batches out of encoded transcripts.

    A masked network gets its sequences padded at the end, to the longest of the batch; an unmasked one gets them
    padded at the start, always to `max_length`, since it reads the padding.

    Args:
        encoded: the transcripts.
        encoding: how they were cut.
        masked: whether the network is masked.
        device: where the codes go.
    """

    def __init__(self, encoded: Encoded, encoding: EncodingConfig, masked: bool, device: torch.device) -> None:
        self.encoded = encoded
        self.ragged = masked
        self._width = encoding.max_length
        self._device = device
        self._resident = None if device.type == "cpu" else Resident(encoded, device)

    def __len__(self) -> int:
        return len(self.encoded)

    def gather(self, indices: Indices, stretch: Stretch | None = None) -> Batch:
        """Return the batch of these transcripts.

        Args:
            indices: (B,) which.
            stretch: given their lengths, (B,), returns how many nucleotides of each to skip and how many to take;
                None: all.
        """
        chosen = self.encoded.take(indices)
        if stretch is not None:
            chosen = chosen.within(*stretch(chosen.lengths))
        width = int(chosen.lengths.max(initial=1)) if self.ragged else self._width
        if self._resident is None:
            codes = torch.from_numpy(pad(chosen, np.arange(len(chosen)), width, front=not self.ragged))
        else:
            codes = self._resident.pad(chosen, width, front=not self.ragged)
        return Batch(
            indices=indices,
            codes=codes,
            lengths=torch.from_numpy(chosen.lengths),
            total_lengths=torch.from_numpy(chosen.total_lengths),
        )

    def training_order(self, batch_size: int, rng: np.random.Generator) -> list[Indices]:
        """Return one epoch's batches, each transcript once, shuffled.

        Where sequences are not all padded to one length, a batch is made of transcripts of like length.
        """
        order = rng.permutation(len(self.encoded))
        if not self.ragged:
            return _chunks(order, batch_size)
        lengths = self.encoded.lengths
        sorted_pools = [
            pool[np.argsort(lengths[pool], kind="stable")] for pool in _chunks(order, batch_size * _POOL_OF_BATCHES)
        ]
        batches = [batch for pool in sorted_pools for batch in _chunks(pool, batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def evaluation_order(self, batch_size: int = 0) -> list[Indices]:
        """Return batches for prediction, each transcript once, by length, as large as fits into memory.

        Args:
            batch_size: the maximum number of transcripts in a batch; 0: as many as fit into memory.
        """
        lengths: Offsets = self.encoded.lengths if self.ragged else np.full(len(self), self._width)
        order = np.argsort(lengths, kind="stable")
        batches, start = [], 0
        while start < len(order):
            stop = start + 1
            end = min(start + batch_size, len(order)) if batch_size else len(order)
            while stop < end and (stop + 1 - start) * lengths[order[stop]] <= _EVALUATION_NUCLEOTIDES:
                stop += 1
            batches.append(order[start:stop])
            start = stop
        return batches


def _chunks(order: Indices, size: int) -> list[Indices]:
    return [order[start : start + size] for start in range(0, len(order), size)]
