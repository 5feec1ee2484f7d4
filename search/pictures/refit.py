"""What fresh seeds give against what the study claimed.

Owns the picture. Must not know Optuna.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from rnatracker import plots
from rnatracker.search.pictures.courses import beside
from rnatracker.search.records.verdict import Verdict


def draw(verdict: Verdict, path: Path) -> None:
    """Draw each setting's folds and seeds, their mean, and what the study claimed, as a PNG.

    Raises:
        OSError: if it can't be written.
    """
    shown = [each for each in reversed(verdict.refitted) if not math.isnan(each.mean)]
    figure = plots.new_figure(9, 1.6 + 0.55 * len(shown))
    axes = figure.subplots()
    for y, each in enumerate(shown):
        values = each.values[~np.isnan(each.values)]
        last = y == len(shown) - 1
        axes.scatter(
            values, np.full(len(values), y), s=16, color=plots.BLUE, alpha=0.45, linewidths=0,
            label="a fold's test part, one seed" if last else None,
        )  # fmt: skip
        axes.scatter(
            [each.mean], [y], s=90, marker="|", color=plots.BLACK, linewidths=2.4, label="mean" if last else None
        )
        axes.scatter(
            [each.claimed], [y], s=44, marker="s", facecolors="none", edgecolors=plots.ORANGE, linewidths=1.6,
            label="in the study, validation" if last else None,
        )  # fmt: skip
    axes.set_yticks(range(len(shown)), [f"trial {each.trial}" + (", start" * each.is_start) for each in shown])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlabel(verdict.objective)
    axes.set_title("Fresh seeds", loc="left", fontweight="bold")
    plots.plain(axes)
    beside(axes)
    plots.save(figure, path)
