"""The trunk of a network apart from its last layer: at a rate of its own, or not trained at all for a while.

Owns what the trunk is and the optimizer's groups of parameters. The last layer is `output`, the trunk is the rest.
Must not know epochs. Read next: `rnatracker/training/trainer.py`, which asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from rnatracker.config import TrainConfig
from rnatracker.errors import UsageError

_LAST = "output."


def is_trunk(name: str) -> bool:
    """Tell whether a tensor of this name is one of the trunk's."""
    return not name.startswith(_LAST)


def is_apart(settings: TrainConfig) -> bool:
    """Tell whether the trunk is trained otherwise than the last layer."""
    return settings.trunk_lr != 1 or settings.freeze > 0


def check_together(settings: TrainConfig) -> None:
    """Check that a network that begins from random weights has no settings for a trunk that was trained before.

    Raises:
        UsageError: naming the setting.
    """
    if is_apart(settings):
        key = "trunk_lr" if settings.trunk_lr != 1 else "freeze"
        raise UsageError(
            f"train.{key}: {getattr(settings, key):g} is for a trunk that was trained before, and this one begins from "
            "random weights",
            "leave it out, or begin from another network: rnatracker train with --transfer or --weights",
        )


def factors(settings: TrainConfig) -> tuple[float, ...]:
    """Return what the learning rate is multiplied with in each group of parameters: the trunk's, and the last layer's.

    One group has all where both are trained alike.
    """
    return (settings.trunk_lr, 1.0) if is_apart(settings) else (1.0,)


def groups(model: nn.Module, settings: TrainConfig) -> list[dict[str, Any]]:
    """Return the groups of parameters as an optimizer takes them, in the order of `factors`.

    The parameters stand in the network's own order whether there is one group or two, the last layer's at the end: so
    an optimizer's state fits both.
    """
    if not is_apart(settings):
        return [{"params": list(model.parameters())}]
    parts = [[p for name, p in model.named_parameters() if is_trunk(name) == of_trunk] for of_trunk in (True, False)]
    rates = (settings.lr * factor for factor in factors(settings))
    return [{"params": part, "lr": rate} for part, rate in zip(parts, rates, strict=True)]


def set_frozen(model: nn.Module, frozen: bool) -> None:
    """Let the trunk be left out of the gradient, or be in it again.

    A parameter without a gradient is left alone by every optimizer, its weight decay and its averages included.
    """
    for name, parameter in model.named_parameters():
        if is_trunk(name):
            parameter.requires_grad_(not frozen)


def regrouped(state: dict[str, Any], own: Sequence[dict[str, Any]], n: int) -> dict[str, Any]:
    """Return an optimizer's state for other groups of the same network's parameters; as it is where that can't be.

    Args:
        state: what an optimizer has kept, with its groups; there may be further parameters behind the network's, of
            which nothing is taken over.
        own: the groups that there are now, perhaps with further parameters too.
        n: how many parameters the network has.
    """
    before, now = ([len(group["params"]) for group in each] for each in (state["param_groups"], own))
    if sum(before) < n or before == now == [n]:
        return state
    first = state["param_groups"][0]
    return {
        "state": {number: values for number, values in state["state"].items() if number < n},
        "param_groups": [{**group, **first, "params": group["params"]} for group in own],
    }
