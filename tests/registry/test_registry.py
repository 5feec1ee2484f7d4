"""The registry: versions, aliases, and any model by what a user calls it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.errors import CheckpointError, RegistryError, TrackingError
from rnatracker.evaluation.weights import WEIGHTS, checksums_of
from rnatracker.registry.registry import Registry
from rnatracker.registry.resolve import resolve
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training import run
from rnatracker.training.request import Outcome, RunRequest
from tests.support.toys import SilentReporter, small_config, toy_transcripts, write_table


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tracking(mlflow_store: Path) -> TrackingSettings:
    return TrackingSettings(mlflow_store)


@pytest.fixture
def trained(tracking: TrackingSettings, tmp_path: Path) -> Outcome:
    data = str(write_table(toy_transcripts(40), tmp_path / "toy.tsv"))
    return run.train(RunRequest(small_config(data__path=data, train__epochs=1), tracking), SilentReporter())


def _bare_version(registry: Registry, outcome: Outcome, folder: Path) -> int:
    """Register a run's weights by hand, as `resolve` expects them."""
    weights = folder / "artifacts" / WEIGHTS
    weights.mkdir(parents=True)
    (weights / "model1.pt").write_bytes((outcome.folder / "checkpoints" / "best.pt").read_bytes())
    client = registry.backend.client
    if not registry.aliases() and not registry.versions():
        client.create_registered_model(registry.name)
    tags = {"rnatracker.weights_sha256": json.dumps(checksums_of(weights)), "rnatracker.run_name": "exp1"}
    return int(client.create_model_version(registry.name, str(folder), outcome.run_id, tags).version)


def test_resolve_finds_a_version_by_number_alias_and_address(
    tracking: TrackingSettings, trained: Outcome, tmp_path: Path
) -> None:
    registry = Registry(tracking)
    number = _bare_version(registry, trained, tmp_path / "v1")
    registry.set_alias("champion", number)
    expected = resolve(trained.name, tracking).members[0].weights
    for reference in ("1", "champion", "models:/rnatracker@champion", "models:/rnatracker/1"):
        model = resolve(reference, tracking)
        assert model.name == "rnatracker version 1"
        assert "exp1" in model.description
        assert all(torch.equal(expected[name], tensor) for name, tensor in model.members[0].weights.items())


def test_resolve_finds_runs_and_files(
    tracking: TrackingSettings, trained: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = trained.folder / "checkpoints" / "best.pt"
    assert resolve(trained.run_id, tracking).name == resolve("exp1", tracking).name == "exp1"
    assert resolve(str(file), tracking).name == "best.pt"
    monkeypatch.chdir(tmp_path)
    for name in ("some_weights", "exp1", "exp2"):
        Path(name).write_bytes(file.read_bytes())
    assert resolve("some_weights", tracking).name == "some_weights"
    assert resolve("exp1", tracking).description == "epoch 1"  # the run
    assert resolve("exp2", tracking).name == "exp2"  # no such run


def test_resolve_says_how_to_choose_a_champion_when_there_is_none(tracking: TrackingSettings) -> None:
    with pytest.raises(RegistryError) as raised:
        resolve("champion", tracking)
    assert raised.value.problem == "Model 'rnatracker' has no champion"
    assert raised.value.remedy == f"choose one with: rnatracker promote RUN_ID --store {tracking.store}"


@pytest.mark.parametrize(
    ("reference", "error", "words"),
    [
        ("7", RegistryError, "has no version 7; it has none"),
        ("models:/rnatracker", RegistryError, "expected models:/NAME@ALIAS"),
        ("models:/other@champion", RegistryError, "Model 'other' has no champion"),
        ("champoin", TrackingError, "did you mean champion"),
        ("exp9", TrackingError, "no run with the id, name or folder exp9"),
        ("nowhere/best.pt", CheckpointError, "no such file of weights"),
    ],
)
def test_resolve_says_what_is_wrong(
    reference: str, error: type[Exception], words: str, tracking: TrackingSettings
) -> None:
    with pytest.raises(error, match=words):
        resolve(reference, tracking)


def test_weights_are_not_loaded_when_they_changed_after_registration(
    tracking: TrackingSettings, trained: Outcome, tmp_path: Path
) -> None:
    registry = Registry(tracking)
    number = _bare_version(registry, trained, tmp_path / "v1")
    file = tmp_path / "v1" / "artifacts" / WEIGHTS / "model1.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="not what was registered"):
        resolve(str(number), tracking)
    file.unlink()
    with pytest.raises(CheckpointError, match="can't be read"):
        resolve(str(number), tracking)
    registry.set_tags(number, {"rnatracker.weights_sha256": "{}"})
    with pytest.raises(CheckpointError, match="no checksums"):
        resolve(str(number), tracking)


def test_alias_of_a_deleted_version_says_so(tracking: TrackingSettings, trained: Outcome, tmp_path: Path) -> None:
    registry = Registry(tracking)
    first = _bare_version(registry, trained, tmp_path / "v1")
    second = _bare_version(registry, trained, tmp_path / "v2")
    registry.set_alias("previous", first)
    registry.set_alias("champion", second)
    assert [(each.number, each.aliases) for each in registry.versions()] == [(2, ("champion",)), (1, ("previous",))]
    registry.backend.client.delete_model_version(registry.name, str(second))
    with pytest.raises(RegistryError, match="has no champion.*models --rollback"):
        resolve("champion", tracking)
    with pytest.raises(RegistryError, match="has no version 2; it has 1"):
        resolve("2", tracking)


def test_files_of_a_version_that_are_gone_are_said_to_be(
    tracking: TrackingSettings, trained: Outcome, tmp_path: Path
) -> None:
    number = _bare_version(Registry(tracking), trained, tmp_path / "v1")
    (tmp_path / "v1").rename(tmp_path / "elsewhere")
    with pytest.raises(RegistryError, match="files are gone from .*v1"):
        resolve(str(number), tracking)


def test_evaluate_measures_a_registered_model(tracking: TrackingSettings, trained: Outcome, tmp_path: Path) -> None:
    registry = Registry(tracking)
    registry.set_alias("champion", _bare_version(registry, trained, tmp_path / "v1"))
    test = write_table(toy_transcripts(20, seed=1), tmp_path / "test.tsv")
    found = []
    for reference in ("champion", "exp1"):
        arguments = ["evaluate", reference, "--data", str(test), "--json", "--store", str(tracking.store)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.stderr
        found.append(json.loads(result.stdout))
    assert found[0]["model"] == "rnatracker version 1"
    assert found[0]["scores"] == found[1]["scores"]
