"""Baselines as tracked runs: each kind one run, on the division that a training of the same settings makes.

Owns what such a run leaves. Must not know typer. Read next: `division.py` for what they are trained on,
`fit.py` for the models.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rnatracker import files, metrics, plain_yaml, plots
from rnatracker.baselines import models
from rnatracker.baselines.beside import cache_of
from rnatracker.baselines.division import measured_on, predict, trained_on
from rnatracker.baselines.features import features_of
from rnatracker.baselines.fit import FEWEST, settings_of
from rnatracker.baselines.kept import digest_of_models
from rnatracker.baselines.models import Baseline
from rnatracker.choices import BaselineKind
from rnatracker.config import Config
from rnatracker.data.features.kmers import Features
from rnatracker.data.readers import read_for
from rnatracker.data.similarity import grouped
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.errors import DataError, UsageError
from rnatracker.escapes import markdown
from rnatracker.prediction import run_table
from rnatracker.processes.stop import StopSignal
from rnatracker.tracking import provenance
from rnatracker.tracking.contract import SUMMARY_STEP, DatasetInput, TrackedRun, Tracker
from rnatracker.tracking.hints import retrain_command
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from rnatracker.training.division import Training, digest_of, divide
from rnatracker.training.out_of_fold import OutOfFold
from rnatracker.training.reporting import LogFile, Reporter
from rnatracker.training.request import Outcome
from rnatracker.training.session import describe_data, ending

NAMES: dict[BaselineKind, str] = {
    "mean": "the mean of the training transcripts",
    "length": "a cubic of the log length",
    "kmer-ridge": "ridge regression on shares of 1- to 3-mers and log length",
    "kmer-boosting": "boosted trees on shares of 1- to 5-mers and log length",
    "codon-boosting": "boosted trees on shares of 1- to 5-mers, log length and the longest open reading frame",
}
"""What each kind is, in words."""
_PACKAGES: dict[BaselineKind, str] = {"kmer-ridge": "scikit-learn", **dict.fromkeys(models.BOOSTED, "lightgbm")}


@dataclass(frozen=True)
class BaselineRequest:
    """Which baselines are to be run.

    Attributes:
        config: the settings, of which those of the data and the seed count.
        tracking: where the runs are kept.
        kinds: which.
        log_name: what to add to the runs' names; None: the kind.
    """

    config: Config
    tracking: TrackingSettings
    kinds: tuple[BaselineKind, ...] = models.KINDS
    log_name: str | None = None


@dataclass(frozen=True)
class Prepared:
    """What all baselines of a request share.

    Attributes:
        request: which.
        transcripts: the data.
        trainings: their division.
        features: what is looked at.
    """

    request: BaselineRequest
    transcripts: Transcripts
    trainings: list[Training]
    features: Features


@dataclass(frozen=True)
class BaselineOutcome:
    """How a baseline ended.

    Attributes:
        kind: which.
        outcome: its run.
        seconds: how long it took to train and predict.
    """

    kind: BaselineKind
    outcome: Outcome
    seconds: float


def run_baselines(request: BaselineRequest, reporter: Reporter) -> list[BaselineOutcome]:
    """Train baselines, the simplest first, and leave each as a run in the store.

    Args:
        request: which.
        reporter: takes in how it goes.

    Raises:
        Interrupted: if it was stopped; the run it was at is KILLED.
        RNATrackerError: if it can't be done; the run, if there is one already, is FAILED.
    """
    prepared = _prepare(request)
    kinds = _possible(prepared, reporter)
    with StopSignal() as stop:
        tracker = open_tracker(request.tracking)
        return [_run(tracker, prepared, kind, reporter, stop) for kind in kinds]


def _prepare(request: BaselineRequest) -> Prepared:
    data = request.config.data
    if data.path is None:
        raise UsageError(
            "data.path: no data to train on", "give a file with --data, or make one with: rnatracker data simulate FILE"
        )
    transcripts = grouped(read_for(data, data.path), data)
    trainings = divide(transcripts, data)
    return Prepared(request, transcripts, trainings, features_of(transcripts, request.tracking))


def _possible(prepared: Prepared, reporter: Reporter) -> list[BaselineKind]:
    """Return the kinds that were asked for, without trees where there are too few transcripts for one and others.

    Raises:
        DataError: if nothing is left.
    """
    kinds = [kind for kind in models.KINDS if kind in prepared.request.kinds]
    fewest = min(len(trained_on(each)) for each in prepared.trainings)
    trees = [kind for kind in kinds if kind in models.BOOSTED]
    if not trees or fewest >= FEWEST:
        return kinds
    problem = f"boosted trees need {FEWEST} training transcripts or more, and there are {fewest}"
    if trees == kinds:
        raise DataError(f"{prepared.transcripts.source}: {problem}", "use another --kind")
    reporter.line(f"{problem}: left out: {', '.join(trees)}")
    return [kind for kind in kinds if kind not in trees]


def _run(
    tracker: Tracker, prepared: Prepared, kind: BaselineKind, reporter: Reporter, stop: StopSignal
) -> BaselineOutcome:
    with stop.shielded():
        run = _start(tracker, prepared, kind)
    with (
        ending(run, None, stop, command=retrain_command(run, prepared.request.tracking)),
        LogFile(run.files.log, reporter) as log,
    ):
        _describe_start(run, prepared, kind, log)
        began = time.perf_counter()
        if prepared.trainings[0].fold:
            summary, by_fold = _folds(run, prepared, kind)
        else:
            summary, by_fold = _single(run, prepared, kind), []
        seconds = time.perf_counter() - began
        run.log_metrics({"time/seconds": seconds}, SUMMARY_STEP)
        run.set_tags({Tag.MODEL_DIGEST: digest_of_models(run.files)})
        group = "oof" if by_fold else "best"
        mean, overall = (metrics.shown(summary[f"{group}/pcc_{name}"]) for name in ("mean", "overall"))
        where = "out-of-fold" if by_fold else "validation"
        log.line(f"{run.name}: {where} PCC: mean {mean}, overall {overall}, in {seconds:.1f} s")
    sites = prepared.transcripts.sites
    return BaselineOutcome(kind, Outcome(run.id, run.name, "FINISHED", 0, summary, run.folder, sites, by_fold), seconds)


def _start(tracker: Tracker, prepared: Prepared, kind: BaselineKind) -> TrackedRun:
    """Start a run in the store with all that is known before it is trained; none is left half started."""
    request, transcripts = prepared.request, prepared.transcripts
    config, digest = request.config, transcripts.digest()
    params = {key: value for key, value in config.flat().items() if key.startswith("data.")}
    params |= {"data.sites": list(transcripts.sites), "baseline.kind": kind}
    params |= {f"baseline.{key}": value for key, value in settings_of(kind, config.train.seed).items()}
    tags = {
        Tag.KIND: "baseline",
        Tag.BASELINE: kind,
        Tag.DATA_DIGEST: digest,
        Tag.SPLIT_DIGEST: digest_of(prepared.trainings, transcripts),
        Tag.SITES: ",".join(transcripts.sites),
        Tag.SEED: str(config.train.seed),
    }
    if kind in _PACKAGES:
        tags[f"rnatracker.{_PACKAGES[kind]}"] = metadata.version(_PACKAGES[kind])
    path = Path(str(config.data.path))
    return tracker.start(
        log_name=request.log_name or kind,
        params=params,
        tags=tags | provenance.tags(),
        dataset=DatasetInput(path.name, digest, str(path), len(transcripts)),
    )


def _describe_start(run: TrackedRun, prepared: Prepared, kind: BaselineKind, log: Reporter) -> None:
    config = prepared.request.config
    settings = {"data": config.data.model_dump(mode="json"), "train": {"seed": config.train.seed}}
    files.write_text(run.files.config, plain_yaml.dump(settings))
    describe_data(run, prepared.transcripts, log, NAMES[kind])


def _train(run: TrackedRun, prepared: Prepared, kind: BaselineKind) -> tuple[Fractions, list[Baseline]]:
    """Train and predict, and leave the models' files in the run."""
    settings = prepared.request.config.train
    predicted, trained = predict(
        kind,
        prepared.features,
        prepared.transcripts,
        prepared.trainings,
        seed=settings.seed,
        threads=settings.threads or 1,
    )
    for training, model in zip(prepared.trainings, trained, strict=True):
        path = run.files.training(training.name).baseline
        path.parent.mkdir(parents=True, exist_ok=True)
        models.save(model, path)
    cache_of(prepared.transcripts, prepared.trainings, prepared.request.tracking).put(kind, predicted)
    return predicted, trained


def _folds(run: TrackedRun, prepared: Prepared, kind: BaselineKind) -> tuple[dict[str, float], list[dict[str, float]]]:
    measured, by_fold = prepared.transcripts.measured(), []
    predicted, trained = _train(run, prepared, kind)
    for each, model in zip(prepared.trainings, trained, strict=True):
        part = measured_on(each)
        scores = metrics.summarise(predicted[part], measured[part], prepared.transcripts.sites)
        by_fold.append({f"test/{name}": value for name, value in scores.items()})
        run.log_metrics({f"fold/{name}": value for name, value in scores.items()} | _chosen(model), each.fold)
    return OutOfFold(prepared.transcripts, prepared.trainings, predicted, by_fold).leave(run), by_fold


def _single(run: TrackedRun, prepared: Prepared, kind: BaselineKind) -> dict[str, float]:
    predicted, (model,) = _train(run, prepared, kind)
    part = prepared.transcripts.take(measured_on(prepared.trainings[0]))
    measured, sites = part.measured(), part.sites
    scores = metrics.summarise(predicted, measured, sites) | {"loss": metrics.kl_divergence(predicted, measured)}
    summary = {f"best/{name}": value for name, value in scores.items()}
    run.log_metrics(summary | _chosen(model), SUMMARY_STEP)
    run_table.write_predictions(run.files.validation_predictions, part.ids, sites, predicted, measured)
    plots.predicted_against_measured(
        predicted,
        measured,
        sites,
        run.files.predicted_against_measured,
        title=f"{run.name}: {len(part)} validation transcripts",
    )
    rows = [(name, metrics.shown(summary[f"best/pcc_{name}"])) for name in (*sites, "mean", "overall")]
    table = "\n".join(f"| {markdown(name)} | {value} |" for name, value in rows)
    run.describe(
        f"Validation PCC, {len(part)} transcripts, on which nothing was chosen:\n\n| site | PCC |\n|---|---|\n{table}"
    )
    return summary


def _chosen(model: Baseline) -> dict[str, float]:
    """Return what a model has chosen inside its training part, as figures."""
    return {"ridge/penalty": model.penalty} if isinstance(model, models.Linear) and model.penalty else {}
