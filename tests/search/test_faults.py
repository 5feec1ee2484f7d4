"""Real processes, really killed: no trial is lost, doubled or left running."""

from __future__ import annotations

import os
import random
import re
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
from rnatracker.search.scheduling.courses import is_paused
from rnatracker.search.scheduling.fresh import source_of
from rnatracker.search.study import DEATHS, WORKER, Search
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from tests.support import paths
from tests.support.processes import Running, running
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


def test_trial_whose_processes_are_killed_again_and_again_is_not_failed_by_that(
    command: list[str], mlflow_store: Path
) -> None:
    for _ in range(3):
        with running(command) as started:
            _trial_in_progress(mlflow_store)
            for pid in (*started.workers(), started.pid):
                os.kill(pid, signal.SIGKILL)
    with running(command) as again:
        assert again.end()[0] == 0, again.said
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


_KINDS = ["worker"] * 4 + ["command", "all"]
_MORE_TRIALS = 6


def _thawed(command: list[str], trials: int) -> list[str]:
    """Return the command with freeze-thaw, and with epochs that take long enough to be killed in."""
    changed = {"none": "freeze-thaw", str(_TRIALS): str(trials), "train.batch_size=8": "train.batch_size=1"}
    return [changed.get(word, word) for word in command]


def _search(store: Path) -> Search | None:
    with suppress(StudyError):  # there is no study yet
        return load_search("toy", None, TrackingSettings(store))
    return None


def _n_reports(store: Path) -> int:
    search = _search(store)
    return sum(len(trial.intermediate_values) for trial in search.trials()) if search else 0


def _victims(kind: str, started: Running, store: Path) -> list[int]:
    """Return whom to kill. No worker's trial is killed three times at one place, which would fail it, rightly."""
    if kind != "worker":
        return [*(started.workers() if kind == "all" else []), started.pid]
    search = _search(store)
    running_now = [t for t in search.trials() if t.state == TrialState.RUNNING] if search else []
    able = [t.user_attrs[WORKER] for t in running_now if t.user_attrs.get(DEATHS, 0) < 2 and t.user_attrs.get(WORKER)]
    return [int(able[0][identity.PID])] if able else []


def _kill_one(kind: str, started: Running, store: Path, rng: random.Random) -> int:
    """Kill at some moment after some more values; return how many workers that may cost an epoch: 0 if it was over."""
    wanted = _n_reports(store) + rng.randint(1, 3)

    def found() -> list[int]:
        is_over = started.process.poll() is not None
        return [-1] if is_over else _victims(kind, started, store) if _n_reports(store) >= wanted else []

    victims = wait_until(found, "someone is at work")
    if victims == [-1]:
        return 0
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(victims)


def test_paused_trials_outlive_kills_at_random_moments(command: list[str], mlflow_store: Path) -> None:
    """A worker, a command that its workers outlive, or all at once: whoever comes next finds every trial."""
    rng, trials, cost = random.Random(0), _MORE_TRIALS, 0
    kinds = rng.sample(_KINDS, len(_KINDS))
    while kinds:
        with running(_thawed(command, trials)) as started:
            while kinds and started.process.poll() is None:
                n_killed = _kill_one(kinds[-1], started, mlflow_store, rng)
                cost += n_killed
                if n_killed and kinds.pop() != "worker":
                    break
            if not kinds or started.process.poll() == 0:
                code, told = started.end()
                trials += _MORE_TRIALS if code == 0 and kinds else 0
    with running(_thawed(command, trials)) as last:
        code, told = last.end()
        assert (code, told["state"]) == (0, "FINISHED"), last.said
    _check_thawed(mlflow_store, trials, cost)


def _check_thawed(store: Path, n_trials: int, cost: int) -> None:
    """Check that each trial is there once, with one run, and that each epoch was trained once but for what kills cost.

    Trainings with fresh seeds too. The line of an epoch is written after its weights: a kill in between leaves it out,
    one before has it trained anew.
    """
    search, tracker = _search(store), open_tracker(TrackingSettings(store))
    assert search is not None
    n_fresh = len(search.fresh())
    assert [trial.number for trial in search.study.trials] == list(range(n_trials + n_fresh))
    assert len(search.trials()) == n_trials
    assert len({source_of(trial) for trial in search.fresh()}) == n_fresh
    assert {trial.state for trial in search.fresh()} <= {TrialState.COMPLETE}
    assert {trial.state for trial in search.trials()} <= {TrialState.COMPLETE, TrialState.WAITING}
    assert all(is_paused(trial) for trial in search.trials() if trial.state == TrialState.WAITING)
    names = [run.name for run in tracker.list_runs().runs if run.kind == "trial"]
    assert sorted(names) == sorted(f"trial{number}" for number in range(n_trials + n_fresh))
    strange = 0
    for name, child in tracker.find("exp1").children().items():
        trial = search.trial(int(name.removeprefix("trial")))
        steps = sorted(trial.intermediate_values)
        assert steps == list(range(1, len(steps) + 1)) and steps
        assert child.logged_steps("val/pcc_mean") == set(steps)
        assert child.status() == ("KILLED" if is_paused(trial) else "FINISHED")
        assert bool(child.tags().get(Tag.PAUSED)) == is_paused(trial)
        lines = Counter(re.findall(r"^\S+  epoch +(\d+)/", child.files.log.read_text(), re.MULTILINE))
        strange += sum(lines[str(step)] != 1 for step in steps)
    assert strange <= cost
