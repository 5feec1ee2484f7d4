"""The one loop over a run's trainings: single runs, cross-validations, trials and replays go through it.

Owns the loop, where each training's files and figures go, and what takes in how it goes. A training has one network, or
several of different seeds (`train.seeds`), one after another. What every network is to leave belongs in `_Recorder`;
what depends on the fold, in `_train_one`. Must not know optuna or typer. Read next: `rnatracker/training/division.py`
for what a training is; `rnatracker/training/trainer.py` for its epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from rnatracker import metrics
from rnatracker.choices import Objective
from rnatracker.data.encoding import Indices, cut
from rnatracker.data.transcripts import Transcripts
from rnatracker.lineage import others
from rnatracker.model import checkpoint
from rnatracker.model.batching import Batches
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.processes.stop import StopSignal
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.run_files import seed_place
from rnatracker.training.division import Training
from rnatracker.training.reporting import Reporter
from rnatracker.training.request import PreparedRun
from rnatracker.training.steps import seeds
from rnatracker.training.steps.heads import Part
from rnatracker.training.trainer import EpochResult, Stopped, Trainer, objective_on


@dataclass(frozen=True)
class Destination:
    """Where a training, or one of its networks, goes.

    Attributes:
        training: which.
        run: the run.
        log: takes in how it goes.
        label: names it among several.
        place: where the run has several trainings, or this one several networks, the name of this one: a folder of
            `checkpoints/`, and what its metrics' names begin with (`fold1`, `fold1/seed2`). A training's first network
            has that of the training.
    """

    training: Training
    run: TrackedRun
    log: Reporter
    label: str = ""
    place: str = ""

    def network(self, number: int, of: int) -> Destination:
        """Return where one of the training's networks goes.

        Args:
            number: which, from 1.
            of: how many there are.
        """
        if of == 1:
            return self
        place = "/".join(filter(None, (self.place, seed_place(number))))
        return replace(self, label=f"{self.label} seed{number}".lstrip(), place=place)

    def line(self, text: str) -> None:
        """Say something of it."""
        self.log.line(f"{self.label}: {text}" if self.label else text)

    def metric(self, name: str) -> str:
        """Return the name that a metric of this training has in the run."""
        return f"{self.place}/{name}" if self.place else name

    def metrics_of(self, result: EpochResult) -> dict[str, float]:
        """Return an epoch's figures under the names that they have in the run."""
        return {self.metric(name): value for name, value in result.as_metrics().items()}


@dataclass(frozen=True)
class Network:
    """A network that has been trained to its end.

    Attributes:
        history: all epochs' results, those before an interruption included.
        best: the best epoch's checkpoint.
    """

    history: list[EpochResult]
    best: Checkpoint


@dataclass(frozen=True)
class Trained:
    """A training that has come to its end.

    Attributes:
        destination: which, and where it went.
        networks: its networks, of which the mean is its prediction.
    """

    destination: Destination
    networks: tuple[Network, ...]

    @property
    def best_epochs(self) -> list[int]:
        """The best epoch of each network."""
        return [each.best.epoch for each in self.networks]

    @property
    def best_epoch(self) -> int:
        """The best epoch; of several networks the median, a half rounded down."""
        return int(median(self.best_epochs))

    @property
    def model(self) -> str:
        """What predicts, in words: `epoch 12`, or `mean of 2 networks at epochs 12, 9`."""
        if len(self.networks) == 1:
            return f"epoch {self.best_epoch}"
        return f"mean of {len(self.networks)} networks at epochs {', '.join(map(str, self.best_epochs))}"


class Watcher:
    """Told how trainings go. An exception from any of these ends them. Each does nothing until it is overridden."""

    def on_start(self, destination: Destination, history: Sequence[EpochResult]) -> None:
        """Take that a network's training begins, or resumes after these epochs."""

    def on_epoch(self, destination: Destination, result: EpochResult) -> None:
        """Take an epoch's result; the run has it already."""

    def on_end(self, trained: Trained) -> None:
        """Take that a training, with all of its networks, has come to its end."""


DestinationOf = Callable[[Training], AbstractContextManager[Destination]]
"""Opens where a training goes: a child run of its own, or a place in the one run of all."""


def into(run: TrackedRun, log: Reporter, label: Callable[[Training], str] = lambda each: each.name) -> DestinationOf:
    """Let all trainings go into one run, each into a place that has its name.

    Args:
        run: the run.
        log: takes in how it goes.
        label: names a training in the log.
    """
    return lambda training: nullcontext(Destination(training, run, log, label(training), training.name))


def train_all(
    prepared: PreparedRun,
    trainings: Sequence[Training],
    destination_of: DestinationOf,
    stop: StopSignal,
    watchers: Sequence[Watcher] = (),
) -> list[Trained]:
    """Train, or resume, one training after another, and in each one network after another.

    Args:
        prepared: what all of them share.
        trainings: which.
        destination_of: opens where each goes, and is closed after `on_end`.
        stop: whether to stop.
        watchers: told how they go, in this order.

    Raises:
        Stopped: if it was asked to; what was trained is saved.
        TrainingError: if a loss is no number.
    """
    results = []
    for number, training in enumerate(trainings):
        if number and stop():
            raise Stopped
        with destination_of(training) as destination:
            results.append(_train_one(prepared, destination, stop, watchers))
    return results


@dataclass(frozen=True)
class _Parts:
    """What the networks of a training see."""

    train: Part
    validation: Part
    others: list[Part]

    @classmethod
    def of(cls, prepared: PreparedRun, training: Training) -> _Parts:
        train, validation = _encode(prepared, prepared.transcripts, training.train, training.validation)
        held_out = training.held_out
        others = [_encode(prepared, each.transcripts, each.without(held_out)) for each in prepared.others]
        return cls(train, validation, [part for (part,) in others])


def _train_one(
    prepared: PreparedRun, destination: Destination, stop: StopSignal, watchers: Sequence[Watcher]
) -> Trained:
    """Train the networks of one training, those that have come to their end before excepted, and tell of its end."""
    training, n_networks = destination.training, prepared.config.train.seeds
    parts = _Parts.of(prepared, training)
    for text in (*others.said(prepared.others, training.held_out), *_cautions(prepared, parts.validation)):
        destination.line(text)
    networks = []
    for number in range(1, n_networks + 1):
        if number > 1 and stop():
            raise Stopped
        networks.append(
            _train_network(prepared, destination.network(number, n_networks), number, parts, stop, watchers)
        )
    trained = Trained(destination, tuple(networks))
    for each in watchers:
        each.on_end(trained)
    return trained


def _train_network(
    prepared: PreparedRun,
    destination: Destination,
    number: int,
    parts: _Parts,
    stop: StopSignal,
    watchers: Sequence[Watcher],
) -> Network:
    """Train, or resume, one network to its end; the destination is its own."""
    files, epochs = destination.run.files.training(destination.place), prepared.config.train.epochs
    files.folder.mkdir(exist_ok=True, parents=True)
    torch.set_num_threads(prepared.threads)
    trainer = Trainer(
        seeds.settings_of(prepared.config, number),
        prepared.transcripts.sites,
        parts.train,
        parts.validation,
        files.folder,
        device=prepared.device,
        start=checkpoint.load(files.last) if files.last.exists() else prepared.start,
        others=parts.others,
    )
    with _board(destination.run, prepared.request.tensorboard) as board, stop.polite():
        everyone = [_Recorder(prepared, board, trainer.objective), *watchers]
        for each in everyone:
            each.on_start(destination, trainer.history)

        def on_epoch(result: EpochResult) -> None:
            for each in everyone:
                each.on_epoch(destination, result)

        def on_batch(epoch: int, done: int, total: int) -> None:
            destination.log.batch(destination.label, epoch, epochs, done, total)

        trainer.fit(on_epoch, on_batch=on_batch, should_stop=stop)
    destination.log.end(destination.label)
    return Network(trainer.history, checkpoint.load(files.best))


class _Recorder(Watcher):
    """Leaves what every network's training leaves: its epochs' figures, in the run and for people.

    Args:
        prepared: what the run has prepared.
        board: a writer of TensorBoard events, or None.
        objective: by what the best epoch is chosen.
    """

    def __init__(self, prepared: PreparedRun, board: Any, objective: Objective) -> None:
        self._settings, self._board, self._objective = prepared.config.train, board, objective

    def on_start(self, destination: Destination, history: Sequence[EpochResult]) -> None:
        """Record the epochs that were saved but, when the process was killed, not yet recorded."""
        if not history:
            return
        destination.line(f"resuming after epoch {history[-1].epoch}")
        recorded = destination.run.logged_steps(destination.metric("train/loss"))
        for result in history:
            if result.epoch not in recorded:
                destination.run.log_metrics(destination.metrics_of(result), result.epoch)

    def on_epoch(self, destination: Destination, result: EpochResult) -> None:
        """Record an epoch, and upload the run where its weights were kept."""
        figures, settings = destination.metrics_of(result), self._settings
        destination.run.log_metrics(figures, result.epoch)
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, result.epoch)
        destination.log.epoch(destination.label, result, settings.epochs, self._objective)
        if settings.save_every and result.epoch % settings.save_every == 0:
            destination.run.publish()


def _cautions(prepared: PreparedRun, validation: Part) -> list[str]:
    """Word what a reader of the validation's figures should know."""
    wanted = prepared.config.train.objective
    found = metrics.cautions(validation.fractions, prepared.transcripts.sites, "validation transcript")
    chosen_by = objective_on(wanted, validation.fractions)
    if chosen_by != wanted:
        found.append(f"{wanted} is undefined here, so the best epoch is chosen by {chosen_by}")
    return found


@contextmanager
def _board(run: TrackedRun, wanted: bool) -> Iterator[Any]:
    """Open a writer of TensorBoard events in the run's folder, or give None."""
    if not wanted:
        yield None
        return
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(run.files.tensorboard), flush_secs=10) as board:
        yield board


def _encode(prepared: PreparedRun, transcripts: Transcripts, *parts: Indices) -> list[Part]:
    """Return parts of some transcripts as the trainer takes them; they share what is seen of all, encoded once."""
    settings, measured = prepared.config, transcripts.measured()
    encoded = cut(transcripts.codes, transcripts.offsets, settings.encoding, codons=settings.model.codons)
    masked, device = settings.model.masked, prepared.device
    return [Part(Batches(encoded.take(part), settings.encoding, masked, device), measured[part]) for part in parts]
