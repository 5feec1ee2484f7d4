"""Pictures of a run: learning curves, and predicted against measured fractions.

Owns how they look, and the style of all other pictures. Must not know MLflow, and nothing of pyplot, whose state is
global: figures are drawn by themselves, without a screen. Read next: `rnatracker/training/run.py`, which
says which a run leaves behind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rnatracker import escapes, metrics
from rnatracker.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Fractions = npt.NDArray[np.floating]

BLACK, GREY, BLUE, ORANGE, YELLOW = "#000000", "#777777", "#0072B2", "#D55E00", "#E69F00"
"""Of Okabe and Ito's palette, told apart by colour-blind eyes too; black first, for what matters most."""
_SITE_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
_LINE_STYLES = ("-", "--", ":", "-.")
_DPI = 150
_DENSE = 3000
"""Points from which a panel shows their density instead of each."""
_MOST_SITES = 12
"""Sites that a picture shows one by one: more can't be told apart, and each panel takes 0.15 s to draw."""
_LONGEST_NAME = 28
"""Characters of a name in a picture: longer ones would take its width from the curves."""
_LEGEND_INCHES = 0.17
"""Height of a line of a legend."""


def learning_curves(history: Sequence[Mapping[str, float]], path: Path, best_epoch: int | None = None) -> None:
    """Draw losses and PCC over the epochs, as a PNG.

    Args:
        history: a row for each epoch: `epoch`, `train_loss`, and in evaluated ones `val_loss`, `pcc_mean`,
            `pcc_overall` and `pcc_<site>`. Keys may be missing and values not finite. Of more sites than can be told
            apart, the range is drawn in which most of them are.
        path: the file; its folder is made.
        best_epoch: the epoch to mark.

    Raises:
        OSError: if it can't be written.
    """
    figure = new_figure(11, 4.2)
    losses, scores = figure.subplots(1, 2)
    _curve(losses, history, "train_loss", "training", color=BLUE)
    _curve(losses, history, "val_loss", "validation", color=ORANGE)
    losses.set_ylabel("loss (KL divergence)")
    keys = {key: None for row in history for key in row if key.startswith("pcc_")}
    sites = [key for key in keys if key not in ("pcc_mean", "pcc_overall")]
    if len(sites) > _MOST_SITES:
        _range_over_sites(scores, history, sites)
        sites = []
    for i, key in enumerate(sites):
        style = _LINE_STYLES[i // len(_SITE_COLOURS) % len(_LINE_STYLES)]
        colour = _SITE_COLOURS[i % len(_SITE_COLOURS)]
        _curve(scores, history, key, key.removeprefix("pcc_"), color=colour, linestyle=style, linewidth=1.2)
    _curve(scores, history, "pcc_overall", "overall", color=GREY, linewidth=1.8)
    _curve(scores, history, "pcc_mean", "mean over sites", color=BLACK, linewidth=2.2)
    scores.set_ylabel("PCC, validation")
    for axes, what in ((losses, "Loss"), (scores, "Pearson correlation")):
        axes.set_title(what, loc="left", fontweight="bold")
        _finish_curves(axes, best_epoch)
    save(figure, path)


def curves_over_each_other(curves: Mapping[str, Mapping[str, Mapping[int, float]]], path: Path) -> None:
    """Draw several runs' losses and mean PCC over the epochs, as a PNG, a colour for each run.

    Args:
        curves: for each run's name `train_loss`, `val_loss` and `pcc_mean` by epoch; any may be missing.
        path: the file; its folder is made.

    Raises:
        OSError: if it can't be written.
    """
    figure = new_figure(12, max(4.6, _LEGEND_INCHES * (2 * len(curves) + 3)))  # as high as the legend of all runs
    losses, scores = figure.subplots(1, 2)
    for i, (name, of_run) in enumerate(curves.items()):
        style = {"color": _SITE_COLOURS[i % len(_SITE_COLOURS)], "linewidth": 1.6}
        line = _LINE_STYLES[i // len(_SITE_COLOURS) % len(_LINE_STYLES)]
        rows = {key: [{"epoch": e, key: v} for e, v in sorted(values.items())] for key, values in of_run.items()}
        _curve(losses, rows.get("train_loss", []), "train_loss", f"{name}, training", alpha=0.45, **style)
        _curve(losses, rows.get("val_loss", []), "val_loss", f"{name}, validation", linestyle=line, **style)
        _curve(scores, rows.get("pcc_mean", []), "pcc_mean", name, linestyle=line, **style)
    losses.set_ylabel("loss (KL divergence)")
    scores.set_ylabel("PCC, mean over sites, validation")
    for axes, what in ((losses, "Loss"), (scores, "Pearson correlation")):
        axes.set_title(what, loc="left", fontweight="bold")
        _finish_curves(axes, None)
    save(figure, path)


def predicted_against_measured(
    predicted: Fractions, measured: Fractions, sites: Sequence[str], path: Path, title: str = ""
) -> None:
    """Draw the predicted fractions against the measured ones, a panel for each site, as a PNG.

    Of more sites than can be read, those are drawn whose measured fraction varies most; the picture says so.

    Args:
        predicted: (N, S).
        measured: (N, S).
        sites: (S,) names.
        path: the file; its folder is made.
        title: a line above all panels.

    Raises:
        OSError: if it can't be written.
    """
    if len(sites) > _MOST_SITES:
        chosen = sorted(np.argsort(-measured.std(axis=0), kind="stable")[:_MOST_SITES])
        note = f"{_MOST_SITES} of {len(sites)} sites, those whose measured fraction varies most"
        title = f"{title}\n{note}" if title else note
        predicted, measured, sites = predicted[:, chosen], measured[:, chosen], [sites[i] for i in chosen]
    n_columns = min(len(sites), 4)
    n_rows = math.ceil(len(sites) / n_columns)
    figure = new_figure(3.1 * n_columns, 3.5 * n_rows + (0.5 if title else 0))
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for i, site in enumerate(sites):
        _scatter(panels[i], measured[:, i], predicted[:, i])
        panels[i].set_title(f"{short_name(site)}\n{_pcc(predicted[:, i], measured[:, i])}", fontsize=10)
    for panel in panels[len(sites) :]:
        panel.set_visible(False)
    for i, panel in enumerate(panels[: len(sites)]):
        panel.set_xlabel("measured fraction" if i + n_columns >= len(sites) else "")
        panel.set_ylabel("predicted fraction" if i % n_columns == 0 else "")
    if title:
        lines = "\n".join(escapes.picture(line) for line in title.splitlines())
        figure.suptitle(f"{lines}\n", fontweight="bold", fontsize=12)
    save(figure, path)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _curve(axes: Axes, history: Sequence[Mapping[str, float]], key: str, label: str, **style: object) -> None:
    points = [(row["epoch"], row[key]) for row in history if math.isfinite(row.get(key, math.nan))]
    if not points:
        return
    style |= {"label": short_name(label), "marker": "o" if len(points) <= 30 else None, "markersize": 3}
    axes.plot(*zip(*points, strict=True), **style)  # type: ignore[arg-type]


def _range_over_sites(axes: Axes, history: Sequence[Mapping[str, float]], keys: Sequence[str]) -> None:
    """Shade, for each epoch, where eight in ten and where half of the sites' PCCs are."""
    values = {row["epoch"]: [row[key] for key in keys if math.isfinite(row.get(key, math.nan))] for row in history}
    epochs = [epoch for epoch, found in values.items() if found]
    if not epochs:
        return
    for low, high, words, alpha in ((10, 90, "8 in 10", 0.15), (25, 75, "half", 0.3)):
        ends = np.array([np.percentile(values[epoch], [low, high]) for epoch in epochs])
        label = f"{words} of the {len(keys)} sites"
        axes.fill_between(epochs, ends[:, 0], ends[:, 1], color=BLUE, alpha=alpha, linewidth=0, label=label)


def short_name(text: str) -> str:
    """Return a name as a picture shows it."""
    return escapes.picture(text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…")


def plain(axes: Axes) -> None:
    """Draw a faint grid, and no frame at the top and on the right."""
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _finish_curves(axes: Axes, best_epoch: int | None) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    plain(axes)
    if not axes.lines:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color=GREY)
        return
    last = max(float(np.max(line.get_xdata())) for line in axes.lines)
    axes.set_xlim(0, last + max(0.02 * last, 0.5))
    if best_epoch is not None:
        axes.axvline(best_epoch, color=GREY, linestyle=(0, (2, 2)), linewidth=1, label=f"best epoch, {best_epoch}")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _scatter(axes: Axes, measured: npt.NDArray[np.floating], predicted: npt.NDArray[np.floating]) -> None:
    """Draw one site's points between equal limits, with the line on which they would be perfect."""
    both = np.concatenate([measured, predicted])
    top = min(1.0, float(both[np.isfinite(both)].max(initial=0.05)) * 1.05)
    axes.plot([0, top], [0, top], color=GREY, linewidth=0.8, linestyle="--", zorder=1)
    if len(measured) > _DENSE:
        axes.hexbin(
            measured,
            predicted,
            gridsize=45,
            extent=(0, top, 0, top),
            bins="log",
            mincnt=1,
            cmap="viridis",
            linewidths=0,
        )
    else:
        alpha = float(np.clip(9 / np.sqrt(max(len(measured), 1)), 0.2, 0.8))
        axes.scatter(measured, predicted, s=9, color=BLUE, alpha=alpha, linewidths=0)
    axes.set(xlim=(0, top), ylim=(0, top), box_aspect=1)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _pcc(predicted: npt.NDArray[np.floating], measured: npt.NDArray[np.floating]) -> str:
    value = metrics.pcc_overall(np.asarray(predicted, np.float64), np.asarray(measured, np.float64))
    return "PCC undefined" if math.isnan(value) else f"PCC {value:.3f}"


def save(figure: Figure, path: Path) -> None:
    """Write the figure, whole or not at all; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        figure.savefig(file, dpi=_DPI, format="png")
