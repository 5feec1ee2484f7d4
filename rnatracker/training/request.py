"""What a run is given, and what is checked before there is one.

Owns the request, the data read for it, and the settings that a file of weights brings. Must not know optuna or typer.
Read next: `rnatracker/training/session.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from rnatracker import config
from rnatracker.config import Config, Settings
from rnatracker.data.readers import read_for
from rnatracker.data.similarity import grouped
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import ConfigError, UsageError
from rnatracker.lineage.others import Other, others_of
from rnatracker.model import checkpoint
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.model.device import pick_device
from rnatracker.model.threads import pick_threads
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from rnatracker.training.parents import parent as parents
from rnatracker.training.parents.parent import Parent
from rnatracker.training.steps import trunk

if TYPE_CHECKING:
    from rnatracker.processes.stop import StopSignal
    from rnatracker.training.reporting import Reporter


class RunFolds(Protocol):
    """Trains and measures folds, each in a child run, until all have finished."""

    def __call__(
        self, run: TrackedRun, prepared: PreparedRun, folds: list[Any], reporter: Reporter, stop: StopSignal, /
    ) -> None:
        """Train them: `division.Training`, which knows this module.

        Raises:
            Stopped: if it was asked to.
            TrainingError: if any fold failed.
        """


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
        transfer: a run or a file of weights from whose trunk to begin.
        tags: further tags that the run has from the first moment on.
        run_folds: trains folds elsewhere than on this host; None: they are trained here.
    """

    config: Config
    tracking: TrackingSettings
    log_name: str | None = None
    weights: str | None = None
    tensorboard: bool = False
    jobs: int = 1
    transfer: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    run_folds: RunFolds | None = None


@dataclass(frozen=True)
class PreparedRun:
    """What all parts of a run share.

    Attributes:
        request: what is to be run.
        transcripts: the data.
        device: where it is computed.
        threads: CPU threads of each training.
        start: the weights to continue from in a new run, or the trunk to begin from.
        parent: the network whose trunk that is.
        others: further data sets that the trunk is trained on.
    """

    request: RunRequest
    transcripts: Transcripts
    device: torch.device
    threads: int
    start: Checkpoint | None = None
    parent: Parent | None = None
    others: tuple[Other, ...] = ()

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
        best_epoch: its best epoch; of several networks or folds the median of theirs.
        metrics: its summary: `best/...` of a single run; `oof/...`, `mean/...`, `sd/...` of a cross-validation.
        folder: where its files lie.
        sites: names of the sites.
        folds: for each fold its `test/...` metrics.
        beside: how it compares with simple models, in words.
        networks: the networks of different seeds that each of its trainings has.
    """

    run_id: str
    name: str
    state: str
    best_epoch: int
    metrics: dict[str, float]
    folder: Path
    sites: tuple[str, ...]
    folds: list[dict[str, float]] = field(default_factory=list)
    beside: tuple[str, ...] = ()
    networks: int = 1


def prepare(
    request: RunRequest, *, threads: int | None = None, recorded: Mapping[str, str] | None = None
) -> PreparedRun:
    """Read and check everything that a run needs, before there is a run.

    Args:
        request: what is to be run.
        threads: CPU threads; None: as the settings say, else one where folds run in parallel, else what is found to be
            fastest now.
        recorded: the tags of the run that this is again; None: it is a new one.

    Raises:
        RNATrackerError: if anything of it is wrong.
    """
    settings = request.config
    data, asked = settings.data, settings.train.threads
    if data.path is None:
        raise UsageError(
            "data.path: no data to train on", "give a file with --data, or make one with: rnatracker data simulate FILE"
        )
    _check_beginning(request, is_new=recorded is None)
    device = pick_device(settings.train)
    transcripts = grouped(read_for(data, data.path, recorded_sites(recorded or {})), data)
    parent = parents.find(request.transfer, request.tracking) if request.transfer else None
    start = _read_weights(request, transcripts.sites) if request.weights else None
    if parent is not None:
        start = parent.start(settings, transcripts.sites)
    threads = threads or asked or _threads(request, device, len(transcripts.sites))
    return PreparedRun(request, transcripts, device, threads, start, parent, others_of(data, transcripts))


def _check_beginning(request: RunRequest, *, is_new: bool) -> None:
    """Check that a run begins from one thing only, and has settings of a trunk only where it begins from one.

    A run that is resumed may no longer need what it began from.
    """
    settings = request.config
    if request.weights and request.transfer:
        raise UsageError("--weights with --transfer: a network begins from one of them", "leave out one")
    if request.weights and settings.data.fold:
        raise UsageError(
            "--weights with --fold: every fold would start from weights that have seen its test part",
            "use one of them, or --transfer with a network of other data",
        )
    if request.weights and settings.train.seeds > 1:
        raise UsageError(
            f"--weights with train.seeds {settings.train.seeds}: every network would start from the same weights, so "
            "that their seeds would hardly tell them apart",
            "leave out --weights, or continue one network with --set train.seeds=1",
        )
    if is_new and not (request.weights or request.transfer):
        trunk.check_together(settings.train)


def recorded_sites(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Return the sites that a run's tags name: earlier versions named those of a file without names by themselves."""
    return tuple(filter(None, tags.get(Tag.SITES, "").split(",")))


def _threads(request: RunRequest, device: torch.device, n_sites: int) -> int:
    if request.jobs > 1 and request.config.data.fold:
        return 1
    return pick_threads(request.config, n_sites) if device.type == "cpu" else torch.get_num_threads()


def settings_of_weights(path: str) -> Settings:
    """Return the settings that a file of weights brings: what it was trained with, but for the data.

    Epochs in which its trunk was frozen (`train.freeze`) lie behind it. The port's files bring their network's sizes,
    and `configs/port.yaml` for the rest.

    Raises:
        CheckpointError: if it can't be loaded.
    """
    found = checkpoint.load(Path(path))
    if found.settings:
        kept = {section: values for section, values in found.settings.items() if section != "data"}
        frozen = kept["train"].get("freeze") if isinstance(kept.get("train"), dict) else None
        if isinstance(frozen, int):
            return config.merge(kept, {"train": {"freeze": max(frozen - found.epoch, 0)}})
        return kept
    sizes = {"model": found.model.model_dump(mode="json"), "encoding": found.encoding.model_dump(mode="json")}
    return config.merge(config.read(config.find("port")), sizes)


def _read_weights(request: RunRequest, sites: tuple[str, ...]) -> Checkpoint:
    path, settings = Path(str(request.weights)), request.config
    start = checkpoint.load(path).named(sites)
    checkpoint.check_fits(start, settings.model, settings.encoding, sites, path.name)
    if start.epoch >= settings.train.epochs:
        raise ConfigError(
            f"train.epochs: {request.weights} has {start.epoch} epochs behind it, and {settings.train.epochs} in all "
            "are asked for",
            f"ask for more, as in --epochs {start.epoch + 50}",
        )
    return replace(start, progress=None)
