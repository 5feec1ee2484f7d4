"""Real processes, really killed: no trial is lost, doubled or left running."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from rnatracker.errors import StudyError
from rnatracker.processes import identity
from rnatracker.search.definition import load_search
from rnatracker.search.study import WORKER
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support import paths
from tests.support.processes import running
from tests.support.toys import SMALL, toy_transcripts, write_table
from tests.support.waiting import wait_until

_CLI = paths.CLI
_TRIALS = 5
pytestmark = pytest.mark.slow


@pytest.fixture
def command(tmp_path: Path, mlflow_store: Path) -> list[str]:
    data = write_table(toy_transcripts(120), tmp_path / "toy.tsv")
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump({"train.lr": {"float": [1e-3, 1e-1], "log": True}}))
    sets = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    base = [sys.executable, str(_CLI), "tune", "--study", "toy", "--data", str(data), "--space", str(space)]
    more = ["--store", str(mlflow_store), "--jobs", "2", "--trials", str(_TRIALS), "--scheduler", "none", "--json"]
    return [*base, *sets, "--set", "train.epochs=30", *more]


def _trial_in_progress(store: Path) -> int:
    """Wait until a trial has come some way, and return the process that works on it."""

    def worker() -> int | None:
        with suppress(StudyError):  # there is no study yet
            for trial in load_search("toy", None, TrackingSettings(store)).study.trials:
                if trial.state == TrialState.RUNNING and trial.last_step and trial.last_step > 2:
                    return int(trial.user_attrs[WORKER][identity.PID])
        return None

    return wait_until(worker, "a trial has begun")


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


def test_killed_worker_is_replaced_and_its_trial_is_resumed(command: list[str], mlflow_store: Path) -> None:
    with running(command) as started:
        os.kill(_trial_in_progress(mlflow_store), signal.SIGKILL)
        code, told = started.end()
        assert code == 0, started.said
        assert told["trials"]["complete"] == _TRIALS
        assert any("a worker died (signal 9)" in line for line in started.said)
    _check_all_is_accounted_for(mlflow_store)


def test_whole_tree_is_killed_and_the_same_command_resumes_it(command: list[str], mlflow_store: Path) -> None:
    with running(command) as started:
        _trial_in_progress(mlflow_store)
        for pid in (*started.workers(), started.pid):
            os.kill(pid, signal.SIGKILL)
        assert started.end()[0] == -signal.SIGKILL
    with running(command) as again:
        code, told = again.end()
        assert (code, told["state"]) == (0, "FINISHED"), again.said
    _check_all_is_accounted_for(mlflow_store)


def test_interrupted_study_is_resumed(command: list[str], mlflow_store: Path) -> None:
    with running(command) as started:
        _trial_in_progress(mlflow_store)
        started.send(signal.SIGINT)
        code, told = started.end()
        assert (code, told["state"]) == (130, "KILLED"), started.said
        assert told["trials"]["running"] == 0
        assert "Traceback" not in "".join(started.said)
    with running(command) as again:
        assert again.end()[0] == 0, again.said
    _check_all_is_accounted_for(mlflow_store)


def test_two_commands_at_once_make_one_study(command: list[str], mlflow_store: Path) -> None:
    with running(command) as first, running(command) as second:
        ends = [first.end(), second.end()]
        said = "".join(first.said + second.said)
        assert [code for code, _ in ends] == [0, 0], said
    assert "database is locked" not in said
    assert "Traceback" not in said
    assert {told["run_id"] for _, told in ends} == {ends[0][1]["run_id"]}
    _check_all_is_accounted_for(mlflow_store)
