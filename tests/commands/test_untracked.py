"""Runs without MLflow, named as any other by every command that takes a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rnatracker.app import app
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support.toys import SMALL, toy_transcripts, write_table

_SETS = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store without a database, with a training, a cross-validation and their data."""
    folder = tmp_path_factory.mktemp("untracked")
    data = write_table(toy_transcripts(60), folder / "toy.tsv")
    for options in ((), ("--fold", "2", "--log-name", "cv"), ("--seed", "5")):
        done = _run("train", "--data", str(data), *_SETS, *options, "--no-track", "--json", store=folder / "store")
        assert done.exit_code == 0, done.output
    return folder / "store", data


def _run(*arguments: str, store: Path) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*arguments, "--store", str(store)])


@pytest.mark.parametrize(
    "command",
    [
        lambda data: ("evaluate", "exp1", "--data", data, "--json"),
        lambda data: ("evaluate", "exp2_cv/fold1", "--data", data, "--json"),
        lambda data: ("compare", "exp1", "exp3", "--json"),
        lambda data: ("compare", "exp2", "exp3", "--data", data, "--json"),
        lambda data: ("predict", data, "--model", "exp2"),
        lambda data: ("runs", "--where", "run_name = 'exp1'", "--json"),
    ],
)
def test_a_command_finds_an_untracked_run_by_its_name(
    trained: tuple[Path, Path], command: Callable[[str], tuple[str, ...]]
) -> None:
    store, data = trained
    done = _run(*command(str(data)), store=store)
    assert (done.exit_code, done.stdout != "") == (0, True), done.output
    assert not (store / "mlflow.db").exists()


def test_replay_of_an_untracked_run_is_untracked_and_agrees(trained: tuple[Path, Path]) -> None:
    store, _ = trained
    done = _run("replay", "exp2", "--json", store=store)
    assert done.exit_code == 0, done.output
    listed = json.loads(_run("runs", "--json", "--where", "run_name LIKE '%replay%'", store=store).stdout)
    (again,) = listed["runs"]
    run = open_tracker(TrackingSettings(store, enabled=False)).find("exp2")
    assert (again["tracked"], again["replays"]) == (False, run.id)
    assert not (store / "mlflow.db").exists()


def test_resuming_an_untracked_cross_validation_by_name_goes_on_in_its_folder(trained: tuple[Path, Path]) -> None:
    store, _ = trained
    tracker = open_tracker(TrackingSettings(store, enabled=False))
    run = tracker.find("exp2")
    before = run.metrics()["oof/pcc_mean"]
    fold = run.children()["fold2"]
    for each in (run, fold):
        each.reopen(even_finished=True)
        each.finish("KILLED", "stopped")
    done = _run("train", "--resume", "exp2", "--json", store=store)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["name"] == "exp2_cv"
    again = tracker.find("exp2")
    assert (again.id, again.status(), again.children()["fold2"].status()) == (run.id, "FINISHED", "FINISHED")
    assert again.metrics()["oof/pcc_mean"] == before
    assert not (store / "mlflow.db").exists()


def test_promoting_an_untracked_run_is_refused(trained: tuple[Path, Path], mlflow_store: Path) -> None:
    _, data = trained
    open_tracker(TrackingSettings(mlflow_store, enabled=False)).start(
        log_name=None, params={}, tags={"rnatracker.kind": "train"}, dataset=None
    )
    done = _run("promote", "exp1", "--data", str(data), store=mlflow_store)
    assert done.exit_code == 1
    assert "run exp1 was made with --no-track" in done.stderr
