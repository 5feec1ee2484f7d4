"""How often `rnatracker promote` would promote a model whose true worth is known.

Truth is simulated: measured fractions, and two models whose predictions are the truth with noise, so that their PCC on
ever more transcripts, the true one, is known. In each try a test set is drawn, and the rule of
`rnatracker.registry.rule` is applied to it as `promote` does, with as many bootstrap samples. Models share a part of
their errors, as networks that were trained on the same data do.

    python benchmarks/gate.py --tries 200

prints the table of `docs/promotion.md`. Exits with 1 if an equal model is promoted in more than 5 % of the tries, or
one that is better by 0.1 in fewer than 95 % on 300 transcripts or more.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnatracker import metrics
from rnatracker.registry.rule import RESAMPLES, judge

Array = npt.NDArray[np.float64]
SITES = ("Nucleus", "Cytosol", "ERM", "OMM")
_CHAMPION = 0.45
"""The champion's true PCC, at each site."""
_SHARED = 0.5
"""Share of the variance of both models' errors that is the same."""


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        words: what it is.
        gains: the challenger's true PCC less the champion's, at each site.
        scale: how uneven the measured fractions are: 1 moderately, 3 nearly all of a transcript at one site.
    """

    words: str
    gains: tuple[float, float, float, float]
    scale: float = 1.0

    @property
    def gain(self) -> float:
        """The true difference in `pcc_mean`."""
        return float(np.mean(self.gains))


CASES = (
    Case("equal", (0.0,) * 4),
    Case("equal, very uneven fractions", (0.0,) * 4, scale=3.0),
    Case("worse", (-0.05,) * 4),
    Case("a little better", (0.02,) * 4),
    Case("better", (0.05,) * 4),
    Case("clearly better", (0.1,) * 4),
    Case("clearly better, very uneven fractions", (0.1,) * 4, scale=3.0),
    Case("better at three sites, much worse at one", (0.2, 0.2, 0.2, -0.2)),
    Case("equal in the mean: two sites up, two down", (0.1, 0.1, -0.1, -0.1)),
)


def fractions(z: Array) -> Array:
    """Return the softmax over sites, (N, S)."""
    raised = np.exp(z - z.max(axis=1, keepdims=True))
    found: Array = raised / raised.sum(axis=1, keepdims=True)
    return found


def noise_for(pcc: float) -> float:
    """Return the noise, in standard deviations of the measured fractions, that gives a column this PCC."""
    return float((1 / pcc**2 - 1) ** 0.5)


def standardised(columns: Array) -> Array:
    """Return columns with mean 0 and standard deviation 1; PCC doesn't see the difference."""
    found: Array = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    return found


def promoted(case: Case, n: int, tries: int, seed: int) -> int:
    """Return in how many tries the rule promotes, on test sets of n transcripts."""
    rng = np.random.default_rng([seed, n])
    champion_noise = noise_for(_CHAMPION)
    challenger_noise = np.array([noise_for(_CHAMPION + gain) for gain in case.gains])
    total = 0
    for attempt in range(tries):
        measured = fractions(case.scale * rng.standard_normal((n, len(SITES))))
        truth = standardised(measured)
        common, own, other = rng.standard_normal((3, *truth.shape))
        champion = truth + champion_noise * (_SHARED**0.5 * common + (1 - _SHARED) ** 0.5 * own)
        challenger = truth + challenger_noise * (_SHARED**0.5 * common + (1 - _SHARED) ** 0.5 * other)
        found = metrics.paired_differences(challenger, champion, measured, SITES, resamples=RESAMPLES, seed=attempt)
        total += judge(found)[0]
    return total


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=200)
    parser.add_argument("--transcripts", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sizes = options.transcripts
    print(f"| challenger | true difference in PCC | {' | '.join(f'{n} transcripts' for n in sizes)} |")
    print(f"|---|---|{'---|' * len(sizes)}")
    began, is_good = time.monotonic(), True
    for case in CASES:
        shares = [promoted(case, n, options.tries, options.seed) / options.tries for n in sizes]
        print(f"| {case.words} | {case.gain:+.2f} | {' | '.join(f'{100 * s:.1f} %' for s in shares)} |", flush=True)
        if case.gain <= 0:
            is_good &= max(shares) <= 0.05
        elif min(case.gains) >= 0.1:
            is_good &= all(share >= 0.95 for n, share in zip(sizes, shares, strict=True) if n >= 300)
    print(f"{options.tries} tries each, {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
