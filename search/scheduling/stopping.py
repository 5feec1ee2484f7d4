"""When a study has had enough: so much time, so many epochs, or too little to gain.

Owns what `--until` takes. Must not know optuna, torch or typer. Read next: `search/study.py`, which asks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rnatracker.errors import UsageError

GAIN_TRIALS = 10
"""Trials whose expected gain is told."""
_LEAST = 12
"""Trials below which nothing is told."""
_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
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


def expected_gain(values: Sequence[float], more: int = GAIN_TRIALS) -> float | None:
    """Return how far so many more trials are expected to come above the best; None for less than 12 trials.

    What the last ones gained if their order had been another, on average over all orders: the mean best of all choices
    of n - more trials is known exactly. The next ones gain less, as the logarithm of n does; so does the best of n
    draws where the values' tail is exponential. A sampler that learns may do better than this.

    Args:
        values: (n,) what trials came to, or are expected to; the more the better.
        more: trials.
    """
    n = len(values)
    if n < _LEAST:
        return None
    ordered, m = sorted(values, reverse=True), max(n - more, n // 2)
    chances = [math.comb(n - 1 - rank, m - 1) / math.comb(n, m) for rank in range(n - m + 1)]
    gained = ordered[0] - sum(chance * value for chance, value in zip(chances, ordered, strict=False))
    return gained * math.log((n + more) / n) / math.log(n / m)


def seconds_in(text: str) -> float | None:
    """Return the seconds in a time span such as `90`, `45m`, `2h` or `1h30m`; None if it is none."""
    bare = text.replace(" ", "")
    parts = re.findall(r"(\d+(?:\.\d+)?)(min|[smhd]?)", bare)
    if not parts or "".join(number + unit for number, unit in parts) != bare:
        return None
    if len(parts) > 1 and not all(unit for _, unit in parts):  # 3 what, in 2h3?
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _parsed(text: str) -> tuple[str, float | int]:
    bare = text.replace(" ", "")
    if match := re.fullmatch(r"(\d+)(ep|epoch|epochs)", bare):
        return "epochs", _positive(int(match[1]), text)
    if match := re.fullmatch(r"gain[:=<](\d*\.?\d+)", bare):
        return "gain", _positive(float(match[1]), text)
    seconds = None if re.fullmatch(r"[\d.]+", bare) else seconds_in(bare)
    if seconds is None:
        raise UsageError(f"--until {text}: not understood", f"give {_FORMS}")
    return "seconds", _positive(seconds, text)


def _positive(value: float | int, text: str) -> float | int:
    if value <= 0:
        raise UsageError(f"--until {text}: must be more than 0", f"give {_FORMS}")
    return value
