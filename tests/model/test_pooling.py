"""How the states along a transcript become one: by hand, and whatever the padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rnatracker.config import ModelConfig
from rnatracker.errors import ConfigError
from rnatracker.model.kernels.functions import kernel_in_use
from rnatracker.model.network import RNATracker, steps_of
from tests.support.toys import SMALL, small_config, toy_checkpoint

_POOLINGS = ("mean", "max", "attention+mean")


def _network(pooling: str, **changes: Any) -> RNATracker:
    torch.manual_seed(0)
    config = small_config(model__pooling=pooling, **changes).model
    return RNATracker(config, 3).eval()


def _batch(*lengths: int, width: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    codes = torch.zeros(len(lengths), width or max(lengths), dtype=torch.uint8)
    for row, length in enumerate(lengths):
        codes[row, :length] = torch.randint(1, 5, (length,), dtype=torch.uint8)
    return codes, torch.tensor(lengths), torch.tensor(lengths)


@pytest.mark.parametrize("pooling", _POOLINGS)
def test_one_state_is_made_as_said(pooling: str) -> None:
    network = _network(pooling)
    codes, lengths, _ = _batch(60, 40)
    pooled, weights = network._pool_states(codes, lengths)
    steps = steps_of(lengths, network.config)
    states = torch.relu(network._recur(network._convolve(codes), steps)[0])
    for row, n in enumerate(steps.tolist()):
        own = states[row, :n]
        expected = own.amax(dim=0) if pooling == "max" else own.mean(dim=0)
        if weights is not None:
            expected = torch.cat([weights[row, :n] @ own, expected])
        assert torch.allclose(pooled[row], expected, atol=1e-6)
    assert (weights is None) == (pooling != "attention+mean")


@pytest.mark.parametrize("pooling", _POOLINGS)
@pytest.mark.parametrize("width", [60, 90])
def test_padding_changes_nothing(pooling: str, width: int) -> None:
    network = _network(pooling)
    codes, lengths, total = _batch(60, 40)
    padded = torch.nn.functional.pad(codes, (0, width - 60))
    assert torch.allclose(network(padded, lengths, total), network(codes, lengths, total), atol=1e-6)
    alone = network(codes[1:, :40], lengths[1:], total[1:])
    assert torch.allclose(network(codes, lengths, total)[1:], alone, atol=1e-6)


@pytest.mark.parametrize("pooling", _POOLINGS)
@pytest.mark.parametrize("masked", [True, False])
def test_every_weight_has_a_gradient(pooling: str, masked: bool) -> None:
    network = _network(pooling, model__masked=masked, model__rnn_activation="none")  # no unit is dead
    codes, lengths, total = _batch(60, 60)
    network(codes, lengths, total).square().sum().backward()
    missing = [name for name, each in network.named_parameters() if each.grad is None or not each.grad.abs().sum()]
    assert not missing


def test_the_kernels_leave_other_poolings_to_pytorch() -> None:
    used, why = kernel_in_use(ModelConfig(pooling="mean"), torch.device("cpu"))
    assert used == "torch" and "model.pooling is mean" in why
    with pytest.raises(ConfigError):
        kernel_in_use(ModelConfig(pooling="max", kernel="fused"), torch.device("cpu"))


def test_attention_weights_are_there_where_attention_is() -> None:
    codes, lengths, total = _batch(60, 40)
    _, weights = _network("attention+mean").with_attention(codes, lengths, total)
    assert torch.allclose(weights.sum(dim=1), torch.ones(2))
    with pytest.raises(ValueError, match="without attention"):
        _network("mean").with_attention(codes, lengths, total)


def test_other_poolings_need_attention() -> None:
    with pytest.raises(ConfigError) as found:
        small_config(model__pooling="mean", model__attention=False)
    assert "model" in found.value.problem and "pooling: mean needs attention: true" in found.value.problem


@pytest.mark.parametrize("pooling", _POOLINGS)
def test_a_checkpoint_holds_its_pooling(pooling: str) -> None:
    found = toy_checkpoint(1, model__pooling=pooling)
    assert found.network().config.pooling == pooling and "model.pool" in SMALL
