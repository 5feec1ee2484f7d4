"""The one train and validate loop.

Owns the loop, the optimizer, the choice of the best epoch, and what is kept to resume. Must not know mlflow or optuna,
and prints nothing: whoever wants to know listens to `on_epoch`. Read next: `rnatracker/model/network.py` for what is
trained, `rnatracker/training/run.py` for what is done with the results.

Randomness: the order of an epoch's batches, its noise and its dropout are drawn from generators seeded by (seed,
epoch), so that an epoch is the same whether or not the process was started anew before it. An epoch that was
interrupted half way is resumed at its next batch with the generator's saved state. On one machine with one number of
threads, a resumed CPU training therefore ends with the same bits as an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rnatracker import metrics
from rnatracker.choices import Objective
from rnatracker.config import Config
from rnatracker.data.encoding import Indices
from rnatracker.data.transcripts import Fractions
from rnatracker.errors import CheckpointError, TrainingError
from rnatracker.model import checkpoint as checkpoints
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.model.device import random_state, set_random_state
from rnatracker.model.network import RNATracker
from rnatracker.prediction.predictor import predict_fractions
from rnatracker.tracking.run_files import TrainingFiles
from rnatracker.training.steps import calibration, schedule, trunk
from rnatracker.training.steps.calibration import Calibration
from rnatracker.training.steps.heads import Heads, Part
from rnatracker.training.steps.loss import loss_of
from rnatracker.training.steps.noise import noisy, stretch_of

_OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
}
_AT_ONCE: dict[str, dict[str, bool]] = {"adam": {"fused": True}, "adamw": {"fused": True}, "nadam": {"foreach": True}}
"""How each takes its step in all parameters at once: one by one, it would take longer than the network's last layers,
and on a busy machine threads that wait for each other made it 60 ms."""


class Stopped(Exception):  # noqa: N818 - not an error
    """The training was asked to stop and has saved `last.pt`, from which it can be resumed."""


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave.

    Attributes:
        epoch: its number, from 1.
        train_loss: mean over transcripts of the Kullback-Leibler divergence, in nats, dropout on.
        val_loss: the same on the validation part, dropout off; None where the epoch was not evaluated.
        scores: `pcc_<site>`, `pcc_mean`, `pcc_overall` on the validation part; empty where not evaluated.
        best_epoch: the best epoch so far; 0 before the first evaluation.
        best_value: its value of the objective; of the loss, where the objective is undefined.
        epoch_seconds: wall time of the epoch with its validation.
        sequences_per_second: transcripts trained on per second.
    """

    epoch: int
    train_loss: float
    val_loss: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    best_value: float = -math.inf
    epoch_seconds: float = 0.0
    sequences_per_second: float = 0.0

    def as_metrics(self) -> dict[str, float]:
        """Return the result under the names by which it is tracked: `train/loss`, `val/pcc_mean`, ..."""
        named = {"train/loss": self.train_loss}
        if self.val_loss is not None:
            named["val/loss"] = self.val_loss
        named |= {f"val/{name}": value for name, value in self.scores.items()}
        named["time/epoch_seconds"] = self.epoch_seconds
        named["time/sequences_per_second"] = self.sequences_per_second
        return named


@dataclass
class _Progress:
    """How far a training has come: all of it goes into `last.pt`."""

    history: list[EpochResult] = field(default_factory=list)
    first_epoch: int = 1
    best_epoch: int = 0
    best_value: float = -math.inf
    batch: int = 0
    loss_sum: float = 0.0
    random_state: Tensor | None = None
    average: dict[str, Tensor] | None = None
    heads: list[dict[str, Tensor]] | None = None

    @classmethod
    def of(cls, kept: dict[str, Any]) -> _Progress:
        """Return what a checkpoint of any version has kept.

        Raises:
            CheckpointError: if an epoch's number or its loss is missing.
        """
        epochs = kept.get("history", [])
        if not isinstance(epochs, list):
            raise CheckpointError("damaged checkpoint: progress.history is not what it should be", "use another copy")
        history = [checkpoints.from_fields(EpochResult, each, "progress.history") for each in epochs]
        return checkpoints.from_fields(cls, {**kept, "history": history}, "progress")

    @property
    def next_epoch(self) -> int:
        return self.first_epoch + len(self.history)


class Trainer:
    """Trains one network.

    Args:
        config: all settings.
        sites: names of the sites, in the order of the fractions' columns.
        train: what to train on.
        validation: on what the best epoch is chosen.
        folder: where `best.pt`, `last.pt` and numbered checkpoints go; must exist.
        start: continue from these weights; their `progress`, if kept, is continued as if nothing had happened,
            else only network, optimizer and epoch are taken over. Tensors that it lacks are those of a new network.
        others: further data sets that the trunk is trained on, each with a last layer of its own.
    """

    def __init__(
        self,
        config: Config,
        sites: tuple[str, ...],
        train: Part,
        validation: Part,
        folder: Path,
        *,
        device: torch.device,
        start: Checkpoint | None = None,
        others: Sequence[Part] = (),
    ) -> None:
        self._config, self._settings = config, config.train
        self._sites, self._train, self._validation = sites, train, validation
        self._objective = objective_on(config.train.objective, validation.fractions)
        self._files = TrainingFiles(folder)
        self._device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            self.model = RNATracker(config.model, len(sites))
        self.model.to(device)
        self._targets = train.targets(device)
        self._heads = Heads(others, self.model.output.in_features, config.train, device)
        options = {"lr": config.train.lr, "weight_decay": config.train.weight_decay}
        options |= _AT_ONCE[config.train.optimizer]
        groups, self._factors = trunk.groups(self.model, config.train), trunk.factors(config.train)
        if others:
            groups, self._factors = [*groups, {"params": list(self._heads.parameters())}], (*self._factors, 1.0)
        self._optimizer = _OPTIMIZERS[config.train.optimizer](groups, **options)  # type: ignore[arg-type]
        self._average: AveragedModel | None = None
        if config.train.ema:
            self._average = AveragedModel(self.model, multi_avg_fn=_averaging(config.train.ema))
        self._n_transcripts = len(train.batches) + self._heads.n_transcripts
        self._stretch = stretch_of(config.train.window, config.train.shift, device)
        self._progress = _Progress()
        if start is not None:
            self._restore(start)

    @property
    def objective(self) -> Objective:
        """What the best epoch is chosen by, as `objective_on` says."""
        return self._objective

    @property
    def evaluated(self) -> RNATracker:
        """The network that is validated and kept: the average of the weights where there is one."""
        return self.model if self._average is None else cast(RNATracker, self._average.module)

    @property
    def history(self) -> list[EpochResult]:
        """The epochs so far, those before a resumption included."""
        return self._progress.history

    def fit(
        self,
        on_epoch: Callable[[EpochResult], None],
        *,
        on_batch: Callable[[int, int, int], None] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train until the last epoch, or until patience ends.

        After each epoch `last.pt` is written, and `best.pt` where it is the best so far, before `on_epoch` is told.

        Args:
            on_epoch: told each epoch's result; an exception from it ends the training.
            on_batch: told the epoch, its transcripts done so far, and how many it has.
            should_stop: asked after each batch and each epoch; True saves `last.pt` and ends the training.

        Raises:
            Stopped: if `should_stop` said so.
            TrainingError: if the loss is no longer a number.
        """
        progress, settings = self._progress, self._settings
        if not progress.history and not progress.batch:
            self._save_last()
        for epoch in range(progress.next_epoch, settings.epochs + 1):
            if self._out_of_patience():
                break
            to_train = max(self._n_transcripts - progress.batch * settings.batch_size, 0)
            began = time.perf_counter()
            train_loss = self._train_epoch(epoch, on_batch, should_stop)
            train_seconds = time.perf_counter() - began
            val_loss: float | None = None
            scores: dict[str, float] = {}
            calibrated: Calibration | None = None
            if epoch % settings.eval_every == 0 or epoch == settings.epochs:
                val_loss, scores, calibrated = self._validate(epoch)
                value = -val_loss if self._objective == "val_loss" else scores[self._objective]
                if value > progress.best_value or not progress.best_epoch:
                    progress.best_epoch, progress.best_value = epoch, value
                    self._save(self._files.best, epoch, scores | {"loss": val_loss}, calibrated)
            result = EpochResult(
                epoch=epoch,
                train_loss=train_loss,
                val_loss=val_loss,
                scores=scores,
                best_epoch=progress.best_epoch,
                best_value=-progress.best_value if self._objective == "val_loss" else progress.best_value,
                epoch_seconds=time.perf_counter() - began,
                sequences_per_second=to_train / train_seconds,
            )
            progress.history.append(result)
            if settings.save_every and epoch % settings.save_every == 0:
                self._save(self._files.of_epoch(epoch), epoch, scores, calibrated, optimizer=True)
            self._save_last()
            on_epoch(result)
            if should_stop() and epoch < settings.epochs:
                raise Stopped

    def _train_epoch(
        self, epoch: int, on_batch: Callable[[int, int, int], None] | None, should_stop: Callable[[], bool]
    ) -> float:
        """Train on every transcript once, or on those that an interruption left.

        Returns:
            The mean loss of the first data set.
        """
        progress, settings = self._progress, self._settings
        first = self._train.batches.training_order(settings.batch_size, np.random.default_rng([settings.seed, epoch]))
        order = self._heads.steps(first, epoch)
        self._seed_dropout(epoch)
        self.model.train()
        if trunk.is_apart(settings):
            trunk.set_frozen(self.model, epoch - progress.first_epoch < settings.freeze or not settings.trunk_lr)
        exact = torch.float32 if self._device.type == "mps" else torch.float64  # MPS has no float64
        loss_sum = torch.tensor(progress.loss_sum, dtype=exact, device=self._device)
        n, done = (
            len(self._train.batches),
            sum(len(each.indices) for each in order[: progress.batch] if not each.source),
        )
        for number in range(progress.batch, len(order)):
            self._set_rate(epoch, number / len(order))
            step = order[number]
            loss = self._step(step.indices, step.source)
            if not step.source:
                loss_sum += loss * len(step.indices)
                done += len(step.indices)
            if on_batch:
                on_batch(epoch, done, n)
            if should_stop() and number + 1 < len(order):
                progress.batch, progress.loss_sum = number + 1, float(loss_sum)
                progress.random_state = random_state(self._device)
                self._save_last()
                raise Stopped
        progress.batch, progress.loss_sum, progress.random_state = 0, 0.0, None
        mean = float(loss_sum) / n
        if not math.isfinite(mean):
            raise TrainingError(
                f"epoch {epoch}: the training loss is {mean}",
                f"train.lr {settings.lr:g} is probably too high: try --lr {settings.lr / 10:g}",
            )
        return mean

    def _step(self, indices: Indices, source: int = 0) -> Tensor:
        """Take one step of the optimizer; return the batch's loss without waiting for the device.

        Args:
            indices: (B,) which transcripts.
            source: of which data set: 0 the first, or one of the further ones.
        """
        settings = self._settings
        part, targets, output = self._heads.of(source) if source else (self._train, self._targets, None)
        batch = part.batches.gather(indices, self._stretch)
        target = targets[torch.from_numpy(indices).to(self._device)]
        codes = noisy(batch.codes, settings.mask, settings.exchange)
        amp = settings.amp and self._device.type == "cuda"
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=amp):
            logits = self.model(codes, batch.lengths, batch.total_lengths, output)
        loss = loss_of(logits, target, settings.pcc_weight)
        if source:
            loss = loss * settings.also_weight
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.clip:
            torch.nn.utils.clip_grad_norm_([*self.model.parameters(), *self._heads.parameters()], settings.clip)
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.model)
        return loss.detach()

    def _set_rate(self, epoch: int, share: float) -> None:
        """Set the learning rate of the step that comes after this share of an epoch."""
        settings, first = self._settings, self._progress.first_epoch
        if settings.schedule == "constant" and not settings.warmup:
            return
        done = (epoch - first + share) / (settings.epochs - first + 1)
        rate = settings.lr * schedule.rate(settings.schedule, done, settings.warmup)
        for group, factor in zip(self._optimizer.param_groups, self._factors, strict=True):
            group["lr"] = rate * factor

    def _validate(self, epoch: int) -> tuple[float, dict[str, float], Calibration | None]:
        """Predict the validation part; return its loss and its scores, calibrated where that is asked for."""
        predicted = predict_fractions(self.evaluated, self._validation.batches)
        measured = self._validation.fractions
        calibrated = None
        if self._settings.calibrate and np.isfinite(predicted).all():
            calibrated = calibration.fit(predicted, measured)
            predicted = calibrated.apply(predicted)
        loss = metrics.kl_divergence(predicted, measured)
        if not math.isfinite(loss):
            raise TrainingError(f"epoch {epoch}: the validation loss is {loss}", "try a lower --lr")
        return loss, metrics.summarise(predicted, measured, self._sites), calibrated

    def _out_of_patience(self) -> bool:
        settings, history = self._settings, self._progress.history
        if not settings.patience or not self._progress.best_epoch:
            return False
        evaluated = [r for r in history if r.val_loss is not None and r.epoch > self._progress.best_epoch]
        return len(evaluated) >= settings.patience

    def _seed_dropout(self, epoch: int) -> None:
        if self._progress.random_state is not None:
            set_random_state(self._device, self._progress.random_state)
        else:
            torch.manual_seed(int(np.random.SeedSequence([self._settings.seed, epoch]).generate_state(1)[0]))

    def _save(
        self,
        path: Path,
        epoch: int,
        scores: dict[str, float],
        calibrated: Calibration | None = None,
        *,
        optimizer: bool = False,
    ) -> None:
        """Save what one predicts with."""
        content = self._content(self.evaluated)
        if calibrated is not None:
            content["weights"] = calibrated.into(content["weights"])
        self._write(path, Checkpoint(**content, epoch=epoch, metrics=scores), optimizer)

    def _save_last(self) -> None:
        progress = self._progress
        state = asdict(progress) | {"history": [asdict(result) for result in progress.history]}
        state["heads"] = self._heads.states() if len(self._heads) else None
        state["average"] = None if self._average is None else _tensors(self._average)
        scores = progress.history[-1].scores if progress.history else {}
        content = Checkpoint(**self._content(self.model), epoch=progress.next_epoch - 1, metrics=scores, progress=state)
        self._write(self._files.last, content, optimizer=True)

    def _content(self, model: RNATracker) -> dict[str, Any]:
        return {
            "model": self._config.model,
            "encoding": self._config.encoding,
            "sites": self._sites,
            "weights": _tensors(model),
            "settings": self._config.model_dump(mode="json"),
        }

    def _write(self, path: Path, content: Checkpoint, optimizer: bool) -> None:
        state = self._optimizer.state_dict() if optimizer else None
        checkpoints.save(Checkpoint(**{**vars(content), "optimizer": state}), path)

    def _restore(self, start: Checkpoint) -> None:
        self.model.load_state_dict(self.model.state_dict() | start.weights)
        self._load_optimizer(start)
        if start.progress is not None:
            self._progress = _Progress.of(start.progress)
            self._heads.restore(self._progress.heads)
            self._progress.heads = None
            self._load_average()
        else:
            self._progress.first_epoch = start.epoch + 1

    def _load_average(self) -> None:
        """Take over the average of the weights, which only a resumed training has."""
        found, self._progress.average = self._progress.average, None
        if self._average is None:
            return
        try:
            self._average.load_state_dict(found or {})
        except (RuntimeError, AttributeError, TypeError):
            raise CheckpointError(
                "damaged checkpoint: progress.average doesn't fit its network", "use another copy"
            ) from None

    def _load_optimizer(self, start: Checkpoint) -> None:
        """Take over the optimizer's state; its rates only where the same run resumes.

        An optimizer of another kind starts afresh: its state would mean something else.
        """
        kept = start.optimizer
        if kept is None or optimizer_kind(start) != self._settings.optimizer:
            return
        if start.progress is None:
            n = len(list(self.model.parameters()))
            kept = trunk.regrouped(kept, self._optimizer.state_dict()["param_groups"], n)
        try:
            self._optimizer.load_state_dict(kept)
        except ValueError as error:
            raise CheckpointError(
                f"the checkpoint's optimizer doesn't fit its network: {error}", "use another copy"
            ) from None
        if start.progress is None:
            for group, factor in zip(self._optimizer.param_groups, self._factors, strict=True):
                group |= {"lr": self._settings.lr * factor, "weight_decay": self._settings.weight_decay}


def objective_on(wanted: Objective, fractions: Fractions) -> Objective:
    """Return what the best epoch is chosen by: what is wanted, or the loss where that is undefined.

    Args:
        wanted: the settings' objective.
        fractions: (N, S) those of the validation part.
    """
    return wanted if metrics.is_defined(wanted, fractions) else "val_loss"


def _averaging(decay: float) -> Any:
    """Return how PyTorch's average of the weights takes in new ones."""
    return get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]


def _tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in module.state_dict().items()}


def optimizer_kind(start: Checkpoint) -> str:
    """Return which optimizer a checkpoint's state belongs to; the port has Adam only."""
    return str(start.settings.get("train", {}).get("optimizer", "adam"))
