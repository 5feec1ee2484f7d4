"""A study's second objective: what a trial costs, the less the better.

Owns the measures and where a trial keeps its own. A cost belongs to the study and not to the settings: a training
chooses its best epoch by the first objective, whatever it costs. Must not know torch or mlflow. Read next: `pareto.py`.
"""

from __future__ import annotations

import difflib
import math
import statistics
from collections.abc import Sequence
from typing import Literal, cast, get_args

from optuna.trial import FrozenTrial

from rnatracker.choices import Objective
from rnatracker.errors import UsageError

Cost = Literal["seconds", "parameters"]

COST = "cost"
"""User attribute of a trial: its cost, from its first report on. No trial has one where the study has no cost."""

WORDS: dict[Cost, str] = {"seconds": "seconds an epoch", "parameters": "parameters"}
"""What a cost's figures are, for people."""

_DIGITS = 4
"""Significant digits of a time that is kept."""


def parse(text: str) -> tuple[Objective, Cost | None]:
    """Return the objectives that an option names: `pcc_mean`, or `pcc_mean,seconds`.

    Raises:
        UsageError: if they are none.
    """
    names, values, costs = [part.strip() for part in text.split(",")], get_args(Objective), get_args(Cost)
    place = f"--objective {text}"
    both = f"give one of {', '.join(values)}, and after a comma {' or '.join(costs)} if trials are to be cheap too"
    if len(names) > 2:
        raise UsageError(f"{place}: {len(names)} objectives, and a study has two at most", both)
    if len(set(names)) < len(names):
        raise UsageError(f"{place}: names {names[0]} twice", both)
    if names[0] in costs:
        first = names[1] if names[1:] and names[1] in values else values[0]
        raise UsageError(
            f"{place}: {names[0]} can only be the second objective: by the first a trial's best epoch is chosen",
            f"use --objective {first},{names[0]}",
        )
    if names[0] not in values:
        raise UsageError(f"{place}: the first objective is one of {', '.join(values)}{_near(names[0], values)}", both)
    if names[1:] and names[1] not in costs:
        raise UsageError(f"{place}: the second objective is one of {', '.join(costs)}{_near(names[1], costs)}", both)
    return cast(Objective, names[0]), cast(Cost, names[1]) if names[1:] else None


def _near(name: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1)
    return f", got {name}" + (f"; did you mean {found[0]}?" if found else "")


def named(objective: str, cost: Cost | None) -> str:
    """Return what `parse` takes for an objective and a cost."""
    return f"{objective},{cost}" if cost else objective


def of_epochs(seconds: Sequence[float]) -> float:
    """Return the seconds of an epoch: the median, which neither a first epoch nor one that others disturbed moves."""
    return float(f"{statistics.median(seconds):.{_DIGITS}g}")


def cost_of(trial: FrozenTrial) -> float | None:
    """Return what a trial costs; None where that is not known (yet), or the study has no cost."""
    found = trial.user_attrs.get(COST)
    return None if found is None else float(found)


def log_cost(cost: float) -> float:
    """Return a cost on the scale on which costs are compared: by orders of magnitude."""
    return math.log(max(cost, 1e-9))


def shown(cost: float | None) -> str:
    """Return a cost in few characters; `-` where it is not known."""
    if cost is None:
        return "-"
    return f"{cost:.0f}" if cost >= 1000 else f"{cost:.3g}"
