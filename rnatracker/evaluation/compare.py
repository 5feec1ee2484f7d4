"""Runs side by side, and whether one predicts better than another.

Owns what makes runs comparable, what is laid side by side, and the verdict. Must not know typer. Read next:
`rnatracker/metrics.py` for the paired bootstrap, `predictions.py` for where predictions come from.

Two runs are compared by their predictions of the same transcripts: out-of-fold ones, those of the same validation
part, or those of a test file. Of two runs the second is compared with the first, of more each with the best. Each such
pair has an interval for each site and for the mean; the p-values are corrected by Holm's method for there being several
sites and several pairs: as many as can be made of the runs, since which of them is the best is told by the same data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rnatracker import metrics
from rnatracker.errors import UsageError
from rnatracker.evaluation.contrast import Contrast, corrected_p_values, judge, of_relatives, too_few_resamples
from rnatracker.evaluation.evaluate import About
from rnatracker.evaluation.predictions import Predicted, align, measured_as, of_file, of_run
from rnatracker.metrics import Difference
from rnatracker.tracking.contract import TrackedRun, Tracker
from rnatracker.tracking.open import open_tracker, settings_of_run
from rnatracker.tracking.run_files import seed_place
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag

_NOT_SETTINGS = ("fold",)
_FIGURES = ("oof/", "best/", "test/", "mean/pcc_mean", "sd/pcc_mean", "objective")
_KINDS = {"train": "a single training", "cross-validation": "a cross-validation", "": "a run of another program"}


@dataclass(frozen=True)
class Side:
    """One run of a comparison, read once.

    Attributes:
        run: the run.
        tracker: where it is kept.
        name: what to call it; its parent's name before its own where it has one.
        status: MLflow's status.
        params: its parameters.
        metrics: its last figures.
        tags: its tags.
    """

    run: TrackedRun
    tracker: Tracker
    name: str
    status: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]

    @property
    def kind(self) -> str:
        """What it is."""
        return self.tags.get(Tag.KIND, "")

    @property
    def measured_as(self) -> str:
        """The kind of run that it is measured like."""
        return measured_as(self.tags, self.params)


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        sides: the runs, in the order in which they were named.
        params: the parameters that differ: for each run its value, None where it has none. Of runs of different kinds,
            those of the sections that all have.
        metrics: figures: for each run its value, None where it has none.
        best: for each figure the run that is best in it, where that can be said.
        problems: why the runs can't be compared as they are; empty: they can.
        measured_on: what the runs predicted; empty where that isn't the same.
        n_records: how many transcripts that are.
        reference: the run that the others are compared with.
        contrasts: the others, compared with it.
        warnings: what a reader should know.
        remembering: the runs that were trained on some of those transcripts: no fair measure of them.
    """

    sides: list[Side]
    params: dict[str, list[str | None]]
    metrics: dict[str, list[float | None]]
    best: dict[str, int]
    problems: list[str] = field(default_factory=list)
    measured_on: str = ""
    n_records: int = 0
    reference: str = ""
    contrasts: list[Contrast] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    remembering: list[str] = field(default_factory=list)


def compare(
    names: Sequence[str],
    tracking: TrackingSettings,
    *,
    data: str | None = None,
    resamples: int = 2000,
    on_batch: Callable[[int, int], None] | None = None,
    **reading: object,
) -> Comparison:
    """Lay runs side by side, and compare their predictions where they have made them of the same transcripts.

    Args:
        names: two or more runs.
        tracking: where they are kept.
        data: a test file for all runs to predict, in place of what they have predicted.
        resamples: bootstrap samples.
        on_batch: told the predictions of a run done so far, and how many there will be.
        reading: how to read the test file and where to compute; see `predictions.of_file`.

    Raises:
        UsageError: if there are fewer than two, or one is named twice.
        TrackingError: if there is no such run.
        RNATrackerError: if the test file can't be read or predicted.
    """
    sides = sides_of(names, tracking, "compare")
    problems = problems_of(sides, or_families=True)
    warnings: list[str] = []
    predicted: list[Predicted] = []
    if data is not None:
        for side in sides:
            prediction, notes = of_file(side.run, data, side.tracker, tracking, on_batch=on_batch, **reading)  # type: ignore[arg-type]
            predicted.append(prediction)
            warnings += [note.text if note.about is About.FILE else f"{side.name}: {note.text}" for note in notes]
    elif not problems:
        predicted, problems = of_run([side.run for side in sides])
        if predicted:
            warnings += metrics.cautions(predicted[0].measured, predicted[0].sites)
    figures, best = _figures(sides), {}
    if not problems and not any(_differ_in_families(sides[0], other) for other in sides[1:]):
        best = _best(figures)
    params = _differing([side.params | _begun_from(side.tags) for side in sides])
    made = Comparison(sides, params, figures, best, problems, warnings=list(dict.fromkeys(warnings)))
    if not predicted:
        return made
    if data is not None:
        return _contrasted(_with_figures_of(made, predicted), predicted, resamples)
    return _contrasted(made, predicted, resamples, by=_judge_folds)


def sides_of(names: Sequence[str], tracking: TrackingSettings, command: str) -> list[Side]:
    """Return the runs of these names, each read once.

    Args:
        names: two or more.
        tracking: where they are kept.
        command: what is done with them, for messages.

    Raises:
        UsageError: if there are fewer than two, or one is named twice.
        TrackingError: if there is no such run.
    """
    sides: list[Side] = []
    for name in names:
        tracker = open_tracker(settings_of_run(name, tracking))
        run = tracker.find(name)
        parent = run.parent_name()
        called = f"{parent}/{run.name}" if parent else run.name
        if any(side.run.id == run.id for side in sides):
            raise UsageError(f"rnatracker {command}: {name} is a run that was named already, {called}", "name others")
        sides.append(Side(run, tracker, called, run.status(), run.params(), run.metrics(), run.tags()))
    if len(sides) < 2:
        raise UsageError(f"rnatracker {command}: give two runs or more, as in: rnatracker {command} exp1 exp2")
    return sides


def problems_of(sides: Sequence[Side], *, or_families: bool = False) -> list[str]:
    """Return why these runs' figures can't be compared; nothing: they can.

    Args:
        sides: the runs.
        or_families: leave out that some kept families together and some divided alike but for that.
    """
    found = []
    first = sides[0]
    for other in sides[1:]:
        data = [side.tags.get(Tag.DATA_DIGEST, "") for side in (first, other)]
        split = [side.tags.get(Tag.SPLIT_DIGEST, "") for side in (first, other)]
        both = f"{first.name} and {other.name}"
        study = next((side.name for side in (first, other) if side.kind == "study"), "")
        if study:
            found.append(
                f"{study} is a study, which predicts nothing itself; name its trials, or runs of its best settings"
            )
        elif not all(data):
            unknown = first.name if not data[0] else other.name
            found.append(f"{both}: on which transcripts {unknown} was trained is not recorded")
        elif data[0] != data[1]:
            found.append(f"{both} were trained on different data: {_data_of(first)} and {_data_of(other)}")
        elif first.measured_as != other.measured_as:
            found.append(f"{both} were measured in different ways: {_kind(first)} and {_kind(other)}")
        elif or_families and _differ_in_families(first, other):
            continue
        elif split[0] != split[1] or (not any(split) and not _same_division(first, other)):
            found.append(f"{both} divided their data differently: {_split_of(first)} and {_split_of(other)}")
    return found


def _kind(side: Side) -> str:
    return _KINDS.get(side.measured_as, f"a {side.measured_as}")


def _data_of(side: Side) -> str:
    sites = side.tags.get(Tag.SITES, "").replace(",", ", ")
    digest = side.tags[Tag.DATA_DIGEST][:8]
    return f"{side.params.get('data.path', 'unknown')} (digest {digest}{f'; {sites}' if sites else ''})"


def _split_of(side: Side) -> str:
    keys = ("data.fold", "data.val", "data.inner_val", "data.split_seed")
    return ", ".join(f"{key.removeprefix('data.')} {side.params.get(key, '?')}" for key in keys)


def _same_division(first: Side, other: Side) -> bool:
    """Tell by their settings whether runs without a digest of their division, as trials once were, divide alike."""
    keys = ("data.fold", "data.val", "data.inner_val", "data.split_seed", "fold")
    return all(first.params.get(key) == other.params.get(key) for key in keys)


def _differ_in_families(first: Side, other: Side) -> bool:
    """Tell whether two cross-validations differ in whether families were kept together, and divide alike else."""
    ways = {side.params.get("data.group_by", "group") for side in (first, other)}
    folds = {side.params.get("data.fold", "0") for side in (first, other)}
    return len(ways) > 1 and "0" not in folds and _same_division(first, other)


_Judge = Callable[[Side, Side, list[Difference], list[float]], Contrast]


def _judge(first: Side, second: Side, differences: list[Difference], corrected: list[float]) -> Contrast:
    return judge(first.name, second.name, differences, corrected)


def _judge_folds(first: Side, second: Side, differences: list[Difference], corrected: list[float]) -> Contrast:
    """Return the contrast by what was predicted out of fold; of random folds and families, what came from relatives."""
    contrast = _judge(first, second, differences, corrected)
    if not _differ_in_families(first, second):
        return contrast
    has_families = first.params.get("data.group_by") == "similarity"
    alone = _differing([first.params, second.params]).keys() == {"data.group_by"}
    return of_relatives(contrast, first_has_families=has_families, alone=alone)


def _begun_from(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the options that say what weights a run began from: they are no settings, yet differ between runs."""
    of_option = {"--weights": Tag.WEIGHTS, "--transfer": Tag.TRANSFER}
    return {option: tags[tag] for option, tag in of_option.items() if tag in tags}


def _differing(params: list[dict[str, str]]) -> dict[str, list[str | None]]:
    """Return what differs, but for sections of settings of which some run has nothing, as baselines of `model`."""
    sections = [{key.split(".")[0] for key in each if "." in key} for each in params]
    shared = set.intersection(*sections)
    keys = dict.fromkeys(key for each in params for key in each if "." not in key or key.split(".")[0] in shared)
    return {
        key: values
        for key in keys
        if key not in _NOT_SETTINGS and len(set(values := [each.get(key) for each in params])) > 1
    }


def _figures(sides: list[Side]) -> dict[str, list[float | None]]:
    """Return what the runs' ends say; where one has not ended, what its epochs say, and the time of an epoch."""
    keys = dict.fromkeys(key for side in sides for key in side.metrics)
    chosen = [key for start in _FIGURES for key in keys if key.startswith(start)]
    if not all(any(key.startswith(_FIGURES) for key in side.metrics) for side in sides):
        chosen += [key for key in keys if key.startswith(("val/", "train/loss"))]
    chosen += [key for key in keys if key in ("time/epoch_seconds", "time/trial_seconds")]
    return {key: [side.metrics.get(key) for side in sides] for key in chosen}


def _best(figures: Mapping[str, list[float | None]]) -> dict[str, int]:
    """Return which run is best in each figure; in none where two are equal or one has none."""
    found = {}
    for key, values in figures.items():
        last = key.rpartition("/")[2]
        sign = 1 if last.startswith(("pcc_", "objective")) else -1 if last == "loss" else 0
        if not sign or key.startswith("sd/") or any(value is None for value in values):
            continue
        signed = [sign * float(value) for value in values if value is not None]
        if signed.count(max(signed)) == 1:
            found[key] = signed.index(max(signed))
    return found


def _with_figures_of(made: Comparison, predicted: list[Predicted]) -> Comparison:
    """Add how well the runs predict the test file."""
    scores = [metrics.summarise(each.predicted, each.measured, each.sites) for each in predicted]
    figures: dict[str, list[float | None]] = {
        f"{predicted[0].what}/{key}": [None if math.isnan(each[key]) else each[key] for each in scores]
        for key in scores[0]
    }
    return replace(made, metrics=made.metrics | figures, best=made.best | _best(figures))


def _contrasted(made: Comparison, predicted: list[Predicted], resamples: int, *, by: _Judge = _judge) -> Comparison:
    """Add how the other runs differ from the best, or of two the second from the first."""
    aligned, problem = align(predicted, [side.name for side in made.sides])
    if problem:
        return replace(made, problems=[*made.problems, problem], best={})
    sites, measured = aligned[0].sites, aligned[0].measured
    means = [metrics.mean_over_sites(metrics.pcc_per_site(each.predicted, measured)) for each in aligned]
    top = 0 if len(aligned) == 2 else max(range(len(aligned)), key=lambda i: (means[i] == means[i], means[i]))
    others = [i for i in range(len(aligned)) if i != top]
    differences = [
        metrics.paired_differences(aligned[i].predicted, aligned[top].predicted, measured, sites, resamples=resamples)
        for i in others
    ]
    corrected = corrected_p_values(differences)
    contrasts = [
        by(made.sides[i], made.sides[top], each, p) for i, each, p in zip(others, differences, corrected, strict=True)
    ]
    return replace(
        made,
        measured_on=aligned[0].what,
        n_records=len(measured),
        reference=made.sides[top].name,
        contrasts=contrasts,
        remembering=[side.name for side, each in zip(made.sides, predicted, strict=True) if each.seen],
        warnings=[*made.warnings, *too_few_resamples(resamples, differences)],
    )


_CURVES = {"train_loss": "train/loss", "val_loss": "val/loss", "pcc_mean": "val/pcc_mean"}


def curves(side: Side) -> dict[str, dict[int, float]]:
    """Return a run's learning curves by epoch: `train_loss`, `val_loss`, `pcc_mean`.

    Of several folds or networks, the mean over those that have come so far, as long as all have.
    """
    children = list(side.run.children().values()) if side.kind == "cross-validation" else []
    folds = sorted({key.partition("/")[0] for key in side.metrics if key.startswith("fold") and "/val/" in key})
    n_networks = int(side.params.get("train.seeds", "1"))
    places = [
        "".join(f"{part}/" for part in (fold, seed_place(number)) if part)
        for fold in folds or [""]
        for number in range(1, n_networks + 1)
    ]
    found = {}
    for name, key in _CURVES.items():
        every = [run.history(f"{place}{key}") for run in children or [side.run] for place in places]
        histories = [each for each in every if each] or [{}]
        epochs = set.intersection(*map(set, histories))
        found[name] = {e: sum(history[e] for history in histories) / len(histories) for e in sorted(epochs)}
    return found
