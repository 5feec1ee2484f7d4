"""One run from request to outcome: a single training or a cross-validation, new or resumed.

Owns the single run and the choice between the two. Must not know optuna or typer. Read next:
`rnatracker/training/session.py` for the pieces, `rnatracker/training/crossval.py` for k-fold.
"""

from __future__ import annotations

from collections.abc import Callable

from rnatracker import config, metrics
from rnatracker.config import Config
from rnatracker.data.encoding import Indices
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.errors import DataError, TrackingError
from rnatracker.processes.stop import StopSignal
from rnatracker.tracking.contract import SUMMARY_STEP, TrackedRun, check_reopenable
from rnatracker.tracking.open import open_tracker, settings_of_run
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from rnatracker.training import crossval
from rnatracker.training.division import divide, plan_folds, split_digest
from rnatracker.training.reporting import LogFile, Reporter
from rnatracker.training.request import Outcome, RunRequest, Setting, prepare
from rnatracker.training.session import describe_start, ending, fit, leave_results, start_run


def train(
    request: RunRequest,
    reporter: Reporter,
    *,
    started: Callable[[TrackedRun], None] = lambda _run: None,
    setting: Setting | None = None,
) -> Outcome:
    """Train once, or once for each fold, and leave everything about it in the store.

    Args:
        request: what to train.
        reporter: who is told.
        started: told the run before its first epoch.
        setting: what `prepare` made of the request, if it has been done already.

    Raises:
        Interrupted: if it was stopped; the run is KILLED and can be resumed.
        RNATrackerError: if it can't be done; the run, if there is one already, is FAILED.
    """
    setting = setting or prepare(request)
    digest = split_digest(setting)
    with StopSignal() as stop:
        tracker = open_tracker(request.tracking)
        if request.config.data.fold:
            run = start_run(tracker, setting, "cross-validation", digest, stop)
            started(run)
            return crossval.cross_validate(tracker, run, setting, plan_folds(setting), reporter, stop)
        division = divide(setting)
        run = start_run(tracker, setting, "train", digest, stop)
        started(run)
        return train_single(run, setting, division, reporter, stop)


def resume(
    name: str, tracking: TrackingSettings, reporter: Reporter, *, data: str | None = None, jobs: int = 1
) -> Outcome:
    """Go on with a run that was interrupted, in the same run, as if nothing had happened.

    Args:
        name: the run's id, name or folder.
        tracking: where it is kept.
        reporter: who is told.
        data: where the data lie now, if they were moved.
        jobs: folds that are trained at a time.

    Raises:
        TrackingError: if there is no such run, it has finished, or is still being run.
        DataError: if the data are not those that it began with.
        Interrupted: if it was stopped again.
    """
    tracking = settings_of_run(name, tracking)
    tracker = open_tracker(tracking)
    run = tracker.find(name)
    tags = run.tags()
    if tags.get(Tag.KIND) not in ("train", "cross-validation"):
        raise TrackingError(
            f"run {run.name} is no training that can be resumed (its kind: {tags.get('rnatracker.kind', 'unknown')}); "
            "a fold is resumed with its parent",
            "to train on from some weights, use --weights FILE",
        )
    check_reopenable(run)
    settings = _recorded_config(run, data)
    began = (run.folder / "checkpoints" / "last.pt").exists()
    request = RunRequest(
        settings,
        tracking,
        weights=None if began else tags.get(Tag.WEIGHTS),
        tensorboard=tags.get(Tag.TENSORBOARD) == "true",
        jobs=jobs,
    )
    setting = prepare(request, threads=int(tags.get(Tag.THREADS, "0")) or None)
    if setting.transcripts.digest() != tags.get(Tag.DATA_DIGEST):
        raise DataError(
            f"{settings.data.path}: not the transcripts that {run.name} began with (their digest differs)",
            "give the original file with --data, or start a new run",
        )
    with StopSignal() as stop:
        with stop.shielded():
            run.reopen()
        if settings.data.fold:
            return crossval.cross_validate(tracker, run, setting, plan_folds(setting), reporter, stop)
        return train_single(run, setting, divide(setting), reporter, stop)


def _recorded_config(run: TrackedRun, data: str | None) -> Config:
    path = run.folder / "config.yaml"
    if not path.is_file():
        raise TrackingError(f"{path}: missing, so {run.name} can't be resumed", "start a new run")
    settings = config.build(config.read(path), path.name)
    return settings if data is None else config.with_data(settings, data)


def train_single(
    run: TrackedRun, setting: Setting, division: tuple[Indices, Indices], reporter: Reporter, stop: StopSignal
) -> Outcome:
    """Train a single run, new or resumed, to its end."""
    with ending(run, setting.request, stop), LogFile(run.folder / "log.txt", reporter) as log:
        describe_start(run, setting, log)
        log.line(f"training on {len(division[0])} transcripts, validating on {len(division[1])}")
        history, best = fit(run, setting, division, log, "", stop)
        part, predicted = leave_results(run, setting, best, history, division[1], "validation")
        summary = _summarise(part, predicted) | {"best/epoch": float(best.epoch)}
        run.log_metrics(summary, SUMMARY_STEP)
        log.line(
            f"Epoch {best.epoch} was chosen as the best of {len(history)} on the same transcripts that give its PCC: "
            "these are optimistic. --fold K measures without that."
        )
        run.describe(_note(summary, part, best.epoch))
    return Outcome(run.id, run.name, "FINISHED", best.epoch, summary, run.folder, part.sites)


def _summarise(part: Transcripts, predicted: Fractions) -> dict[str, float]:
    measured = part.measured()
    scores = metrics.summarise(predicted, measured, part.sites) | {"loss": metrics.kl_divergence(predicted, measured)}
    summary = {f"best/{name}": value for name, value in scores.items()}
    if part.replicates is not None:
        ceiling = metrics.summarise(*part.replicates, part.sites)
        summary |= {f"ceiling/{name}": value for name, value in ceiling.items()}
    return summary


def _note(summary: dict[str, float], part: Transcripts, epoch: int) -> str:
    rows = [f"| {site} | {summary[f'best/pcc_{site}']:.3f} |" for site in part.sites]
    rows += [f"| **{name}** | **{summary[f'best/pcc_{name}']:.3f}** |" for name in ("mean", "overall")]
    return "\n".join(
        [
            f"Best validation PCC, epoch {epoch}, {len(part)} transcripts (optimistic: chosen on the same):",
            "",
            "| site | PCC |",
            "|---|---|",
            *rows,
        ]
    )
