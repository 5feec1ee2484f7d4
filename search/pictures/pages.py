"""Interactive pages of a study: history, learning curves, front, importances, parallel coordinates and slices.

Owns them. Each shows on pointing at it which trial a mark is and what it has drawn. They share one `plotly.min.js`
beside them, so that they need no network. Must not know Optuna.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnatracker import files, plots
from rnatracker.search import summary
from rnatracker.search.front.cost import WORDS, shown
from rnatracker.search.pictures.points import BEST_NAME, COLOURS, FRONT_NAME, START_NAME, Point, Shown
from rnatracker.search.pictures.settings import Scale

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_MARKERS = {"complete": "circle", "pruned": "x-thin", "paused": "diamond"}


def write_all(found: Shown, folder: Path) -> list[Path]:
    """Write all pages of a study; return the files.

    Raises:
        OSError: if they can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _leave_library(folder)
    wanted: dict[str, Callable[[Shown], Figure]] = {"history": _history, "learning_curves": _learning_curves}
    if len(found.points) > 1:
        wanted |= {"parallel_coordinates": _parallel_coordinates, "slices": _slices}
    if found.cost is not None and found.priced:
        wanted["front"] = _front
    if found.importances:
        wanted["importance"] = _importance
    written = []
    for name, make in wanted.items():
        path = folder / f"{name}.html"
        figure = make(found).update_layout(template="plotly_white", legend_title_text="")
        files.write_text(path, figure.to_html(include_plotlyjs="directory"))
        written.append(path)
    return written


def _leave_library(folder: Path) -> None:
    """Write the library that the pages of a folder share, unless it is there."""
    path = folder / "plotly.min.js"
    if not path.exists():
        from plotly.offline import get_plotlyjs

        files.write_text(path, get_plotlyjs())


def _history(found: Shown) -> Figure:
    from plotly import graph_objects as go

    figure = go.Figure(_marks(found, found.points, lambda point: point.number))
    figure.update_layout(title=f"Trials of {html.escape(found.name)}")
    figure.update_xaxes(title="trial")
    figure.update_yaxes(title=f"{found.objective}, validation")
    return figure


def _front(found: Shown) -> Figure:
    from plotly import graph_objects as go

    on_front = found.front
    line = go.Scatter(
        x=[point.cost for point in on_front], y=[point.value for point in on_front], mode="lines", name=FRONT_NAME,
        line={"color": plots.ORANGE, "width": 1.2, "shape": "hv"}, hoverinfo="skip",
    )  # fmt: skip
    figure = go.Figure([line, *_marks(found, found.priced, lambda point: point.cost)])
    figure.update_layout(title="What value costs")
    figure.update_xaxes(title=WORDS[found.cost] if found.cost else "", type="log")
    figure.update_yaxes(title=f"{found.objective}, validation")
    return figure


def _learning_curves(found: Shown) -> Figure:
    from plotly import graph_objects as go

    figure = go.Figure()
    named: set[str] = set()
    for point in found.points:
        kind, colour = _kind_of(found, point)
        figure.add_scatter(
            x=list(point.course), y=list(point.course.values()), name=kind, legendgroup=kind, mode="lines+markers",
            marker={"size": 3, "color": colour}, line={"width": 2.5 if kind in (START_NAME, BEST_NAME) else 1},
            showlegend=kind not in named, hovertext=_words(found, point), hoverinfo="text+x+y",
        )  # fmt: skip
        named.add(kind)
    figure.update_layout(title="Learning curves")
    figure.update_xaxes(title="epoch" if found.folds == 1 else "epoch, of one fold after another")
    figure.update_yaxes(title=f"{found.objective}, best so far")
    return figure


def _importance(found: Shown) -> Figure:
    from plotly import graph_objects as go

    names, values = list(found.importances)[::-1], list(found.importances.values())[::-1]
    bars = go.Bar(x=values, y=names, orientation="h", marker_color=plots.BLUE, text=[f"{x:.2f}" for x in values])
    figure = go.Figure(bars)
    figure.update_layout(title=f"Importance, from {len(found.points)} trials")
    figure.update_xaxes(title=f"share of what makes {found.objective} differ (fANOVA)")
    return figure


def _slices(found: Shown) -> Figure:
    from plotly.subplots import make_subplots

    keys = [each.key for each in found.dimensions]
    columns = min(4, len(keys))
    rows = -(-len(keys) // columns)
    figure = make_subplots(rows, columns, subplot_titles=keys, shared_yaxes=True)
    for i, dimension in enumerate(found.dimensions):
        row, column = i // columns + 1, i % columns + 1
        points = [point for point in found.points if dimension.key in point.keys]
        scale = Scale.of(dimension, points)

        def x_of(point: Point, key: str = dimension.key, choices: bool = scale.choices) -> Any:
            return summary.short(point.settings[key]) if choices else point.settings[key]

        for mark in _marks(found, points, x_of, named=i == 0):
            figure.add_trace(mark, row, column)
        figure.update_xaxes(type="category" if scale.choices else "log" if scale.log else None, row=row, col=column)
    figure.update_layout(title="Slices", height=max(320 * rows, 420))
    return figure


def _parallel_coordinates(found: Shown) -> Figure:
    from plotly import graph_objects as go

    values = [point.value for point in found.points]
    states = Scale(list(COLOURS), choices=True)
    columns = [
        {"label": found.objective, "values": values},
        *(_column(each.key, Scale.of(each, found.points), found.points) for each in found.dimensions),
        {
            "label": "state",
            "values": [states.position(point.state) for point in found.points],
            "tickvals": list(range(len(COLOURS))),
            "ticktext": list(COLOURS),
        },
    ]
    line = {"color": values, "colorscale": "Viridis", "showscale": True, "reversescale": not found.maximize}
    figure = go.Figure(go.Parcoords(dimensions=columns, line=line, labelangle=-20, labelside="bottom"))
    return figure.update_layout(title="Parallel coordinates: drag along an axis to choose trials")


def _column(key: str, scale: Scale, points: Sequence[Point]) -> dict[str, Any]:
    column: dict[str, Any] = {"label": key, "values": [scale.position(point.settings[key]) for point in points]}
    if scale.choices:
        return column | {
            "tickvals": list(range(len(scale.values))),
            "ticktext": [summary.short(value) for value in scale.values],
        }
    low, high = (scale.position(value) for value in scale.values)
    if not scale.log:
        return column | {"range": [low, high]}
    shown = [(low + (high - low) * height, text) for height, text in scale.ticks()]
    return column | {
        "range": [low, high],
        "tickvals": [place for place, _ in shown],
        "ticktext": [text for _, text in shown],
    }


def _kind_of(found: Shown, point: Point) -> tuple[str, str]:
    """Return what a trial counts as, and its colour."""
    if point.is_start:
        return START_NAME, plots.BLACK
    return (BEST_NAME, plots.ORANGE) if point == found.best else (point.state, COLOURS[point.state])


def _marks(found: Shown, points: Sequence[Point], x_of: Callable[[Point], Any], *, named: bool = True) -> list[Any]:
    """Return the marks of points, a trace for each kind."""
    from plotly import graph_objects as go

    kinds: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        kinds.setdefault(_kind_of(found, point), []).append(point)
    return [
        go.Scatter(
            x=[x_of(point) for point in of_kind],
            y=[point.value for point in of_kind],
            mode="markers",
            name=kind,
            legendgroup=kind,
            showlegend=named,
            hovertext=[_words(found, point) for point in of_kind],
            hoverinfo="text",
            marker={
                "color": colour,
                "size": 12 if kind in (START_NAME, BEST_NAME) else 7,
                "symbol": {START_NAME: "square-open", BEST_NAME: "star"}.get(kind, _MARKERS.get(kind, "circle")),
                "line": {"width": 1.5 if kind in ("pruned", START_NAME) else 0, "color": colour},
            },
        )
        for (kind, colour), of_kind in kinds.items()
    ]


def _words(found: Shown, point: Point) -> str:
    """Return what stands beside a mark: the trial, its value, and what it has drawn."""
    kind = ", ".join(dict.fromkeys([point.state, *([START_NAME] if point.is_start else [])]))
    settings = [f"{key} {summary.short(value)}" for key, value in point.settings.items() if key in point.keys]
    costs = [f"{shown(point.cost)} {WORDS[found.cost]}"] if found.cost and point.cost is not None else []
    lines = [f"trial {point.number}, {kind}", f"{found.objective} {point.value:.4f}", *costs, *settings]
    return "<br>".join(html.escape(line) for line in lines)
