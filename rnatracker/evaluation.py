"""How well a trained model does on labelled data.

Owns finding a model by what a user calls it, and the comparison. Must not know optuna or typer. Read next:
`rnatracker/metrics.py` for the figures, `rnatracker/predictor.py` for the predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rnatracker import checkpoint, metrics
from rnatracker.checkpoint import Checkpoint
from rnatracker.config import TrainConfig
from rnatracker.data.readers import read
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.device import pick_device
from rnatracker.errors import CheckpointError, DataError
from rnatracker.metrics import Score
from rnatracker.predictor import Predictor
from rnatracker.tracked import TrackedRun
from rnatracker.tracking import TrackingSettings, open_tracker, settings_of_run


@dataclass(frozen=True)
class Model:
    """What predicts: one checkpoint, or the folds of a cross-validation.

    Attributes:
        name: what to call it.
        checkpoints: one or more.
        data_digest: digest of the data it was trained on, empty where that is unknown.
        description: in words.
    """

    name: str
    checkpoints: list[Checkpoint]
    data_digest: str = ""
    description: str = ""


@dataclass(frozen=True)
class Evaluation:
    """A model on labelled data.

    Attributes:
        model: the model.
        transcripts: the data, their sites named as the model names them.
        predicted: (N, S).
        scores: PCC, Spearman and MSE with intervals.
        warnings: what a reader of the scores should know.
    """

    model: Model
    transcripts: Transcripts
    predicted: Fractions
    scores: list[Score]
    warnings: list[str]


def model_of_file(path: str) -> Model:
    """Return the model of a file of weights, ours or the ancestor's.

    Raises:
        CheckpointError: if it can't be loaded.
    """
    found = checkpoint.load(Path(path))
    origin = "the ancestor's weights" if found.origin == "ancestor" else "weights"
    return Model(Path(path).name, [found], description=f"{origin} after epoch {found.epoch}")


def model_of_run(name: str, tracking: TrackingSettings) -> Model:
    """Return a run's model: its best epoch, or for a cross-validation the mean of its folds' best epochs.

    Raises:
        TrackingError: if there is no such run.
        CheckpointError: if it has left no weights.
    """
    return model_of(open_tracker(settings_of_run(name, tracking)).find(name))


def model_of(run: TrackedRun) -> Model:
    """Return a run's model, as `model_of_run` does.

    Raises:
        CheckpointError: if it has left no weights.
    """
    digest = run.tags().get("rnatracker.data_digest", "")
    if run.tags().get("rnatracker.kind") == "cross-validation":
        children = sorted(run.children().items())
        unfinished = [fold for fold, child in children if child.status() != "FINISHED"]
        if unfinished or not children:
            raise CheckpointError(
                f"run {run.name}: {', '.join(unfinished) or 'every fold'} has not finished; finish it first with: "
                f"rnatracker train --resume {run.name}"
            )
        found = [checkpoint.load(_weights_of(child)) for _, child in children]
        return Model(run.name, found, digest, f"mean of {len(found)} folds' models")
    of_folds = sorted((run.folder / "checkpoints").glob("fold*/best.pt"), key=lambda path: (len(str(path)), path))
    if of_folds:  # a trial of a study keeps its folds in one run
        found = [checkpoint.load(path) for path in of_folds]
        return Model(run.name, found, digest, f"mean of {len(found)} folds' models")
    found = [checkpoint.load(_weights_of(run))]
    return Model(run.name, found, digest, f"epoch {found[0].epoch}")


def _weights_of(run: TrackedRun) -> Path:
    """Return `best.pt` of a run; an imported run has numbered files only, of which the last is taken."""
    folder = run.folder / "checkpoints"
    if (folder / "best.pt").is_file():
        return folder / "best.pt"
    numbered = {
        int(path.stem.removeprefix("epoch")): path
        for path in folder.glob("epoch*.pt")
        if path.stem.removeprefix("epoch").isdigit()
    }
    if not numbered:
        raise CheckpointError(f"run {run.name}: no weights in {folder}; it ended before its first evaluation")
    return numbered[max(numbered)]


def evaluate(
    model: Model,
    data: str,
    *,
    train: TrainConfig,
    file_format: str = "auto",
    sites: list[str] | None = None,
    labels: str = "mean",
    resamples: int = 1000,
    on_batch: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Predict labelled transcripts and compare.

    Args:
        model: the model.
        data: file of transcripts with measured fractions.
        train: where to compute.
        file_format: the file's format.
        sites: names of the sites in the file's order; None: the file's own, or the model's where it names none.
        labels: which replicate, where there are two.
        resamples: bootstrap samples of the intervals.
        on_batch: told the predictions done so far and how many there will be.

    Raises:
        DataError: if the data can't be read, or measure other sites than the model predicts.
    """
    found = [each.named(tuple(sites or ())) for each in model.checkpoints]
    predictor = Predictor(found, pick_device(train))
    transcripts = match_sites(
        read_labelled(data, file_format, sites, labels, predictor.sites), predictor.sites, model.name
    )
    total = len(transcripts) * len(predictor)
    predicted = predictor.predict(transcripts, on_batch=(lambda done: on_batch(done, total)) if on_batch else None)
    scores = metrics.report(predicted, transcripts.measured(), transcripts.sites, resamples=resamples)
    return Evaluation(model, transcripts, predicted, scores, _warnings(model, transcripts))


def read_labelled(
    data: str, file_format: str, sites: list[str] | None, labels: str, model_sites: tuple[str, ...]
) -> Transcripts:
    """Read labelled data for a model of these sites; where file and user name no sites, they are the model's.

    Raises:
        DataError: if they can't be read.
    """
    if sites is None:
        try:
            transcripts = read(data, format=file_format, labels=labels)
        except DataError:
            # An unnamed file of other than four sites: try it under the model's names, and report what is wrong then.
            transcripts = read(data, format=file_format, sites=model_sites, labels=labels)
        if not transcripts.sites_named and len(transcripts.sites) == len(model_sites):
            transcripts = replace(transcripts, sites=model_sites)
        return transcripts
    return read(data, format=file_format, sites=sites, labels=labels)


def match_sites(transcripts: Transcripts, sites: tuple[str, ...], model: str) -> Transcripts:
    """Put the measured columns into the order of a model's sites.

    Raises:
        DataError: if they are other sites.
    """
    if sorted(transcripts.sites) != sorted(sites):
        raise DataError(
            f"{transcripts.source}: its sites are {', '.join(transcripts.sites)}, but {model} predicts "
            f"{', '.join(sites)}; use a model of these sites, or name the file's columns with --sites"
        )
    order = [transcripts.sites.index(site) for site in sites]
    return replace(
        transcripts,
        sites=sites,
        fractions=transcripts.measured()[:, order],
        replicates=None
        if transcripts.replicates is None
        else (transcripts.replicates[0][:, order], transcripts.replicates[1][:, order]),
    )


def _warnings(model: Model, transcripts: Transcripts) -> list[str]:
    found = []
    if model.data_digest and model.data_digest == transcripts.digest():
        found.append(
            "it was trained on transcripts of this very file: these figures say how well it "
            "remembers, not how well it predicts"
        )
    encoding = model.checkpoints[0].encoding
    cut = int((transcripts.lengths > encoding.max_length).sum())
    if cut and not encoding.full_length:
        found.append(f"{cut} transcripts are longer than {encoding.max_length} nt and were cut, as in training")
    if not transcripts.sites_named:
        found.append(f"the file names no sites: its columns are taken as {', '.join(transcripts.sites)}")
    return found
