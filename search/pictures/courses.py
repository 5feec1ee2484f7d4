"""How a study went: its trials one after another, and each over its epochs.

Owns both pictures. Must not know Optuna.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnatracker import plots
from rnatracker.search.pictures.points import BEST_NAME, COLOURS, START_NAME, Point, Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS: dict[str, dict[str, Any]] = {
    "complete": {"marker": "o", "s": 26, "linewidths": 0},
    "pruned": {"marker": "x", "s": 22, "linewidths": 1},
    "paused": {"marker": "D", "s": 20, "linewidths": 0},
}


def history(found: Shown, path: Path) -> None:
    """Draw the trials' values in their order, with the best so far, as a PNG.

    Raises:
        OSError: if it can't be written.
    """
    figure = plots.new_figure(9, 4.2)
    axes = figure.subplots()
    scatter(axes, found, [(point, point.number, point.value) for point in found.points])
    so_far = [(point.number, found.best_of(found.points[: i + 1])) for i, point in enumerate(found.points)]
    steps = [(number, best.value) for number, best in so_far if best is not None]
    if len(steps) > 1:
        axes.step(*zip(*steps, strict=True), where="post", color=plots.ORANGE, linewidth=1.2, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{found.objective}, validation")
    axes.set_title(f"Trials of {plots.short_name(found.name)}", loc="left", fontweight="bold")
    whole_numbers(axes)
    plots.plain(axes)
    beside(axes)
    plots.save(figure, path)


def learning_curves(found: Shown, path: Path) -> None:
    """Draw each trial's best value so far within a fold, over the epochs of all folds, as a PNG.

    Raises:
        OSError: if it can't be written.
    """
    figure = plots.new_figure(9, 4.2)
    axes = figure.subplots()
    for state, colour in COLOURS.items():
        points = [point for point in found.of_state(state) if point.course]
        alpha = 0.75 if len(points) < 20 else 0.4
        for i, point in enumerate(points):
            label = f"{state}, {len(points)}" if not i else None
            _course(axes, found, point, color=colour, linewidth=1, alpha=alpha, label=label)
    for marked, name, colour in ((found.start, START_NAME, plots.BLACK), (found.best, BEST_NAME, plots.ORANGE)):
        if marked is not None and not (name == BEST_NAME and marked.is_start):
            _course(axes, found, marked, color=colour, linewidth=2, label=f"{name}, trial {marked.number}")
    _mark_folds(axes, found)
    axes.set_xlabel("epoch" if found.folds == 1 else "epoch, of one fold after another")
    axes.set_ylabel(f"{found.objective}, best so far")
    axes.set_title("Learning curves", loc="left", fontweight="bold")
    whole_numbers(axes)
    plots.plain(axes)
    beside(axes)
    plots.save(figure, path)


def scatter(axes: Axes, found: Shown, places: list[tuple[Point, float, float]]) -> None:
    """Draw points where they are to be, each kind in its colour and with its marker, the starting config and the best.

    Args:
        axes: where.
        found: the study.
        places: points with their x and y.
    """
    for state, colour in COLOURS.items():
        chosen = {point.number for point in found.of_state(state)}
        xy = [(x, y) for point, x, y in places if point.number in chosen]
        if xy:
            alpha = 0.8 if len(xy) < 100 else 0.5
            axes.scatter(*zip(*xy, strict=True), color=colour, alpha=alpha, label=state, **MARKERS[state])
    for marked, name, colour, marker in (
        (found.start, START_NAME, plots.BLACK, "s"),
        (found.best, BEST_NAME, plots.ORANGE, "*"),
    ):
        xy = [(x, y) for point, x, y in places if marked is not None and point.number == marked.number]
        if xy:
            size = 130 if marker == "*" else 46
            hollow = name == START_NAME
            xs, ys = zip(*xy, strict=True)
            axes.scatter(
                xs, ys, facecolors="none" if hollow else colour, edgecolors=colour, marker=marker, s=size,
                linewidths=1.6 if hollow else 0, label=name, zorder=4,
            )  # fmt: skip


def whole_numbers(axes: Axes) -> None:
    """Let the ticks below stand at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def beside(axes: Axes) -> None:
    """Put the legend on the right, outside of the picture."""
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _course(axes: Axes, found: Shown, point: Point, label: str | None = None, **style: Any) -> None:
    """Draw a trial's reports: a line for each fold, a dot for one that has a single report."""
    for fold in range(found.folds):
        steps = [step for step in point.course if fold * found.epochs < step <= (fold + 1) * found.epochs]
        if steps:
            marker = "o" if len(steps) == 1 else None
            axes.plot(steps, [point.course[step] for step in steps], label=label, marker=marker, markersize=3, **style)
            label = None


def _mark_folds(axes: Axes, found: Shown) -> None:
    for fold in range(1, found.folds):
        axes.axvline(fold * found.epochs + 0.5, color=plots.GREY, linestyle=(0, (2, 2)), linewidth=0.8)
