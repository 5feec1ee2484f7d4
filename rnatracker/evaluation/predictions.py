"""What runs have predicted of which transcripts, so that it can be compared.

Owns finding a run's predictions, making those of a test file, and bringing several into one order. Must not know typer.
Read next: `compare.py`, which compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rnatracker.choices import Device
from rnatracker.data import fingerprints
from rnatracker.data.formats.column_names import ANY_NAMES, ColumnNames
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.evaluation.evaluate import About, Note
from rnatracker.lineage import training_data
from rnatracker.prediction import run_table
from rnatracker.tracking.contract import TrackedRun, Tracker
from rnatracker.tracking.run_files import RunFiles
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag

_TABLES: dict[str, tuple[Callable[[RunFiles], Path], str]] = {
    "cross-validation": (lambda files: files.out_of_fold_predictions, "out-of-fold predictions"),
    "fold": (lambda files: files.test_predictions, "the fold's predictions"),
    "train": (lambda files: files.validation_predictions, "the validation part, on which networks chose their epoch"),
}
"""For each kind of run the table that it leaves, and what that holds."""
_SEEN = {"cross-validation": "transfer/seen_of_test", "train": "transfer/seen_of_validation"}
"""For each kind of run how many of these transcripts the network had seen whose trunk it began from, as it recorded."""
_SAME = 1e-9
"""Measured fractions that differ by no more are the same."""


def measured_as(tags: Mapping[str, str], params: Mapping[str, str]) -> str:
    """Return the kind of run that a run is measured like: a blend, and a baseline, like trainings of as many folds."""
    kind = tags.get(Tag.KIND, "")
    if kind == "blend":
        return "cross-validation"
    if kind != "baseline":
        return kind
    return "train" if params.get("data.fold", "0") == "0" else "cross-validation"


@dataclass(frozen=True)
class Predicted:
    """A run's predictions.

    Attributes:
        ids: (N,).
        sites: (S,).
        predicted: (N, S).
        measured: (N, S).
        what: what the transcripts are to the run.
        seen: how many of them are known to have had a part in its weights, where that isn't what `what` says.
    """

    ids: tuple[str, ...]
    sites: tuple[str, ...]
    predicted: Fractions
    measured: Fractions
    what: str
    seen: int = 0


def of_run(runs: Sequence[TrackedRun]) -> tuple[list[Predicted], list[str]]:
    """Return what runs have left of predictions, or why they can't be compared by them.

    Raises:
        DataError: if a table can't be read.
    """
    found, problems = [], []
    for run in runs:
        way = measured_as(run.tags(), run.params())
        table = _TABLES.get(way)
        if table is None:
            problems.append(
                f"{run.name} keeps no predictions: let the runs predict a file that none was trained on, with --data"
            )
            continue
        path_of, what = table
        path = path_of(run.files)
        if not path.is_file():
            problems.append(f"{run.name} has left no {path.name}: it is {run.status()}; let it finish first")
        else:
            ids, predicted, measured = run_table.read_predictions(path)
            seen = int(run.metrics().get(_SEEN.get(way, ""), 0))
            found.append(Predicted(tuple(ids), run_table.predicted_sites(path), predicted, measured, what, seen))
    return ([] if problems else found), problems


def of_file(
    run: TrackedRun,
    data: str,
    tracker: Tracker,
    tracking: TrackingSettings,
    *,
    device: Device = "auto",
    file_format: str = "auto",
    sites: list[str] | None = None,
    labels: str = "mean",
    columns: ColumnNames = ANY_NAMES,
    on_batch: Callable[[int, int], None] | None = None,
) -> tuple[Predicted, list[Note]]:
    """Let a run's model predict a test file.

    Args:
        run: the run.
        data: the file.
        tracker: finds the runs whose weights this one continued from.
        tracking: where they are kept.
        device: where to compute.
        file_format: the file's format.
        sites: names of its sites; None: its own, or the model's.
        labels: which replicate, where there are two.
        columns: which columns of a table hold what, where their names don't say it.
        on_batch: told the predictions done so far and how many there will be.

    Returns:
        The predictions, and what a reader of them should know.

    Raises:
        CheckpointError: if the run has left no weights.
        DataError: if the file can't be read, or measures other sites.
    """
    from rnatracker.config import TrainConfig
    from rnatracker.evaluation import evaluate, models

    result = evaluate.evaluate(
        models.model_of(run, tracking),
        data,
        train=TrainConfig(device=device),
        file_format=file_format,
        sites=sites,
        labels=labels,
        columns=columns,
        resamples=0,
        on_batch=on_batch,
    )
    found = result.transcripts
    seen, note = _seen(run, found, tracker)
    made = Predicted(tuple(found.ids), tuple(found.sites), result.predicted, found.measured(), found.source, seen)
    return made, [*result.warnings, *([Note(About.MODEL, note)] if note else [])]


def _seen(run: TrackedRun, transcripts: Transcripts, tracker: Tracker) -> tuple[int, str]:
    """Return on how many of these transcripts, told by their sequences, a run was trained, and what to say of it."""
    n = len(transcripts)
    if run.tags().get(Tag.DATA_DIGEST) == transcripts.digest():  # of that one it is warned already
        return n, ""
    found: set[int] = set()
    reason = ""
    try:
        for part in training_data.parts_of_run(run, tracker):
            found.update(fingerprints.seen(transcripts, part).tolist())
    except training_data.UnknownTrainingDataError as error:
        reason = error.reason  # without the remedy, which is an option of another command
    if found:
        return len(found), f"it was trained on {len(found)} of these {n} transcripts: its figures are too good"
    if reason:
        return 0, f"whether it was trained on some of these transcripts can't be told: {reason}"
    return 0, ""


def align(found: Sequence[Predicted], names: Sequence[str]) -> tuple[list[Predicted], str]:
    """Bring predictions into the order of the first, or say why that can't be."""
    first = found[0]
    aligned = [first]
    for each, name in zip(found[1:], names[1:], strict=True):
        if sorted(each.sites) != sorted(first.sites):
            sites = f"{', '.join(first.sites)} and {', '.join(each.sites)}"
            return [], f"{names[0]} and {name} predict different sites: {sites}"
        if each.ids != first.ids and (len(set(each.ids)) < len(each.ids) or sorted(each.ids) != sorted(first.ids)):
            return [], f"{names[0]} and {name} predicted different transcripts"
        place = {identifier: i for i, identifier in enumerate(each.ids)}
        rows = list(range(len(first.ids))) if each.ids == first.ids else [place[name] for name in first.ids]
        columns = [each.sites.index(site) for site in first.sites]
        measured = each.measured[rows][:, columns]
        if not np.allclose(measured, first.measured, rtol=0, atol=_SAME):
            return [], f"{names[0]} and {name} were given different measured fractions for the same transcripts"
        ordered = each.predicted[rows][:, columns]
        aligned.append(replace(each, ids=first.ids, sites=first.sites, predicted=ordered, measured=measured))
    return aligned, ""
