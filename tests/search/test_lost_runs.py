"""Killed between making a run and noting which it is: the same command finds that run, and makes no second one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.study import Study
from optuna.trial import Trial

from rnatracker.processes.stop import StopSignal
from rnatracker.search import refit
from rnatracker.search.study import RUN_ID, StudyRequest
from rnatracker.search.worker import run_trials
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.reporting import NullReporter
from tests.support.studies import open_context, small_study, work_through
from tests.support.toys import SilentReporter, toy_transcripts, write_table


class _Killed(BaseException):
    """Stands for the end of the process: nobody catches it."""


@contextmanager
def _killed_before(kind: type[Study | Trial], key: str) -> Iterator[None]:
    """Kill whoever is about to set this attribute."""
    write = kind.set_user_attr

    def killing(self: Any, name: str, value: Any) -> None:
        if name == key:
            raise _Killed
        write(self, name, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "set_user_attr", killing)
        yield


@pytest.fixture(params=["mlflow", "folders"])
def request_on(request: pytest.FixtureRequest, tmp_path: Path) -> StudyRequest:
    if request.param == "mlflow":
        tracking = TrackingSettings(request.getfixturevalue("mlflow_store"))
    else:
        tracking = TrackingSettings(tmp_path / "mlruns", enabled=False)
    data = write_table(toy_transcripts(60), tmp_path / "toy.tsv")
    return small_study(data, tracking, trials=2, settings={"data__fold": 2, "train__epochs": 1})


def _kinds(request: StudyRequest) -> Counter[str]:
    return Counter(run.kind for run in open_tracker(request.tracking).list_runs().runs)


def test_run_of_a_study_is_found_again(request_on: StudyRequest) -> None:
    with pytest.raises(_Killed), _killed_before(Study, RUN_ID):
        open_context(request_on)
    assert _kinds(request_on) == {"study": 1}
    search, context = open_context(request_on)
    assert _kinds(request_on) == {"study": 1}
    assert search.study.user_attrs[RUN_ID] == context.parent.id
    assert context.parent.status() == "RUNNING"
    assert context.parent.files.space.is_file()


def test_study_of_the_same_name_in_another_storage_has_a_run_of_its_own(
    request_on: StudyRequest, tmp_path: Path
) -> None:
    with pytest.raises(_Killed), _killed_before(Study, RUN_ID):
        open_context(request_on)
    open_context(replace(request_on, storage=str(tmp_path / "other.journal")))
    assert _kinds(request_on) == {"study": 2}
    open_context(request_on)
    assert _kinds(request_on) == {"study": 2}


def test_run_of_a_trial_is_found_again(request_on: StudyRequest) -> None:
    _, context = open_context(request_on)
    with pytest.raises(_Killed), _killed_before(Trial, RUN_ID):
        run_trials(context, NullReporter(), StopSignal())
    assert _kinds(request_on) == {"study": 1, "trial": 1}
    work_through(request_on)
    assert _kinds(request_on) == {"study": 1, "trial": 2}


@pytest.mark.parametrize("has_config", [pytest.param(True, marks=pytest.mark.slow), False])
def test_run_of_a_refit_is_found_again(request_on: StudyRequest, has_config: bool) -> None:
    search, context = work_through(request_on)
    with pytest.raises(_Killed), _killed_before(Study, "refit:1:1000"):
        refit.refit(search, SilentReporter(), [].append, best=1, seeds=1, jobs=1)
    (begun,) = (run for run in context.tracker.list_runs().runs if run.kind == "cross-validation")
    if not has_config:  # killed before it was written
        context.tracker.find(begun.run_id).files.config.unlink()
    verdict = refit.refit(search, SilentReporter(), [].append, best=1, seeds=1, jobs=1)
    assert _kinds(request_on)["cross-validation"] == 2
    other = next(each for each in verdict.refitted if not each.is_start)
    assert other.run_ids == (begun.run_id,)
    run = context.tracker.find(begun.run_id)
    assert run.status() == "FINISHED"
    assert run.tags()["rnatracker.study"] == "toy"
