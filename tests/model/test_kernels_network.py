"""The fused kernels against plain PyTorch in float64, and what only they can get wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rnatracker import config
from rnatracker.config import ModelConfig
from rnatracker.data.features.reading_frames import FRAME_SHIFT
from rnatracker.model import network as model_module
from rnatracker.model.kernels import binding
from rnatracker.model.kernels.functions import kernel_in_use
from rnatracker.model.network import RNATracker

pytestmark = pytest.mark.skipif(binding.why_not() is not None, reason=f"no kernels here: {binding.why_not()}")

_SMALL: dict[str, Any] = {
    "conv1_channels": 6, "conv2_channels": 7, "conv1_kernel": 5, "conv2_kernel": 3, "pool": 2, "rnn_hidden": 5,
    "attention_size": 4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _pair(sites: int = 3, **sizes: Any) -> tuple[RNATracker, RNATracker]:
    """Return a fused network, and its specification: plain PyTorch in float64 with the same weights."""
    torch.manual_seed(1)
    fused = RNATracker(ModelConfig(**({"dropout": 0.0} | sizes), kernel="fused"), sites)
    plain = RNATracker(ModelConfig(**({"dropout": 0.0} | sizes), kernel="torch"), sites).double()
    if fused.config.codons:
        torch.nn.init.normal_(fused.codon_bias)
    plain.load_state_dict(fused.state_dict())
    return fused, plain


def _input(lengths: list[int], *, masked: bool, seed: int = 0, places: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return codes with some ambiguous letters and perhaps places in codons, padded for the network, and lengths."""
    rng = np.random.default_rng(seed)
    width = max(*lengths, 1)
    codes = np.zeros((len(lengths), width), np.uint8)
    for row, length in zip(codes, lengths, strict=True):
        sequence = np.where(rng.random(length) < 0.03, 5, rng.integers(1, 5, length))
        place = rng.integers(0, 4, length) << FRAME_SHIFT if places else 0
        row[(0 if masked else width - length) :][:length] = sequence + place
    return torch.from_numpy(codes), torch.tensor(lengths), torch.tensor(lengths) + 100


def _assert_equal(fused: RNATracker, plain: RNATracker, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    """Compare logits, attention weights and all gradients."""
    logits, expected = fused(*batch), plain(*batch)
    assert logits.dtype == torch.float32
    assert logits.detach().double().numpy() == pytest.approx(expected.detach().numpy(), abs=1e-5)
    torch.manual_seed(2)
    weights = torch.randn(logits.shape, dtype=torch.float64)
    for network, output in ((fused, logits), (plain, expected)):
        network.zero_grad()
        (F.log_softmax(output.double(), 1) * weights).sum().backward()
    found = {
        name: parameter.grad.double() for name, parameter in fused.named_parameters() if parameter.grad is not None
    }
    wanted = {name: parameter.grad for name, parameter in plain.named_parameters() if parameter.grad is not None}
    assert list(found) == list(wanted) == [name for name, _ in plain.named_parameters()]
    whole = torch.cat([gradient.flatten() for gradient in wanted.values()]).norm()
    error = torch.cat([(found[name] - wanted[name]).flatten() for name in wanted]).norm()
    assert error < 1e-5 * whole
    for name, gradient in wanted.items():
        assert (found[name] - gradient).abs().max() < 1e-4 * (gradient.abs().max() + 1e-3 * whole), name
    if fused.config.attention:
        with torch.no_grad():
            (_, alpha), (_, expected) = fused.with_attention(*batch), plain.with_attention(*batch)
        assert alpha.shape == expected.shape
        assert alpha.numpy() == pytest.approx(expected.numpy(), abs=1e-6)


def test_kernels_agree_with_torch_for_what_runs_start_from() -> None:
    settings = config.build(config.starting(), "default.yaml").model
    assert settings.codons and kernel_in_use(settings, torch.device("cpu"))[0] == "fused"
    changes = {"dropout": 0.0, "output_dropout": 0.0}
    pair = _pair(**({k: v for k, v in settings.model_dump().items() if k != "kernel"} | changes))
    _assert_equal(*pair, _input([700, 45, 333, 698], masked=True, places=True))


@pytest.mark.parametrize("rnn", ["gru", "lstm"])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("codons", [True, False])
def test_kernels_agree_with_torch_for_the_default_sizes(rnn: str, masked: bool, attention: bool, codons: bool) -> None:
    activation = "none" if rnn == "lstm" else "relu"
    pair = _pair(rnn=rnn, masked=masked, attention=attention, rnn_activation=activation, codons=codons)
    lengths = [300, 7, 45, 44, 299, 120, 61, 0, 300, 13]
    _assert_equal(*pair, _input(lengths, masked=masked, places=codons))


@pytest.mark.parametrize("seed", range(24))
def test_kernels_agree_with_torch_for_random_sizes_lengths_and_threads(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masked = bool(seed % 2)
    sizes = {
        "conv1_channels": int(rng.integers(1, 50)),
        "conv2_channels": int(rng.integers(1, 50)),
        "conv1_kernel": int(rng.integers(1, 18)),
        "conv2_kernel": int(rng.integers(1, 12)),
        "pool": int(rng.integers(1, 5)),
        "rnn": str(rng.choice(["gru", "lstm"])),
        "rnn_hidden": int(rng.integers(1, 70)),
        "rnn_activation": str(rng.choice(["relu", "none"])),
        "attention": bool(rng.integers(4)),
        "attention_size": int(rng.integers(1, 60)),
        "length_input": bool(rng.integers(2)),
        "codons": bool(rng.integers(2)),
    }
    torch.set_num_threads(1 + seed % 3)
    pair = _pair(int(rng.integers(2, 9)), masked=masked, **sizes)
    lengths = rng.integers(0, rng.choice([20, 150]), rng.integers(1, 14)).tolist()
    _assert_equal(*pair, _input(lengths, masked=masked, seed=seed, places=sizes["codons"]))


@pytest.mark.parametrize("conv1_kernel", [1, 2])
def test_the_last_windows_codon_may_reach_beyond_a_short_kernel(conv1_kernel: int) -> None:
    for length in range(16, 40):
        pair = _pair(**(_SMALL | {"conv1_kernel": conv1_kernel}), codons=True)
        _assert_equal(*pair, _input([length], masked=True, seed=length, places=True))


@pytest.mark.parametrize("masked", [True, False])
def test_kernels_agree_with_torch_for_one_sequence_below_at_and_above_the_receptive_field(masked: bool) -> None:
    pair = _pair(**_SMALL, masked=masked)
    field = pair[0].config.receptive_field
    for length in (1, field - 1, field, field + 1, 5 * field):
        _assert_equal(*pair, _input([length], masked=masked))


def test_kernels_agree_with_torch_when_a_batch_needs_several_groups_a_thread() -> None:
    torch.set_num_threads(2)
    lengths = np.random.default_rng(0).integers(20, 90, 45).tolist()
    _assert_equal(*_pair(**_SMALL), _input(lengths, masked=True))
    _assert_equal(*_pair(**(_SMALL | {"rnn_hidden": 130, "rnn": "lstm"})), _input(lengths[:21], masked=True))


@pytest.mark.parametrize("threads", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4))])
def test_every_number_of_sequences_can_be_divided_among_threads(threads: int) -> None:
    """Of 113 sequences two threads get groups of 8, and the last round has one sequence: a group is empty."""
    fused, plain = _pair(**_SMALL)
    for count in (*range(1, 40, 3), 97, 113, 129, 145, 147, 161, 193, 197, 257):
        batch = _input([20 + 7 * i % 11 for i in range(count)], masked=True)
        torch.set_num_threads(threads)
        _assert_equal(fused, plain, batch)


def test_kernels_agree_with_torch_when_sequences_are_all_ambiguous_or_all_padding() -> None:
    codes = torch.zeros(3, 60, dtype=torch.uint8)
    codes[1] = 5
    lengths = torch.tensor([60, 60, 60])
    for masked in (True, False):
        _assert_equal(*_pair(**_SMALL, masked=masked), (codes, lengths, lengths))


def test_result_does_not_depend_on_padding_or_company_when_masked() -> None:
    network = _pair(**_SMALL)[0]
    codes, lengths, total = _input([50, 31], masked=True)
    alone = network(codes[1:, :31].contiguous(), lengths[1:], total[1:])
    torch.testing.assert_close(network(codes, lengths, total)[1], alone[0], atol=1e-6, rtol=0)


def test_strided_input_is_taken_as_it_is_by_the_network() -> None:
    fused, plain = _pair(**_SMALL)
    codes, lengths, total = _input([80, 80], masked=True)
    every_second = (codes[:, ::2], lengths // 2, total)
    assert not every_second[0].is_contiguous()
    _assert_equal(fused, plain, every_second)


# Dropout -------------------------------------------------------------------------------------------------------------


def _hash(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ x >> np.uint32(shift)) * np.uint32(factor)
    return x ^ x >> np.uint32(16)


def _kept(seed: int, layer: int, shape: tuple[int, ...], p: float, *, whole_channels: bool = False) -> Tensor:
    """Return what dropout keeps of (B, C, T): a restatement of `dropout_of` and `finish_pool` of kernels.c."""
    sequence, channel, row = (axis.astype(np.uint32) for axis in np.indices(shape))
    key = _hash(np.uint32(seed) ^ _hash(np.uint32(2) * sequence + np.uint32(layer)))
    step = np.uint32(0 if whole_channels else 0x9E3779B9)
    draws = _hash(_hash(key + row * step) + channel)
    return torch.from_numpy(draws >= np.uint32(np.float32(p) * 2.0**32))


@pytest.mark.parametrize(
    "rates",
    [
        {"dropout": 0.3},
        {"dropout": 0.3, "rnn_dropout": 0.6},
        {"dropout": 0.3, "rnn_dropout": 0.0},
        {"dropout": 0.0, "rnn_dropout": 0.6},
        {"dropout": 0.0, "output_dropout": 0.4},
        {"dropout": 0.2, "rnn_dropout": 0.3, "output_dropout": 0.4},
    ],
)
@pytest.mark.parametrize("kind", ["entry", "channel"])
@pytest.mark.parametrize("masked", [True, False])
def test_gradients_agree_with_torch_when_both_drop_the_same(
    masked: bool, kind: str, rates: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def same_dropout(x: Tensor, p: float, training: bool) -> Tensor:
        assert training
        if x.ndim == 2:  # what goes to the last layer
            return x * _kept(99, 0, (*x.shape, 1), p).squeeze(2) / (1 - p)
        layer = (6, 7).index(x.shape[1])
        return x * _kept(1234, layer, tuple(x.shape), p, whole_channels=kind == "channel") / (1 - p)

    for name in ("dropout", "dropout1d"):
        monkeypatch.setattr(model_module.F, name, same_dropout)
    monkeypatch.setattr(torch, "randint", lambda *_: torch.tensor(1234))
    pair = _pair(**(_SMALL | {"attention": False, "dropout_kind": kind} | rates), masked=masked)
    torch.set_num_threads(2)
    _assert_equal(*pair, _input([90, 33, 64, 90, 8], masked=masked))


# Training ------------------------------------------------------------------------------------------------------------


def _train(steps: int, kernel: str = "fused", dropout: float = 0.25) -> tuple[dict[str, Tensor], list[float]]:
    torch.manual_seed(3)
    network = RNATracker(ModelConfig(**_SMALL, dropout=dropout, kernel=kernel), 3)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    batch = _input([70, 20, 55, 70, 41, 33, 69, 12, 80], masked=True)
    target = torch.softmax(3 * torch.randn(9, 3), 1)
    losses = []
    for _ in range(steps):
        loss = F.kl_div(F.log_softmax(network(*batch), 1), target, reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return network.state_dict(), losses


def test_same_seed_gives_the_same_weights_after_50_steps() -> None:
    torch.set_num_threads(2)
    first, losses = _train(50)
    second, _ = _train(50)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses[-1] < 0.7 * losses[0]


def test_training_goes_as_with_torch_when_there_is_no_dropout() -> None:
    assert _train(15, dropout=0)[1] == pytest.approx(_train(15, "torch", dropout=0)[1], rel=1e-3)


def test_two_forward_passes_may_precede_their_backward_passes() -> None:
    fused, plain = _pair(**_SMALL)
    batches = [_input([60, 40], masked=True), _input([90, 30, 20], masked=True)]
    for network in (fused, plain):
        outputs = [network(*batch) for batch in batches]
        sum(output.square().sum() for output in outputs).backward()  # type: ignore[union-attr]
    for found, expected in zip(fused.parameters(), plain.parameters(), strict=True):
        assert found.grad.numpy() == pytest.approx(expected.grad.numpy(), abs=1e-5)  # type: ignore[union-attr]


def test_nan_in_the_weights_reaches_the_output() -> None:
    for name in ("conv1.weight", "conv2.weight", "rnn.weight_hh_l0", "attention_hidden.bias"):
        network = _pair(**_SMALL)[0]
        with torch.no_grad():
            network.get_parameter(name).fill_(float("nan"))
        assert network(*_input([60], masked=True)).isnan().all(), name


# The seam ------------------------------------------------------------------------------------------------------------


def test_auto_is_fused_on_a_cpu_and_torch_elsewhere() -> None:
    cpu = torch.device("cpu")
    assert kernel_in_use(ModelConfig(), cpu)[0] == "fused"
    assert kernel_in_use(ModelConfig(kernel="torch"), cpu) == ("torch", "model.kernel is torch")
    for arguments, reason in (
        ((ModelConfig(), torch.device("cuda")), "cuda"),
        ((ModelConfig(), cpu, torch.float64), "float64"),
        ((ModelConfig(pool=300), cpu), "254"),
    ):
        name, why = kernel_in_use(*arguments)
        assert name == "torch"
        assert reason in why


def test_unusual_pool_is_left_to_torch() -> None:
    network = RNATracker(ModelConfig(**(_SMALL | {"pool": 300})), 3)
    assert network(*_input([40, 20], masked=True)).shape == (2, 3)


def test_weights_are_the_same_tensors_either_way() -> None:
    fused, plain = _pair(**_SMALL)
    assert list(fused.state_dict()) == list(plain.state_dict())
    named = [fused.get_parameter(name) for name in binding.shapes(fused.config)]
    assert all(one is other for one, other in zip(named, fused._fused_weights(), strict=True))


# What is refused -----------------------------------------------------------------------------------------------------


def _call(**changes: Any) -> binding.Call:
    config = ModelConfig(**_SMALL)
    network = RNATracker(config, 3)
    arguments: dict[str, Any] = {
        "codes": torch.ones(2, 40, dtype=torch.uint8),
        "lengths": torch.tensor([40, 30]),
        "weights": [network.get_parameter(name).detach() for name in binding.shapes(config)],
        "keep": True,
    }
    return binding.Call(config, **(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": torch.ones(40, 2, dtype=torch.uint8).t()}, r"codes: .* not contiguous"),
        ({"codes": torch.ones(2, 80, dtype=torch.uint8)[:, ::2]}, r"codes: .* not contiguous"),
        ({"codes": torch.ones(2, 40)}, r"codes: expected \(2, 40\) torch.uint8 .* got \(2, 40\) torch.float32"),
        ({"codes": torch.ones(0, 40, dtype=torch.uint8)}, r"codes: expected \(B, L\) with B > 0, got \(0, 40\)"),
        ({"codes": torch.ones(40, dtype=torch.uint8)}, r"codes: expected \(B, L\)"),
        ({"lengths": torch.tensor([40, 41])}, r"lengths: expected 0 to 40, .* got 40 to 41"),
        ({"lengths": torch.tensor([40, -1])}, r"lengths: expected 0 to 40, .* got -1 to 40"),
        ({"lengths": torch.tensor([40])}, r"lengths: expected \(2,\)"),
        ({"lengths": torch.tensor([40, 30], dtype=torch.int32)}, r"lengths: .* got \(2,\) torch.int32"),
        ({"weights": [torch.ones(6, 4, 5)]}, r"weights: expected 13 tensors"),
    ],
)  # fmt: skip
def test_kernels_refuse_what_they_would_misread(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _call(**changes)


def test_kernels_refuse_weights_of_another_shape_type_or_stride() -> None:
    weights = [torch.zeros(shape) for shape in binding.shapes(ModelConfig(**_SMALL)).values()]
    wrong = (torch.zeros(6, 4, 6), torch.zeros(6, 4, 5, dtype=torch.float64), torch.zeros(5, 4, 6).transpose(0, 2))
    for tensor in wrong:
        with pytest.raises(ValueError, match=r"conv1.weight: expected \(6, 4, 5\) torch.float32"):
            _call(weights=[tensor, *weights[1:]])


def test_unknown_code_is_refused() -> None:
    codes = torch.ones(2, 40, dtype=torch.uint8)
    codes[1, 3] = 6
    with pytest.raises(ValueError, match="codes: expected 0 to 5, got 6"):
        _call(codes=codes).forward()


def test_backward_is_refused_when_called_twice_or_on_what_was_not_kept() -> None:
    call = _call()
    pooled, _ = call.forward()
    with pytest.raises(ValueError, match=r"d_pooled: expected \(2, 10\)"):
        call.backward(torch.ones(2, 9))
    call.backward(torch.ones_like(pooled))
    with pytest.raises(RuntimeError, match="twice"):
        call.backward(torch.ones_like(pooled))
    call = _call(keep=False)
    call.forward()
    with pytest.raises(RuntimeError, match="kept nothing"):
        call.backward(torch.ones_like(pooled))


def test_weights_changed_between_forward_and_backward_are_noticed() -> None:
    network = _pair(**_SMALL)[0]
    loss = network(*_input([60], masked=True)).sum()
    with torch.no_grad():
        network.conv2.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
