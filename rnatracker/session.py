"""One training inside a tracked run: what a single run and a fold have in common.

Owns what a run is given, what is checked before it starts, how an epoch reaches the store, and how a run ends whatever
happens. Must not know optuna or typer. Read next: `rnatracker/run.py` and `rnatracker/crossval.py`, which are made of
these pieces; `rnatracker/trainer.py` for the loop.
"""

from __future__ import annotations

import errno
import logging
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from rnatracker import artifacts, checkpoint, config, plots, provenance
from rnatracker.batching import Batches
from rnatracker.checkpoint import Checkpoint
from rnatracker.config import Config, Settings
from rnatracker.data.readers import read
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.device import pick_device
from rnatracker.encoding import Indices, cut
from rnatracker.errors import ConfigError, RNATrackerError, TrackingError, TrainingError
from rnatracker.predictor import Predictor
from rnatracker.reporting import Reporter
from rnatracker.stop import StopSignal
from rnatracker.tracked import DatasetInput, TrackedRun, Tracker
from rnatracker.tracking import TrackingSettings
from rnatracker.trainer import EpochResult, Part, Stopped, Trainer, optimizer_kind

_log = logging.getLogger("rnatracker")


class Interrupted(Exception):  # noqa: N818 - not an error
    """A run was stopped on request and can go on.

    Attributes:
        run_id: the run.
        command: what to type to resume it.
    """

    def __init__(self, run_id: str, command: str) -> None:
        super().__init__(command)
        self.run_id = run_id
        self.command = command


@dataclass(frozen=True)
class RunRequest:
    """What is to be run.

    Attributes:
        config: all settings.
        tracking: where the run is kept.
        log_name: what to add to the run's name.
        weights: a file of weights to continue from, in a new run.
        tensorboard: write TensorBoard events too.
        jobs: folds that are trained at a time.
    """

    config: Config
    tracking: TrackingSettings
    log_name: str | None = None
    weights: str | None = None
    tensorboard: bool = False
    jobs: int = 1


@dataclass(frozen=True)
class Setting:
    """What all parts of a run share.

    Attributes:
        request: what is to be run.
        transcripts: the data.
        device: where it is computed.
        threads: CPU threads of each training.
        start: the weights to continue from in a new run.
    """

    request: RunRequest
    transcripts: Transcripts
    device: torch.device
    threads: int
    start: Checkpoint | None = None

    @property
    def config(self) -> Config:
        """The run's settings."""
        return self.request.config


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        run_id: its id in the store.
        name: its name.
        state: FINISHED; any other end is an exception.
        best_epoch: its best epoch; for a cross-validation the median of its folds'.
        metrics: its summary: `best/...` of a single run; `oof/...`, `mean/...`, `sd/...` of a cross-validation.
        folder: where its files lie.
        sites: names of the sites.
        folds: for each fold its `test/...` metrics.
    """

    run_id: str
    name: str
    state: str
    best_epoch: int
    metrics: dict[str, float]
    folder: Path
    sites: tuple[str, ...]
    folds: list[dict[str, float]] = field(default_factory=list)


def prepare(request: RunRequest, *, threads: int | None = None) -> Setting:
    """Read and check everything that a run needs, before there is a run.

    Args:
        request: what is to be run.
        threads: CPU threads; None: as the settings say, else all, or one where folds run in parallel.

    Raises:
        RNATrackerError: if anything of it is wrong.
    """
    settings = request.config
    data, asked = settings.data, settings.train.threads
    if data.path is None:
        raise ConfigError(
            "data.path: no data to train on; give a file with --data, or make one with: rnatracker data simulate"
        )
    if request.weights and data.fold:
        raise ConfigError(
            "--weights with --fold: every fold would start from weights that have seen its test part; use one of them"
        )
    device = pick_device(settings.train)
    transcripts = read(data.path, format=data.format, sites=data.sites, labels=data.labels)
    start = _read_weights(request, transcripts.sites) if request.weights else None
    parallel = request.jobs > 1 and data.fold
    return Setting(
        request, transcripts, device, threads or asked or (1 if parallel else torch.get_num_threads()), start
    )


def settings_of_weights(path: str) -> Settings:
    """Return the settings that a file of weights brings: what it was trained with, but for the data.

    The ancestor's files bring their network's sizes, and `configs/ancestor.yaml` for the rest.

    Raises:
        CheckpointError: if it can't be loaded.
    """
    found = checkpoint.load(Path(path))
    if found.settings:
        return {section: values for section, values in found.settings.items() if section != "data"}
    sizes = {"model": found.model.model_dump(mode="json"), "encoding": found.encoding.model_dump(mode="json")}
    return config.merge(config.read(config.find("ancestor")), sizes)


def _read_weights(request: RunRequest, sites: tuple[str, ...]) -> Checkpoint:
    start, settings = checkpoint.load(Path(str(request.weights))), request.config
    checkpoint.check_fits(start, settings.model, settings.encoding, sites)
    if start.epoch >= settings.train.epochs:
        raise ConfigError(
            f"train.epochs: {request.weights} has {start.epoch} epochs behind it, and {settings.train.epochs} in all "
            f"are asked for; ask for more, as in --epochs {start.epoch + 50}"
        )
    return replace(start, progress=None)


def start_run(tracker: Tracker, setting: Setting, kind: str, split_digest: str) -> TrackedRun:
    """Start a run in the store with all that is known before its first epoch."""
    request, transcripts = setting.request, setting.transcripts
    path, digest = Path(str(setting.config.data.path)), transcripts.digest()
    tags = {
        "rnatracker.kind": kind,
        "rnatracker.data_digest": digest,
        "rnatracker.split_digest": split_digest,
        "rnatracker.sites": ",".join(transcripts.sites),
        "rnatracker.seed": str(setting.config.train.seed),
        "rnatracker.device": str(setting.device),
        "rnatracker.threads": str(setting.threads),
        "rnatracker.tensorboard": str(request.tensorboard).lower(),
        **provenance.tags(),
    }
    if request.weights:
        tags["rnatracker.weights"] = str(Path(request.weights).resolve())
    run = tracker.start(
        log_name=request.log_name,
        params=setting.config.flat() | {"data.sites": list(transcripts.sites)},
        tags=tags,
        dataset=DatasetInput(path.name, digest, str(path), len(transcripts)),
    )
    with ending(run, setting.request, unless_it_ends_well=True):
        artifacts.write_text(run.folder / "config.yaml", setting.config.to_yaml())
    return run


def describe_start(run: TrackedRun, setting: Setting, log: Reporter) -> None:
    """Say what the run works on, and what of it a user may not expect."""
    transcripts, settings = setting.transcripts, setting.config
    assumed = "" if transcripts.sites_named else " (assumed: the file names none; --sites gives others)"
    log.line(f"{run.name}: {len(transcripts)} transcripts of {transcripts.source}")
    log.line(f"sites {', '.join(transcripts.sites)}{assumed}; {setting.device}, threads {setting.threads}")
    too_long = int((transcripts.lengths > settings.encoding.max_length).sum())
    if too_long and not settings.encoding.full_length:
        kept = {"5p": "the 5' end", "3p": "the 3' end", "both": "half of each end"}[settings.encoding.keep]
        log.line(f"{too_long} of them are longer than {settings.encoding.max_length} nt: {kept} is kept")
    if settings.train.amp and setting.device.type != "cuda":
        log.line("mixed precision (train.amp) has no effect on this device")
    if setting.start is not None:
        log.line(f"continuing after epoch {setting.start.epoch} of {setting.request.weights}")
        if setting.start.optimizer is None or optimizer_kind(setting.start) != settings.train.optimizer:
            log.line(f"its optimizer's state is not that of {settings.train.optimizer}, which starts afresh")


def resume_command(run: TrackedRun, tracking: TrackingSettings) -> str:
    """Return what to type to go on with a run that was interrupted."""
    words = ["rnatracker", "train", "--resume"]
    if not tracking.enabled:
        return shlex.join([*words, str(run.folder)])
    words.append(run.name)
    if tracking.tracking_uri:
        words += ["--tracking-uri", tracking.tracking_uri]
    elif tracking.store.resolve() != (Path.cwd() / "mlruns").resolve():
        words += ["--store", str(tracking.store)]
    if tracking.experiment != "rnatracker":
        words += ["--experiment", tracking.experiment]
    return shlex.join(words)


@contextmanager
def ending(run: TrackedRun, request: RunRequest, *, unless_it_ends_well: bool = False) -> Iterator[None]:
    """End a run as what happens within deserves: FINISHED, KILLED where it was stopped, else FAILED.

    Args:
        run: the run.
        request: for what the messages say.
        unless_it_ends_well: leave the run RUNNING where nothing happens.

    Raises:
        Interrupted: in place of what stopped the run.
        TrainingError: in place of what says that memory or disk have run out.
    """
    command = resume_command(run, request.tracking)
    try:
        yield
    except (Stopped, KeyboardInterrupt, Interrupted):
        _close(run, "KILLED", f"stopped on request; resume with: {command}")
        raise Interrupted(run.id, command) from None
    except BaseException as error:
        worded = resource_error(error, request.config, command) or error
        if isinstance(worded, RNATrackerError):
            worded.run_id = run.id
            _close(run, "FAILED", str(worded))
        else:
            _close(run, "FAILED", f"{type(worded).__name__}: {worded}")
        if worded is error:
            raise
        raise worded from None
    if not unless_it_ends_well:
        run.finish("FINISHED")


def _close(run: TrackedRun, status: Any, message: str) -> None:
    """End a run that something else has ended already: that is what the user is to read about."""
    try:
        run.finish(status, message)
    except (TrackingError, OSError) as error:
        _log.warning("%s could not be recorded as %s: %s", run.name, status, error)


def resource_error(error: BaseException, settings: Config, command: str) -> TrainingError | None:
    """Word an error that says that memory or disk have run out; None for any other.

    Args:
        error: what was raised.
        settings: the run's settings.
        command: what goes on with the run, once there is room.
    """
    text = str(error)
    allocator = isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in text or "out of memory" in text)
    if isinstance(error, MemoryError) or allocator:
        size = "full length" if settings.encoding.full_length else f"max_length {settings.encoding.max_length}"
        return TrainingError(
            f"out of memory with batch_size {settings.train.batch_size} and {size}; use a smaller --batch_size, "
            "--max_length or model"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        place = f"{error.filename}: " if error.filename else ""
        return TrainingError(f"{place}the disk is full; free some space, then go on with: {command}")
    return None


def fit(
    run: TrackedRun,
    setting: Setting,
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
        setting: what all parts share.
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
    settings, folder = setting.config.train, run.folder / "checkpoints" / place
    folder.mkdir(exist_ok=True, parents=True)
    prefix = f"{place}/" if place else ""
    last = folder / "last.pt"
    torch.set_num_threads(setting.threads)
    trainer = Trainer(
        setting.config,
        setting.transcripts.sites,
        _encode(setting, division[0]),
        _encode(setting, division[1]),
        folder,
        device=setting.device,
        start=checkpoint.load(last) if last.exists() else setting.start,
    )
    _catch_up(run, trainer.history, reporter, label, prefix)
    if watch is not None:
        for result in trainer.history:
            watch(result)
    with _board(run, setting.request.tensorboard) as board, stop.polite():

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


def _encode(setting: Setting, indices: Indices) -> Part:
    part, settings = setting.transcripts.take(indices), setting.config
    encoded = cut(part.codes, part.offsets, settings.encoding)
    return Part(Batches(encoded, settings.encoding, settings.model.masked, setting.device), part.measured())


def leave_results(
    run: TrackedRun, setting: Setting, best: Checkpoint, history: list[EpochResult], indices: Indices, name: str
) -> tuple[Transcripts, Fractions]:
    """Predict a part with the best epoch's weights, and leave table and pictures in the run's folder.

    Args:
        run: the run.
        setting: what all parts share.
        best: the best epoch's checkpoint.
        history: all epochs' results.
        indices: which transcripts.
        name: what they are: `validation` or `test`.

    Returns:
        The transcripts and their predicted fractions.
    """
    part = setting.transcripts.take(indices)
    predicted = Predictor([best], setting.device).predict(part)
    artifacts.write_predictions(
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
