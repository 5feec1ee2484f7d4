"""The trunk at a rate of its own, frozen for a while, and resumed so to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rnatracker.config import Config
from rnatracker.model import checkpoint
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.model.network import RNATracker
from rnatracker.training.request import settings_of_weights
from rnatracker.training.steps import trunk
from rnatracker.training.trainer import EpochResult, Stopped, Trainer
from tests.support.toys import SITES, part_of, small_config, toy_checkpoint, toy_transcripts

_CPU = torch.device("cpu")
_Weights = dict[str, torch.Tensor]


def _trainer(settings: Config, folder: Path, start: Checkpoint | None = None) -> Trainer:
    train, validation = (part_of(toy_transcripts(n, seed), settings) for n, seed in ((40, 0), (20, 1)))
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    return Trainer(settings, SITES, train, validation, folder, device=_CPU, start=start)


def _parent(**changes: Any) -> Checkpoint:
    """Return a trunk as a new network begins from it."""
    found = toy_checkpoint(7, **changes)
    return replace(found, epoch=0, weights={name: w for name, w in found.weights.items() if trunk.is_trunk(name)})


def _copied(weights: _Weights) -> _Weights:
    return {name: tensor.clone() for name, tensor in weights.items()}


def _is_same(first: _Weights, second: _Weights, *, of_trunk: bool) -> list[bool]:
    return [torch.equal(first[name], second[name]) for name in first if trunk.is_trunk(name) == of_trunk]


@pytest.mark.parametrize("changes", [{}, {"model__codons": True, "model__rnn": "lstm"}])
def test_groups_have_the_networks_own_order_with_the_last_layer_behind(changes: dict[str, Any]) -> None:
    """An optimizer keeps its averages by the parameters' numbers."""
    settings = small_config(train__freeze=1, **changes)
    model = RNATracker(settings.model, 3)
    first, second = trunk.groups(model, settings.train)
    assert [id(p) for p in first["params"] + second["params"]] == [id(p) for p in model.parameters()]
    assert {id(p) for p in second["params"]} == {id(p) for p in model.output.parameters()}


def test_network_begins_from_its_parents_trunk_and_a_last_layer_of_its_own_seed(tmp_path: Path) -> None:
    settings, parent = small_config(), _parent()
    made = _copied(_trainer(settings, tmp_path, parent).model.state_dict())
    fresh = _trainer(settings, tmp_path).model.state_dict()
    assert all(torch.equal(made[name], parent.weights[name]) for name in parent.weights)
    assert all(_is_same(made, fresh, of_trunk=False))
    assert not any(torch.equal(made[name], fresh[name]) for name in ("conv1.weight", "rnn.weight_hh_l0"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model__kernel": "torch", "model__rnn": "lstm"},
        {"train__ema": 0.5, "train__optimizer": "adamw", "train__weight_decay": 0.1, "train__clip": 0.5},
        {"train__ema": 0.9, "train__schedule": "one-cycle", "train__optimizer": "nadam", "train__weight_decay": 0.1},
    ],
    ids=["plain", "torch", "adamw", "nadam"],
)
def test_frozen_trunk_is_exactly_unchanged_until_it_is_trained(changes: dict[str, Any], tmp_path: Path) -> None:
    settings = small_config(train__freeze=2, train__save_every=1, train__epochs=3, **changes)
    model_changes = {key: value for key, value in changes.items() if key.startswith("model")}
    parent, after = _parent(**model_changes), []

    def keep(result: EpochResult) -> None:
        kept = checkpoint.load(tmp_path / f"epoch{result.epoch}.pt").weights, trainer.model.state_dict()
        after.append(tuple(map(_copied, kept)))

    trainer = _trainer(settings, tmp_path, parent)
    before = _copied(trainer.model.state_dict())
    trainer.fit(keep)
    for kept, own in after[:2]:  # the average of the weights, where there is one, and the weights themselves
        assert all(_is_same(before, kept, of_trunk=True))
        assert all(_is_same(before, own, of_trunk=True))
        assert not any(_is_same(before, own, of_trunk=False))
    assert not all(_is_same(before, after[2][0], of_trunk=True))
    assert not all(_is_same(before, after[2][1], of_trunk=True))


def test_dropout_stays_on_in_a_frozen_trunk(tmp_path: Path) -> None:
    """With one batch and another seed of dropout alone, the last layer would learn the same without it."""
    results = []
    for name, dropout in (("with", 0.5), ("without", 0.0)):
        settings = small_config(train__freeze=1, train__epochs=1, train__batch_size=40, model__dropout=dropout)
        trainer = _trainer(settings, tmp_path / name, _parent(model__dropout=dropout))
        trainer.fit(lambda _: None)
        results.append(trainer.history[0].train_loss)
    assert results[0] != results[1]


def test_trunk_at_a_rate_of_0_is_never_trained(tmp_path: Path) -> None:
    settings = small_config(train__trunk_lr=0.0, train__optimizer="adamw", train__weight_decay=0.1)
    trainer = _trainer(settings, tmp_path, _parent())
    before = _copied(trainer.model.state_dict())
    trainer.fit(lambda _: None)
    assert all(_is_same(before, trainer.model.state_dict(), of_trunk=True))
    assert not any(_is_same(before, trainer.model.state_dict(), of_trunk=False))


@pytest.mark.parametrize("changes", [{}, {"train__schedule": "cosine", "train__warmup": 0.2}])
def test_first_step_of_the_trunk_is_scaled_exactly(changes: dict[str, Any], tmp_path: Path) -> None:
    """Adam's step is its rate times what the gradients say, which are the same in a first step."""
    steps = []
    for name, factor in (("whole", 1.0), ("eighth", 0.125)):
        settings = small_config(train__trunk_lr=factor, train__epochs=1, **changes)
        trainer = _trainer(settings, tmp_path / name, _parent())
        before = _copied(trainer.model.state_dict())
        trainer._set_rate(1, 0.5)
        torch.manual_seed(0)
        trainer._step(trainer._train.batches.evaluation_order(8)[0])
        steps.append({name: tensor - before[name] for name, tensor in trainer.model.state_dict().items()})
    for name in steps[0]:
        expected = steps[0][name] * (0.125 if trunk.is_trunk(name) else 1)
        assert steps[1][name].numpy() == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-7), name
    assert float(steps[0]["conv1.weight"].abs().max()) > 1e-3


@pytest.mark.parametrize("batches", [1, 3, 5, 8, 11, 14])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_resumed_training_gives_the_same_bits_whether_frozen_or_not(ema: float, batches: int, tmp_path: Path) -> None:
    settings = small_config(
        train__trunk_lr=0.3, train__freeze=1, train__ema=ema, train__schedule="one-cycle", train__optimizer="adamw"
    )
    whole, asked = _trainer(settings, tmp_path / "whole", _parent()), iter(range(1000))
    whole.fit(lambda _: None)
    with pytest.raises(Stopped):
        _trainer(settings, tmp_path / "parts", _parent()).fit(
            lambda _: None, should_stop=lambda: next(asked) >= batches
        )
    resumed = _trainer(settings, tmp_path / "parts", checkpoint.load(tmp_path / "parts" / "last.pt"))
    resumed.fit(lambda _: None)
    for name in ("last.pt", "best.pt"):
        one, two = (checkpoint.load(tmp_path / part / name).weights for part in ("whole", "parts"))
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert [each.scores for each in whole.history] == [each.scores for each in resumed.history]


def test_continued_training_takes_its_optimizers_averages_into_two_groups(tmp_path: Path) -> None:
    """At the same rate, two groups step as one does."""
    _trainer(small_config(train__epochs=2), tmp_path / "first").fit(lambda _: None)
    weights = []
    for name, freeze in (("one", 0), ("two", 1)):
        last = replace(checkpoint.load(tmp_path / "first" / "last.pt"), progress=None)  # steps change its tensors
        settings = small_config(train__epochs=3, train__freeze=freeze)
        trainer = _trainer(settings, tmp_path / name, last)
        assert [len(group["params"]) for group in trainer._optimizer.param_groups] == ([13, 2] if freeze else [15])
        torch.manual_seed(0)
        trainer._step(trainer._train.batches.evaluation_order(8)[0])
        weights.append(_copied(trainer.model.state_dict()))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_continued_training_freezes_its_own_first_epochs(tmp_path: Path) -> None:
    _trainer(small_config(train__epochs=2), tmp_path / "first").fit(lambda _: None)
    last = replace(checkpoint.load(tmp_path / "first" / "last.pt"), progress=None)
    trainer = _trainer(small_config(train__epochs=3, train__freeze=1), tmp_path / "next", last)
    trainer.fit(lambda _: None)
    assert [each.epoch for each in trainer.history] == [3]
    assert all(_is_same(last.weights, trainer.model.state_dict(), of_trunk=True))
    assert not any(_is_same(last.weights, trainer.model.state_dict(), of_trunk=False))


def test_training_continued_from_weights_does_not_freeze_the_trunk_once_more(tmp_path: Path) -> None:
    _trainer(small_config(train__epochs=3, train__freeze=2, train__trunk_lr=0.5), tmp_path, _parent()).fit(
        lambda _: None
    )
    checkpoint.save(replace(checkpoint.load(tmp_path / "last.pt"), epoch=1), tmp_path / "earlier.pt")
    for name, left in (("last.pt", 0), ("earlier.pt", 1)):
        brought = settings_of_weights(str(tmp_path / name))["train"]
        assert (brought["freeze"], brought["trunk_lr"]) == (left, 0.5)
