"""The port's training loop, restated for the benchmarks: what `training_step.py` compares with.

Source: the PyTorch port of RNATracker. Kept: one-hot letters in Python lists for every item of every epoch, sequences
cut to 4000 and padded in front, its network with `nn.GRU` and a softmax, KLDivLoss(sum), Adam with 1e-4. Nothing of
rnatracker is used here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LENGTH = 4000
_ONE_HOT = {"G": [1, 0, 0, 0], "A": [0, 1, 0, 0], "T": [0, 0, 1, 0], "C": [0, 0, 0, 1]}
_NOTHING = [0, 0, 0, 0]


class Sequences(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Items as the port makes them, anew every time.

    Args:
        sequences: letters.
        fractions: (N, S).
    """

    def __init__(self, sequences: Sequence[str], fractions: Tensor) -> None:
        self.sequences, self.fractions = sequences, fractions

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a sequence as (4000, 4) float32, and its fractions."""
        letters = self.sequences[index][:LENGTH]
        rows = [_NOTHING] * (LENGTH - len(letters)) + [_ONE_HOT.get(letter, _NOTHING) for letter in letters]
        return torch.tensor(rows, dtype=torch.float32), self.fractions[index]


class Attention(nn.Module):
    """Self-attention over (B, T, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_w = nn.Linear(64, 50)
        self.attention_w2 = nn.Linear(50, 1, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """Return the weighted sum, (B, 64)."""
        weights = F.softmax(self.attention_w2(torch.tanh(self.attention_w(states))), dim=1)
        return torch.matmul(weights.transpose(1, 2), states).squeeze(1)


class Network(nn.Module):
    """The port's network: (B, 4000, 4) to fractions (B, S)."""

    def __init__(self, n_sites: int) -> None:
        super().__init__()
        self.conv_block1 = self._block(4)
        self.conv_block2 = self._block(32)
        self.gru = nn.GRU(32, 32, bidirectional=True, batch_first=True)
        self.attention = Attention()
        self.output = nn.Linear(64, n_sites)

    @staticmethod
    def _block(channels: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv1d(channels, 32, 10, bias=False), nn.ReLU(), nn.MaxPool1d(3), nn.Dropout(0.25))

    def forward(self, x: Tensor) -> Tensor:
        """Return fractions, (B, S)."""
        x = self.conv_block2(self.conv_block1(x.transpose(1, 2))).transpose(1, 2)
        states, _ = self.gru(x)
        return F.softmax(self.output(F.relu(self.attention(F.relu(states)))), dim=1)


class Loop:
    """The port's training: `load` makes a batch, `step` trains on it, `predict` does not.

    Args:
        data: what to train on.
        n_sites: number of sites.
    """

    def __init__(self, data: Sequences, n_sites: int) -> None:
        self.data = data
        self.network = Network(n_sites)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4)
        self._loss = nn.KLDivLoss(reduction="sum")

    def load(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return a batch as the DataLoader's default collation makes it."""
        x, y = zip(*(self.data[i] for i in indices), strict=True)
        return torch.stack(x), torch.stack(y)

    def step(self, x: Tensor, y: Tensor) -> None:
        """Train on a batch."""
        self.network.train()
        self._optimizer.zero_grad()
        self._loss(self.network(x).log(), y).backward()
        self._optimizer.step()

    def predict(self, x: Tensor) -> Tensor:
        """Return fractions, (B, S), without dropout and gradients."""
        self.network.eval()
        with torch.no_grad():
            return self.network(x)
