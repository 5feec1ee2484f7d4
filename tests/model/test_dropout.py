"""Dropout: where, how much and what is dropped, by either kernel, and that nothing is drawn where the rate is 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rnatracker.config import ModelConfig
from rnatracker.model.kernels import binding
from rnatracker.model.network import RNATracker

_needs_kernels = pytest.mark.skipif(binding.why_not() is not None, reason=f"no kernels here: {binding.why_not()}")
_KERNELS = [pytest.param("fused", marks=_needs_kernels), "torch"]
_SHRUNK = 0.01
"""Inputs of the recurrent layer's tanh, as a share of what they stand for: so that it changes them little."""


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _transparent(kernel: str, channels: int = 32, *, attention: bool = False, **settings: Any) -> RNATracker:
    """A network that shows what dropout keeps.

    All channels are 1 before dropout, one step a letter, and every state is tanh(0.01 x) of its own step alone. The
    logits are the states of the last letter, then those of the first one; with attention the means over all letters.
    """
    sizes = {"conv1_channels": channels, "conv2_channels": channels, "conv1_kernel": 1, "conv2_kernel": 1, "pool": 1}
    config = ModelConfig(**sizes, rnn_hidden=channels, attention=attention, **settings, kernel=kernel)  # type: ignore[arg-type]
    network = RNATracker(config, 2 * channels)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.conv1.weight.fill_(1)
        network.conv2.weight.copy_(torch.eye(channels).unsqueeze(2))
        for direction in ("", "_reverse"):
            network.rnn.get_parameter(f"bias_ih_l0{direction}")[channels : 2 * channels] = -40  # forget the past
            network.rnn.get_parameter(f"weight_ih_l0{direction}")[2 * channels :] = _SHRUNK * torch.eye(channels)
        network.output.weight[:, : 2 * channels] = torch.eye(2 * channels)
    return network


def _letters(n: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    lengths = torch.full((n,), length)
    return torch.ones(n, length, dtype=torch.uint8), lengths, lengths


def _seen(network: RNATracker, n: int, length: int = 3, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return what a transparent network shows of n sequences, (n, 2, channels): the last letter's and the first's."""
    torch.manual_seed(seed)
    logits = network(*_letters(n, length)).detach().double()
    kept = 1 - network.config.output_dropout if network.training else 1.0  # that scales after tanh
    shown = ((logits * kept).atanh() / _SHRUNK / kept).numpy()
    return shown.reshape(n, 2, -1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kernel", _KERNELS)
@pytest.mark.parametrize("kind", ["entry", "channel"])
@pytest.mark.parametrize(
    ("rates", "scale", "kept_share"),
    [
        ({"dropout": 0.25}, 16 / 9, 9 / 16),  # two layers, independent
        ({"dropout": 0.5, "rnn_dropout": 0.2}, 2.5, 0.4),
        ({"dropout": 0.0, "rnn_dropout": 0.5}, 2.0, 0.5),
        ({"dropout": 0.5, "rnn_dropout": 0.0}, 2.0, 0.5),
        ({"dropout": 0.0, "output_dropout": 0.2}, 1.25, 0.8),
        ({"dropout": 0.2, "rnn_dropout": 0.0, "output_dropout": 0.5}, 2.5, 0.4),
    ],
)
def test_dropout_keeps_its_share_and_scales_it_so_that_the_mean_stays(
    rates: dict[str, float], scale: float, kept_share: float, kind: str, kernel: str
) -> None:
    network = _transparent(kernel, dropout_kind=kind, **rates)
    x = _seen(network, 600)
    kept = x > 0.5
    assert x[kept] == pytest.approx(scale, rel=1e-3)
    assert x[~kept] == pytest.approx(0, abs=1e-3)
    drawn = x.size / (2 if kind == "channel" else 1)  # the last letter's and the first's are then the same draws
    assert kept.mean() == pytest.approx(kept_share, abs=4 * np.sqrt(kept_share * (1 - kept_share) / drawn))
    assert _seen(network.eval(), 600) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kernel", _KERNELS)
@pytest.mark.parametrize("kind", ["entry", "channel"])
def test_dropout_has_no_pattern_over_sequences_and_channels(kind: str, kernel: str) -> None:
    n, share = 600, 9 / 16
    kept = _seen(_transparent(kernel, dropout=0.25, dropout_kind=kind), n) > 0.5
    shown = kept[:, 0] if kind == "channel" else kept.reshape(n, -1)
    for axis in (0, 1):
        assert shown.mean(axis=axis).var() == pytest.approx(share * (1 - share) / shown.shape[axis], rel=0.6)
    correlations = np.corrcoef(shown.T)
    assert np.abs(correlations - np.eye(shown.shape[1])).max() < 6 / np.sqrt(n)


@pytest.mark.parametrize("kernel", _KERNELS)
@pytest.mark.parametrize("rates", [{"dropout": 0.3, "rnn_dropout": 0.0}, {"dropout": 0.0, "rnn_dropout": 0.3}])
def test_channel_is_dropped_at_all_positions_or_at_none(rates: dict[str, float], kernel: str) -> None:
    means = _seen(_transparent(kernel, attention=True, dropout_kind="channel", **rates), 200, length=21)
    whole = np.abs(means - 1 / 0.7) < 1e-3
    assert (whole | (np.abs(means) < 1e-3)).all()
    assert 0.6 < whole.mean() < 0.8
    assert (whole[:, 0] == whole[:, 1]).all()  # both directions read the same channels
    entries = _seen(_transparent(kernel, attention=True, dropout_kind="entry", **rates), 200, length=21)
    assert ((entries > 0.1) & (entries < 1.4)).mean() > 0.9


@pytest.mark.parametrize("kernel", _KERNELS)
@pytest.mark.parametrize("kind", ["entry", "channel"])
def test_dropout_of_the_recurrent_layer_follows_the_second_pooling_that_of_convolutions_the_first(
    kind: str, kernel: str
) -> None:
    for first, second in ((0.5, 0.0), (0.0, 0.5)):
        network = _transparent(kernel, dropout_kind=kind, dropout=first, rnn_dropout=second)
        with torch.no_grad():
            network.conv2.weight.fill_(1 / 32)  # every channel of the second convolution is the mean of the first's
        x = _seen(network, 50)
        if first:
            assert x == pytest.approx(x[:, :, :1].repeat(32, axis=2), abs=1e-3)
            assert x.std() > 0.1
        else:
            assert np.minimum(np.abs(x), np.abs(x - 2)).max() < 1e-3


@pytest.mark.parametrize("kernel", _KERNELS)
def test_dropout_of_the_output_leaves_the_length_alone(kernel: str) -> None:
    network = _transparent(kernel, channels=4, dropout=0.0, output_dropout=0.9, length_input=True)
    with torch.no_grad():
        network.output.weight.zero_()
        network.output.weight[:, -1] = 1
    batch = _letters(30, 20)
    assert torch.equal(network(*batch), network.eval()(*batch))


@pytest.mark.parametrize("kernel", _KERNELS)
@pytest.mark.parametrize("kind", ["entry", "channel"])
def test_dropout_is_governed_by_manual_seed_and_not_by_threads(kind: str, kernel: str) -> None:
    network = _transparent(kernel, dropout=0.5, rnn_dropout=0.4, output_dropout=0.3, dropout_kind=kind)
    outputs = []
    for seed, threads in ((7, 1), (7, 2), (8, 1)):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        outputs.append([network(*_letters(9, 3)) for _ in range(2)])
    assert torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[0][1], outputs[1][1])
    assert not torch.equal(outputs[0][0], outputs[0][1])
    assert not torch.equal(outputs[0][0], outputs[2][0])


# What old seeds give -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", _KERNELS)
@pytest.mark.parametrize("kind", ["entry", "channel"])
def test_nothing_is_drawn_where_a_rate_is_0_nor_in_evaluation(kind: str, kernel: str) -> None:
    everywhere = {"dropout": 0.5, "rnn_dropout": 0.4, "output_dropout": 0.3}
    none = _transparent(kernel, dropout_kind=kind, **dict.fromkeys(everywhere, 0.0))
    for network in (none, _transparent(kernel, dropout_kind=kind, **everywhere).eval()):
        before = torch.get_rng_state()
        network(*_letters(3, 5))
        assert torch.equal(torch.get_rng_state(), before)


@_needs_kernels
@pytest.mark.parametrize(
    "rates", [{"dropout": 0.3}, {"dropout": 0.3, "rnn_dropout": 0.0}, {"dropout": 0.0, "rnn_dropout": 0.3}]
)
def test_kernels_take_one_draw_for_both_convolutions(rates: dict[str, float]) -> None:
    network = _transparent("fused", **rates)
    torch.manual_seed(5)
    network(*_letters(3, 5))
    after = torch.get_rng_state()
    torch.manual_seed(5)
    torch.randint(2**32, ())
    assert torch.equal(torch.get_rng_state(), after)


def test_torch_draws_after_the_first_pooling_then_after_the_second_then_for_the_last_layer() -> None:
    for output_dropout in (0.0, 0.2):
        network = _transparent("torch", dropout=0.3, output_dropout=output_dropout)
        torch.manual_seed(5)
        found = network(*_letters(3, 5))
        torch.manual_seed(5)
        x = F.dropout(F.dropout(torch.ones(3, 32, 5), 0.3), 0.3)
        expected = torch.tanh(_SHRUNK * torch.cat([x[:, :, -1], x[:, :, 0]], 1))
        if output_dropout:
            expected = F.dropout(expected, output_dropout)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kernel", _KERNELS)
def test_rate_of_the_recurrent_layer_that_is_not_set_is_that_of_the_convolutions_to_the_bit(kernel: str) -> None:
    by_default, explicit = (
        _seen(_transparent(kernel, dropout=0.3, **settings), 20)
        for settings in ({}, {"rnn_dropout": 0.3, "output_dropout": 0.0, "dropout_kind": "entry"})
    )
    assert (by_default == explicit).all()
