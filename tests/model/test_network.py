"""The network: lengths, padding, and agreement with a plain restatement of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rnatracker.config import ModelConfig
from rnatracker.data.encoding import NUCLEOTIDE, encode
from rnatracker.data.features.reading_frames import FRAME_SHIFT, marked
from rnatracker.model.network import RNATracker, codon_states, steps_of

_SMALL: dict[str, Any] = {
    "conv1_channels": 4, "conv2_channels": 5, "conv1_kernel": 4, "conv2_kernel": 3, "pool": 2, "rnn_hidden": 3,
    "attention_size": 4,
}  # fmt: skip
_FIELD = ModelConfig(**_SMALL).receptive_field


def _network(**changes: Any) -> RNATracker:
    torch.manual_seed(0)
    return RNATracker(ModelConfig(**(_SMALL | changes)), 3).eval()


def _codes(lengths: list[int], width: int, *, front: bool) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(1)
    codes = np.zeros((len(lengths), width), np.uint8)
    for row, length in enumerate(lengths):
        start = width - length if front else 0
        codes[row, start : start + length] = rng.integers(1, 6, length)
    return torch.from_numpy(codes), torch.tensor(lengths)


def test_steps_are_those_of_both_convolutions_and_poolings() -> None:
    lengths = torch.tensor([45, 53, 54, 4000, 1])
    # 4000 - 9 = 3991 positions, pooled to 1330; 1321 positions, pooled to 440: the 440 steps of the port.
    assert steps_of(lengths, ModelConfig()).tolist() == [1, 1, 2, 440, 1]


@pytest.mark.parametrize("rnn", ["gru", "lstm"])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("length_input", [True, False])
def test_network_gives_logits_for_every_setting(rnn: str, masked: bool, attention: bool, length_input: bool) -> None:
    network = _network(rnn=rnn, masked=masked, attention=attention, length_input=length_input)
    codes, lengths = _codes([30, 12], 30, front=not masked)
    logits = network(codes, lengths, lengths)
    assert logits.shape == (2, 3)
    assert torch.isfinite(logits).all()
    assert network.output.in_features == 6 + length_input


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("length", [1, _FIELD - 1, _FIELD, _FIELD + 1])
def test_network_takes_any_batch_and_any_length(batch: int, length: int) -> None:
    for masked in (True, False):
        codes, lengths = _codes([length] * batch, length, front=not masked)
        assert torch.isfinite(_network(masked=masked)(codes, lengths, lengths)).all()


@pytest.mark.parametrize("rnn", ["gru", "lstm"])
@pytest.mark.parametrize("attention", [True, False])
def test_masked_network_ignores_padding_and_the_rest_of_the_batch(rnn: str, attention: bool) -> None:
    network = _network(rnn=rnn, attention=attention, masked=True)
    codes, lengths = _codes([40, 23, 5], 50, front=False)
    together = network(codes, lengths, lengths)
    for row, length in enumerate([40, 23, 5]):
        alone = network(codes[row : row + 1, :length], lengths[row : row + 1], lengths[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-6)


def test_unmasked_network_reads_its_padding() -> None:
    network = _network(masked=False)
    short, lengths = _codes([30], 30, front=True)
    padded, _ = _codes([30], 60, front=True)
    assert (network(short, lengths, lengths) - network(padded, lengths, lengths)).abs().max() > 1e-4


def test_length_input_reads_the_whole_transcripts_length() -> None:
    network = _network(length_input=True)
    codes, lengths = _codes([30], 30, front=False)
    difference = network(codes, lengths, torch.tensor([3000])) - network(codes, lengths, torch.tensor([300]))
    expected = network.output.weight[:, -1] * np.log(10)
    torch.testing.assert_close(difference[0], expected, rtol=1e-4, atol=1e-6)


def test_attention_weights_sum_to_one_and_are_zero_on_padding() -> None:
    network = _network(masked=True)
    codes, lengths = _codes([50, 20], 50, front=False)
    logits, weights = network.with_attention(codes, lengths, lengths)
    steps = steps_of(lengths, network.config)
    assert weights.shape == (2, int(steps[0]))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    assert (weights[1, int(steps[1]) :] == 0).all()
    torch.testing.assert_close(logits, network(codes, lengths, lengths))


def test_ambiguous_letter_is_the_mean_of_the_four() -> None:
    network = _network()
    weight = network.conv1.weight.detach()
    only_any = F.conv1d(F.embedding(torch.full((1, 4), 5), network.one_hot).transpose(1, 2), weight)
    torch.testing.assert_close(only_any[0, :, 0], weight.sum(dim=2).mean(dim=1))


def test_unmasked_network_agrees_with_a_restatement_of_the_port() -> None:
    network = _network(masked=False)
    codes, lengths = _codes([40, 33], 40, front=True)
    x = network.one_hot[codes.long()].transpose(1, 2)
    x = F.max_pool1d(F.relu(network.conv1(x)), 2)
    x = F.max_pool1d(F.relu(network.conv2(x)), 2)
    states = F.relu(network.rnn(x.transpose(1, 2))[0])
    scores = network.attention_score(torch.tanh(network.attention_hidden(states)))
    pooled = (torch.softmax(scores, dim=1) * states).sum(dim=1)
    torch.testing.assert_close(network(codes, lengths, lengths), network.output(F.relu(pooled)))


@pytest.mark.parametrize(
    ("codes", "lengths"),
    [
        (torch.zeros(2, 30), torch.tensor([30, 30])),
        (torch.zeros(30, dtype=torch.uint8), torch.tensor([30])),
        (torch.zeros(0, 30, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)),
        (torch.zeros(2, 30, dtype=torch.uint8), torch.tensor([30])),
        (torch.zeros(2, 30, dtype=torch.uint8), torch.tensor([30.0, 30.0])),
    ],
)
def test_network_refuses_inputs_of_other_shapes_or_types(codes: Tensor, lengths: Tensor) -> None:
    with pytest.raises(ValueError, match="expected"):
        _network()(codes, lengths, lengths)


def test_attention_is_refused_when_the_network_has_none() -> None:
    codes, lengths = _codes([30], 30, front=False)
    with pytest.raises(ValueError, match="without attention"):
        _network(attention=False).with_attention(codes, lengths, lengths)


def test_codons_are_told_apart_at_their_first_nucleotide() -> None:
    codes = marked(encode("CATGCCNGACATAA"), np.array([0, 14]))
    assert "".join(map(str, codes >> FRAME_SHIFT)) == "01231231231230"
    states = codon_states(torch.from_numpy(codes).unsqueeze(0))[0].tolist()
    assert states == [0, 15, 65, 66, 0, 65, 66, 34, 65, 66, 13, 65, 66, 0]  # ATG, one with N, GAC, ATA
    every = [[a, b, c] for a in range(1, 5) for b in range(1, 5) for c in range(1, 5)]
    first = torch.tensor(every, dtype=torch.uint8) + torch.tensor([8, 16, 24], dtype=torch.uint8)
    assert codon_states(first)[:, 0].tolist() == list(range(1, 65))


def test_a_codon_adds_its_value_to_the_windows_that_begin_at_it() -> None:
    network = _network(codons=True, conv1_kernel=3, pool=1, dropout=0.0, kernel="torch")
    codes = torch.from_numpy(marked(encode("CATGACATAACC"), np.array([0, 12]))).unsqueeze(0)
    network.conv2 = torch.nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        network.codon_bias.zero_()
        network.codon_bias[[14, 4, 48, 64, 65]] = torch.arange(1.0, 6.0).unsqueeze(1)  # ATG, ACA, TAA, second, third
        before = network.conv1(F.embedding((codes & NUCLEOTIDE).int(), network.one_hot).transpose(1, 2))  # type: ignore[arg-type]
        after = network._convolve(codes).transpose(1, 2)
    assert torch.allclose(after, F.relu(before + torch.tensor([0.0, 1, 4, 5, 2, 4, 5, 3, 4, 5])))
