"""The loop: learning, choosing the best epoch, stopping and resuming."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnatracker import metrics
from rnatracker.config import Config
from rnatracker.errors import CheckpointError, ConfigError, TrainingError
from rnatracker.model import checkpoint
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.prediction.predictor import Predictor, predict_fractions
from rnatracker.training.steps import schedule as schedules
from rnatracker.training.trainer import EpochResult, Stopped, Trainer
from tests.support.toys import SITES, part_of, small_config, toy_transcripts

_CPU = torch.device("cpu")


def _trainer(settings: Config, folder: Path, start: Checkpoint | None = None) -> Trainer:
    train, validation = (part_of(toy_transcripts(n, seed), settings) for n, seed in ((40, 0), (20, 1)))
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    return Trainer(settings, SITES, train, validation, folder, device=_CPU, start=start)


def _fit(settings: Config, folder: Path, **options: Any) -> list[EpochResult]:
    results: list[EpochResult] = []
    start = options.pop("start", None)
    _trainer(settings, folder, start).fit(results.append, **options)
    return results


def _weights(folder: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    return checkpoint.load(folder / name).weights


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_training_learns_what_can_be_learned(tmp_path: Path) -> None:
    results = _fit(small_config(train__epochs=40), tmp_path)
    assert results[-1].scores["pcc_mean"] > 0.8
    assert results[-1].train_loss < 0.5 * results[0].train_loss


def test_training_gives_the_same_bits_when_the_seed_is_the_same(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        _fit(small_config(train__seed=seed), tmp_path / name)
    assert _same(_weights(tmp_path / "a"), _weights(tmp_path / "b"))
    assert not _same(_weights(tmp_path / "a"), _weights(tmp_path / "c"))


def test_training_is_not_changed_by_who_listens(tmp_path: Path) -> None:
    _fit(small_config(), tmp_path / "a")
    _trainer(small_config(), tmp_path / "b").fit(lambda result: torch.manual_seed(99), on_batch=lambda *_: None)
    assert _same(_weights(tmp_path / "a"), _weights(tmp_path / "b"))


_EVERYTHING = {
    "train__ema": 0.9,
    "train__schedule": "one-cycle",
    "train__warmup": 0.2,
    "train__clip": 0.5,
    "train__mask": 0.1,
    "train__exchange": 0.1,
    "train__window": 50,
    "train__shift": 5,
    "train__pcc_weight": 0.5,
    "train__calibrate": True,
    "train__optimizer": "adamw",
    "train__weight_decay": 0.01,
}


@pytest.mark.parametrize(
    ("changes", "batches"),
    [*(({}, n) for n in range(1, 16)), *((_EVERYTHING, n) for n in (1, 5, 7, 14))],
    ids=lambda each: each if isinstance(each, int) else "everything" if each else "plain",
)
def test_resumed_training_gives_the_same_bits_when_stopped_after_any_batch(
    batches: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    settings = small_config(**changes)  # 3 epochs of 5 batches
    whole = _fit(settings, tmp_path / "whole")
    asked = iter(range(1000))

    def stop() -> bool:
        return next(asked) >= batches

    try:
        _trainer(settings, tmp_path / "parts").fit(lambda _: None, should_stop=stop)
    except Stopped:
        resumed = _trainer(settings, tmp_path / "parts", checkpoint.load(tmp_path / "parts" / "last.pt"))
        resumed.fit(lambda _: None)
        for before, after in zip(whole, resumed.history, strict=True):
            assert (before.train_loss, before.val_loss, before.scores) == (
                after.train_loss,
                after.val_loss,
                after.scores,
            )
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "parts"))
    assert _same(_weights(tmp_path / "whole", "best.pt"), _weights(tmp_path / "parts", "best.pt"))


@pytest.mark.parametrize("kernel", ["auto", "torch"])
@pytest.mark.parametrize("kind", ["entry", "channel"])
def test_resumed_training_gives_the_same_bits_with_dropout_everywhere(kind: str, kernel: str, tmp_path: Path) -> None:
    dropout = {"model__dropout": 0.2, "model__rnn_dropout": 0.3, "model__output_dropout": 0.4}
    settings = small_config(model__dropout_kind=kind, model__kernel=kernel, **dropout)
    _fit(settings, tmp_path / "whole")
    _stopped_after_an_epoch(settings, tmp_path / "parts")
    _fit(settings, tmp_path / "parts", start=checkpoint.load(tmp_path / "parts" / "last.pt"))
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "parts"))


def _stopped_after_an_epoch(settings: Config, folder: Path) -> dict[str, Any]:
    """Train one epoch and a bit; return what `last.pt` holds."""
    asked = iter(range(1000))
    with pytest.raises(Stopped):
        _trainer(settings, folder).fit(lambda _: None, should_stop=lambda: next(asked) >= 7)
    return dict(torch.load(folder / "last.pt", weights_only=True))


@pytest.mark.parametrize(
    "change",
    [
        lambda progress: progress.update(newer={"a": 1}),
        lambda progress: progress["history"][0].update(newer=0.5),
        lambda progress: progress["history"][0].pop("sequences_per_second"),
    ],
    ids=["newer in progress", "newer in history", "missing in history"],
)
def test_training_resumes_from_another_versions_progress(change: Any, tmp_path: Path) -> None:
    settings = small_config()
    _fit(settings, tmp_path / "whole")
    content = _stopped_after_an_epoch(settings, tmp_path / "parts")
    assert len(content["progress"]["history"]) == 1
    change(content["progress"])
    torch.save(content, tmp_path / "parts" / "last.pt")
    resumed = _trainer(settings, tmp_path / "parts", checkpoint.load(tmp_path / "parts" / "last.pt"))
    resumed.fit(lambda _: None)
    assert [each.epoch for each in resumed.history] == [1, 2, 3]
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "parts"))


def test_progress_without_an_optional_field_gets_its_default(tmp_path: Path) -> None:
    settings = small_config()
    _fit(settings, tmp_path / "whole")
    _fit(settings.model_copy(update={"train": settings.train.model_copy(update={"epochs": 2})}), tmp_path / "parts")
    content = dict(torch.load(tmp_path / "parts" / "last.pt", weights_only=True))
    for name in ("random_state", "batch", "loss_sum", "first_epoch"):  # as between two epochs of a new run
        del content["progress"][name]
    torch.save(content, tmp_path / "parts" / "last.pt")
    _fit(settings, tmp_path / "parts", start=checkpoint.load(tmp_path / "parts" / "last.pt"))
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "parts"))


@pytest.mark.parametrize(
    ("progress", "named"),
    [
        ({"history": [{"train_loss": 0.5}]}, "progress.history.epoch"),
        ({"history": [3]}, "progress.history"),
        ({"history": 3}, "progress.history"),
    ],
)
def test_progress_without_what_it_takes_is_refused(progress: dict[str, Any], named: str, tmp_path: Path) -> None:
    settings = small_config()
    network = _trainer(settings, tmp_path).model
    start = Checkpoint(settings.model, settings.encoding, SITES, network.state_dict(), 1, progress=progress)
    with pytest.raises(CheckpointError) as caught:
        _trainer(settings, tmp_path, start)
    assert named in caught.value.problem


@pytest.mark.parametrize(("objective", "pick"), [("pcc_mean", max), ("pcc_overall", max), ("val_loss", min)])
def test_best_epoch_is_that_of_the_objective(objective: str, pick: Any, tmp_path: Path) -> None:
    results = _fit(small_config(train__objective=objective, train__epochs=8, train__lr=0.05), tmp_path)
    values = [r.val_loss if objective == "val_loss" else r.scores[objective] for r in results]
    best = checkpoint.load(tmp_path / "best.pt")
    assert best.epoch == results[-1].best_epoch == values.index(pick(values)) + 1
    assert results[-1].best_value == pick(values)


def test_best_weights_give_the_validation_figures_of_their_epoch(tmp_path: Path) -> None:
    results = _fit(small_config(train__epochs=5), tmp_path)
    validation = toy_transcripts(20, 1)
    predicted = Predictor([checkpoint.load(tmp_path / "best.pt")], _CPU).predict(validation)
    pcc = [np.corrcoef(predicted[:, i], validation.measured()[:, i])[0, 1] for i in range(3)]
    assert np.mean(pcc) == pytest.approx(results[results[-1].best_epoch - 1].scores["pcc_mean"], abs=1e-9)


def test_patience_ends_the_training_when_nothing_improves(tmp_path: Path) -> None:
    results = _fit(small_config(train__epochs=50, train__lr=1e-12, train__patience=2), tmp_path)
    assert len(results) <= results[-1].best_epoch + 2 < 50


def test_epochs_between_evaluations_have_no_figures_but_the_last_always(tmp_path: Path) -> None:
    results = _fit(small_config(train__epochs=5, train__eval_every=2), tmp_path)
    assert [bool(r.scores) for r in results] == [False, True, False, True, True]
    assert [r.val_loss is None for r in results] == [True, False, True, False, False]


def test_numbered_checkpoints_are_kept_when_asked_for(tmp_path: Path) -> None:
    _fit(small_config(train__epochs=4, train__save_every=2), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "epoch2.pt", "epoch4.pt", "last.pt"]
    assert _same(_weights(tmp_path, "epoch4.pt"), _weights(tmp_path))


def test_loss_that_is_no_number_ends_the_training_with_its_epoch(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        _fit(small_config(train__lr=1e36), tmp_path)
    assert re.fullmatch(r"epoch \d+: the (training|validation) loss is (nan|inf)", caught.value.problem)
    assert "--lr" in caught.value.remedy


def test_training_continues_from_weights_with_optimizer_and_next_epoch(tmp_path: Path) -> None:
    settings = small_config(train__epochs=4, train__save_every=2)
    _fit(settings, tmp_path / "whole")
    start = checkpoint.load(tmp_path / "whole" / "epoch2.pt")
    results = _fit(settings, tmp_path / "continued", start=start)
    assert [r.epoch for r in results] == [3, 4]
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "continued"))


def test_new_learning_rate_is_used_when_continuing_from_weights(tmp_path: Path) -> None:
    _fit(small_config(train__epochs=1), tmp_path / "a")
    start = checkpoint.load(tmp_path / "a" / "last.pt")
    start = Checkpoint(**(vars(start) | {"progress": None}))
    _fit(small_config(train__epochs=2, train__lr=0.5), tmp_path / "b", start=start)
    optimizer = checkpoint.load(tmp_path / "b" / "last.pt").optimizer
    assert optimizer is not None
    assert optimizer["param_groups"][0]["lr"] == 0.5


def test_optimizer_starts_afresh_when_it_is_of_another_kind(tmp_path: Path) -> None:
    _fit(small_config(train__epochs=1), tmp_path / "a")
    start = Checkpoint(**(vars(checkpoint.load(tmp_path / "a" / "last.pt")) | {"progress": None}))
    results = _fit(small_config(train__epochs=2, train__optimizer="nadam"), tmp_path / "b", start=start)
    assert [r.epoch for r in results] == [2]


def test_step_does_not_depend_on_the_batch_size_when_the_batch_is_doubled() -> None:
    # batchmean: the same transcripts twice give the same loss and gradient as once.
    settings = small_config(model__dropout=0.0)
    losses = []
    for copies in (1, 2):
        part = part_of(toy_transcripts(4), settings)
        trainer = Trainer(settings, SITES, part, part, Path(), device=_CPU)
        losses.append(float(trainer._step(np.tile(np.arange(4), copies))))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_validation_runs_without_dropout(tmp_path: Path) -> None:
    settings = small_config(model__dropout=0.9, model__output_dropout=0.9)
    trainer = _trainer(settings, tmp_path)
    part = part_of(toy_transcripts(10), settings)
    trainer.model.train()
    first, second = (predict_fractions(trainer.model, part.batches) for _ in range(2))
    assert (first == second).all()
    assert trainer.model.training


def test_predictions_are_in_the_inputs_order_and_sum_to_one(tmp_path: Path) -> None:
    settings = small_config()
    transcripts = toy_transcripts(30)
    found = Checkpoint(settings.model, settings.encoding, SITES, _trainer(settings, tmp_path).model.state_dict(), 1)
    predictor = Predictor([found], _CPU)
    together = predictor.predict(transcripts)
    alone = np.concatenate([predictor.predict(transcripts.take(np.array([i]))) for i in range(30)])
    assert together == pytest.approx(alone, abs=1e-6)
    assert together.sum(axis=1) == pytest.approx(np.ones(30))


def test_ensemble_predicts_the_mean(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        settings = small_config(train__seed=seed)
        weights = _trainer(settings, tmp_path).model.state_dict()
        found.append(Checkpoint(settings.model, settings.encoding, SITES, weights, 1))
    transcripts = toy_transcripts(5)
    single = [Predictor([each], _CPU).predict(transcripts) for each in found]
    assert Predictor(found, _CPU).predict(transcripts) == pytest.approx((single[0] + single[1]) / 2)


def test_device_that_is_missing_is_refused() -> None:
    from rnatracker.model.device import pick_device

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError) as caught:
        pick_device(small_config(train__device="cuda").train)
    assert all(part in caught.value.problem for part in ("train.device", "cuda", "not available"))
    assert pick_device(small_config().train) == _CPU


def test_best_epoch_is_that_of_the_loss_where_the_objective_is_undefined(tmp_path: Path) -> None:
    settings = small_config(train__epochs=6, train__patience=2)
    train, validation = (part_of(toy_transcripts(n, seed), settings) for n, seed in ((40, 0), (5, 1)))
    constant = replace(validation, fractions=np.tile([0.5, 0.3, 0.2], (5, 1)))
    results: list[EpochResult] = []
    trainer = Trainer(settings, SITES, train, constant, tmp_path, device=_CPU)
    assert trainer.objective == "val_loss"
    trainer.fit(results.append)
    losses = [each.val_loss for each in results if each.val_loss is not None]
    assert math.isnan(results[-1].scores["pcc_mean"]) and not math.isnan(results[-1].scores["pcc_overall"])
    assert results[-1].best_value == min(losses) == losses[results[-1].best_epoch - 1]
    stale = len(losses) - results[-1].best_epoch
    assert len(losses) == 6 or stale == 2  # patience counts losses too


def test_the_average_of_the_weights_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    """By hand: the first average is the weights after the first step, then each step moves it by a tenth."""
    settings = small_config(train__ema=0.9, train__epochs=1)
    trainer, seen = _trainer(settings, tmp_path), []
    step = trainer._step

    def watched(indices: Any, source: int) -> torch.Tensor:
        loss = step(indices, source)
        seen.append({name: tensor.clone() for name, tensor in trainer.model.state_dict().items()})
        return loss

    trainer._step = watched  # type: ignore[method-assign]
    trainer.fit(lambda _: None)
    expected = dict(seen[0])
    for each in seen[1:]:
        expected = {name: 0.9 * expected[name] + 0.1 * each[name] for name in expected}
    best = _weights(tmp_path, "best.pt")
    for name, tensor in best.items():
        assert torch.allclose(tensor, expected[name], atol=1e-6), name
    assert _same(_weights(tmp_path, "last.pt"), seen[-1])


def test_a_damaged_average_is_refused(tmp_path: Path) -> None:
    settings = small_config(train__ema=0.9)
    content = _stopped_after_an_epoch(settings, tmp_path)
    for damage in (None, {}, {"n_averaged": torch.tensor(3)}, [1]):
        content["progress"]["average"] = damage
        torch.save(content, tmp_path / "damaged.pt")
        with pytest.raises(CheckpointError):
            _trainer(settings, tmp_path, checkpoint.load(tmp_path / "damaged.pt"))


@pytest.mark.parametrize(("schedule", "warmup"), [("cosine", 0.0), ("constant", 0.5), ("one-cycle", 0.0)])
def test_every_step_has_its_rate(schedule: str, warmup: float, tmp_path: Path) -> None:
    settings = small_config(train__schedule=schedule, train__warmup=warmup)
    trainer, rates = _trainer(settings, tmp_path), []
    step = trainer._step

    def watched(indices: Any, source: int) -> torch.Tensor:
        rates.append(trainer._optimizer.param_groups[0]["lr"] / settings.train.lr)
        return step(indices, source)

    trainer._step = watched  # type: ignore[method-assign]
    trainer.fit(lambda _: None)
    n = len(rates)
    assert rates == pytest.approx([schedules.rate(schedule, i / n, warmup) for i in range(n)])  # type: ignore[arg-type]


def test_a_step_is_no_larger_than_its_clipped_gradient(tmp_path: Path) -> None:
    settings = small_config(train__clip=1e-3)
    trainer, norms = _trainer(settings, tmp_path), []
    step = trainer._optimizer.step

    def watched(*args: Any) -> Any:
        gradients = [each.grad.norm() for each in trainer.model.parameters() if each.grad is not None]
        norms.append(float(torch.stack(gradients).norm()))
        return step(*args)

    trainer._optimizer.step = watched  # type: ignore[method-assign]
    trainer.fit(lambda _: None)
    assert max(norms) <= 1.001e-3


@pytest.mark.parametrize("name", ["best.pt", "epoch2.pt"])
def test_calibrated_weights_give_the_figures_that_were_reported(name: str, tmp_path: Path) -> None:
    settings = small_config(train__calibrate=True, train__epochs=4, train__save_every=2)
    results = _fit(settings, tmp_path)
    kept = checkpoint.load(tmp_path / name)
    validation = toy_transcripts(20, 1)
    predicted = Predictor([kept], _CPU).predict(validation)
    expected = results[kept.epoch - 1]
    assert name != "best.pt" or kept.epoch == results[-1].best_epoch
    assert metrics.kl_divergence(predicted, validation.measured()) == pytest.approx(expected.val_loss, abs=1e-6)
    scores = metrics.summarise(predicted, validation.measured(), SITES)
    assert scores == pytest.approx(expected.scores, abs=1e-5)
