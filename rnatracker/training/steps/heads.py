"""The further data sets of a training: a last layer for each, and when their batches come.

Owns these layers and the order of an epoch's steps. Each data set is passed once an epoch; its batches are spread
evenly among those of the first. Read next: `rnatracker/training/trainer.py`, which takes the steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rnatracker.config import TrainConfig
from rnatracker.data.encoding import Indices
from rnatracker.data.transcripts import Fractions
from rnatracker.errors import CheckpointError
from rnatracker.model.batching import Batches


@dataclass(frozen=True)
class Part:
    """Transcripts to train on or to validate on, with their measured fractions, (N, S)."""

    batches: Batches
    fractions: Fractions

    def targets(self, device: torch.device) -> Tensor:
        """Return the fractions as a step takes them, (N, S) float32."""
        return torch.from_numpy(self.fractions).float().to(device)


@dataclass(frozen=True)
class Step:
    """A batch that a step is taken with.

    Attributes:
        source: 0 for the first data set, 1 for the next, and so on.
        indices: (B,) which of its transcripts.
    """

    source: int
    indices: Indices


class Heads(nn.Module):
    """A last layer for each further data set.

    Args:
        parts: the data sets.
        n_inputs: of the network's last layer.
        train: the settings of the training.
        device: where it is computed.
    """

    def __init__(self, parts: Sequence[Part], n_inputs: int, train: TrainConfig, device: torch.device) -> None:
        super().__init__()
        self._train, self._parts = train, parts
        self.layers = nn.ModuleList()
        with torch.random.fork_rng(devices=[]):
            for number, part in enumerate(parts, start=1):
                torch.manual_seed(int(np.random.SeedSequence([train.seed, 0, number]).generate_state(1)[0]))
                self.layers.append(nn.Linear(n_inputs, part.fractions.shape[1]))
        self.to(device)
        self._targets = [part.targets(device) for part in parts]

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def n_transcripts(self) -> int:
        """Transcripts of all further data sets together."""
        return sum(len(part.batches) for part in self._parts)

    def of(self, source: int) -> tuple[Part, Tensor, nn.Module]:
        """Return a data set, from 1, its targets, (N, S) on the device, and its last layer."""
        return self._parts[source - 1], self._targets[source - 1], self.layers[source - 1]

    def steps(self, first: Sequence[Indices], epoch: int) -> list[Step]:
        """Return the steps of an epoch: the first data set's batches as they come, the others' in between.

        Args:
            first: the batches of the first data set.
            epoch: its number, which seeds the others' order.
        """
        size, seed = self._train.batch_size, self._train.seed
        orders = [
            part.batches.training_order(size, np.random.default_rng([seed, epoch, number]))
            for number, part in enumerate(self._parts, start=1)
        ]
        return spread([first, *orders])

    def states(self) -> list[dict[str, Tensor]]:
        """Return the tensors of each layer, on the CPU."""
        return [{name: tensor.cpu() for name, tensor in layer.state_dict().items()} for layer in self.layers]

    def restore(self, states: Sequence[dict[str, Tensor]] | None) -> None:
        """Take over what `states` returned.

        Raises:
            CheckpointError: if these are not the tensors of these layers.
        """
        try:
            for layer, state in zip(self.layers, states or (), strict=True):
                layer.load_state_dict(state)
        except (RuntimeError, AttributeError, TypeError, ValueError):
            raise CheckpointError(
                "damaged checkpoint: progress.heads doesn't fit the further data sets", "use another copy"
            ) from None


def spread(orders: Iterable[Sequence[Indices]]) -> list[Step]:
    """Return batches of several data sets in one order: each in its own, at even distances over the whole.

    Batch j of n stands at (j + 1/2) / n of the epoch; where two stand at the same place the earlier data set is first.
    """
    places = [
        ((number + 0.5) / len(order), source, indices)
        for source, order in enumerate(orders)
        for number, indices in enumerate(order)
    ]
    places.sort(key=lambda each: each[:2])
    return [Step(source, indices) for _, source, indices in places]
