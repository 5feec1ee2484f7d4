"""What users are told to type next about a study: it runs as it is printed."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.search import hints
from rnatracker.search.study import StudyRequest
from rnatracker.tracking.settings import TrackingSettings
from tests.support.studies import small_study, work_through
from tests.support.toys import toy_transcripts, write_table


@pytest.fixture
def request_elsewhere(tmp_path: Path, mlflow_store: Path) -> StudyRequest:
    """A small study in a store, an experiment and a storage that are not those that a command finds by itself."""
    data = write_table(toy_transcripts(40), tmp_path / "toy.tsv")
    tracking = TrackingSettings(mlflow_store, experiment="another")
    return small_study(data, tracking, trials=1, storage=str(tmp_path / "my studies.journal"))


def _words(command: str) -> list[str]:
    program, *words = shlex.split(command)
    assert program == "rnatracker"
    return words


def test_study_command_runs_as_it_is(request_elsewhere: StudyRequest) -> None:
    search, _ = work_through(request_elsewhere)
    words = _words(hints.study_command(search))
    assert {"--storage", "--store", "--experiment"} <= set(words)
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["trials"]["complete"] == 1


def test_study_without_tracking_is_found_by_its_command(tmp_path: Path) -> None:
    data = write_table(toy_transcripts(40), tmp_path / "toy.tsv")
    search, _ = work_through(small_study(data, TrackingSettings(tmp_path / "folder", enabled=False), trials=1))
    words = _words(hints.study_command(search))
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["trials"]["complete"] == 1


def test_rerun_command_leaves_its_run_in_the_same_store(request_elsewhere: StudyRequest) -> None:
    search, _ = work_through(request_elsewhere)
    words = _words(hints.rerun_command(search, search.study.trials[0]))
    at = words.index("--store")
    assert words[at + 1] == str(request_elsewhere.tracking.store)
    assert words[words.index("--experiment") + 1] == "another"


def test_password_of_a_storage_is_not_shown(request_elsewhere: StudyRequest) -> None:
    search, _ = work_through(request_elsewhere)
    away = replace(search, request=replace(search.request, storage="postgresql://me:secret@host/db"))
    command = hints.study_command(away)
    assert "secret" not in command
    assert "postgresql://USER:PASSWORD@host/db" in command
