"""Pictures of a study: history, importances, parallel coordinates, slices.

Owns which there are. How they look is Optuna's choice; each is left as a picture and as an interactive page that
needs no network: the pages share one `plotly.min.js` beside them. Must not know mlflow or typer. Read next:
`summary.py`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.study import Study
from optuna.trial import TrialState

from rnatracker import files

_DPI = 120
_ENOUGH = 2
"""Completed trials below which there is nothing to draw but the history."""
_FIRST = {
    "plot_optimization_history": "history",
    "plot_intermediate_values": "learning_curves",
}
_MORE = {
    "plot_param_importances": "importance",
    "plot_parallel_coordinate": "parallel_coordinates",
    "plot_slice": "slices",
}


def write_all(study: Study, folder: Path, objective: str) -> list[Path]:
    """Draw all pictures and pages of a study that has completed a trial; return the files.

    Args:
        study: the study.
        folder: where they go; it is made.
        objective: what to call the value.

    Raises:
        OSError: if they can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    wanted = _FIRST | (_MORE if len(completed) >= _ENOUGH else {})
    logging.getLogger("optuna.visualization").setLevel(logging.ERROR)
    written = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for function, name in wanted.items():
            options = {} if name == "learning_curves" else {"target_name": objective}
            if name == "importance":
                options = {}
            written += _draw(study, function, folder / name, options)
    return written


def _draw(study: Study, function: str, stem: Path, options: dict[str, Any]) -> list[Path]:
    """Draw one picture and one page; nothing where Optuna can't, as of importances of values that are all alike."""
    from optuna import visualization

    try:
        page = getattr(visualization, function)(study, **options)
        picture = _picture(getattr(_matplotlib(), function), study, options)
    except (ValueError, RuntimeError):
        return []
    html, png = stem.with_suffix(".html"), stem.with_suffix(".png")
    _leave_library(stem.parent)
    files.write_text(html, page.to_html(include_plotlyjs="directory"))
    with files.replacing(png) as file:
        picture.savefig(file, dpi=_DPI, format="png", bbox_inches="tight")
    _close(picture)
    return [html, png]


def _leave_library(folder: Path) -> None:
    """Write the library that the pages of a folder share, unless it is there."""
    path = folder / "plotly.min.js"
    if not path.exists():
        from plotly.offline import get_plotlyjs

        files.write_text(path, get_plotlyjs())


def _matplotlib() -> Any:
    """Return Optuna's matplotlib functions, which draw with pyplot, without a screen."""
    import matplotlib

    matplotlib.use("Agg")
    from optuna.visualization import matplotlib as drawing

    return drawing


def _picture(draw: Callable[..., Any], study: Study, options: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        axes = draw(study, **options)
    first = axes if hasattr(axes, "figure") else axes.ravel()[0]
    figure = first.figure
    width = max(figure.get_size_inches()[0], 8.0, 2.0 * len(figure.axes))  # slices have one axis for each key
    figure.set_size_inches(width, 5.0)
    return figure


def _close(figure: Any) -> None:
    from matplotlib import pyplot

    pyplot.close(figure)
