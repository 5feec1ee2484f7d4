"""How the learning rate changes from step to step.

Owns the schedules. Each is a function of how far a training has come, and of nothing that came before: so a resumed
training needs no state of it.
"""

from __future__ import annotations

import math

from rnatracker.choices import Schedule

_RISE = 0.3
"""Share of the steps in which one cycle rises, where no warm-up is given."""
_LOWEST = 0.04
"""Where one cycle begins, as a share of the learning rate."""


def rate(schedule: Schedule, done: float, warmup: float = 0.0) -> float:
    """Return what the learning rate is multiplied with.

    Args:
        schedule: `constant`; `cosine`, which falls to 0 along half a wave; `one-cycle`, which rises and falls so.
        done: the share of all steps that were taken before this one, 0 or more and below 1.
        warmup: the share of all steps in which the rate rises, in a straight line from 0; of one cycle, along a wave.

    Source: cosine, Loshchilov & Hutter 2017 (arXiv 1608.03983), without restarts; one cycle, Smith & Topin 2018
    (arXiv 1708.07120).
    """
    if schedule == "one-cycle":
        rise = warmup or _RISE
        if done < rise:
            return _LOWEST + (1 - _LOWEST) * _wave(1 - done / rise)
        return _wave((done - rise) / (1 - rise))
    if done < warmup:
        return done / warmup
    return 1.0 if schedule == "constant" else _wave((done - warmup) / (1 - warmup))


def _wave(share: float) -> float:
    """Return how high half a wave is: 1 at 0, 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * share))
