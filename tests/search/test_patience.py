"""Servers that are away for a while are waited for; one that stays away is told in its own words."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rnatracker.errors import StudyError, TrackingError
from rnatracker.search import trial_runs
from rnatracker.tracking.contract import Tracker
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.store import ServerLostError

_SERVER = TrackingSettings(Path("nowhere"), "http://u:secret@127.0.0.1:9")


def _lost(_: object) -> Tracker:
    raise ServerLostError("tracking server can't be reached", "start it")


def test_a_server_that_is_being_restarted_is_waited_for_when_a_study_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    there = open_tracker(TrackingSettings(tmp_path / "mlruns", enabled=False))
    answers = iter([_lost, _lost, lambda _: there])
    monkeypatch.setattr(trial_runs, "open_tracker", lambda settings: next(answers)(settings))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert trial_runs.opened_tracker(_SERVER) is there
    assert [record.getMessage() for record in caplog.records] == ["http://***@127.0.0.1:9 is away; waiting for it"]


def test_an_address_where_nothing_answers_is_told_with_what_to_correct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_runs, "open_tracker", _lost)
    with pytest.raises(TrackingError, match="can't be reached"):
        trial_runs.opened_tracker(_SERVER, limit=0)


def test_a_worker_whose_server_stays_away_says_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_runs, "open_tracker", _lost)
    monkeypatch.setenv("RNATRACKER_PATIENCE", "0")
    with pytest.raises(StudyError, match=r"\*\*\*@127.0.0.1:9: has been away for 0 s"):
        trial_runs.opened_tracker(_SERVER, limit=None)
