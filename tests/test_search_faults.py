"""Real processes, really killed: no trial is lost, doubled or left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from rnatracker.tracking import TrackingSettings, open_tracker
from search.opening import load_search
from tests.toys import SMALL, toy_transcripts, write_table

_CLI = Path(__file__).parent.parent / "cli.py"
_TRIALS = 5
pytestmark = pytest.mark.slow


@pytest.fixture
def command(tmp_path: Path, mlflow_store: Path) -> list[str]:
    data = write_table(toy_transcripts(120), tmp_path / "toy.tsv")
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump({"train.lr": {"float": [1e-3, 1e-1], "log": True}}))
    sets = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    base = [sys.executable, str(_CLI), "tune", "--study", "toy", "--data", str(data), "--space", str(space)]
    more = ["--store", str(mlflow_store), "--jobs", "2", "--trials", str(_TRIALS), "--pruner", "none", "--json"]
    return [*base, *sets, "--set", "train.epochs=30", *more]


class _Running:
    """A command that runs, and what it has said so far."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self.said += iter(self.process.stderr.readline, "")

    def wait_for(self, start: str) -> None:
        until = time.monotonic() + 120
        while not any(line.startswith(start) for line in self.said):
            assert time.monotonic() < until, self.said
            time.sleep(0.1)

    def workers(self) -> list[int]:
        listed = ["ps", "-o", "pid,args", "--ppid", str(self.process.pid)]
        lines = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()
        return [int(line.split()[0]) for line in lines if "spawn_main" in line]

    def end(self) -> tuple[int, dict[str, Any]]:
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        self.process.wait(120)
        self._thread.join()
        self.process.stdout.close()
        if self.process.stderr is not None:
            self.process.stderr.close()
        return self.process.returncode, json.loads(out) if out else {}


def _check_all_is_accounted_for(store: Path) -> None:
    tracking = TrackingSettings(store)
    search = load_search("toy", None, tracking)
    assert [trial.number for trial in search.study.trials] == list(range(_TRIALS))
    assert {trial.state.name for trial in search.study.trials} == {"COMPLETE"}
    run = open_tracker(tracking).find("exp1")
    assert run.status() == "FINISHED"
    assert Counter(child.status() for child in run.children().values()) == {"FINISHED": _TRIALS}
    parents = list((store / "artifacts" / "rnatracker").glob("*/artifacts/space.yaml"))
    assert len(parents) == 1
    for trial in search.study.trials:  # every epoch once, also in MLflow
        child = open_tracker(tracking).find(trial.user_attrs["run_id"])
        assert child.logged_steps("val/pcc_mean") == set(range(1, 31))
        assert sorted(trial.intermediate_values) == list(range(1, 31))


def test_killed_worker_is_replaced_and_its_trial_goes_on(command: list[str], mlflow_store: Path) -> None:
    running = _Running(command)
    running.wait_for("trial ")
    os.kill(running.workers()[0], signal.SIGKILL)
    code, told = running.end()
    assert code == 0, running.said
    assert told["trials"]["complete"] == _TRIALS
    assert any("a worker died (signal 9)" in line for line in running.said)
    _check_all_is_accounted_for(mlflow_store)


def test_whole_tree_is_killed_and_the_same_command_goes_on(command: list[str], mlflow_store: Path) -> None:
    running = _Running(command)
    running.wait_for("trial ")
    workers = running.workers()
    for pid in (*workers, running.process.pid):
        os.kill(pid, signal.SIGKILL)
    assert running.end()[0] == -signal.SIGKILL
    again = _Running(command)
    code, told = again.end()
    assert (code, told["state"]) == (0, "FINISHED"), again.said
    _check_all_is_accounted_for(mlflow_store)


def test_interrupted_study_goes_on(command: list[str], mlflow_store: Path) -> None:
    running = _Running(command)
    running.wait_for("trial ")
    running.process.send_signal(signal.SIGINT)
    code, told = running.end()
    assert (code, told["state"]) == (130, "KILLED"), running.said
    assert told["trials"]["running"] == 0
    assert "Traceback" not in "".join(running.said)
    assert _Running(command).end()[0] == 0
    _check_all_is_accounted_for(mlflow_store)


def test_two_commands_at_once_make_one_study(command: list[str], mlflow_store: Path) -> None:
    both = [_Running(command), _Running(command)]
    ends = [running.end() for running in both]
    said = "".join(line for running in both for line in running.said)
    assert [code for code, _ in ends] == [0, 0], said
    assert "database is locked" not in said
    assert "Traceback" not in said
    assert {told["run_id"] for _, told in ends} == {ends[0][1]["run_id"]}
    _check_all_is_accounted_for(mlflow_store)
