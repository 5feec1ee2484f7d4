"""Real processes, really interrupted: a resumed run ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rnatracker.model import checkpoint
from tests.support import paths
from tests.support.processes import is_alive, running
from tests.support.toys import SMALL, toy_transcripts, write_table
from tests.support.waiting import wait_until

_CLI = paths.CLI
_EPOCHS = 30
pytestmark = pytest.mark.slow


def _command(data: Path, store: Path, *more: str) -> list[str]:
    small = {key: value for key, value in SMALL.items() if key not in ("train.epochs", "train.lr")}
    sets = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    base = [sys.executable, str(_CLI), "train", "--store", str(store), "--json"]
    return [*base, "--data", str(data), *sets, "--epochs", str(_EPOCHS), "--lr", "0.003", *more]


def _resume(run: str, store: Path) -> dict[str, Any]:
    command = [sys.executable, str(_CLI), "train", "--store", str(store), "--json", "--resume", run]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


def _interrupt(command: list[str], number: signal.Signals, epoch: int) -> tuple[int, dict[str, Any], str]:
    """Start a training and send it a signal when it says that an epoch has ended; return how it ended."""
    with running(command) as started:
        started.wait_for(f"epoch {epoch:>2}/{_EPOCHS}")
        started.send(number)
        return *started.end(), "".join(started.said)


def _weights(outcome: dict[str, Any], name: str) -> dict[str, torch.Tensor]:
    return checkpoint.load(Path(outcome["folder"]) / "checkpoints" / name).weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(toy_transcripts(300), tmp_path_factory.mktemp("data") / "toy.tsv")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an uninterrupted run gives."""
    command = _command(data, tmp_path_factory.mktemp("whole") / "mlruns", "--no-track")
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(result.stdout))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_resumed_run_ends_with_the_same_bits_when_its_process_was_stopped(
    number: signal.Signals, data: Path, whole: dict[str, Any], mlflow_store: Path
) -> None:
    epoch = int.from_bytes(os.urandom(2)) % (_EPOCHS - 8) + 2
    code, told, said = _interrupt(_command(data, mlflow_store), number, epoch)
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 130, said
        assert "rnatracker train --resume exp1" in said
        assert told["state"] == "KILLED"
    resumed = _resume("exp1", mlflow_store)
    assert resumed["state"] == "FINISHED"
    assert resumed["best_epoch"] == whole["best_epoch"]
    assert resumed["metrics"] == whole["metrics"]
    for name in ("last.pt", "best.pt"):
        first, second = _weights(whole, name), _weights(resumed, name)
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_run_is_not_resumed_while_its_process_lives(data: Path, mlflow_store: Path) -> None:
    with running(_command(data, mlflow_store, "--epochs", "100000")) as started:
        started.wait_for("epoch ")
        resume = [sys.executable, str(_CLI), "train", "--store", str(mlflow_store), "--resume", "exp1"]
        result = subprocess.run(resume, capture_output=True, text=True, check=False)
        assert result.returncode == 1
        assert f"still being run by process {started.pid}" in result.stderr
        started.send(signal.SIGINT)
        assert started.end()[0] == 130


def test_parallel_folds_are_stopped_and_resumed(data: Path, mlflow_store: Path) -> None:
    more = ("--fold", "3", "--jobs", "2")
    code, _, said = _interrupt(_command(data, mlflow_store, *more), signal.SIGINT, 3)
    assert code == 130, said
    assert "Traceback" not in said
    resumed = _resume("exp1", mlflow_store)
    fresh = subprocess.run(
        _command(data, mlflow_store, *more, "--no-track"), capture_output=True, text=True, check=True
    )
    assert resumed["metrics"] == json.loads(fresh.stdout)["metrics"]


def test_worker_that_dies_costs_its_fold_only(data: Path, mlflow_store: Path) -> None:
    with running(_command(data, mlflow_store, "--fold", "2", "--jobs", "2", "--epochs", "150")) as started:
        started.wait_for("fold1  epoch")
        os.kill(started.workers()[0], signal.SIGKILL)
        code, told = started.end()
        assert code == 1
        assert "its process died (signal 9)" in "".join(started.said)
        assert told["state"] == "FAILED"
    assert _resume("exp1", mlflow_store)["state"] == "FINISHED"


def test_worker_that_is_stopped_from_outside_costs_its_fold_only(data: Path, mlflow_store: Path) -> None:
    with running(_command(data, mlflow_store, "--fold", "2", "--jobs", "2", "--epochs", "150")) as started:
        started.wait_for("fold1  epoch")
        os.kill(started.workers()[0], signal.SIGTERM)
        code, told = started.end()
        said = "".join(started.said)
        assert (code, told["state"]) == (1, "FAILED"), said
        assert "fold1 failed: its process was stopped; resume the run" in said
        assert "fold2 failed" not in said
    assert _resume("exp1", mlflow_store)["state"] == "FINISHED"


def test_workers_end_by_themselves_when_their_parent_is_killed(data: Path, mlflow_store: Path) -> None:
    with running(_command(data, mlflow_store, "--fold", "2", "--jobs", "2", "--epochs", "5000")) as started:
        started.wait_for("fold1  epoch")
        workers = started.workers()
        started.send(signal.SIGKILL)
        started.process.wait()
        assert len(workers) == 2
        assert wait_until(lambda: not any(map(is_alive, workers)), "both workers have ended")
