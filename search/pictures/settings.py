"""Which settings did well: importances, slices and parallel coordinates.

Owns these pictures, and how a setting's values lie along an axis. Must not know Optuna.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnatracker import plots
from rnatracker.search import summary
from rnatracker.search.pictures.courses import scatter
from rnatracker.search.pictures.points import START_NAME, Point, Shown
from rnatracker.search.space import Dimension, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

_COLUMNS = 4
"""Slices beside each other."""
_LONGEST = 12
"""Characters of a choice at an axis."""
_TICKS = (0.0, 1 / 3, 2 / 3, 1.0)
_JITTER = 0.16
"""How far points of a choice are spread, so that they don't hide each other."""


def importance(found: Shown, path: Path) -> None:
    """Draw each key's importance as a bar, as a PNG.

    Raises:
        OSError: if it can't be written.
    """
    figure = plots.new_figure(7, 1.3 + 0.3 * len(found.importances))
    axes = figure.subplots()
    names, values = list(found.importances)[::-1], list(found.importances.values())[::-1]
    bars = axes.barh([plots.short_name(name) for name in names], values, color=plots.BLUE, height=0.65)
    axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=8)
    axes.set_xlim(0, max(values) * 1.12)
    axes.set_xlabel(f"share of what makes {found.objective} differ (fANOVA)")
    axes.set_title(f"Importance, from {len(found.points)} trials", loc="left", fontweight="bold")
    plots.plain(axes)
    axes.grid(visible=False, axis="y")
    plots.save(figure, path)


def slices(found: Shown, path: Path) -> None:
    """Draw the value against each key, a panel for each, as a PNG.

    Raises:
        OSError: if it can't be written.
    """
    columns = min(_COLUMNS, len(found.dimensions))
    rows = math.ceil(len(found.dimensions) / columns)
    figure = plots.new_figure(3.0 * columns + 0.4, 2.7 * rows + 0.7)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for i, (dimension, axes) in enumerate(zip(found.dimensions, panels, strict=False)):
        _slice(axes, found, dimension)
        if i % columns == 0:
            axes.set_ylabel(found.objective)
    for axes in panels[len(found.dimensions) :]:
        axes.set_visible(False)
    _legend_above(figure, panels[0])
    plots.save(figure, path)


def parallel_coordinates(found: Shown, path: Path) -> None:
    """Draw each trial as a line across the objective and all keys, coloured by its value, as a PNG.

    Raises:
        OSError: if it can't be written.
    """
    from matplotlib.cm import ScalarMappable

    figure = plots.new_figure(max(8.0, 1.35 * (len(found.dimensions) + 2)), 5.2)
    axes = figure.subplots()
    values = [point.value for point in found.points]
    scales = [Scale.of_values(values), *(Scale.of(each, found.points) for each in found.dimensions)]
    colours = _colours(found)
    mappable = ScalarMappable(colours, "viridis" if found.maximize else "viridis_r")
    for point in sorted(found.points, key=lambda each: (each.is_start, each.value if found.maximize else -each.value)):
        along = [point.value, *(point.settings[each.key] for each in found.dimensions)]
        heights = [scale.height(value) for scale, value in zip(scales, along, strict=True)]
        style: dict[str, Any] = {"color": mappable.to_rgba(np.array(point.value)), "linewidth": 1.3, "alpha": 0.8}
        if point.state != "complete":
            style |= {"linewidth": 0.8, "alpha": 0.55, "linestyle": (0, (4, 2))}
        if point == found.best:
            style |= {"linewidth": 2.8, "alpha": 1.0}
        if point.is_start:
            style = {"color": plots.BLACK, "linewidth": 1.6}
        axes.plot(range(len(scales)), heights, **style)
    axes.set_title("Settings of the trials", loc="left", fontweight="bold")
    _axes_of(axes, scales, [found.objective, *(plots.short_name(each.key) for each in found.dimensions)])
    figure.colorbar(mappable, ax=axes, label=f"{found.objective}, validation", pad=0.02)
    _explain_lines(axes, found)
    plots.save(figure, path)


class Scale:
    """How a setting's values lie along an axis from 0 to 1.

    Args:
        values: numbers in order, or choices.
        log: whether by orders of magnitude.
        choices: whether these are choices.
    """

    def __init__(self, values: Sequence[Value], *, log: bool = False, choices: bool = False) -> None:
        self.values, self.log, self.choices = list(values), log, choices

    @classmethod
    def of_values(cls, values: Sequence[float]) -> Scale:
        """Return the scale of numbers."""
        return cls([float(min(values)), float(max(values))])

    @classmethod
    def of(cls, dimension: Dimension, points: Sequence[Point]) -> Scale:
        """Return a key's: its range in the space, widened to what the points have."""
        have = [point.settings[dimension.key] for point in points]
        if dimension.kind == "categorical" or any(isinstance(x, str) or x is None for x in have):
            return cls(list(dict.fromkeys([*dimension.values, *have])), choices=True)
        numbers = [float(x) for x in (*dimension.values, *have)]
        return cls([min(numbers), max(numbers)], log=dimension.log and min(numbers) > 0)

    def position(self, value: Value) -> float:
        """Return where a value lies, in the axis's own unit: its logarithm, or the number of a choice."""
        if self.choices:
            return float(self.values.index(value))
        return math.log10(float(value)) if self.log else float(value)

    def height(self, value: Value) -> float:
        """Return where a value lies between 0 and 1."""
        low, high = (0.0, len(self.values) - 1.0) if self.choices else map(self.position, self.values)
        return 0.5 if high == low else (self.position(value) - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return heights with what stands there: all choices, or the ends and two numbers between."""
        if self.choices:
            return [(self.height(value), _short(value)) for value in self.values]
        low, high = (self.position(value) for value in self.values)
        places = [low + (high - low) * height for height in _TICKS]
        shown = [10**place if self.log else place for place in places]
        return [(height, f"{value:.3g}") for height, value in zip(_TICKS, shown, strict=True)]


def _slice(axes: Axes, found: Shown, dimension: Dimension) -> None:
    points = [point for point in found.points if dimension.key in point.keys]
    scale = Scale.of(dimension, points)
    spread = np.random.default_rng(0)
    places = []
    for point in points:
        value = point.settings[dimension.key]
        x = scale.position(value) + spread.uniform(-_JITTER, _JITTER) if scale.choices else float(value)
        places.append((point, x, point.value))
    scatter(axes, found, places)
    if scale.choices:
        axes.set_xticks(range(len(scale.values)), [_short(value) for value in scale.values])
        axes.set_xlim(-0.5, len(scale.values) - 0.5)
    else:
        _shade_outside(axes, dimension, scale)
    axes.tick_params(labelsize=8)
    axes.set_title(plots.short_name(dimension.key), fontsize=10)
    plots.plain(axes)


def _shade_outside(axes: Axes, dimension: Dimension, scale: Scale) -> None:
    """Shade where no trial but the starting config can be."""
    if scale.log:
        axes.set_xscale("log")
    low, high = (float(value) for value in dimension.values)
    least, most = axes.get_xlim()
    for start, end in ((least, low), (high, most)):
        if (scale.values[0] < low and end == low) or (scale.values[1] > high and start == high):  # type: ignore[operator]
            axes.axvspan(start, end, color=plots.GREY, alpha=0.12, linewidth=0)
    axes.set_xlim(least, most)


def _legend_above(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=len(names), fontsize=8, frameon=False)


def _colours(found: Shown) -> Normalize:
    from matplotlib.colors import Normalize

    values = [point.value for point in found.points]
    return Normalize(min(values), max(values))


def _axes_of(axes: Axes, scales: list[Scale], names: list[str]) -> None:
    """Draw an upright line for each scale, with its ticks beside and its name below."""
    for x, scale in enumerate(scales):
        axes.axvline(x, color=plots.GREY, linewidth=0.8, zorder=0)
        for height, text in scale.ticks():
            axes.annotate(
                text, (x, height), (3, 0), textcoords="offset points", fontsize=7, va="center",
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.7},
            )  # fmt: skip
    axes.set_xticks(range(len(scales)), names, rotation=25, ha="right", fontsize=8)
    axes.set_xlim(-0.1, len(scales) - 0.5)
    axes.set_yticks([])
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)


def _explain_lines(axes: Axes, found: Shown) -> None:
    from matplotlib.lines import Line2D

    kinds = {"complete": Line2D([], [], color=plots.BLUE, linewidth=1.3)}
    if found.best is not None and not found.best.is_start:
        kinds["best"] = Line2D([], [], color=plots.BLUE, linewidth=2.8)
    if any(point.state != "complete" for point in found.points):
        kinds["pruned or paused"] = Line2D([], [], color=plots.BLUE, linewidth=0.8, linestyle=(0, (4, 2)))
    if found.start is not None:
        kinds[START_NAME] = Line2D([], [], color=plots.BLACK, linewidth=1.6)
    axes.legend(
        kinds.values(), kinds.keys(), ncols=4, fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 1.0)
    )


def _short(value: Value) -> str:
    text = summary.short(value)
    return plots.short_name(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")
