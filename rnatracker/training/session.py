"""How a tracked run starts, and how it ends whatever happens.

Must not know optuna or typer. Read next: `rnatracker/training/request.py` for what a run is given;
`rnatracker/training/fold_loop.py` for what happens in between.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rnatracker import files
from rnatracker.config import Config
from rnatracker.data import fingerprints
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import RNATrackerError, TrackingError, TrainingError, disk_fault, is_out_of_memory
from rnatracker.lineage import others
from rnatracker.model.kernels.functions import kernel_in_use
from rnatracker.processes.stop import Interrupted, StopSignal
from rnatracker.tracking import provenance
from rnatracker.tracking.contract import DatasetInput, Status, TrackedRun, Tracker
from rnatracker.tracking.hints import resume_command
from rnatracker.tracking.tags import Tag
from rnatracker.training.reporting import Reporter
from rnatracker.training.request import PreparedRun, RunRequest
from rnatracker.training.steps import seeds
from rnatracker.training.trainer import Stopped, optimizer_kind

_log = logging.getLogger("rnatracker")


def start_run(tracker: Tracker, prepared: PreparedRun, kind: str, split_digest: str, stop: StopSignal) -> TrackedRun:
    """Start a run in the store with all that is known before its first epoch."""
    with stop.shielded():
        run = tracker.start(
            log_name=prepared.request.log_name,
            params=params_of(prepared),
            tags=tags_of(prepared, kind, split_digest) | provenance.tags() | dict(prepared.request.tags),
            dataset=dataset_of(prepared),
        )
        with ending(run, prepared.request, stop, unless_it_ends_well=True):
            files.write_text(run.files.config, prepared.config.to_yaml())
            _keep_records(run, prepared)
            run.publish()
    return run


def _keep_records(run: TrackedRun, prepared: PreparedRun) -> None:
    """Keep which transcripts have a part in a run's weights besides its own data, as far as that is known."""
    if prepared.parent is not None and prepared.parent.seen is not None:
        fingerprints.write(run.files.seen_by_parent, prepared.parent.seen)
    if prepared.others:
        found = [fingerprints.fingerprints(each.transcripts) for each in prepared.others]
        fingerprints.write(run.files.seen_beside, np.concatenate(found))


def params_of(prepared: PreparedRun) -> dict[str, object]:
    """Return the parameters of a run: all its settings, and the sites that its data have."""
    return prepared.config.flat() | {"data.sites": list(prepared.transcripts.sites)}


def tags_of(prepared: PreparedRun, kind: str, split_digest: str) -> dict[str, str]:
    """Return the tags that say what a run is made of; where its numbers come from, `provenance` says."""
    request, transcripts = prepared.request, prepared.transcripts
    tags = {
        Tag.KIND: kind,
        Tag.DATA_DIGEST: transcripts.digest(),
        Tag.SPLIT_DIGEST: split_digest,
        Tag.SITES: ",".join(transcripts.sites),
        Tag.SEED: str(prepared.config.train.seed),
        Tag.DEVICE: str(prepared.device),
        Tag.THREADS: str(prepared.threads),
        Tag.KERNEL: kernel_in_use(prepared.config.model, prepared.device)[0],
        Tag.TENSORBOARD: str(request.tensorboard).lower(),
    }
    if request.weights:
        path = Path(request.weights)
        tags |= {Tag.WEIGHTS: str(path.resolve()), Tag.WEIGHTS_DIGEST: files.digest_of(path)}
    if prepared.others:
        tags[Tag.ALSO_DIGESTS] = others.digests(prepared.others)
    return tags if prepared.parent is None else tags | prepared.parent.tags()


def dataset_of(prepared: PreparedRun) -> DatasetInput:
    """Return the transcripts as the input of a run."""
    path, transcripts = Path(str(prepared.config.data.path)), prepared.transcripts
    return DatasetInput(path.name, transcripts.digest(), str(path), len(transcripts))


def describe_data(run: TrackedRun, transcripts: Transcripts, log: Reporter, what: str = "") -> None:
    """Say what a run is, where that isn't a training, and on which data."""
    assumed = "" if transcripts.sites_named else " (as recorded: the file names none)"
    log.line(f"{run.name}: {f'{what}; ' if what else ''}{len(transcripts)} transcripts of {transcripts.source}")
    log.line(f"sites {', '.join(transcripts.sites)}{assumed}")
    if transcripts.columns:
        log.line(f"columns: {transcripts.columns}")
    for note in transcripts.notes:
        log.line(note)


def describe_start(run: TrackedRun, prepared: PreparedRun, log: Reporter) -> None:
    """Say what a training works on, and what of it a user may not expect."""
    transcripts, settings = prepared.transcripts, prepared.config
    describe_data(run, transcripts, log)
    kernel, reason = kernel_in_use(settings.model, prepared.device)
    log.line(f"{prepared.device}, threads {prepared.threads}, kernel {kernel}: {reason}")
    too_long = int((transcripts.lengths > settings.encoding.max_length).sum())
    if too_long and not settings.encoding.full_length:
        kept = {"5p": "the 5' end", "3p": "the 3' end", "both": "half of each end"}[settings.encoding.keep]
        log.line(f"{too_long} of them are longer than {settings.encoding.max_length} nt: {kept} is kept")
    if settings.train.amp and prepared.device.type != "cuda":
        log.line("mixed precision (train.amp) has no effect on this device")
    if settings.train.seeds > 1:
        own = [str(seeds.seed_of(settings.train.seed, number)) for number in range(1, settings.train.seeds + 1)]
        log.line(f"{len(own)} networks as one model, of seeds {', '.join(own)}: their mean is the prediction")
    for each in prepared.others:
        n, sites = len(each.transcripts), ", ".join(each.transcripts.sites)
        log.line(f"also {n} transcripts of {each.transcripts.source}, with a last layer of their own: {sites}")
        for note in each.transcripts.notes:
            log.line(note)
    if prepared.parent is not None:
        log.line(prepared.parent.said)
    elif prepared.start is not None:
        log.line(f"continuing after epoch {prepared.start.epoch} of {prepared.request.weights}")
        if prepared.start.optimizer is None or optimizer_kind(prepared.start) != settings.train.optimizer:
            log.line(f"the state of its optimizer is not that of {settings.train.optimizer}, which starts afresh")


@contextmanager
def ending(
    run: TrackedRun,
    request: RunRequest | None,
    stop: StopSignal,
    *,
    command: str = "",
    unless_it_ends_well: bool = False,
) -> Iterator[None]:
    """End a run as what happens within deserves: FINISHED, KILLED where it was stopped, else FAILED.

    While a run is being ended no signal interrupts it.

    Args:
        run: the run.
        request: for what the messages say; None: no network is trained, and there is a command.
        stop: the signals.
        command: what to type to resume it; empty: what resumes this run.
        unless_it_ends_well: leave the run RUNNING where nothing happens.

    Raises:
        Interrupted: in place of what stopped the run.
        TrainingError: in place of what says that memory or disk have run out.
    """
    if request is not None and not command:
        command = resume_command(run, request.tracking, request.jobs, on_cluster=request.run_folds is not None)
    settings = None if request is None else request.config
    try:
        yield
        if not unless_it_ends_well:
            with stop.shielded():
                run.finish("FINISHED")
    except (Stopped, KeyboardInterrupt, Interrupted) as error:
        saved = isinstance(error, Stopped) or (isinstance(error, Interrupted) and error.saved)
        with stop.shielded():
            _close(run, "KILLED", f"stopped on request; resume with: {command}")
        raise Interrupted(run.id, command, saved) from None
    except BaseException as error:
        worded = resource_error(error, settings, f"resume with: {command}", run.folder) or error
        if isinstance(worded, TrackingError):
            worded = _resumable(worded, command)
        with stop.shielded():
            _close(run, "FAILED", reason_of(worded))
        if isinstance(worded, RNATrackerError):
            worded.run_id = run.id
        if worded is error:
            raise
        raise worded from None


def _close(run: TrackedRun, status: Status, message: str) -> None:
    """End a run that something else has ended already: that is what the user is to read about."""
    try:
        with run.files.log.open("a", encoding="utf-8") as log:
            log.write(message + "\n")
    except (TrackingError, OSError) as error:
        _log.warning("%s: log.txt could not be written: %s", run.name, error)
    try:
        run.finish(status, message)
    except (TrackingError, OSError) as error:
        _log.warning("%s could not be recorded as %s: %s", run.name, status, error)


def reason_of(error: BaseException) -> str:
    """Word an error as what is recorded of it: one that isn't ours says its kind."""
    return str(error) if isinstance(error, RNATrackerError) else f"{type(error).__name__}: {error}"


def _resumable(error: TrackingError, command: str) -> TrackingError:
    """Return the error with what resumes the run in its remedy; a fold's error has it already when its parent ends."""
    advice = f"resume with: {command}"
    if advice in error.remedy:
        return error
    return TrackingError(error.problem, f"{error.remedy}; then {advice}" if error.remedy else advice)


def resource_error(error: BaseException, settings: Config | None, resume: str, folder: Path) -> TrainingError | None:
    """Word an error that says that memory or disk have run out; None for any other.

    Args:
        error: what was raised.
        settings: the run's settings; None where no network is trained.
        resume: what to do once there is room, as `resume with: ...`.
        folder: the run's.
    """
    if is_out_of_memory(error):
        if settings is None:
            return TrainingError("out of memory", "use fewer transcripts, or a machine with more memory")
        size = "full length" if settings.encoding.full_length else f"max_length {settings.encoding.max_length}"
        return TrainingError(
            f"out of memory with batch_size {settings.train.batch_size} and {size}",
            "use a smaller --batch_size, --max_length or model",
        )
    fault = disk_fault(error, folder)
    return TrainingError(fault[0], f"{fault[1]}, then {resume}") if fault else None
