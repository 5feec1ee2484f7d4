"""Further data sets in a training: when their batches come, what they change, and resuming in between."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnatracker.config import Config
from rnatracker.errors import CheckpointError
from rnatracker.model import checkpoint
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.prediction.predictor import Predictor
from rnatracker.training.steps.heads import Heads, Part, spread
from rnatracker.training.steps.trunk import is_trunk
from rnatracker.training.trainer import Stopped, Trainer
from tests.support.toys import SITES, part_of, small_config, toy_transcripts

_CPU = torch.device("cpu")


def _other(n: int, n_sites: int, settings: Config, seed: int = 3) -> Part:
    """Return n other transcripts, measured at other sites."""
    part = part_of(toy_transcripts(n, seed), settings)
    return replace(part, fractions=np.random.default_rng(seed).dirichlet(np.ones(n_sites), n))


def _trainer(settings: Config, folder: Path, others: list[Part], start: Checkpoint | None = None) -> Trainer:
    train, validation = (part_of(toy_transcripts(n, seed), settings) for n, seed in ((40, 0), (20, 1)))
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    return Trainer(settings, SITES, train, validation, folder, device=_CPU, start=start, others=others)


def _two(settings: Config) -> list[Part]:
    return [_other(24, 2, settings), _other(9, 4, settings, seed=4)]


def test_batches_of_others_are_spread_evenly() -> None:
    """Batch j of n stands at (j + 1/2) / n: of 6, 2 and 1 these are 1, 3, 5, 7, 9, 11; 3, 9; 6 twelfths."""
    batches = [[np.array([10 * source + i]) for i in range(n)] for source, n in enumerate((6, 2, 1))]
    found = [(step.source, int(step.indices[0])) for step in spread(batches)]
    assert found == [(0, 0), (0, 1), (1, 10), (0, 2), (2, 20), (0, 3), (0, 4), (1, 11), (0, 5)]


def test_each_data_set_is_passed_once_an_epoch_in_another_order(tmp_path: Path) -> None:
    settings = small_config()
    trainer = _trainer(settings, tmp_path, _two(settings))
    orders = []
    for epoch in (1, 2, 1):
        steps = trainer._heads.steps([np.arange(8)] * 5, epoch)
        for source, n in ((1, 24), (2, 9)):
            seen = np.concatenate([step.indices for step in steps if step.source == source])
            assert sorted(seen.tolist()) == list(range(n))
        orders.append([(step.source, step.indices.tolist()) for step in steps])
    assert orders[0] == orders[2] != orders[1]


def test_training_without_others_is_as_it_was(tmp_path: Path) -> None:
    """No layer is drawn, no step is moved, and nothing more is kept."""
    trainer = _trainer(small_config(), tmp_path, [])
    first = [np.array([2, 0]), np.array([1])]
    assert [step.indices.tolist() for step in trainer._heads.steps(first, 1)] == [[2, 0], [1]]
    trainer.fit(lambda _: None)
    last = checkpoint.load(tmp_path / "last.pt")
    assert last.progress is not None and last.progress["heads"] is None
    assert last.optimizer is not None and len(last.optimizer["param_groups"]) == 1


def test_step_on_another_data_set_trains_the_trunk_and_its_own_last_layer(tmp_path: Path) -> None:
    settings = small_config()
    trainer = _trainer(settings, tmp_path, _two(settings))
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    layers = [{name: tensor.clone() for name, tensor in state.items()} for state in trainer._heads.states()]
    trainer._step(np.arange(8), 2)
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, before[name]) != is_trunk(name), name
    changed = [
        not torch.equal(now["weight"], was["weight"]) for now, was in zip(trainer._heads.states(), layers, strict=True)
    ]
    assert changed == [False, True]


def test_gradient_of_another_data_set_is_weighted(tmp_path: Path) -> None:
    """And it is that of a network with that last layer in place of its own."""
    gradients = []
    for name, weight in (("whole", 1.0), ("quarter", 0.25)):
        settings = small_config(train__also_weight=weight, data__also=["b.tsv"], model__dropout=0.0)
        trainer = _trainer(settings, tmp_path / name, _two(settings))
        trainer._step(np.arange(8), 1)
        gradients.append(trainer.model.conv1.weight.grad)
    assert gradients[0] is not None and gradients[1] is not None
    assert gradients[1].numpy() == pytest.approx(0.25 * gradients[0].numpy(), rel=1e-5, abs=1e-9)
    part, targets, layer = _trainer(settings, tmp_path / "again", _two(settings))._heads.of(1)
    model = _trainer(settings, tmp_path / "alone", []).model
    model.output = layer  # type: ignore[assignment]
    batch = part.batches.gather(np.arange(8))
    logits = model(batch.codes, batch.lengths, batch.total_lengths)
    torch.nn.functional.kl_div(logits.log_softmax(1), targets[:8], reduction="batchmean").backward()  # type: ignore[no-untyped-call]
    assert model.conv1.weight.grad is not None
    assert gradients[0].numpy() == pytest.approx(model.conv1.weight.grad.numpy(), rel=1e-4, abs=1e-7)


def test_training_loss_and_count_are_of_the_first_data_alone(tmp_path: Path) -> None:
    settings = small_config(train__epochs=1, train__lr=1e-12, model__dropout=0.0)
    seen: list[tuple[int, int]] = []
    losses = []
    for name, others in (("with", _two(settings)), ("without", [])):
        trainer = _trainer(settings, tmp_path / name, others)
        trainer.fit(lambda _: None, on_batch=lambda _, done, total: seen.append((done, total)))
        losses.append(trainer.history[0].train_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert (seen[9], len(seen)) == ((40, 40), 5 + 3 + 2 + 5)


_MUCH = {
    "train__ema": 0.9,
    "train__schedule": "one-cycle",
    "train__clip": 0.5,
    "train__mask": 0.1,
    "train__window": 50,
    "train__pcc_weight": 0.5,
    "train__trunk_lr": 0.3,
    "train__freeze": 1,
    "train__optimizer": "adamw",
}


@pytest.mark.parametrize(
    ("changes", "batches"), [*(({}, n) for n in (1, 2, 4, 7, 10, 13, 25)), *((_MUCH, n) for n in (3, 12, 17))]
)
def test_resumed_training_gives_the_same_bits_when_stopped_after_any_batch(
    changes: dict[str, Any], batches: int, tmp_path: Path
) -> None:
    settings = small_config(**changes)  # 3 epochs of 5 + 3 + 2 batches
    whole, asked = _trainer(settings, tmp_path / "whole", _two(settings)), iter(range(1000))
    whole.fit(lambda _: None)
    stopped = _trainer(settings, tmp_path / "parts", _two(settings))
    with pytest.raises(Stopped):
        stopped.fit(lambda _: None, should_stop=lambda: next(asked) >= batches)
    last = checkpoint.load(tmp_path / "parts" / "last.pt")
    resumed = _trainer(settings, tmp_path / "parts", _two(settings), last)
    resumed.fit(lambda _: None)
    for one, two in zip(whole.history, resumed.history, strict=True):
        assert (one.train_loss, one.val_loss, one.scores) == (two.train_loss, two.val_loss, two.scores)
    for name in ("last.pt", "best.pt"):
        first, second = (checkpoint.load(tmp_path / part / name).weights for part in ("whole", "parts"))
        assert all(torch.equal(first[key], second[key]) for key in first)
    for one_state, two_state in zip(whole._heads.states(), resumed._heads.states(), strict=True):
        assert all(torch.equal(one_state[key], two_state[key]) for key in one_state)


def test_best_weights_are_an_ordinary_networks(tmp_path: Path) -> None:
    settings = small_config()
    _trainer(settings, tmp_path, _two(settings)).fit(lambda _: None)
    best = checkpoint.load(tmp_path / "best.pt")
    assert (best.sites, best.progress) == (SITES, None)
    assert Predictor([best], _CPU).predict(toy_transcripts(5)).shape == (5, 3)


def test_training_continued_from_weights_leaves_the_old_last_layers_behind(tmp_path: Path) -> None:
    settings = small_config()
    _trainer(settings, tmp_path / "first", _two(settings)).fit(lambda _: None)
    last = replace(checkpoint.load(tmp_path / "first" / "last.pt"), progress=None)
    longer = small_config(train__epochs=4)
    for name, others in (("alone", []), ("with", _two(longer))):
        trainer = _trainer(longer, tmp_path / name, others, last)
        state = trainer._optimizer.state_dict()["state"]
        assert set(state) == set(range(15))  # the network's, and nothing of the further last layers
        trainer.fit(lambda _: None)
        assert [each.epoch for each in trainer.history] == [4]


def test_last_layers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    settings = small_config(train__epochs=1)
    _trainer(settings, tmp_path, _two(settings)).fit(lambda _: None)
    last = checkpoint.load(tmp_path / "last.pt")
    for others in (_two(settings)[:1], [*_two(settings), _other(9, 2, settings)], _two(settings)[::-1]):
        with pytest.raises(CheckpointError):
            _trainer(settings, tmp_path, others, last)
    assert last.progress is not None
    with pytest.raises(CheckpointError) as caught:
        Heads(_two(settings), 6, settings.train, _CPU).restore(last.progress["heads"][:1])
    assert "progress.heads doesn't fit" in caught.value.problem
