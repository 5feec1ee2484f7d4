"""Files of weights: round trip, and what is refused."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from rnatracker.config import EncodingConfig, ModelConfig
from rnatracker.errors import CheckpointError
from rnatracker.model import checkpoint
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.model.network import RNATracker
from tests.support import paths
from tests.support.toys import SITES, ports_file, small_config

_SEED = paths.SEED / "logs" / "exp0" / "weights"


def _checkpoint(**changes: Any) -> Checkpoint:
    settings = small_config()
    weights = RNATracker(settings.model, len(SITES)).state_dict()
    fields: dict[str, Any] = {"model": settings.model, "encoding": settings.encoding, "sites": SITES}
    return Checkpoint(**(fields | {"weights": weights, "epoch": 4, "metrics": {"pcc_mean": 0.5}} | changes))


def _saved(path: Path, **changes: Any) -> Path:
    """Save a checkpoint and change what the file holds."""
    checkpoint.save(_checkpoint(), path)
    content = torch.load(path, weights_only=True)
    torch.save({**content, **changes}, path)
    return path


def test_checkpoint_round_trips(tmp_path: Path) -> None:
    original = _checkpoint(progress={"batch": 3}, settings={"train": {"lr": 0.1}})
    checkpoint.save(original, tmp_path / "a.pt")
    loaded = checkpoint.load(tmp_path / "a.pt")
    assert {k: v for k, v in vars(loaded).items() if k != "weights"} == {
        k: v for k, v in vars(original).items() if k != "weights"
    }
    assert all(torch.equal(loaded.weights[name], tensor) for name, tensor in original.weights.items())
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_save_leaves_the_old_file_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(_checkpoint(), path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is looked at
        checkpoint.save(_checkpoint(epoch=5), path)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.pt"]


def test_load_refuses_a_pickle_that_would_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    torch.save({"epoch": 1, "model": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(tmp_path / name)
        assert f"{name}: refused" in caught.value.problem
        assert "could run code" in caught.value.problem
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_load_refuses_a_truncated_file(share: float, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(_checkpoint(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    assert caught.value.problem.startswith("a.pt: ")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": 99}, ["version 99"]),
        ({"format": "other"}, ["not a file of RNATracker weights"]),
        ({"sites": ["A", "B"]}, ["output.weight", "(2, 6)", "(3, 6)"]),
        ({"model": {"rnn": "transformer"}}, ["damaged checkpoint"]),
        ({"weights": 3}, ["damaged checkpoint", "weights"]),
        ({"settings": "x"}, ["damaged checkpoint", "settings"]),
        ({"optimizer": {"state": {}}}, ["damaged checkpoint", "optimizer"]),
        ({"weights": {}}, ["conv1.weight", "got none"]),
    ],
)
def test_load_refuses_a_file_that_contradicts_itself(
    changes: dict[str, Any], problem: list[str], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(_saved(tmp_path / "a.pt", **changes))
    assert all(part in caught.value.problem for part in ["a.pt", *problem])
    assert ("reads version 1" in caught.value.problem) is ("version" in changes)


@pytest.mark.parametrize("section", ["model", "encoding"])
def test_unknown_setting_of_a_newer_version_is_named(section: str, tmp_path: Path) -> None:
    known = getattr(_checkpoint(), section).model_dump(mode="json")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(_saved(tmp_path / "a.pt", **{section: known | {"newer": 1}}))
    assert f"{section}.newer" in caught.value.problem
    assert "newer" in caught.value.remedy


@pytest.mark.parametrize("newer", [("length_input",), ("rnn_dropout", "output_dropout", "dropout_kind")])
def test_setting_that_an_older_version_did_not_have_gets_its_default(newer: tuple[str, ...], tmp_path: Path) -> None:
    known = _checkpoint().model.model_dump(mode="json")
    for name in newer:
        del known[name]
    loaded = checkpoint.load(_saved(tmp_path / "a.pt", model=known))
    assert loaded.model == _checkpoint().model


def test_load_refuses_what_is_missing_or_no_dictionary(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as missing:
        checkpoint.load(tmp_path / "none.pt")
    assert str(tmp_path / "none.pt") in missing.value.problem
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError) as wrong:
        checkpoint.load(tmp_path / "list.pt")
    assert all(part in wrong.value.problem for part in ("list.pt", "dictionary", "got list"))


@pytest.mark.parametrize(
    ("change", "problem", "remedy"),
    [
        ({"model": ModelConfig(rnn_hidden=64)}, ["trained with model.", "but"], "--set model."),
        ({"encoding": EncodingConfig(max_length=60, keep="3p")}, ["encoding.keep 5p", "3p"], "--set encoding.keep=5p"),
        (
            {"model": small_config(model__rnn_dropout=0.5).model},
            ["model.rnn_dropout null", "0.5"],
            "--set model.rnn_dropout=null,",
        ),
        ({"sites": ("A", "B", "C")}, ["sites Nucleus,Cytosol,ERM", "A,B,C"], "--sites Nucleus,Cytosol,ERM"),
    ],
)
def test_check_fits_names_the_setting_that_differs(change: dict[str, Any], problem: list[str], remedy: str) -> None:
    settings = small_config()
    asked: dict[str, Any] = {"model": settings.model, "encoding": settings.encoding, "sites": SITES} | change
    with pytest.raises(CheckpointError) as caught:
        checkpoint.check_fits(_checkpoint(), **asked, file="a.pt")
    assert all(part in caught.value.problem for part in ["a.pt", *problem])
    assert remedy in caught.value.remedy


def test_ports_channels_are_permuted_in_weights_and_optimizer(tmp_path: Path) -> None:
    content = ports_file(tmp_path / "epoch7.pt")
    loaded = checkpoint.load(tmp_path / "epoch7.pt")
    theirs = content["model"]["conv_block1.0.weight"]
    for ours, channel in enumerate("ACGT"):
        assert torch.equal(loaded.weights["conv1.weight"][:, ours], theirs[:, "GATC".index(channel)])
    assert loaded.optimizer is not None
    average = content["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(loaded.optimizer["state"][0]["exp_avg"][:, 0], average[:, "GATC".index("A")])


def test_ports_settings_follow_from_its_origin_and_shapes(tmp_path: Path) -> None:
    ports_file(tmp_path / "epoch7.pt")
    loaded = checkpoint.load(tmp_path / "epoch7.pt")
    assert (loaded.origin, loaded.epoch, loaded.model.masked, loaded.encoding.keep) == ("port", 7, False, "5p")
    assert (loaded.model.conv1_channels, loaded.model.conv2_kernel, loaded.model.rnn_hidden) == (6, 3, 3)
    assert loaded.sites == ("Cytosol", "Insoluble", "Membrane", "Nuclear")
    assert not loaded.network().training


def test_foreign_network_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "model": {"fc.weight": torch.zeros(2, 2)}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(tmp_path / "other.pt")
    assert all(part in caught.value.problem for part in ("other.pt", "unknown tensor fc.weight"))


@pytest.mark.shared
@pytest.mark.skipif(not _SEED.exists(), reason="needs ../shared")
@pytest.mark.parametrize("epoch", [5, 50])
def test_ports_real_files_load(epoch: int) -> None:
    loaded = checkpoint.load(_SEED / f"epoch{epoch}.pt")
    assert (loaded.epoch, loaded.model) == (epoch, ModelConfig(masked=False))


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    diverged = _checkpoint()
    diverged.weights["output.bias"][0] = float("nan")
    checkpoint.save(diverged, tmp_path / "nan.pt")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(tmp_path / "nan.pt")
    assert all(part in caught.value.problem for part in ("nan.pt", "output.bias", "no numbers"))
    assert "earlier epoch" in caught.value.remedy


def test_ports_sites_are_named_by_who_asks(tmp_path: Path) -> None:
    ports_file(tmp_path / "epoch7.pt")
    loaded = checkpoint.load(tmp_path / "epoch7.pt")
    assert loaded.named(("a", "b", "c", "d")).sites == ("a", "b", "c", "d")
    assert loaded.named(("a", "b")).sites == loaded.sites
    assert _checkpoint().named(("a", "b", "c")).sites == SITES
