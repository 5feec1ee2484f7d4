"""Finding a model by its run or its file of weights.

Owns what a model is to whoever predicts with it. Must not know the registry: `rnatracker/registry/resolve.py` does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rnatracker.baselines import kept
from rnatracker.baselines import models as baselines
from rnatracker.errors import CheckpointError
from rnatracker.evaluation import weights
from rnatracker.evaluation.weights import Member
from rnatracker.files import digest_of_several
from rnatracker.model import checkpoint
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.prediction import run_table
from rnatracker.prediction.intervals import Residuals
from rnatracker.prediction.predictor import Predictor
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.hints import finish_advice, retrain_command
from rnatracker.tracking.open import open_tracker, settings_of_run
from rnatracker.tracking.run_files import TrainingFiles
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag


@dataclass(frozen=True)
class Model:
    """What predicts: one model, those of a training's seeds or of a cross-validation's folds, or a blend of runs'.

    Attributes:
        name: what to call it.
        members: one or more: networks or baselines.
        data_digest: digest of the data it was trained on, empty where that is unknown.
        description: in words.
        find_residuals: returns what out-of-fold predictions were off by; None where nobody knows.
        weights: what each member counts; empty: all count the same.
    """

    name: str
    members: Sequence[Member]
    data_digest: str = ""
    description: str = ""
    find_residuals: Callable[[], Residuals | None] = lambda: None
    weights: tuple[float, ...] = ()

    def predictor(self, device: torch.device, *, sites: Sequence[str] = (), batch_size: int = 0) -> Predictor:
        """Return what predicts with this model.

        Args:
            device: where to compute.
            sites: names of its sites, for weights of the PyTorch port, which don't name them.
            batch_size: the maximum number of transcripts in a batch; 0: as many as fit into memory.
        """
        members = [each.named(tuple(sites)) for each in self.members]
        return Predictor(members, device, weights=self.weights, batch_size=batch_size)

    def residuals(self) -> Residuals:
        """Return what out-of-fold predictions were off by, which intervals come from.

        Raises:
            CheckpointError: if nobody knows.
            DataError: if they can't be read.
        """
        found = self.find_residuals()
        if found is None:
            command = "train" if all(isinstance(each, Checkpoint) for each in self.members) else "baseline"
            raise CheckpointError(
                f"{self.name}: no out-of-fold predictions are kept with it, so how far it is off isn't known",
                f"cross-validate with: rnatracker {command} --data FILE --fold 5",
            )
        return found

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of its sites."""
        return self.members[0].sites


def model_of_file(path: str) -> Model:
    """Return the model of a file of weights, ours or the PyTorch port's, or of a baseline's file.

    Raises:
        CheckpointError: if it can't be loaded.
    """
    if Path(path).suffix == baselines.SUFFIX:
        baseline = baselines.load(Path(path))
        return Model(Path(path).name, [baseline], description=f"baseline {baseline.kind}")
    found = checkpoint.load(Path(path))
    origin = "the port's weights" if found.origin == "port" else "weights"
    return Model(Path(path).name, [found], description=f"{origin} after epoch {found.epoch}")


def model_of_run(name: str, tracking: TrackingSettings) -> Model:
    """Return a run's model: the mean of all its networks, each at its best epoch. Each fold has one for each seed.

    Raises:
        TrackingError: if there is no such run.
        CheckpointError: if it has left no weights.
    """
    return model_of(open_tracker(settings_of_run(name, tracking)).find(name), tracking)


def model_of(run: TrackedRun, tracking: TrackingSettings) -> Model:
    """Return a run's model, as `model_of_run` does.

    Args:
        run: the run.
        tracking: where it is kept, for what an error advises.

    Raises:
        CheckpointError: if it has left no weights.
    """
    tags = run.tags()
    digest = tags.get(Tag.DATA_DIGEST, "")
    if tags.get(Tag.KIND) == "baseline":
        return _baseline(run, tracking, digest)
    if tags.get(Tag.KIND) == "blend":
        return _blend(run, tracking, digest)
    if tags.get(Tag.KIND) == "cross-validation":
        children = sorted(run.children().items())
        _check_folds(run, {fold for fold, child in children if child.status() == "FINISHED"}, tracking)
        by_fold = [_networks_of(child, tracking) for _, child in children]
        found = [each for networks in by_fold for each in networks]
        of_each = f", {len(by_fold[0])} networks each" if len(by_fold[0]) > 1 else ""
        about = f"mean of {len(children)} folds' models{of_each}"
        return Model(run.name, found, digest, about, lambda: residuals_of(run))
    of_folds = run.files.trainings_of_folds()
    if of_folds:  # a trial of a study keeps its folds in one run
        ended = run.status() == "FINISHED"
        _check_folds(run, {each.folder.name for each in of_folds} if ended else set(), tracking)
        found = [checkpoint.load(each.best) for each in of_folds]
        return Model(run.name, found, digest, f"mean of {len(found)} folds' models")
    found = _networks_of(run, tracking)
    epochs = ", ".join(str(each.epoch) for each in found)
    about = f"mean of {len(found)} networks, epochs {epochs}" if len(found) > 1 else f"epoch {epochs}"
    return Model(run.name, found, digest, about)


def residuals_of(run: TrackedRun) -> Residuals | None:
    """Return what a cross-validation's out-of-fold predictions were off by; None where a run has left none.

    Those of transcripts that the network had seen whose trunk it began from are left out.

    Raises:
        DataError: if they can't be read.
    """
    path = run.files.out_of_fold_predictions
    if not path.is_file():
        return None
    ids, predicted, measured = run_table.read_predictions(path)
    seen = set(run.files.seen_ids.read_text("utf-8").split("\n")) if run.files.seen_ids.is_file() else set()
    kept = np.array([each not in seen for each in ids], bool)
    return Residuals.of(run_table.predicted_sites(path), predicted[kept], measured[kept])


def _blend(run: TrackedRun, tracking: TrackingSettings, digest: str) -> Model:
    """Load a blend's members, after holding their files against the digest that the run has recorded."""
    expected = run.tags().get(Tag.MODEL_DIGEST, "")
    if run.status() != "FINISHED" or not expected:
        raise CheckpointError(f"run {run.name}: it has not finished", finish_advice(run, tracking))
    folder, again = run.files.blend, f"blend its runs again with: {retrain_command(run, tracking)}"
    try:
        checksums = weights.checksums_of(folder)
    except OSError as error:
        problem = f"run {run.name}: its models {error.filename} can't be read ({error.strerror})"
        raise CheckpointError(problem, again) from None
    if digest_of_several(checksums) != expected:
        raise CheckpointError(
            f"run {run.name}: the files of its models in {folder} are not what was blended: damaged or changed, so not "
            "loaded",
            again,
        )
    found = weights.load_weights(folder, checksums, f"run {run.name}", again)
    about = f"blend of {len(found.models)} models"
    return Model(run.name, found.models, digest, about, lambda: residuals_of(run), found.weights)


def _baseline(run: TrackedRun, tracking: TrackingSettings, digest: str) -> Model:
    found = kept.models_of_run(run, tracking)
    of_folds = f", mean of {len(found)} folds' models" if len(found) > 1 else ""
    return Model(run.name, found, digest, f"baseline {found[0].kind}{of_folds}", lambda: residuals_of(run))


def _check_folds(run: TrackedRun, whole: Collection[str], tracking: TrackingSettings) -> None:
    """Check that a run's folds are all there: killed between two of them, it lacks the later ones.

    Args:
        run: the run.
        whole: the names of the folds that have been trained to their end.
        tracking: where the run is kept.

    Raises:
        CheckpointError: if one is missing.
    """
    recorded = run.params().get("data.fold", "")
    n_folds = int(recorded) if recorded.isdigit() else len(whole)
    missing = [name for name in (f"fold{number}" for number in range(1, n_folds + 1)) if name not in whole]
    if missing or not whole:
        problem = f"{', '.join(missing) or 'every fold'} has not finished"
        raise CheckpointError(f"run {run.name}: {problem}", finish_advice(run, tracking))


def _networks_of(run: TrackedRun, tracking: TrackingSettings) -> list[Checkpoint]:
    """Load the networks of a single run or of a fold: one, or one for each of its seeds.

    Raises:
        CheckpointError: if one is missing: stopped between two of them, a run lacks the later ones.
    """
    first, recorded = _weights_of(run, tracking), run.params().get("train.seeds", "")
    n_networks = int(recorded) if recorded.isdigit() else 1
    if n_networks == 1:
        return [checkpoint.load(first)]
    networks = run.files.training().networks(n_networks)
    missing = [f"seed{number}" for number, each in enumerate(networks, start=1) if not each.best.is_file()]
    if missing and run.status() == "FINISHED":
        raise _deleted(run, networks[0], tracking)
    if missing:
        parent = run.parent_name()
        advice = f"finish its whole run {parent} first" if parent else finish_advice(run, tracking)
        raise CheckpointError(f"run {run.name}: {', '.join(missing)} has not been trained yet", advice)
    return [checkpoint.load(each.best) for each in networks]


def _weights_of(run: TrackedRun, tracking: TrackingSettings) -> Path:
    """Return `best.pt` of a run; an imported run has numbered files only, of which the last is taken."""
    files = run.files.training()
    if files.best.is_file():
        return files.best
    numbered = files.numbered()
    if numbered:
        return numbered[max(numbered)]
    tags = run.tags()
    if Tag.PRUNED in tags:
        raise CheckpointError(f"run {run.name}: it was pruned, so it keeps no weights", finish_advice(run, tracking))
    if any("val/" in key or key.startswith("best/") for key in run.metrics()):
        raise _deleted(run, files, tracking)
    raise CheckpointError(f"run {run.name}: no weights in {files.folder}: it ended before its first evaluation")


def _deleted(run: TrackedRun, files: TrainingFiles, tracking: TrackingSettings) -> CheckpointError:
    problem = f"run {run.name}: its weights were deleted from {files.folder}"
    return CheckpointError(problem, f"train them again with: {retrain_command(run, tracking)}")
