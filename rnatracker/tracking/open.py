"""Opening the place where runs are kept: the one choice between MLflow and plain folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rnatracker.tracking.contract import Tracker
from rnatracker.tracking.folders import NullRun, NullTracker
from rnatracker.tracking.mlflow_tracker import MlflowTracker
from rnatracker.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    pass


def settings_of_run(run: str, settings: TrackingSettings) -> TrackingSettings:
    """Return the settings under which this run is found: the folder of an untracked run needs no MLflow."""
    return replace(settings, enabled=False) if NullRun.is_one(Path(run)) else settings


def open_tracker(settings: TrackingSettings) -> Tracker:
    """Open the place where runs are kept, created if it isn't there yet.

    Raises:
        TrackingError: if it can't be reached or used; within 10 s for a server.
    """
    return MlflowTracker(settings) if settings.enabled else NullTracker(settings.store)
