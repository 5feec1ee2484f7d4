"""A run's model: whole or refused, with what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnatracker import files
from rnatracker.errors import CheckpointError
from rnatracker.evaluation.models import model_of_run
from rnatracker.model import checkpoint
from rnatracker.search.trial_runs import drop_weights
from rnatracker.tracking.contract import Status, TrackedRun
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support.toys import small_config, toy_checkpoint
from tests.support.trackers import begin


@pytest.fixture
def tracking(tmp_path: Path) -> TrackingSettings:
    return TrackingSettings(tmp_path / "mlruns", enabled=False)


def _weights(run: TrackedRun, place: str = "") -> None:
    folder = run.files.training(place).folder
    folder.mkdir(parents=True)
    checkpoint.save(toy_checkpoint(), folder / "best.pt")


def _trial(tracking: TrackingSettings, *folds: str, status: Status, **tags: str) -> TrackedRun:
    """Leave a trial of three folds, of which these have weights."""
    named = {"rnatracker.kind": "trial", "rnatracker.study": "s", **tags}
    run = begin(open_tracker(tracking), params={"data.fold": 3}, tags=named)
    files.write_text(run.files.config, small_config().to_yaml())
    for fold in folds:
        _weights(run, fold)
    run.finish(status)
    return run


def _refused(run: TrackedRun, tracking: TrackingSettings) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        model_of_run(str(run.folder), tracking)
    return caught.value


@pytest.mark.parametrize("n_folds", [0, 1, 2, 3])
def test_cross_validation_killed_between_folds_is_not_taken_for_whole(n_folds: int, tracking: TrackingSettings) -> None:
    tracker = open_tracker(tracking)
    run = begin(tracker, params={"data.fold": 3}, tags={"rnatracker.kind": "cross-validation"})
    for number in range(1, n_folds + 1):
        fold = begin(tracker, parent=run, name=f"fold{number}", tags={"rnatracker.kind": "fold"})
        _weights(fold)
        fold.finish("FINISHED")
    run.finish("FAILED")
    if n_folds == 3:
        assert len(model_of_run(str(run.folder), tracking).members) == 3
        return
    error = _refused(run, tracking)
    missing = [f"fold{number}" for number in range(n_folds + 1, 4)]
    assert error.problem == f"run exp1: {', '.join(missing)} has not finished"
    assert f"rnatracker train --resume {run.folder}" in error.remedy


def test_trial_killed_between_folds_is_not_taken_for_whole(tracking: TrackingSettings) -> None:
    error = _refused(_trial(tracking, "fold1", "fold2", status="KILLED"), tracking)
    assert "fold3 has not finished" in error.problem
    assert error.remedy == "resume its study s, with its tune command"
    whole = _trial(tracking, "fold1", "fold2", "fold3", status="FINISHED")
    assert len(model_of_run(str(whole.folder), tracking).members) == 3


def test_trial_whose_weights_were_deleted_is_not_said_to_have_had_none(tracking: TrackingSettings) -> None:
    run = _trial(tracking, "fold1", "fold2", "fold3", status="FINISHED")
    run.log_metrics({"best/pcc_mean": 0.5}, 0)
    drop_weights(run)
    error = _refused(run, tracking)
    assert "its weights were deleted from" in error.problem
    assert f"rnatracker train --config {run.files.config}" in error.remedy
    pruned = _trial(tracking, status="KILLED", pruned="its validation value")
    assert "it was pruned, so it keeps no weights" in _refused(pruned, tracking).problem
    never = _trial(tracking, status="FAILED")
    assert "ended before its first evaluation" in _refused(never, tracking).problem
