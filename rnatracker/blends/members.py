"""The runs that are to be blended: what each has predicted, and that they belong together.

Owns what makes runs fit to be blended. Read next: `rnatracker/evaluation/compare.py` for what makes them comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnatracker.config import DataConfig
from rnatracker.data.similarity import grouped
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import DataError, TrackingError
from rnatracker.evaluation import predictions
from rnatracker.evaluation.compare import Side, problems_of, sides_of
from rnatracker.evaluation.models import Model, model_of
from rnatracker.evaluation.predictions import Predicted
from rnatracker.lineage import training_data
from rnatracker.tracking.hints import cross_validate_command, finish_advice
from rnatracker.tracking.open import settings_of_run
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from rnatracker.training.division import Training, digest_of, divide


@dataclass(frozen=True)
class Runs:
    """Runs of one division of the same data.

    Attributes:
        sides: the runs, in the order in which they were named.
        models: the model of each.
        transcripts: their data.
        settings: how these were read and divided.
        trainings: their division into folds.
        each: (K, N, S) out-of-fold predictions, in the data's order.
        seen: (K,) how many of these transcripts had been seen by the network whose trunk each run began from.
    """

    sides: Sequence[Side]
    models: Sequence[Model]
    transcripts: Transcripts
    settings: DataConfig
    trainings: Sequence[Training]
    each: npt.NDArray[np.float64]
    seen: Sequence[int]

    @property
    def names(self) -> list[str]:
        """What to call each run."""
        return [side.name for side in self.sides]


def gather(names: Sequence[str], tracking: TrackingSettings, data: str | None = None) -> Runs:
    """Return the runs of these names, with all that blending needs.

    Args:
        names: two or more.
        tracking: where they are kept.
        data: the file that they were trained on, where it isn't found where it was.

    Raises:
        UsageError: if there are fewer than two, or one is named twice.
        TrackingError: if there is no such run, or they can't be blended.
        CheckpointError: if a run's models can't be loaded.
        DataError: if the data are not found.
    """
    sides = sides_of(names, tracking, "blend")
    _check(sides, tracking)
    found, problems = predictions.of_run([side.run for side in sides])
    if problems:
        raise TrackingError(problems[0], "blend others")
    transcripts, settings = _data(sides[0], data)
    trainings = divide(transcripts, settings)
    if digest_of(trainings, transcripts) != sides[0].tags.get(Tag.SPLIT_DIGEST):
        raise TrackingError(
            f"{sides[0].name}: its transcripts would be divided otherwise than recorded, so its folds aren't known",
            "train it again with this version of rnatracker",
        )
    measured = transcripts.measured()
    own = Predicted(tuple(transcripts.ids), tuple(transcripts.sites), measured, measured, transcripts.source)
    aligned, problem = predictions.align([own, *found], [transcripts.source, *(side.name for side in sides)])
    if problem:
        raise DataError(problem, "blend runs on the same data")
    models = [model_of(side.run, settings_of_run(name, tracking)) for side, name in zip(sides, names, strict=True)]
    _check_sites(sides, models, transcripts)
    each, seen = np.stack([each.predicted for each in aligned[1:]]), [each.seen for each in found]
    return Runs(sides, models, transcripts, settings, trainings, each, seen)


def _check(sides: Sequence[Side], tracking: TrackingSettings) -> None:
    """Check that all runs have out-of-fold predictions on one division of the same data."""
    for side in sides:
        if side.kind == "study":
            raise TrackingError(f"{side.name} is a study, which predicts nothing itself", "blend runs of its settings")
        if side.measured_as != "cross-validation":
            what = {"train": "a single training", "fold": "one fold of a run", "trial": "a trial of a study"}
            raise TrackingError(
                f"{side.name} is {what.get(side.measured_as, 'a run of another program')}, which keeps no out-of-fold "
                "predictions: nothing tells what it should count",
                f"cross-validate its settings with: {cross_validate_command(side.run, tracking)}",
            )
        if side.status != "FINISHED":
            raise TrackingError(f"run {side.name} has not finished ({side.status})", finish_advice(side.run, tracking))
    problems = problems_of(sides)
    if problems:
        raise TrackingError(problems[0], "blend runs of the same data, --fold and --split-seed")


def _data(side: Side, data: str | None) -> tuple[Transcripts, DataConfig]:
    settings = training_data.settings_of(side.run)
    of_file = training_data.transcripts_of_file
    transcripts = training_data.transcripts_of_run(side.run) if data is None else of_file(side.run, data)
    if transcripts is None:
        digest = side.tags.get(Tag.DATA_DIGEST, "")
        if data is not None:
            raise DataError(f"{data}: not the data of {side.name} (digest {digest})", "give the file it was trained on")
        raise DataError(
            f"{settings.path}: gone or changed: not the data of {side.name} (digest {digest})",
            "give the file that the runs were trained on with --data FILE",
        )
    settings = settings if data is None else settings.model_copy(update={"path": data})
    return grouped(transcripts, settings), settings


def _check_sites(sides: Sequence[Side], models: Sequence[Model], transcripts: Transcripts) -> None:
    for side, model in zip(sides, models, strict=True):
        if model.sites != tuple(transcripts.sites):
            raise TrackingError(
                f"{side.name} predicts {', '.join(model.sites)}, and its data measure {', '.join(transcripts.sites)}",
                "blend runs of the same sites",
            )
