"""Commands that users are advised to type: each finds the store, the server and the experiment that it is about."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from rnatracker.tracking import hints
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.store import mlflow_errors


def test_a_command_has_the_options_that_differ_from_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = TrackingSettings(tmp_path / "mlruns")
    assert hints.command(["runs"], here) == "rnatracker runs"
    there = TrackingSettings(tmp_path / "a b", "http://me:secret@host:5000", "other")
    assert shlex.split(hints.command(["runs", "--all"], there)) == [
        "rnatracker", "runs", "--all", "--store", f"{tmp_path}/a b",
        "--tracking-uri", "http://USER:PASSWORD@host:5000", "--experiment", "other",
    ]  # fmt: skip


def test_a_command_without_mlflow_says_so_where_it_has_the_option(tmp_path: Path) -> None:
    settings = TrackingSettings(tmp_path, "http://host", "other", enabled=False)
    assert hints.command(["study", "first"], settings) == f"rnatracker study first --store {tmp_path} --no-track"
    assert hints.command(["runs"], settings) == f"rnatracker runs --store {tmp_path}"


def test_an_untracked_run_is_named_by_its_folder(tmp_path: Path) -> None:
    settings = TrackingSettings(tmp_path, enabled=False)
    run = open_tracker(settings).start(log_name=None, params={}, tags={}, dataset=None)
    assert hints.resume_command(run, settings, jobs=2) == f"rnatracker train --resume {run.folder} --jobs 2"
    expected = f"rnatracker evaluate {run.folder} --data FILE"
    assert hints.evaluate_command(run.name, run.folder, settings) == expected


@pytest.mark.parametrize(
    ("location", "options"),
    [("/somewhere/a b", "--store '/somewhere/a b'"), ("http://***@host", "--tracking-uri http://USER:PASSWORD@host")],
)
def test_a_failure_of_mlflows_sends_to_the_doctor_of_the_same_place(
    location: str, options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    from rnatracker.errors import TrackingError

    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrackingError) as caught, mlflow_errors("trying", location):
        raise MlflowException("something")
    assert caught.value.problem == f"{location}: trying failed: something"
    assert caught.value.remedy == f"see what is wrong with: rnatracker doctor {options}"
