"""Whether a challenger has earned it to be champion: the rule, and the record of its application.

Owns the rule and its wording; pure functions of figures. Must not know the registry or files. Read next:
`promotion.py`, which applies it; `docs/promotion.md` for what it does on simulated truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from rnatracker.metrics import Difference

MARGIN = 0.0
"""What the difference in `pcc_mean` must surely exceed."""
MAX_DROP = 0.02
"""What no site may surely fall by, in PCC."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Verdict:
    """What came of holding a challenger against the champion.

    Attributes:
        outcome: `champion` if it became that, `challenger` if it stays that.
        reason: why, in words.
        version: the challenger's number.
        champion: number of the champion it was compared with; None where there was none.
        data: what the test set is called; empty where there was none.
        data_digest: what identifies it.
        transcripts: how many there are in it.
        earlier: how many other versions had been judged by the same test set before.
        margin: what the difference in `pcc_mean` had to exceed.
        max_drop: what no site might fall by.
        scores: PCC of each site, `pcc_mean` and `pcc_overall` by name, of `challenger` and of `champion`.
        differences: challenger less champion, with 95 % intervals: each site, `pcc_mean`, `pcc_overall`.
        forced: why the rule was set aside, in its user's words; empty where it wasn't.
        baselines: how simple models do on the test set, and how the challenger compares, each `baseline/...`.
        beside: the same in words.
        relatives: of how many transcripts of the test set a relative was trained on, of `challenger` and of `champion`;
            absent where that isn't known.
        time: when, UTC.
        user: who.
    """

    outcome: Literal["champion", "challenger"]
    reason: str
    version: int
    champion: int | None = None
    data: str = ""
    data_digest: str = ""
    transcripts: int = 0
    earlier: int = 0
    margin: float = MARGIN
    max_drop: float = MAX_DROP
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    differences: Sequence[Difference] = ()
    forced: str = ""
    baselines: Mapping[str, float] = field(default_factory=dict)
    beside: Sequence[str] = ()
    relatives: Mapping[str, int] = field(default_factory=dict)
    time: str = ""
    user: str = ""

    @property
    def promoted(self) -> bool:
        """Whether it became champion."""
        return self.outcome == "champion"

    def as_json(self) -> dict[str, Any]:
        """Return plain values, numbers that are none as None."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    def force(self, why: str) -> Verdict:
        """Return the same with its outcome set aside."""
        return replace(self, outcome="champion", forced=why, reason=f"forced ({why}); by the rule: {self.reason}")


def judge(differences: Sequence[Difference], *, margin: float = MARGIN, max_drop: float = MAX_DROP) -> tuple[bool, str]:
    """Tell whether a challenger has earned it to be champion, and why.

    Args:
        differences: challenger less champion: each site, then `pcc_mean`, then `pcc_overall`.
        margin: the lower end of the interval of `pcc_mean` must be above it.
        max_drop: a site falls where even the upper end of its interval is below -max_drop.
    """
    *sites, mean, _ = differences
    if math.isnan(mean.value):
        return False, "the difference in pcc_mean is undefined: no site's measured fraction varies in the test set"
    interval = f"{signed(mean.value)}, 95 % interval {signed(mean.low)} to {signed(mean.high)}"
    if not math.isfinite(mean.low):
        return False, "the difference in pcc_mean has no interval: the test set has too few different transcripts"
    if not mean.low > margin:
        return False, (
            f"it is not shown to be better: the difference in pcc_mean is {interval}, and its lower end would have to "
            f"be above {margin:g}"
        )
    fallen = [each for each in sites if each.high < -max_drop]
    if fallen:
        named = ", ".join(f"{each.name} ({signed(each.value)}, at best {signed(each.high)})" for each in fallen)
        return False, f"better in pcc_mean ({interval}), but it falls by more than {max_drop:g} at {named}"
    unjudged = [each.name for each in sites if math.isnan(each.value)]
    but = f"; not judged at {', '.join(unjudged)}, where the measured fraction never varies" if unjudged else ""
    return True, f"better: the difference in pcc_mean is {interval}{but}"


def signed(value: float) -> str:
    """Write a difference with its sign, to three digits."""
    return f"{value:+.3f}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
