"""Watching folds that are jobs of SLURM, without one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rnatracker.errors import TrackingError, TrainingError
from rnatracker.processes.stop import StopSignal
from rnatracker.search.launchers import folds, slurm
from rnatracker.search.launchers.slurm import Array
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.tags import Tag
from rnatracker.training.reporting import NullReporter
from rnatracker.training.trainer import Stopped
from tests.support.studies import StopAfter

_JOBS = {"fold1": Array("7_0", 1, "/logs"), "fold2": Array("7_1", 1, "/logs")}


def _run(**states: str) -> TrackedRun:
    noted = {"folder": "/logs", "jobs": {name: each.job for name, each in _JOBS.items()}}
    children = {name: SimpleNamespace(status=lambda state=state: state) for name, state in states.items()}
    found: Any = SimpleNamespace(name="exp1", children=lambda: children, tags=lambda: {Tag.JOBS: json.dumps(noted)})
    return cast("TrackedRun", found)


def _watch(run: TrackedRun, alive: dict[str, str], monkeypatch: pytest.MonkeyPatch, stop: StopSignal) -> list[str]:
    told: list[str] = []

    class Told(NullReporter):
        def line(self, text: str) -> None:
            told.append(text)

    monkeypatch.setattr(slurm, "states", lambda _: alive)
    monkeypatch.setattr(folds, "_ASK_SECONDS", 0.0)
    folds._Watch(run, _JOBS, Told()).wait(stop)
    return told


def test_watching_ends_when_all_folds_have_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    told = _watch(_run(fold1="FINISHED", fold2="FINISHED"), {}, monkeypatch, StopSignal())
    assert told == ["fold1: has finished, job 7_0", "fold2: has finished, job 7_1"]


def test_job_that_has_ended_before_its_fold_is_named_with_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match="fold2: the job has ended, and the fold has not finished") as raised:
        _watch(_run(fold1="FINISHED", fold2="KILLED"), {}, monkeypatch, StopSignal())
    assert "/logs/7_1_0_log.err" in raised.value.problem


def test_others_are_waited_for_where_one_job_has_ended_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stopped):
        _watch(_run(fold2="KILLED"), {"7_0": "RUNNING"}, monkeypatch, StopAfter(3))


def test_run_whose_folds_are_jobs_is_not_resumed_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds.shutil, "which", lambda _: "squeue")
    monkeypatch.setattr(slurm, "states", lambda _: {"7_1": "PENDING"})
    with pytest.raises(TrackingError, match="have not ended") as raised:
        folds.check_no_jobs(_run())
    assert raised.value.remedy.endswith("scancel 7_1")
    monkeypatch.setattr(slurm, "states", lambda _: {})
    folds.check_no_jobs(_run())
    monkeypatch.setattr(folds.shutil, "which", lambda _: None)
    with pytest.raises(TrackingError, match="no squeue"):
        folds.check_no_jobs(_run())


def test_fold_is_waited_for_until_its_job_has_ended_and_slurm_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fold has made is uploaded after its run was ended."""
    with pytest.raises(Stopped):
        _watch(_run(fold1="FINISHED", fold2="FINISHED"), {"7_1": "COMPLETING"}, monkeypatch, StopAfter(3))

    def silent(_: object) -> dict[str, str]:
        raise slurm.SilentError("SLURM does not answer", "try again later")

    monkeypatch.setattr(slurm, "states", silent)
    with pytest.raises(Stopped):
        folds._Watch(_run(), _JOBS, NullReporter()).wait(StopAfter(3))


def test_options_of_sbatch_are_checked_as_they_are_typed() -> None:
    assert slurm.parse(["--gres=gpu:1", "time=4:00:00"]) == {"gres": "gpu:1", "time": "4:00:00"}
    assert Path(_JOBS["fold1"].log("7_0")) == Path("/logs/7_0_0_log.err")
