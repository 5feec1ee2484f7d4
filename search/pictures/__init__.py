"""Pictures of a study, as PNG files and as interactive pages that need no network.

Owns which there are. Must not know mlflow or typer. Read next: `points.py` for what is shown of each trial.
"""

from __future__ import annotations

from pathlib import Path

from rnatracker.search.pictures import courses, front, pages, refit, settings
from rnatracker.search.pictures.points import Shown, shown
from rnatracker.search.records.verdict import Verdict
from rnatracker.search.study import Search


def draw_all(search: Search, folder: Path, verdict: Verdict | None = None) -> list[Path]:
    """Draw all pictures and pages of a study; return the files, none where no trial has a value yet.

    Args:
        search: the study.
        folder: where they go; it is made.
        verdict: what fresh seeds say, if anything.

    Raises:
        OSError: if they can't be written.
    """
    found = shown(search)
    if not found.points:
        return []
    written = [*_pictures(found, folder), *pages.write_all(found, folder)]
    return [*written, draw_refit(verdict, folder)] if verdict is not None else written


def draw_refit(verdict: Verdict, folder: Path) -> Path:
    """Draw what fresh seeds say; return the file.

    Raises:
        OSError: if it can't be written.
    """
    path = folder / "refit.png"
    refit.draw(verdict, path)
    return path


def _pictures(found: Shown, folder: Path) -> list[Path]:
    drawn = {"history": courses.history, "learning_curves": courses.learning_curves}
    if len(found.points) > 1:
        drawn |= {"parallel_coordinates": settings.parallel_coordinates, "slices": settings.slices}
    if found.cost is not None and found.priced:
        drawn |= {"front": front.front}
    if found.importances:
        drawn |= {"importance": settings.importance}
    for name, draw in drawn.items():
        draw(found, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in drawn]
