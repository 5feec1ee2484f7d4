"""How well a trained model does on labelled data.

Owns reading the data as the model needs them, and what a reader of the figures is warned of. Must not know optuna or
typer. Read next: `rnatracker/metrics.py` for the figures, `rnatracker/prediction/predictor.py` for the predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from rnatracker import metrics
from rnatracker.config import EncodingConfig, TrainConfig
from rnatracker.data.formats.column_names import ANY_NAMES, ColumnNames
from rnatracker.data.readers import read
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.errors import DataError
from rnatracker.evaluation.models import Model
from rnatracker.metrics import Score
from rnatracker.model.device import pick_device


class About(Enum):
    """What a note is about."""

    FILE = "file"
    MODEL = "model"


@dataclass(frozen=True)
class Note:
    """Something that a reader of figures should know.

    Attributes:
        about: the file that was predicted, or the model that predicted it.
        text: a sentence.
    """

    about: About
    text: str


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
    warnings: list[Note]


def evaluate(
    model: Model,
    data: str,
    *,
    train: TrainConfig,
    file_format: str = "auto",
    sites: list[str] | None = None,
    labels: str = "mean",
    columns: ColumnNames = ANY_NAMES,
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
        columns: which columns of a table hold what, where their names don't say it.
        resamples: bootstrap samples of the intervals.
        on_batch: told the predictions done so far and how many there will be.

    Raises:
        DataError: if the data can't be read, or measure other sites than the model predicts.
    """
    predictor = model.predictor(pick_device(train), sites=sites or ())
    transcripts = match_sites(
        read_labelled(data, file_format, sites, labels, predictor.sites, columns), predictor.sites, model.name
    )
    total = len(transcripts) * len(predictor)
    predicted = predictor.predict(transcripts, on_batch=(lambda done: on_batch(done, total)) if on_batch else None)
    scores = metrics.report(predicted, transcripts.measured(), transcripts.sites, resamples=resamples)
    return Evaluation(model, transcripts, predicted, scores, _warnings(model, transcripts, predictor.encoding))


def read_labelled(
    data: str,
    file_format: str,
    sites: list[str] | None,
    labels: str,
    model_sites: tuple[str, ...],
    columns: ColumnNames = ANY_NAMES,
) -> Transcripts:
    """Read labelled data for a model of these sites; where file and user name no sites, they are the model's.

    Raises:
        DataError: if they can't be read.
    """
    if sites is None:
        try:
            return read(data, format=file_format, labels=labels, columns=columns, assumed=model_sites)
        except DataError:
            # A table with more columns, perhaps: take those of the model, and report what is wrong then.
            sites = [*model_sites]
    return read(data, format=file_format, sites=sites, labels=labels, columns=columns)


def match_sites(transcripts: Transcripts, sites: tuple[str, ...], model: str) -> Transcripts:
    """Put the measured columns into the order of a model's sites.

    Raises:
        DataError: if they are other sites.
    """
    if sorted(transcripts.sites) != sorted(sites):
        raise DataError(
            f"{transcripts.source}: its sites are {', '.join(transcripts.sites)}, but {model} predicts "
            f"{', '.join(sites)}",
            "use a model of these sites, or name the file's columns with --sites",
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


def _warnings(model: Model, transcripts: Transcripts, encoding: EncodingConfig) -> list[Note]:
    notes = [Note(About.FILE, text) for text in metrics.cautions(transcripts.measured(), transcripts.sites)]
    if model.data_digest and model.data_digest == transcripts.digest():
        remembered = "these figures say how well it remembers, not how well it predicts"
        notes.append(Note(About.MODEL, f"it was trained on transcripts of this very file: {remembered}"))
    cut = int((transcripts.lengths > encoding.max_length).sum())
    if cut and not encoding.full_length:
        text = f"{cut} transcripts are longer than {encoding.max_length} nt and were cut, as in training"
        notes.append(Note(About.MODEL, text))
    if not transcripts.sites_named:
        columns = ", ".join(transcripts.sites)
        notes.append(Note(About.FILE, f"the file names no sites: its columns are taken as {columns}"))
    notes += [Note(About.FILE, note) for note in transcripts.notes]
    return notes
