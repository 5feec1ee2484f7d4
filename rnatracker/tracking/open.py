"""The places where runs are kept: the one choice between MLflow and plain folders, and lists of the runs of both.

Owns that choice. Must not know how either keeps runs. Read next: `contract.py` for what both do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rnatracker.errors import RegistryError, TrackingError
from rnatracker.tracking import filters, listing, places, store
from rnatracker.tracking.contract import TrackedRun, Tracker
from rnatracker.tracking.folders import FolderRun, FolderTracker
from rnatracker.tracking.listing import Listed, Row
from rnatracker.tracking.mlflow_run import Backend
from rnatracker.tracking.mlflow_tracker import MlflowTracker
from rnatracker.tracking.settings import TrackingSettings


def open_tracker(settings: TrackingSettings) -> Tracker:
    """Open the place where runs are kept, created if it isn't there yet.

    Raises:
        TrackingError: if it can't be reached or used; within 10 s for a server.
    """
    return MlflowTracker(settings) if settings.enabled else FolderTracker(settings)


def open_backend(settings: TrackingSettings) -> Backend:
    """Open the store or server of MLflow, for what is kept there beside runs.

    Raises:
        RegistryError: if runs are kept without MLflow.
        TrackingError: if it can't be reached or used.
    """
    if not settings.enabled:
        raise RegistryError("a model can't be registered without tracking", "leave out --no-track")
    return MlflowTracker(settings).backend


def settings_of_run(run: str, settings: TrackingSettings) -> TrackingSettings:
    """Return the settings of the place that keeps a run: for an untracked one those of the plain folders.

    Args:
        run: what a user calls it.
        settings: where runs are kept.

    Raises:
        TrackingError: if both MLflow and the folders have a run of that name.
    """
    if not settings.enabled or not FolderTracker(settings).matching(run):
        return settings
    if has_store(settings) and open_tracker(settings).find(run).can_be_registered:
        return settings
    return settings.without_mlflow()


def run_of_file(path: Path, tracker: Tracker) -> TrackedRun | None:
    """Return the run in whose folder a file lies, or None where it lies in none's that is known."""
    for folder in path.parents:
        is_untracked = FolderRun.is_one(folder)
        if is_untracked or re.fullmatch(r"[0-9a-f]{32}", folder.name):
            try:
                return tracker.find(str(folder) if is_untracked else folder.name)
            except TrackingError:
                return None
    return None


def has_store(settings: TrackingSettings) -> bool:
    """Tell whether MLflow's database is there, or should be beside the files of its runs, or is on a server."""
    database = store.database_of(settings)
    if database is None or database.exists():
        return True
    return database.parent == settings.store and places.lost_runs(settings.store) > 0


def existing_trackers(settings: TrackingSettings) -> list[Tracker]:
    """Open for reading what is there of MLflow and of plain folders; nothing is made.

    Raises:
        TrackingError: if MLflow can't be reached or used; within 10 s for a server.
    """
    trackers: list[Tracker] = []
    if settings.enabled and has_store(settings):
        trackers.append(MlflowTracker(settings, for_reading=True))
    if (settings.store / store.UNTRACKED).is_dir():
        trackers.append(FolderTracker(settings))
    return trackers


@dataclass(frozen=True)
class Selection:
    """The rows that were asked for.

    Attributes:
        rows: filled in.
        total: how many there are, as far as was looked.
        is_partial: whether there may be more than that.
    """

    rows: list[Row]
    total: int
    is_partial: bool


def select(
    trackers: Sequence[Tracker],
    *,
    where: str | None = None,
    study: str | None = None,
    sort: str = "when",
    reverse: bool = False,
    limit: int = 0,
    unfold: bool = False,
) -> Selection:
    """Return the rows of all runs that are asked for, filled in.

    Args:
        trackers: the places to look in.
        where: a filter.
        study: only runs of this study.
        sort: see `listing.sort`.
        reverse: sort the other way round.
        limit: the first so many; 0: all.
        unfold: a row for each fold and trial too.

    Raises:
        TrackingError: if the filter or the key is bad, names what no run has, or the runs can't be read.
    """
    latest_will_do = sort == "when" and not (reverse or unfold or study) and limit
    lists = [tracker.list_runs(where, limit if latest_will_do else None) for tracker in trackers]
    if where and not any(run.matches for each in lists for run in each.runs):
        filters.check_names(where, _known_names(trackers))
    runs = sorted((run for each in lists for run in each.runs), key=lambda run: run.started, reverse=True)
    rows = listing.rows(runs, unfold=unfold, study=study)
    keepers = {run.run_id: tracker for tracker, each in zip(trackers, lists, strict=True) for run in each.runs}
    if sort.startswith(("metric", "param")):
        _fill(rows, keepers)
        _check_key(sort, rows, trackers)
    shown = listing.sort(rows, sort, reverse=reverse)[: limit or None]
    _fill(shown, keepers)
    return Selection(shown, len(rows), any(each.is_partial for each in lists))


def _check_key(sort: str, rows: Sequence[Row], trackers: Sequence[Tracker]) -> None:
    """Check that what rows are sorted by is there, where none of them has it; other keys are `listing.sort`'s."""
    section, _, name = sort.partition(".")
    if section in ("metrics", "metric") and name and not any(name in row.run.metrics for row in rows):
        filters.check_name(f"--sort {sort}", "metric", name, _known_names(trackers))
    if section in ("params", "param") and name and not any(name in row.run.params for row in rows):
        filters.check_name(f"--sort {sort}", "parameter", name, _known_names(trackers))


def _known_names(trackers: Sequence[Tracker]) -> dict[filters.Kind, set[str]]:
    """Return the names of all metrics, parameters and tags of any of these places."""
    known: dict[filters.Kind, set[str]] = {}
    for tracker in trackers:
        for kind, names in tracker.known_names().items():
            known.setdefault(kind, set()).update(names)
    return known


def _fill(rows: Sequence[Row], keepers: dict[str, Tracker]) -> None:
    """Fill in the runs of these rows, each from where it is kept."""
    by_tracker: dict[Tracker, list[Listed]] = {}
    for row in rows:
        by_tracker.setdefault(keepers[row.run.run_id], []).append(row.run)
    for tracker, runs in by_tracker.items():
        tracker.fill(runs)
