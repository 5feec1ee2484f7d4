"""Where tensors are computed.

Owns the choice of the device, and the device's random state. Must not know data, mlflow or the trainer. Read next:
`threads.py` for the number of CPU threads.
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
        raise ConfigError(f"train.device: {train.device} is not available on this machine", "use --device cpu or auto")
    return torch.device(train.device)


def random_state(device: torch.device) -> Tensor:
    """Return the state of the device's default generator, a uint8 tensor on the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Restore what `random_state` returned."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)
