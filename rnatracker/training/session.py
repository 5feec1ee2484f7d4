"""One training inside a tracked run: what a single run and a fold have in common.

Owns how a run starts, how an epoch reaches the store, and how a run ends whatever happens. Must not know optuna or
typer. Read next: `rnatracker/training/request.py` for what a run is given; `rnatracker/training/run.py` and
`rnatracker/training/crossval.py`, which are made of these pieces; `rnatracker/training/trainer.py` for the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rnatracker import files, plots
from rnatracker.config import Config
from rnatracker.data.encoding import Indices, cut
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.errors import RNATrackerError, TrackingError, TrainingError, is_disk_full, is_out_of_memory
from rnatracker.model import checkpoint
from rnatracker.model.batching import Batches
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.model.kernels.functions import kernel_in_use
from rnatracker.prediction import run_table
from rnatracker.prediction.predictor import Predictor
from rnatracker.processes.stop import Interrupted, StopSignal
from rnatracker.tracking import provenance
from rnatracker.tracking.contract import DatasetInput, Status, TrackedRun, Tracker
from rnatracker.tracking.hints import resume_command
from rnatracker.tracking.tags import Tag
from rnatracker.training.reporting import Reporter
from rnatracker.training.request import PreparedRun, RunRequest
from rnatracker.training.trainer import EpochResult, Part, Stopped, Trainer, optimizer_kind

_log = logging.getLogger("rnatracker")


def start_run(tracker: Tracker, prepared: PreparedRun, kind: str, split_digest: str, stop: StopSignal) -> TrackedRun:
    """Start a run in the store with all that is known before its first epoch."""
    request, transcripts = prepared.request, prepared.transcripts
    path, digest = Path(str(prepared.config.data.path)), transcripts.digest()
    tags = {
        Tag.KIND: kind,
        Tag.DATA_DIGEST: digest,
        Tag.SPLIT_DIGEST: split_digest,
        Tag.SITES: ",".join(transcripts.sites),
        Tag.SEED: str(prepared.config.train.seed),
        Tag.DEVICE: str(prepared.device),
        Tag.THREADS: str(prepared.threads),
        Tag.KERNEL: kernel_in_use(prepared.config.model, prepared.device)[0],
        Tag.TENSORBOARD: str(request.tensorboard).lower(),
        **provenance.tags(),
    }
    if request.weights:
        tags |= {
            Tag.WEIGHTS: str(Path(request.weights).resolve()),
            Tag.WEIGHTS_DIGEST: files.digest_of(Path(request.weights)),
        }
    with stop.shielded():
        run = tracker.start(
            log_name=request.log_name,
            params=prepared.config.flat() | {"data.sites": list(transcripts.sites)},
            tags=tags,
            dataset=DatasetInput(path.name, digest, str(path), len(transcripts)),
        )
        with ending(run, request, stop, unless_it_ends_well=True):
            files.write_text(run.folder / "config.yaml", prepared.config.to_yaml())
            run.publish()
    return run


def describe_start(run: TrackedRun, prepared: PreparedRun, log: Reporter) -> None:
    """Say what the run works on, and what of it a user may not expect."""
    transcripts, settings = prepared.transcripts, prepared.config
    assumed = "" if transcripts.sites_named else " (assumed: the file names none; --sites gives others)"
    log.line(f"{run.name}: {len(transcripts)} transcripts of {transcripts.source}")
    log.line(f"sites {', '.join(transcripts.sites)}{assumed}")
    kernel, reason = kernel_in_use(settings.model, prepared.device)
    log.line(f"{prepared.device}, threads {prepared.threads}, kernel {kernel}: {reason}")
    too_long = int((transcripts.lengths > settings.encoding.max_length).sum())
    if too_long and not settings.encoding.full_length:
        kept = {"5p": "the 5' end", "3p": "the 3' end", "both": "half of each end"}[settings.encoding.keep]
        log.line(f"{too_long} of them are longer than {settings.encoding.max_length} nt: {kept} is kept")
    if settings.train.amp and prepared.device.type != "cuda":
        log.line("mixed precision (train.amp) has no effect on this device")
    if prepared.start is not None:
        log.line(f"continuing after epoch {prepared.start.epoch} of {prepared.request.weights}")
        if prepared.start.optimizer is None or optimizer_kind(prepared.start) != settings.train.optimizer:
            log.line(f"its optimizer's state is not that of {settings.train.optimizer}, which starts afresh")


@contextmanager
def ending(
    run: TrackedRun, request: RunRequest, stop: StopSignal, *, command: str = "", unless_it_ends_well: bool = False
) -> Iterator[None]:
    """End a run as what happens within deserves: FINISHED, KILLED where it was stopped, else FAILED.

    While a run is being ended no signal interrupts it.

    Args:
        run: the run.
        request: for what the messages say.
        stop: the signals.
        command: what to type to go on; empty: what resumes this run.
        unless_it_ends_well: leave the run RUNNING where nothing happens.

    Raises:
        Interrupted: in place of what stopped the run.
        TrainingError: in place of what says that memory or disk have run out.
    """
    command = command or resume_command(run, request.tracking, request.jobs)
    try:
        yield
        if not unless_it_ends_well:
            with stop.shielded():
                run.finish("FINISHED")
    except (Stopped, KeyboardInterrupt, Interrupted) as error:
        saved = isinstance(error, Stopped) or (isinstance(error, Interrupted) and error.saved)
        with stop.shielded():
            _close(run, "KILLED", f"stopped on request; go on with: {command}")
        raise Interrupted(run.id, command, saved) from None
    except BaseException as error:
        worded = resource_error(error, request.config, command, run.folder) or error
        if isinstance(worded, TrackingError):
            worded = TrackingError(f"{worded}. Go on with: {command}")
        ours = isinstance(worded, RNATrackerError)
        with stop.shielded():
            _close(run, "FAILED", str(worded) if ours else f"{type(worded).__name__}: {worded}")
        if isinstance(worded, RNATrackerError):
            worded.run_id = run.id
        if worded is error:
            raise
        raise worded from None


def _close(run: TrackedRun, status: Status, message: str) -> None:
    """End a run that something else has ended already: that is what the user is to read about."""
    try:
        with (run.folder / "log.txt").open("a", encoding="utf-8") as log:
            log.write(message + "\n")
    except (TrackingError, OSError) as error:
        _log.warning("%s: log.txt could not be written: %s", run.name, error)
    try:
        run.finish(status, message)
    except (TrackingError, OSError) as error:
        _log.warning("%s could not be recorded as %s: %s", run.name, status, error)


def resource_error(error: BaseException, settings: Config, command: str, folder: Path) -> TrainingError | None:
    """Word an error that says that memory or disk have run out; None for any other.

    Args:
        error: what was raised.
        settings: the run's settings.
        command: what goes on with the run, once there is room.
        folder: the run's.
    """
    if is_out_of_memory(error):
        size = "full length" if settings.encoding.full_length else f"max_length {settings.encoding.max_length}"
        return TrainingError(
            f"out of memory with batch_size {settings.train.batch_size} and {size}",
            "use a smaller --batch_size, --max_length or model",
        )
    if is_disk_full(error):
        place = getattr(error, "filename", None) or folder
        return TrainingError(f"{place}: the disk is full", f"free some space, then go on with: {command}")
    return None


def fit(
    run: TrackedRun,
    prepared: PreparedRun,
    division: tuple[Indices, Indices],
    reporter: Reporter,
    label: str,
    stop: StopSignal,
    *,
    place: str = "",
    watch: Callable[[EpochResult], None] | None = None,
) -> tuple[list[EpochResult], Checkpoint]:
    """Train, or go on training, one network into a run's folder.

    Args:
        run: the run.
        prepared: what all parts share.
        division: indices of the training part and of the part on which the best epoch is chosen.
        reporter: who is told.
        label: names this training among several.
        stop: whether to stop.
        place: where a run has several trainings, the name of this one: a folder of `checkpoints/`, and what its
            metrics' names begin with (`fold1`).
        watch: told each epoch's result after it is recorded, those before an interruption included; an exception
            from it ends the training.

    Returns:
        All epochs' results, those before an interruption included, and the best epoch's checkpoint.
    """
    settings, folder = prepared.config.train, run.folder / "checkpoints" / place
    folder.mkdir(exist_ok=True, parents=True)
    prefix = f"{place}/" if place else ""
    last = folder / "last.pt"
    torch.set_num_threads(prepared.threads)
    trainer = Trainer(
        prepared.config,
        prepared.transcripts.sites,
        _encode(prepared, division[0]),
        _encode(prepared, division[1]),
        folder,
        device=prepared.device,
        start=checkpoint.load(last) if last.exists() else prepared.start,
    )
    _catch_up(run, trainer.history, reporter, label, prefix)
    if watch is not None:
        for result in trainer.history:
            watch(result)
    with _board(run, prepared.request.tensorboard) as board, stop.polite():

        def on_epoch(result: EpochResult) -> None:
            named = {prefix + name: value for name, value in result.as_metrics().items()}
            run.log_metrics(named, result.epoch)
            if board is not None:
                for name, value in named.items():
                    board.add_scalar(name, value, result.epoch)
            reporter.epoch(label, result, settings.epochs, settings.objective)
            if settings.save_every and result.epoch % settings.save_every == 0:
                run.publish()
            if watch is not None:
                watch(result)

        trainer.fit(
            on_epoch,
            on_batch=lambda epoch, done, total: reporter.batch(label, epoch, settings.epochs, done, total),
            should_stop=stop,
        )
    reporter.end(label)
    return trainer.history, checkpoint.load(folder / "best.pt")


def _catch_up(run: TrackedRun, history: list[EpochResult], reporter: Reporter, label: str, prefix: str) -> None:
    """Record the epochs that were saved but, when the process was killed, not yet recorded."""
    if not history:
        return
    reporter.line(f"{label}{': ' if label else ''}going on after epoch {history[-1].epoch}")
    logged = run.logged_steps(f"{prefix}train/loss")
    for result in history:
        if result.epoch not in logged:
            run.log_metrics({prefix + name: value for name, value in result.as_metrics().items()}, result.epoch)


@contextmanager
def _board(run: TrackedRun, wanted: bool) -> Iterator[Any]:
    """Open a writer of TensorBoard events in the run's folder, or give None."""
    if not wanted:
        yield None
        return
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(run.folder / "tensorboard"), flush_secs=10) as board:
        yield board


def _encode(prepared: PreparedRun, indices: Indices) -> Part:
    """Return a part of the transcripts as the trainer takes it; the sequences are shared, not copied."""
    transcripts, settings = prepared.transcripts, prepared.config
    encoded = cut(transcripts.codes, transcripts.offsets, settings.encoding).take(indices)
    batches = Batches(encoded, settings.encoding, settings.model.masked, prepared.device)
    return Part(batches, transcripts.measured()[indices])


def leave_results(
    run: TrackedRun, prepared: PreparedRun, best: Checkpoint, history: list[EpochResult], indices: Indices, name: str
) -> tuple[Transcripts, Fractions]:
    """Predict a part with the best epoch's weights, and leave table and pictures in the run's folder.

    Args:
        run: the run.
        prepared: what all parts share.
        best: the best epoch's checkpoint.
        history: all epochs' results.
        indices: which transcripts.
        name: what they are: `validation` or `test`.

    Returns:
        The transcripts and their predicted fractions.
    """
    part = prepared.transcripts.take(indices)
    predicted = Predictor([best], prepared.device).predict(part)
    run_table.write_predictions(
        run.folder / "predictions" / f"{name}.tsv", part.ids, part.sites, predicted, part.measured()
    )
    pictures = run.folder / "plots"
    pictures.mkdir(exist_ok=True)
    rows = [
        {
            "epoch": r.epoch,
            "train_loss": r.train_loss,
            **({} if r.val_loss is None else {"val_loss": r.val_loss}),
            **r.scores,
        }
        for r in history
    ]
    plots.learning_curves(rows, pictures / "learning_curves.png", best_epoch=best.epoch)
    plots.predicted_against_measured(
        predicted,
        part.measured(),
        part.sites,
        pictures / "predicted_against_measured.png",
        title=f"{run.name}: {len(part)} {name} transcripts, epoch {best.epoch}",
    )
    return part, predicted
