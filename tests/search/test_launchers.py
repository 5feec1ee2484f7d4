"""Jobs of a cluster: what is typed for them, and what a job does when it is told to save."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

from rnatracker.config import Config
from rnatracker.errors import StudyError, UsageError
from rnatracker.search import space
from rnatracker.search.launchers import slurm, task
from rnatracker.search.launchers.slurm import Array
from rnatracker.search.request import StudyRequest
from rnatracker.tracking.settings import TrackingSettings


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("4:00:00", 240), ("0:30", 1), ("10:30", 11), ("1-0", 1440), ("1-12", 2160), ("2-01:30", 2970)],
)
def test_time_limits_are_read_as_sbatch_reads_them(text: str, minutes: int) -> None:
    assert slurm.minutes_in(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "-5", "1d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no time"):
        slurm.minutes_in(text)


def test_options_are_pairs_each_once() -> None:
    assert slurm.parse(["partition=gpu", "--gres=gpu:1", "cpus-per-task=4"]) == {
        "partition": "gpu",
        "gres": "gpu:1",
        "cpus_per_task": "4",
    }
    for wrong in (["partition"], ["=gpu"], ["partition="], ["partition=a", "partition=b"]):
        with pytest.raises(UsageError, match="--slurm"):
            slurm.parse(wrong)


def test_jobs_are_called_as_squeue_calls_them(tmp_path: Path) -> None:
    assert Array("7", 2, str(tmp_path)).names == ["7_0", "7_1"]
    assert Array("7", 1, str(tmp_path)).names == ["7"]
    assert Array("7", 2, str(tmp_path)).log("7_1") == tmp_path / "7_1_0_log.err"


def test_what_submitit_does_not_know_goes_to_sbatch_as_it_is() -> None:
    found = slurm._parameters("first", {"time": "1", "mem": "4G", "reservation": "us"}, {"mem", "partition"})
    assert found["mem"] == "4G"
    assert found["additional_parameters"] == {"reservation": "us"}
    assert (found["time"], found["signal_delay_s"]) == (1, 20)
    assert slurm._parameters("first", {}, set())["signal_delay_s"] == 90
    assert slurm._parameters("first", {"setup": "module load a; b"}, set())["setup"] == ["module load a", "b"]


def _request(tmp_path: Path, storage: str | None, uri: str | None) -> StudyRequest:
    return StudyRequest("first", Config(), space.load("smoke"), TrackingSettings(tmp_path, uri), storage)


def test_study_that_other_hosts_cannot_reach_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, runs = "postgresql://r:secret@h/studies", "http://h:5000"
    with pytest.raises(UsageError, match="kept in a file"):
        slurm.check(_request(tmp_path, None, runs))
    with pytest.raises(UsageError, match="kept in a file"):
        slurm.check(_request(tmp_path, "sqlite:///x.db", runs))
    with pytest.raises(UsageError, match="kept in a folder"):
        slurm.check(_request(tmp_path, server, None))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StudyError, match="no sbatch"):
        slurm.check(_request(tmp_path, server, runs))


def test_addresses_are_in_a_jobs_environment_and_not_in_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = _request(tmp_path, "postgresql://r:secret@h/studies", "http://me:secret@h:5000")
    submitted: list[task.Task] = []

    def submit(tasks: list[task.Task], folder: Path, name: str, options: object) -> Array:
        submitted.extend(tasks)
        return Array("7", len(tasks), str(folder))

    monkeypatch.setattr(slurm, "submit_tasks", submit)
    search = SimpleNamespace(request=request, folder=tmp_path, lock=nullcontext, study=optuna.create_study())
    slurm.submit(search, 2, {})  # type: ignore[arg-type]
    for each in submitted:
        assert not any("secret" in word for word in each._words)
        assert each._environment[task.STORAGE] == request.storage
        assert each._environment[task.TRACKING] == "http://me:secret@h:5000"
    assert len(submitted) == 2


_WORKER = """
import signal, sys, time
def save(*_):
    time.sleep(0.5)
    open(sys.argv[1], "w").write("saved")
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
open(sys.argv[1] + ".begun", "w").close()
time.sleep(60)
"""


def _task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> task.Task:
    """Return a task whose worker is a stand-in that takes half a second to save."""
    begin = subprocess.Popen

    def stand_in(command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        assert command[1:3] == ["-m", "rnatracker"]
        assert env["X"] == "1"
        return begin([sys.executable, "-c", _WORKER, str(tmp_path / "done")], env=env)

    monkeypatch.setattr(task.subprocess, "Popen", stand_in)
    return task.Task(["rnatracker", "tune", "--study", "first"], {"X": "1"})


def test_checkpoint_within_a_signal_handler_waits_until_the_worker_has_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As submitit calls it: while the main thread waits for the worker."""
    made, again = _task(monkeypatch, tmp_path), []

    def on_signal(*_: object) -> None:
        again.append(made.checkpoint())

    before = signal.signal(signal.SIGUSR2, on_signal)
    try:
        threading.Thread(target=_signal_when, args=(tmp_path / "done.begun", signal.SIGUSR2)).start()
        assert made() == 130
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert (tmp_path / "done").read_text() == "saved"
    (delayed,) = again
    assert isinstance(delayed.function, task.Task)


def test_job_that_is_cancelled_saves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _task(monkeypatch, tmp_path)
    threading.Thread(target=_signal_when, args=(tmp_path / "done.begun", signal.SIGTERM)).start()
    assert made() == 130
    assert (tmp_path / "done").read_text() == "saved"


def _signal_when(path: Path, number: signal.Signals) -> None:
    while not path.exists():
        time.sleep(0.02)
    os.kill(os.getpid(), number)


def test_worker_that_fails_fails_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = subprocess.Popen
    monkeypatch.setattr(task.subprocess, "Popen", lambda *_, **__: begin([sys.executable, "-c", "raise SystemExit(1)"]))
    with pytest.raises(RuntimeError, match="status 1"):
        task.Task([], {})()


def test_job_is_called_as_squeue_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert task._job() == "12"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "11")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert task._job() == "11_3"
