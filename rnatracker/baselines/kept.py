"""The files of a baseline's run, and that they are what was trained.

Owns their digest, and loading them. Must not know how they are trained. Read next: `models.py` for the format.
"""

from __future__ import annotations

from pathlib import Path

from rnatracker.baselines import models
from rnatracker.baselines.models import Baseline
from rnatracker.errors import CheckpointError
from rnatracker.files import digest_of, digest_of_several
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.hints import finish_advice, retrain_command
from rnatracker.tracking.run_files import RunFiles
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag


def digest_of_models(files: RunFiles) -> str:
    """Return the digest of the files of all models of a run.

    Raises:
        OSError: if one can't be read.
    """
    return digest_of_several({f"{path.parent.name}/{path.name}": digest_of(path) for path in _paths(files)})


def models_of_run(run: TrackedRun, tracking: TrackingSettings) -> list[Baseline]:
    """Load the models of a baseline's run, after holding their files against the digest that it recorded.

    Args:
        run: the run.
        tracking: where it is kept, for what an error advises.

    Raises:
        CheckpointError: if it hasn't finished, or a file is gone or isn't what was trained; nothing is then loaded.
    """
    expected = run.tags().get(Tag.MODEL_DIGEST, "")
    if run.status() != "FINISHED" or not expected:
        raise CheckpointError(f"run {run.name}: it has not finished", finish_advice(run, tracking))
    again = f"train them again with: {retrain_command(run, tracking)}"
    try:
        found = digest_of_models(run.files)
    except OSError as error:
        problem = f"run {run.name}: its model {error.filename} can't be read ({error.strerror})"
        raise CheckpointError(problem, again) from None
    if found != expected:
        raise CheckpointError(
            f"run {run.name}: the files of its models in {run.files.checkpoints} are not what was trained: damaged or "
            "changed, so not loaded",
            again,
        )
    return [models.load(path) for path in _paths(run.files)]


def _paths(files: RunFiles) -> list[Path]:
    of_folds = [each.baseline for each in files.trainings_of_folds()]
    return of_folds or [files.training().baseline]
