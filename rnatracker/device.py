"""Where tensors are computed.

Owns the choice of the device and its random state. Must not know data, mlflow or training.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rnatracker.config import TrainConfig
from rnatracker.errors import ConfigError


def pick_device(train: TrainConfig) -> torch.device:
    """Return the device that the settings ask for; `auto` is a CUDA GPU where there is one, else the CPU.

    Raises:
        ConfigError: if the device asked for is not there.
    """
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if train.device == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    if not available[train.device]:
        raise ConfigError(f"train.device: {train.device} is not available on this machine; use --device cpu or auto")
    return torch.device(train.device)


def use_threads(threads: int) -> None:
    """Compute with so many CPU threads; 0: as many as PyTorch takes by itself."""
    if threads:
        torch.set_num_threads(threads)


def random_state(device: torch.device) -> Tensor:
    """Return the state of the device's default generator, a uint8 tensor on the CPU."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Restore what `random_state` returned."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
