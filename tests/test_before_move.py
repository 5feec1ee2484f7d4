"""What the version before the move into folders left behind goes on working: models, runs, cross-validations, studies.

`fixtures/store_before_move.tar.xz` is a store as that version made it, at a place that is gone, with the files that its
runs were trained on. Nothing in it was made by this version.
"""

from __future__ import annotations

import ast
import json
import re
import signal
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner, Result

from rnatracker.app import app
from rnatracker.model import checkpoint
from rnatracker.registry.registry import Registry
from rnatracker.tracking import store
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support.serving import environment, free_port, post, serving

_FIXTURE = Path(__file__).parent / "fixtures" / "store_before_move.tar.xz"
_TUNE = ("--config", "tiny.yaml", "--space", "space.yaml", "--data", "mrna.tsv")
_ALL = (*_TUNE, "--epochs", "150", "--sampler", "random", "--pruner", "none", "--trials", "2")
_FIGURES = ["Cytosol", "Insoluble", "Membrane", "Nuclear"]
_RECORDED = "train/loss", "val/loss", "val/pcc_mean", "time/epoch_seconds"
"""Metrics of every epoch: were one trained again, its time at least would be another."""


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute with one thread, and with pickle switched off."""
    store.quiet_mlflow()
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackingSettings:
    """The old store, in the current folder, beside its data."""
    with tarfile.open(_FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return TrackingSettings(tmp_path / "mlruns")


def _run(*arguments: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(app, [*arguments])
    assert result.exit_code == exit_code, (result.stdout, result.stderr)
    return result


def _json(*arguments: str) -> dict[str, Any]:
    return dict(json.loads(_run(*arguments, "--json").stdout))


def _find(tracking: TrackingSettings, run: str) -> TrackedRun:
    return open_tracker(tracking).find(run)


def _histories(run: TrackedRun) -> dict[str, dict[int, float]]:
    return {key: run.history(key) for key in _RECORDED}


def _continues(recorded: dict[str, dict[int, float]], run: TrackedRun, epochs: int) -> None:
    """Hold that each epoch is there once, and that those from before are as they were."""
    for key, values in _histories(run).items():
        assert 0 < len(recorded[key]) < epochs
        assert set(values) == set(range(1, epochs + 1))
        assert {step: values[step] for step in recorded[key]} == recorded[key]
    log = (run.folder / "log.txt").read_text()
    assert sorted(map(int, re.findall(rf"epoch +(\d+)/{epochs} ", log))) == list(range(1, epochs + 1))


def _model_folder(tracking: TrackingSettings, version: int = 1) -> Path:
    registry = Registry(tracking)
    return registry.folder(registry.version(version))


def _same(found: pd.DataFrame) -> None:
    """Hold that predictions are those that the champion made before the move."""
    expected = pd.read_csv("expected.tsv", sep="\t")
    assert list(found.columns) == [*_FIGURES, "most_likely"] == list(expected.columns[1:])
    assert found[_FIGURES].to_numpy(float) == pytest.approx(expected[_FIGURES].to_numpy(float), abs=1e-6)
    assert list(found["most_likely"]) == list(expected["most_likely"])


def _sequences() -> pd.DataFrame:
    return pd.read_csv("mrna_test.tsv", sep="\t")[["sequence"]]


class TestModels:
    def test_mlflow_loads_it_without_pickle(self, old: TrackingSettings) -> None:
        with warnings.catch_warnings():  # MLflow's own, at its first import
            warnings.simplefilter("ignore")
            import mlflow.pyfunc

        folder = _model_folder(old)
        imported = _imports(folder / "served.py")
        assert {"rnatracker.packaging", "rnatracker.predictor"} <= imported  # as before the move
        _same(mlflow.pyfunc.load_model(str(folder)).predict(_sequences()))

    def test_champion_predicts_as_before(self, old: TrackingSettings) -> None:
        _run("predict", "mrna_test.tsv", "--out", "out.tsv")
        found = pd.read_csv("out.tsv", sep="\t")
        assert list(found["id"]) == list(pd.read_csv("expected.tsv", sep="\t")["id"])
        _same(found.drop(columns="id"))

    @pytest.mark.slow
    def test_champion_is_served_as_before(self, old: TrackingSettings) -> None:
        port = free_port()
        with serving(old.store, port, environment()) as (process, lines):
            assert lines[0].startswith("Serving rnatracker version 1 (run exp1_old)")
            body = json.dumps({"dataframe_records": _sequences().to_dict("records")})
            status, answer = post(f"http://127.0.0.1:{port}", body)
            assert status == 200
            _same(pd.DataFrame(answer["predictions"]))
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
            assert process.returncode == 0

    @pytest.mark.slow
    def test_mlflow_predicts_with_it(self, old: TrackingSettings) -> None:
        _sequences().to_csv("in.csv", index=False)
        command = [
            sys.executable, "-m", "mlflow", "models", "predict", "-m", str(_model_folder(old)), "-i", "in.csv",
            "-t", "csv", "--env-manager", "local", "-o", "out.json",
        ]  # fmt: skip
        subprocess.run(command, env=environment(), check=True, capture_output=True, timeout=120)
        _same(pd.DataFrame(json.loads(Path("out.json").read_text())["predictions"]))

    def test_new_run_is_judged_against_it_and_carries_a_file_that_imports_only_the_facade(
        self, old: TrackingSettings
    ) -> None:
        _run("train", "--data", "mrna_train.tsv", "--config", "tiny.yaml", "--epochs", "2", "--seed", "1")
        result = CliRunner().invoke(app, ["promote", "exp6", "--json"])
        told = json.loads(result.stdout)
        assert told["verdict"]["champion"] == 1
        assert told["version"] == 2
        assert ("champion" in told["aliases"]) == (result.exit_code == 0)
        served = _model_folder(old, 2) / "served.py"
        assert _imports(served) == {"mlflow.models", "rnatracker.registry.mlflow_model"}
        assert "import served_model\n" in served.read_text()  # copies with that line are out: the name stays
        _run("promote", "exp6", "--force", "--reason", "a test")
        assert _json("models", "--rollback") == {"champion": 1, "previous": 2}
        _run("predict", "mrna_test.tsv", "--out", "out.tsv")
        _same(pd.read_csv("out.tsv", sep="\t").drop(columns="id"))


def _imports(path: Path) -> set[str]:
    """Return every module that a file imports from, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
            if node.module == "rnatracker":
                found |= {f"rnatracker.{alias.name}" for alias in node.names}
    return found - {"__future__"}


class TestRuns:
    def test_all_are_listed_with_their_states_and_figures(self, old: TrackingSettings) -> None:
        found = _json("runs", "--all")["runs"]
        names = {run["run_id"]: run["name"] for run in found}
        listed = {
            "/".join(filter(None, (names.get(run["parent_id"]), run["name"]))): (
                run["kind"], run["state"], None if run["pcc_mean"] is None else round(run["pcc_mean"], 6)
            )
            for run in found
        }  # fmt: skip
        assert listed == {
            "exp1_old": ("train", "finished", -0.090391),
            "exp1": ("train", "finished", -0.090391),  # of --no-track
            "exp2_stopped": ("train", "stopped", -0.198848),
            "exp3_folds": ("cross-validation", "stopped", None),
            "exp3_folds/fold1": ("fold", "finished", 0.494667),
            "exp3_folds/fold2": ("fold", "stopped", -0.023580),
            "exp4_s": ("study", "finished", 0.167157),
            "exp4_s/trial0": ("trial", "finished", -0.198848),
            "exp4_s/trial1": ("trial", "finished", 0.167157),
            "exp4_s/trial2": ("trial", "finished", -0.195995),
            "exp5_t": ("study", "stopped", 0.523720),
            "exp5_t/trial0": ("trial", "finished", 0.523720),
            "exp5_t/trial1": ("trial", "stopped", 0.488505),
        }

    def test_checkpoints_load(self, old: TrackingSettings) -> None:
        found = [*(old.store / "artifacts").rglob("*.pt"), *(old.store / "untracked").rglob("*.pt")]
        assert len(found) == 17
        for path in found:
            assert checkpoint.load(path).sites == tuple(_FIGURES)
        last = checkpoint.load(_find(old, "exp2_stopped").folder / "checkpoints" / "last.pt")
        assert last.epoch == 5
        assert last.optimizer is not None and last.progress is not None

    def test_stopped_training_is_resumed(self, old: TrackingSettings) -> None:
        recorded = _histories(_find(old, "exp2_stopped"))
        told = _json("train", "--resume", "exp2_stopped", "--data", "port.fa")
        assert told["state"] == "FINISHED"
        _continues(recorded, _find(old, "exp2_stopped"), 120)

    @pytest.mark.slow
    def test_stopped_cross_validation_is_resumed(self, old: TrackingSettings) -> None:
        before = _find(old, "exp3_folds").children()
        finished, interrupted = _histories(before["fold1"]), _histories(before["fold2"])
        told = _json("train", "--resume", "exp3_folds", "--data", "mrna.tsv")
        assert told["state"] == "FINISHED"
        folds = _find(old, "exp3_folds").children()
        assert sorted(folds) == ["fold1", "fold2", "fold3"]
        assert {fold.status() for fold in folds.values()} == {"FINISHED"}
        assert _histories(folds["fold1"]) == finished
        _continues(interrupted, folds["fold2"], 120)
        assert "oof/pcc_mean" in told["metrics"]

    def test_run_is_replayed(self, old: TrackingSettings) -> None:
        told = _json("replay", "exp1_old", "--data", "mrna_train.tsv")
        assert told["agrees"]
        assert told["values"] == 32

    def test_untracked_run_is_found_by_its_folder_and_measured(self, old: TrackingSettings) -> None:
        told = _json("evaluate", "mlruns/untracked/exp1", "--data", "mrna_test.tsv")
        assert (told["model"], told["transcripts"]) == ("exp1", 24)
        assert (told["scores"][4]["measure"], told["scores"][4]["site"]) == ("pcc", "mean")
        assert told["scores"][4]["value"] == pytest.approx(-0.147, abs=5e-4)


class TestStudies:
    @pytest.mark.slow
    def test_finished_study_is_shown_and_goes_on(self, old: TrackingSettings) -> None:
        told = _json("study", "s")
        assert [(each["trial"], round(each["value"], 4)) for each in told["best"]] == [
            (1, 0.1672), (2, -0.1960), (0, -0.1988),
        ]  # fmt: skip
        told = _json("tune", "--study", "s", *_TUNE, "--pruner", "none", "--trials", "4")
        assert (told["state"], told["trials"]["complete"]) == ("FINISHED", 4)
        assert sorted(_find(old, "exp4_s").children()) == ["trial0", "trial1", "trial2", "trial3"]

    @pytest.mark.slow
    @pytest.mark.parametrize("given", [_ALL, ("--data", "mrna.tsv")], ids=["all options", "its name and data"])
    def test_trial_that_waits_is_continued_from_its_checkpoint(
        self, given: tuple[str, ...], old: TrackingSettings
    ) -> None:
        recorded = _histories(_find(old, "exp5_t/trial1"))
        told = _json("tune", "--study", "t", *given)
        assert (told["state"], told["trials"]["complete"]) == ("FINISHED", 2)
        trial = _find(old, "exp5_t/trial1")
        assert trial.status() == "FINISHED"
        _continues(recorded, trial, 150)
