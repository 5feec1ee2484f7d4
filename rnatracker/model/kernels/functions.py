"""The kernels as a differentiable function: codes to pooled states.

Owns the autograd of the kernels and the choice between them and plain PyTorch. Must not know data or mlflow. Read
next: `binding.py` for what is passed, `kernels.c` for what is computed, and `rnatracker/model/network.py` for what it
replaces.

It is one function from the codes to what the last layer reads, and not one for each kernel: a step then pays for one
`autograd.Function`, and the kernels can take a few sequences through all layers while they are in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnatracker.config import ModelConfig
from rnatracker.errors import ConfigError
from rnatracker.model.kernels import binding


def kernel_in_use(config: ModelConfig, device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[str, str]:
    """Return which code computes a network, `fused` or `torch`, and why.

    The first call on a machine compiles the kernels, which takes some seconds.

    Raises:
        ConfigError: if `model.kernel` is `fused` where that can't be.
    """
    if config.kernel == "torch":
        return "torch", "model.kernel is torch"
    problem = _problem(config, device, dtype)
    if problem is None:
        return (
            "fused",
            "model.kernel is fused"
            if config.kernel == "fused"
            else "the fused kernels are faster than PyTorch on a CPU",
        )
    if config.kernel == "fused":
        raise ConfigError(f"model.kernel: fused can't be used here: {problem}", "use auto or torch")
    return "torch", problem


def _problem(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cpu":
        return f"the kernels are for the CPU, and the device is {device.type}"
    if dtype != torch.float32:
        return f"the kernels compute in float32, and the network is in {str(dtype).removeprefix('torch.')}"
    if config.pooling != "attention":
        return f"the kernels pool by attention, and model.pooling is {config.pooling}"
    if config.pool > binding.MAX_POOL:
        return f"the kernels pool at most {binding.MAX_POOL} positions, and model.pool is {config.pool}"
    return binding.why_not()


def pooled_states(
    config: ModelConfig,
    weights: Sequence[Tensor],
    codes: Tensor,
    lengths: Tensor,
    *,
    dropout: tuple[float, float] = (0.0, 0.0),
    alpha_width: int = 0,
) -> tuple[Tensor, Tensor | None]:
    """Compute what an `RNATracker` feeds to its last layer.

    Dropout is seeded by one draw from PyTorch's default generator, so that `torch.manual_seed` governs it.

    Args:
        config: sizes of the network.
        weights: its weights in the order of `binding.shapes`, float32 on the CPU.
        codes: (B, L) uint8, on the CPU.
        lengths: (B,) int64, on the CPU, at most L.
        dropout: its probability after the first and after the second pooling; 0 in evaluation.
        alpha_width: steps of the attention weights that are wanted too; 0: none.

    Returns:
        (B, 2H) float32, and attention weights, (B, alpha_width), without a gradient.

    Raises:
        ValueError: if an input is not as described.
    """
    weights = [weight.contiguous() for weight in weights]
    seed = int(torch.randint(2**32, ())) if any(dropout) else 0
    keep = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
    call = binding.Call(
        config, codes.contiguous(), lengths.contiguous(), weights, keep=keep, dropout=dropout, seed=seed
    )
    if keep:
        result: tuple[Tensor, Tensor | None] = _PooledStates.apply(call, alpha_width, *weights)  # type: ignore[no-untyped-call]
        return result
    states = call.forward(alpha_width)
    call.release()
    return states


class _PooledStates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: binding.Call, alpha_width: int, *weights: Tensor) -> tuple[Tensor, Tensor | None]:
        pooled, alpha = call.forward(alpha_width)
        ctx.call = call
        ctx.save_for_backward(*weights)  # so that PyTorch notices if they are changed before the backward pass
        if alpha is not None:
            ctx.mark_non_differentiable(alpha)
        return pooled, alpha

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_pooled: Tensor, _d_alpha: Tensor | None) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors  # raises if a weight was changed since the forward pass
        return None, None, *ctx.call.backward(d_pooled.contiguous())
