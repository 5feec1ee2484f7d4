"""Views of the runs that links into MLflow's UI open on."""

from __future__ import annotations

import json
from pathlib import Path

from rnatracker.tracking import ui_views
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings


def test_store_keeps_the_view_of_runs_when_it_is_made(tmp_path: Path) -> None:
    tracker = open_tracker(TrackingSettings(tmp_path / "mlruns"))
    assert tracker.has_view(ui_views.RUNS)
    assert not tracker.has_view(ui_views.study_key("first"))
    assert str(tracker.ui_url()).endswith("viewStateShareKey=rnatracker")


def test_view_of_a_study_shows_its_keys_and_sorts_by_the_objective() -> None:
    state = json.loads(ui_views.of_study("first", ["train.lr"], maximize=False))
    assert "params.`train.lr`" in state["selectedColumns"]
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`objective`", True)
    assert state["searchFilter"] == "tags.`rnatracker.study` = 'first'"


def test_view_is_kept_when_it_is_given(mlflow_store: Path) -> None:
    tracker = open_tracker(TrackingSettings(mlflow_store))
    tracker.keep_view("study-first", ui_views.of_study("first", [], maximize=True))
    assert open_tracker(TrackingSettings(mlflow_store)).has_view("study-first")
