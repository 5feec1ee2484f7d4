"""The network: codes in, logits over sites out.

Owns the layers and the arithmetic of their lengths. Must not know data files or mlflow. Read next:
`rnatracker/data/encoding.py` for codes, `rnatracker/training/trainer.py` for how it is trained.

    codes (B, L) -> one-hot (B, 4, L) -> [convolution, ReLU, max pool, dropout] twice
    -> (B, T, C): T steps -> bidirectional GRU or LSTM -> attention -> (B, 2H) -> logits (B, S)

Source: Yan, Lécuyer & Blanchette 2019 (doi:10.1093/bioinformatics/btz337) and its PyTorch port. The two differ;
both are settings of `ModelConfig`. The port puts a ReLU on the recurrent layer's outputs
(`rnn_activation: relu`), the original none. Deviations from both:
- Masking is exact here. The original skips steps whose features are all zero, and lets its attention look at
  padded steps; here a masked network's output depends on the sequence alone, whatever the padding.
- The original drops 10 % of the recurrent layer's inputs once more; here dropout follows the poolings, where it may
  be another one after the second (`rnn_dropout`), and goes before the last layer (`output_dropout`).
- With `codons` the first convolution's outputs get a bias, (66, C), by the codon at whose first nucleotide their
  window begins, or by their beginning at a second or a third one; none outside of the longest open reading frame
  (`rnatracker/data/features/reading_frames.py`).
- Without attention the last state of each direction goes on.
- The port computes softmax in the network; here that is left to whoever reads the logits.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnatracker.config import ModelConfig
from rnatracker.data.encoding import NUCLEOTIDE, one_hot_table
from rnatracker.data.features.reading_frames import FRAME_SHIFT
from rnatracker.model.kernels.functions import kernel_in_use, pooled_states

N_CODON_STATES = 67
"""What a nucleotide can be to the reading frame: outside of it, one of 64 codons' first, a second or a third one."""
_CODON_STD = 0.2
"""Of the codons' first values: about that of a window's sum with the first weights of the default sizes."""
_LOG_LENGTH_CENTRE = 8.0
"""About the logarithm of a usual mRNA's length (2,981 nt), so that the input is near 0."""


def steps_of(lengths: Tensor, config: ModelConfig) -> Tensor:
    """Return how many steps of the recurrent layer sequences give, at least 1; int64, shape of `lengths`.

    Sequences below the receptive field are padded up to it.
    """
    first = (lengths - config.conv1_kernel + 1).div(config.pool, rounding_mode="floor")
    second = (first - config.conv2_kernel + 1).div(config.pool, rounding_mode="floor")
    return second.clamp(min=1)


def codon_states(codes: Tensor) -> Tensor:
    """Return what each nucleotide is to the reading frame, (B, L) int32.

    0 outside of it, and where its codon has an ambiguous letter; 1 to 64 at the first nucleotide of a codon, in the
    order AAA, AAC, ..., TTT; 65 and 66 at a second and a third one.
    """
    place = codes >> FRAME_SHIFT
    letter = F.pad((codes & NUCLEOTIDE).int(), (0, 2)) - 1
    triple = torch.stack([letter[:, :-2], letter[:, 1:-1], letter[:, 2:]])
    codon = torch.where(((triple >= 0) & (triple < 4)).all(0), triple[0] * 16 + triple[1] * 4 + triple[2] + 1, 0)
    return torch.where(place == 1, codon, torch.where(place > 1, place.int() + 63, 0)).int()


def _inside(steps: Tensor, along: Tensor) -> Tensor:
    """Return which steps of a batch, (B, T) on the device of a tensor (B, T, ...), are no padding."""
    inside = torch.arange(along.shape[1]).unsqueeze(0) < steps.unsqueeze(1)
    return inside.to(along.device, non_blocking=True)


class RNATracker(nn.Module):
    """The network of the paper and its port, every size a setting.

    Args:
        config: the sizes.
        n_sites: number of sites, S.
    """

    def __init__(self, config: ModelConfig, n_sites: int) -> None:
        super().__init__()
        self.config = config
        self.n_sites = n_sites
        self.register_buffer("one_hot", torch.from_numpy(one_hot_table()), persistent=False)
        self.conv1 = nn.Conv1d(4, config.conv1_channels, config.conv1_kernel, bias=False)
        self.conv2 = nn.Conv1d(config.conv1_channels, config.conv2_channels, config.conv2_kernel, bias=False)
        if config.codons:
            shape = (N_CODON_STATES - 1, config.conv1_channels)
            self.codon_bias = nn.Parameter(torch.empty(shape).normal_(std=_CODON_STD))
        layer = nn.GRU if config.rnn == "gru" else nn.LSTM
        self.rnn = layer(config.conv2_channels, config.rnn_hidden, batch_first=True, bidirectional=True)
        features = 2 * config.rnn_hidden
        if config.attends:
            self.attention_hidden = nn.Linear(features, config.attention_size)
            self.attention_score = nn.Linear(config.attention_size, 1, bias=False)
        if config.pooling == "attention+mean":
            features *= 2
        self.output = nn.Linear(features + config.length_input, n_sites)
        # As in the port: Glorot for the convolutions, PyTorch's own choice for the rest.
        nn.init.xavier_uniform_(self.conv1.weight)
        nn.init.xavier_uniform_(self.conv2.weight)

    def forward(self, codes: Tensor, lengths: Tensor, total_lengths: Tensor, output: nn.Module | None = None) -> Tensor:
        """Return logits, (B, S) float32.

        Args:
            codes: (B, L) uint8 on the network's device; padded at the end where the network is masked, at the
                start where it is not. Any L: below the receptive field more padding is added.
            lengths: (B,) int64 on the CPU, nucleotides without padding.
            total_lengths: (B,) int64 on the CPU, nucleotides of the whole transcripts.
            output: another last layer, for other sites; None: its own.

        Raises:
            ValueError: if the shapes or types don't fit.
        """
        return self._run(codes, lengths, total_lengths, output=output)[0]

    def with_attention(self, codes: Tensor, lengths: Tensor, total_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits as `forward` does, and attention weights, (B, T) float32, whose rows sum to 1.

        Step t looks at the nucleotides from `t * pool**2` on, `receptive_field` of them. Padded steps of a
        masked network have weight 0.

        Raises:
            ValueError: if the shapes or types don't fit, or the network has no attention.
        """
        if not self.config.attends:
            raise ValueError("this network was built without attention")
        logits, weights = self._run(codes, lengths, total_lengths, with_weights=True)
        return logits, cast(Tensor, weights)

    def _run(
        self,
        codes: Tensor,
        lengths: Tensor,
        total_lengths: Tensor,
        *,
        with_weights: bool = False,
        output: nn.Module | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        self._check(codes, lengths, total_lengths)
        device, dtype = self.conv1.weight.device, self.conv1.weight.dtype
        if kernel_in_use(self.config, device, dtype)[0] == "fused":
            alpha_width = int(steps_of(torch.tensor(codes.shape[1]), self.config)) if with_weights else 0
            dropout = self.config.dropouts if self.training else (0.0, 0.0)
            pooled, weights = pooled_states(
                self.config, self._fused_weights(), codes, lengths, dropout=dropout, alpha_width=alpha_width
            )
        else:
            pooled, weights = self._pool_states(codes, lengths)
        pooled = F.dropout(pooled, self.config.output_dropout, self.training)  # draws nothing where it is 0
        if self.config.length_input:
            centred = total_lengths.to(pooled.device).float().clamp(min=1).log() - _LOG_LENGTH_CENTRE
            pooled = torch.cat([pooled, centred.unsqueeze(1).to(pooled.dtype)], dim=1)
        return (output or self.output)(pooled), weights

    def _fused_weights(self) -> list[Tensor]:
        """Return the weights in the order in which the kernels take them: `kernels.binding.shapes`."""
        weights = [self.conv1.weight, self.conv2.weight, *(w for each in self.rnn.all_weights for w in each)]
        if self.config.attends:
            weights += [self.attention_hidden.weight, self.attention_hidden.bias, self.attention_score.weight]
        if self.config.codons:
            weights.append(self.codon_bias)
        return weights

    def _pool_states(self, codes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute what goes to the last layer, (B, 2H), and attention weights: the specification of the kernels."""
        missing = self.config.receptive_field - codes.shape[1]
        if missing > 0:
            codes = F.pad(codes, (0, missing) if self.config.masked else (missing, 0))
        x = self._convolve(codes)
        steps = steps_of(lengths, self.config) if self.config.masked else None
        states, last = self._recur(x, steps)
        if self.config.rnn_activation == "relu":
            states, last = F.relu(states), F.relu(last)
        if not self.config.attention:
            return last, None
        weights = self._attend(states, steps) if self.config.attends else None
        return self._pool(states, steps, weights), weights

    def _pool(self, states: Tensor, steps: Tensor | None, weights: Tensor | None) -> Tensor:
        """Make one of the states (B, T, 2H), by their attention weights (B, T) and without padded steps."""
        found = [] if weights is None else [torch.bmm(weights.unsqueeze(1), states).squeeze(1)]
        inside = None if steps is None else _inside(steps, states).unsqueeze(2)
        if "mean" in self.config.pooling:
            count = states.shape[1] if steps is None else steps.to(states.device).unsqueeze(1)
            kept = states if inside is None else states.masked_fill(~inside, 0)
            found.append(kept.sum(dim=1) / count)
        if self.config.pooling == "max":
            kept = states if inside is None else states.masked_fill(~inside, float("-inf"))
            found.append(kept.amax(dim=1))
        return torch.cat(found, dim=1)

    def _convolve(self, codes: Tensor) -> Tensor:
        """Run both convolution blocks: (B, L) to (B, T, C)."""
        config = self.config
        drop = F.dropout if config.dropout_kind == "entry" else F.dropout1d
        x = F.embedding((codes & NUCLEOTIDE).int(), cast(Tensor, self.one_hot)).transpose(1, 2)
        for convolution, dropout in zip((self.conv1, self.conv2), config.dropouts, strict=True):
            x = convolution(x)
            if config.codons and convolution is self.conv1:
                x = x + self._codon_bias(codes)[:, :, : x.shape[2]]
            x = F.relu(F.max_pool1d(x, config.pool))  # the maximum of ReLUs is the ReLU of it
            x = drop(x, dropout, self.training)
        return x.transpose(1, 2)

    def _codon_bias(self, codes: Tensor) -> Tensor:
        """Return what codons add to the windows that begin at these codes: (B, L) to (B, C, L)."""
        outside = torch.zeros_like(self.codon_bias[:1])
        return F.embedding(codon_states(codes), torch.cat([outside, self.codon_bias])).transpose(1, 2)

    def _recur(self, x: Tensor, steps: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run the recurrent layer: all states (B, T, 2H), and each direction's last state (B, 2H)."""
        if steps is None:
            states, final = self.rnn(x)
        else:
            packed = pack_padded_sequence(x, steps, batch_first=True, enforce_sorted=False)
            packed_states, final = self.rnn(packed)
            states, _ = pad_packed_sequence(packed_states, batch_first=True, total_length=x.shape[1])
        hidden = final[0] if isinstance(final, tuple) else final
        return states, torch.cat([hidden[0], hidden[1]], dim=1)

    def _attend(self, states: Tensor, steps: Tensor | None) -> Tensor:
        """Return attention weights, (B, T), zero on padded steps."""
        scores = self.attention_score(torch.tanh(self.attention_hidden(states))).squeeze(2)
        if steps is not None:
            scores = scores.masked_fill(~_inside(steps, scores), float("-inf"))
        return F.softmax(scores, dim=1)

    def _check(self, codes: Tensor, lengths: Tensor, total_lengths: Tensor) -> None:
        if codes.ndim != 2 or codes.dtype != torch.uint8 or not len(codes):
            raise ValueError(f"codes: expected (B, L) uint8 with B > 0, got {tuple(codes.shape)} {codes.dtype}")
        for name, tensor in (("lengths", lengths), ("total_lengths", total_lengths)):
            if tensor.shape != codes.shape[:1] or tensor.dtype != torch.int64 or tensor.device.type != "cpu":
                raise ValueError(
                    f"{name}: expected ({len(codes)},) int64 on the CPU, "
                    f"got {tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"
                )
