"""What value costs: a study's trials by cost and value, with the front.

Owns the picture. Must not know Optuna.
"""

from __future__ import annotations

from pathlib import Path

from rnatracker import plots
from rnatracker.search.front.cost import WORDS
from rnatracker.search.pictures.courses import beside, scatter
from rnatracker.search.pictures.points import FRONT_NAME, Shown

_DECADE = 10.0


def front(found: Shown, path: Path) -> None:
    """Draw value against cost as a PNG, by orders of magnitude where costs span one.

    The line is the best value that each limit of the cost admits.

    Raises:
        OSError: if it can't be written.
    """
    figure = plots.new_figure(9, 4.2)
    axes = figure.subplots()
    on_front = [(point.cost or 0.0, point.value) for point in found.front]
    if on_front:
        axes.step(*zip(*on_front, strict=True), where="post", color=plots.ORANGE, linewidth=1.2, label=FRONT_NAME)
    scatter(axes, found, [(point, point.cost or 0.0, point.value) for point in found.priced])
    for point in found.front:
        axes.annotate(
            str(point.number), (point.cost or 0.0, point.value), xytext=(4, 5), textcoords="offset points", fontsize=8
        )
    costs = [point.cost or 0.0 for point in found.priced]
    if max(costs) > _DECADE * min(costs) > 0:  # of less, a logarithmic axis has no tick to read
        axes.set_xscale("log")
    axes.set_xlabel(WORDS[found.cost] if found.cost else "")
    axes.set_ylabel(f"{found.objective}, validation")
    axes.set_title("What value costs", loc="left", fontweight="bold")
    plots.plain(axes)
    beside(axes)
    plots.save(figure, path)
