"""One run from request to outcome: a single training or a cross-validation, new or resumed.

Owns the single run and the choice between the two. Must not know optuna or typer. Read next:
`rnatracker/training/session.py` for how a run starts and ends, `rnatracker/training/crossval.py` for k-fold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rnatracker import config, metrics
from rnatracker.config import Config
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import DataError, TrackingError, UsageError
from rnatracker.escapes import markdown
from rnatracker.lineage.others import check_same
from rnatracker.processes import identity
from rnatracker.processes.stop import StopSignal
from rnatracker.tracking.contract import SUMMARY_STEP, TrackedRun, Tracker, check_reopenable
from rnatracker.tracking.hints import retrain_command
from rnatracker.tracking.open import open_tracker, settings_of_run
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from rnatracker.training import crossval
from rnatracker.training.artifacts import Results, leave_results
from rnatracker.training.beside import Beside, nothing
from rnatracker.training.division import Training, plan, split_digest
from rnatracker.training.fold_loop import Trained, into, train_all
from rnatracker.training.parents import parent as parents
from rnatracker.training.parents import unseen
from rnatracker.training.reporting import LogFile, Reporter
from rnatracker.training.request import Outcome, PreparedRun, RunFolds, RunRequest, prepare
from rnatracker.training.session import describe_start, ending, start_run
from rnatracker.training.steps import seeds

_ORPHANS_SECONDS = 60.0
"""How long to wait for workers whose main process was killed: they end after the batch they are at."""


def train(
    request: RunRequest,
    reporter: Reporter,
    *,
    started: Callable[[TrackedRun], None] = lambda _run: None,
    prepared: PreparedRun | None = None,
    beside: Beside = nothing,
) -> Outcome:
    """Train once, or once for each fold, and leave everything about it in the store.

    Args:
        request: what to train.
        reporter: takes in how it goes.
        started: told the run before its first epoch.
        prepared: what `prepare` made of the request, if it has been done already.
        beside: compares what it has predicted with simple models.

    Raises:
        Interrupted: if it was stopped; the run is KILLED and can be resumed.
        RNATrackerError: if it can't be done; the run, if there is one already, is FAILED.
    """
    prepared = prepared or prepare(request)
    digest = split_digest(prepared)
    kind = "cross-validation" if request.config.data.fold else "train"
    with StopSignal() as stop:
        tracker = open_tracker(request.tracking)
        run = start_run(tracker, prepared, kind, digest, stop)
        started(run)
        return _train(tracker, run, prepared, reporter, stop, beside)


def resume(
    name: str,
    tracking: TrackingSettings,
    reporter: Reporter,
    *,
    data: str | None = None,
    jobs: int = 1,
    run_folds: RunFolds | None = None,
    beside: Beside = nothing,
) -> Outcome:
    """Resume a run that was interrupted, in the same run, as if nothing had happened.

    Args:
        name: the run's id, name or folder.
        tracking: where it is kept.
        reporter: takes in how it goes.
        data: where the data lie now, if they were moved.
        jobs: folds that are trained at a time.
        run_folds: trains folds elsewhere; None: they are trained here.
        beside: as for `train`.

    Raises:
        TrackingError: if there is no such run, it has finished, or is still being run: workers whose main process was
            killed are waited for.
        DataError: if the data are not those that it began with.
        Interrupted: if it was stopped again.
    """
    tracking = settings_of_run(name, tracking)
    tracker = open_tracker(tracking)
    run = tracker.find(name)
    tags = run.tags()
    if tags.get(Tag.KIND) not in ("train", "cross-validation"):
        raise TrackingError(
            f"run {run.name} is no training that can be resumed (its kind: {tags.get(Tag.KIND, 'unknown')})",
            _instead_of_resuming(run, tags.get(Tag.KIND, ""), tracking),
        )
    check_reopenable(run)
    prepared = _prepare_again(run, tags, tracking, data, jobs, run_folds)
    if run_folds is None:
        _wait_for_orphans(run, reporter)
    elif not prepared.config.data.fold:
        raise UsageError("--launcher slurm: jobs train folds, and this run has none", "leave it out")
    with StopSignal() as stop:
        with stop.shielded():
            run.reopen()
        return _train(tracker, run, prepared, reporter, stop, beside)


def _wait_for_orphans(run: TrackedRun, reporter: Reporter) -> None:
    """Wait for the workers of a run whose own process was killed: each saves its fold and ends once it notices.

    Raises:
        TrackingError: if one of them doesn't.
    """
    folds = {name: child.tags() for name, child in run.children().items() if child.status() == "RUNNING"}
    alive = {name: tags for name, tags in folds.items() if identity.is_alive_elsewhere(tags)}
    if not alive:
        return
    reporter.line(f"waiting for the killed run's workers to save {', '.join(sorted(alive))} and end")
    if not identity.wait_until_gone(alive.values(), _ORPHANS_SECONDS):
        pids = sorted({tags[identity.PID] for tags in alive.values() if identity.is_alive_elsewhere(tags)})
        raise TrackingError(
            f"run {run.name}: a worker of its killed process still trains after {_ORPHANS_SECONDS:.0f} s",
            f"wait until it has ended, or end it with: kill {' '.join(pids)}",
        )


def _prepare_again(
    run: TrackedRun,
    tags: Mapping[str, str],
    tracking: TrackingSettings,
    data: str | None,
    jobs: int,
    run_folds: RunFolds | None,
) -> PreparedRun:
    """Prepare what a run has recorded, with the data that it began with."""
    settings = _recorded_config(run, data)
    request = RunRequest(
        settings,
        tracking,
        weights=None if run.files.training().last.exists() else tags.get(Tag.WEIGHTS),
        tensorboard=tags.get(Tag.TENSORBOARD) == "true",
        jobs=jobs,
        run_folds=run_folds,
        transfer=None if _all_begun(run, settings) else parents.recorded(run.name, tags, tracking),
    )
    prepared = prepare(request, threads=int(tags.get(Tag.THREADS, "0")) or None, recorded=tags)
    if prepared.transcripts.digest() != tags.get(Tag.DATA_DIGEST):
        raise DataError(
            f"{settings.data.path}: not the transcripts that {run.name} began with (their digest differs)",
            "give the original file with --data, or start a new run",
        )
    check_same(prepared.others, tags, run.name)
    return prepared


def _all_begun(run: TrackedRun, settings: Config) -> bool:
    """Tell whether all networks of a run have saved something that they are resumed from."""
    runs = {"": run} if not settings.data.fold else run.children()
    names = [f"fold{number}" for number in range(1, settings.data.fold + 1)] or [""]
    return all(
        name in runs and all(each.last.exists() for each in runs[name].files.training().networks(settings.train.seeds))
        for name in names
    )


def _instead_of_resuming(run: TrackedRun, kind: str, tracking: TrackingSettings) -> str:
    if kind == "fold":
        return f"resume its whole run {run.parent_name()}"
    if kind in ("study", "trial"):
        return "resume its study, with its tune command"
    if kind in ("baseline", "blend"):
        return f"run it again with: {retrain_command(run, tracking)}"
    return "to train further from its weights, use --weights FILE"


def _recorded_config(run: TrackedRun, data: str | None) -> Config:
    path = run.files.config
    if not path.is_file():
        raise TrackingError(f"{path}: missing, so {run.name} can't be resumed", "start a new run")
    settings = config.build(config.read(path), path.name)
    return settings if data is None else config.with_data(settings, data)


def _train(
    tracker: Tracker, run: TrackedRun, prepared: PreparedRun, reporter: Reporter, stop: StopSignal, beside: Beside
) -> Outcome:
    trainings = plan(prepared)
    if prepared.config.data.fold:
        return crossval.cross_validate(tracker, run, prepared, trainings, reporter, stop, beside)
    return _train_single(run, prepared, trainings[0], reporter, stop, beside)


def _train_single(
    run: TrackedRun, prepared: PreparedRun, training: Training, reporter: Reporter, stop: StopSignal, beside: Beside
) -> Outcome:
    """Train a single run, new or resumed, to its end."""
    with ending(run, prepared.request, stop), LogFile(run.files.log, reporter) as log:
        describe_start(run, prepared, log)
        log.line(f"training on {len(training.train)} transcripts, validating on {len(training.validation)}")
        unseen.count(run, prepared.transcripts.take(training.validation), "validation", log)
        (trained,) = train_all(prepared, [training], into(run, log), stop)
        results = leave_results(prepared, trained)
        best, singles = trained.best_epoch, results.of_single()
        summary = _summarise(results) | {"best/epoch": float(best)} | singles
        run.log_metrics(summary, SUMMARY_STEP)
        log.line(_optimism(trained))
        if singles:
            log.line(seeds.said_beside(singles, results.scores, len(trained.networks)))
        compared = beside(prepared, [training], results.predicted)
        compared.leave(run, log)
        run.describe(_note(summary, results.part, trained) + compared.note)
    return Outcome(
        run.id,
        run.name,
        "FINISHED",
        best,
        summary | compared.metrics,
        run.folder,
        results.part.sites,
        beside=compared.lines,
        networks=len(trained.networks),
    )


def _optimism(trained: Trained) -> str:
    """Word why a single division's figures are too good."""
    epochs, n_networks = trained.best_epochs, len(trained.networks)
    if n_networks == 1:
        chosen = f"Epoch {epochs[0]} was chosen as the best of {len(trained.networks[0].history)}"
    else:
        chosen = f"Epochs {', '.join(map(str, epochs))} of {n_networks} networks were chosen as the best"
    its = "its" if n_networks == 1 else "their"
    return (
        f"{chosen} on the same transcripts that give {its} PCC: these are optimistic. --fold K measures without that."
    )


def _summarise(results: Results) -> dict[str, float]:
    part = results.part
    scores = results.scores | {"loss": metrics.kl_divergence(results.predicted, part.measured())}
    summary = {f"best/{name}": value for name, value in scores.items()}
    if part.replicates is not None:
        ceiling = metrics.summarise(*part.replicates, part.sites)
        summary |= {f"ceiling/{name}": value for name, value in ceiling.items()}
    return summary


def _note(summary: dict[str, float], part: Transcripts, trained: Trained) -> str:
    value = {name: metrics.shown(summary[f"best/pcc_{name}"]) for name in (*part.sites, "mean", "overall")}
    rows = [f"| {markdown(site)} | {value[site]} |" for site in part.sites]
    rows += [f"| **{name}** | **{value[name]}** |" for name in ("mean", "overall")]
    cautions = metrics.cautions(part.measured(), part.sites, "validation transcript")
    return "\n".join(
        [
            f"Best validation PCC, {trained.model}, {len(part)} transcripts (optimistic: chosen on the same):",
            "",
            "| site | PCC |",
            "|---|---|",
            *rows,
            *(f"\n{markdown(text)}." for text in cautions),
        ]
    )
