"""What a study has come to, in a few sentences: for the terminal, the run's description, and those who read its files.

Owns their wording. Must not know torch, mlflow or typer.
"""

from __future__ import annotations

import math

from rnatracker.search import summary
from rnatracker.search.records.verdict import Verdict
from rnatracker.search.study import Search


def headline(search: Search, verdict: Verdict | None) -> list[str]:
    """Return what the study's best is, what fresh seeds say of it, and what they say is best: a sentence each."""
    best = next(iter(summary.best(search, 1)), None)
    if best is None:
        return []
    objective, start = search.request.config.train.objective, summary.start_trial(search)
    begun = f", starting config {start.value:.4f}" if start is not None and start.value is not None else ""
    which = (
        "the starting config" if start is not None and start.number == best.number else f"trial {best.number}{begun}"
    )
    claim = f"Best {objective} on validation: {best.value:.4f} ({which})"
    if verdict is None:
        return [f"{claim}. {_expected(search, best.number)}"]
    again = verdict.of(best.number)
    if again is None:
        return [f"{claim}, which the refit has not measured yet.", *_of(verdict)]
    found = f"{verdict.objective} {again.mean:.4f} (sd {_shown(again.sd)})"
    return [f"{claim}, of which fresh seeds leave {found}.", *_of(verdict)]


def difference_of(verdict: Verdict) -> str:
    """Return the difference to the starting config with its interval."""
    if math.isnan(verdict.low):
        return f"{verdict.difference:+.4f}"
    return f"{verdict.difference:+.4f} (95 % interval {verdict.low:+.4f} to {verdict.high:+.4f})"


def _expected(search: Search, number: int) -> str:
    """Return what the best of many is worth, as far as the study can tell."""
    found = summary.true_values(search).get(number)
    if found is None:
        return "The best of many, so optimistic: --refit measures without that."
    seeds = f", after {len(found.fresh)} fresh seed{'s' * (len(found.fresh) > 1)}" if found.fresh else ""
    return (
        f"The best of many, so optimistic: with other seeds and divisions {found.mean:.4f} is expected (90 % interval "
        f"{found.low:.4f} to {found.high:.4f}{seeds}). --refit measures it."
    )


def _of(verdict: Verdict) -> list[str]:
    """Return what fresh seeds say is best, and whether that is shown to be better than the starting config."""
    winner = verdict.winner
    if winner.is_start:
        return [
            f"Winner of the refit: the starting config, {winner.mean:.4f}. The best other settings differ by "
            f"{difference_of(verdict)}."
        ]
    shown = "better than" if verdict.low > 0 else "not shown to be better than"
    return [
        f"Winner of the refit: trial {winner.trial}, {winner.mean:.4f}, {shown} the starting config: "
        f"{difference_of(verdict)}."
    ]


def _shown(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.4f}"
