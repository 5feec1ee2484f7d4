"""When a study has had enough: so much time, so many epochs, or too little to gain.

Owns what `--until` takes. Must not know optuna, torch or typer. Read next: `search/study.py`, which asks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rnatracker.errors import UsageError

GAIN_TRIALS = 10
"""Trials whose expected gain is told."""
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_FORMS = "a time as in 90m or 2h, epochs as in 800epochs, or a gain as in gain:0.005"


@dataclass(frozen=True)
class Until:
    """What ends a study before it has all its trials; None: doesn't.

    Attributes:
        seconds: of one command.
        epochs: trained in the study.
        gain: what ten more trials are expected to add to the best value at least.
    """

    seconds: float | None = None
    epochs: int | None = None
    gain: float | None = None

    @classmethod
    def of(cls, texts: Sequence[str]) -> Until:
        """Read what was typed; each kind once.

        Raises:
            UsageError: if one is none of these.
        """
        found: dict[str, float | int] = {}
        for text in texts:
            kind, value = _parsed(text)
            if kind in found:
                raise UsageError(f"--until {text}: {kind} are given twice", "give each kind once")
            found[kind] = value
        return cls(**found)  # type: ignore[arg-type]


def _parsed(text: str) -> tuple[str, float | int]:
    bare = text.replace(" ", "")
    if match := re.fullmatch(r"(\d+)(ep|epoch|epochs)", bare):
        return "epochs", _positive(int(match[1]), text)
    if match := re.fullmatch(r"gain[:=<](\d*\.?\d+)", bare):
        return "gain", _positive(float(match[1]), text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(min|[smhd])", bare)
    if not parts or "".join(number + unit for number, unit in parts) != bare:
        raise UsageError(f"--until {text}: not understood", f"give {_FORMS}")
    return "seconds", _positive(sum(float(number) * _UNITS[unit] for number, unit in parts), text)


def _positive(value: float | int, text: str) -> float | int:
    if value <= 0:
        raise UsageError(f"--until {text}: must be more than 0", f"give {_FORMS}")
    return value
