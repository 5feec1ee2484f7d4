"""Whether a trial's training fits into memory, found out before it starts.

Owns the probe. Must not know optuna or mlflow. Read next: `objective.py`, which prunes a trial that can't fit.

Of the fused kernels it is known exactly: they work in one piece of memory, whose size is asked for. Of PyTorch, what a
training step needs is, above all, what the forward pass keeps for the backward pass, and that grows with the batch. So
the probe runs two forward passes over one and two of the longest sequences there may be, counts the bytes
that they keep, and draws the line on to the whole batch: it never needs much memory itself. On top of that come
weights, gradients and the optimizer's two moments, and the largest gradients that exist beside what is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from rnatracker.config import Config
from rnatracker.model.kernels import binding
from rnatracker.model.kernels.functions import kernel_in_use
from rnatracker.model.network import RNATracker

_TRANSIENT = 2.0
"""What a step needs at its peak for each byte that the forward pass keeps: gradients of the layer at work, scratch
space of the kernels. Measured on a CPU for four networks: 1.1 (LSTM, 1.1 GB in all), 2.2 (0.8 GB), 2.8 and 3.1 (0.3 and
0.5 GB, where what the allocator takes once weighs more)."""
_STATES = 4
"""Weights, gradients, and the two moments of Adam and its kin."""
_SPARE_BYTES = 100 * 2**20
"""For what is not counted: the allocator's rest, the validation's batches."""


def estimate_bytes(config: Config, n_sites: int, longest: int, device: torch.device) -> int:
    """Return about how many bytes a training step needs at its peak.

    Args:
        config: all settings.
        n_sites: number of sites.
        longest: nucleotides of the longest transcript.
        device: where it is to be trained.
    """
    length = longest if config.encoding.full_length else min(longest, config.encoding.max_length)
    if not config.model.masked:
        length = config.encoding.max_length
    length = max(length, config.model.receptive_field)
    plain = config.model.model_copy(update={"kernel": "torch"})
    with torch.random.fork_rng(devices=[]):
        model = RNATracker(plain, n_sites).train()
        weights = _STATES * sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        if kernel_in_use(config.model, device)[0] == "fused":
            return binding.workspace_bytes(config.model, config.train.batch_size, length) + weights
        one, two = (_kept_bytes(model, n, length) for n in (1, 2))
    per_sequence = max(two - one, 0)
    kept = one + per_sequence * (config.train.batch_size - 1)
    return int(_TRANSIENT * kept) + weights


def _kept_bytes(model: RNATracker, n: int, length: int) -> int:
    """Return the bytes that a forward pass over n sequences keeps for its backward pass, each tensor once."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> Any:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    codes = torch.zeros((n, length), dtype=torch.uint8)
    lengths = torch.full((n,), length)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logits = model(codes, lengths, lengths)
        loss = F.kl_div(
            F.log_softmax(logits, dim=1), torch.full_like(logits, 1 / logits.shape[1]), reduction="batchmean"
        )
    del loss
    return sum(kept.values())


def free_bytes(device: torch.device) -> int:
    """Return how much memory is free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    of_group, of_machine = _free_of_group(), int(psutil.virtual_memory().available)
    return of_machine if of_group is None else min(of_group, of_machine)


def _free_of_group() -> int | None:
    """Return what the container's limit leaves, where there is one (control groups, version 2)."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
        reclaimable = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return int(limit) - int(used) + int(reclaimable.get("inactive_file", 0)) if limit.isdigit() else None


def why_not(config: Config, n_sites: int, longest: int, device: torch.device) -> str | None:
    """Return why a training can't fit into memory, or None if it probably does."""
    free = free_bytes(device)
    needed = estimate_bytes(config, n_sites, longest, device) + _SPARE_BYTES
    if needed <= free:
        return None
    return (
        f"memory: a step needs about {needed / 2**30:.1f} GiB (max_length {config.encoding.max_length}, batch_size "
        f"{config.train.batch_size}), {free / 2**30:.1f} GiB are free"
    )
