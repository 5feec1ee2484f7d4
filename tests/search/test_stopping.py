"""When a study has had enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnatracker.errors import UsageError
from rnatracker.search.scheduling.freeze_thaw import Course, FreezeThaw, State
from rnatracker.search.scheduling.stopping import Until
from rnatracker.tracking.settings import TrackingSettings
from tests.support.studies import small_study, work_through
from tests.support.toys import toy_transcripts, write_table


def test_limits_are_read() -> None:
    assert Until.of(["1h30m", "800 epochs", "gain:0.005"]) == Until(5400.0, 800, 0.005)
    assert Until.of(["gain<.01"]) == Until(gain=0.01)
    assert Until.of([]) == Until()


@pytest.mark.parametrize("text", ["soon", "10", "gain", "gain:0", "0epochs", "2h3", "-1h", "epochs"])
def test_what_is_no_limit_is_named(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Until.of([text])
    assert text in caught.value.problem and "800epochs" in caught.value.remedy


def test_one_kind_twice_is_an_error() -> None:
    with pytest.raises(UsageError):
        Until.of(["1h", "90m"])


def _straight(n: int, spread: float, epochs: int = 9) -> list[Course]:
    """Return whole trainings of which one has 0.5 + spread and the others spread out below 0.5, by their first key."""
    made = []
    for i in range(n):
        place = i / (n - 1)
        last = 0.5 - spread * (place - 1 / 3) ** 2
        values = {1: {e: last * e / epochs for e in range(1, epochs + 1)}}
        made.append(Course(i, np.array([place]), values, State.COMPLETE, i == 0))
    return made


def test_gain_is_small_where_all_has_been_seen_and_larger_where_nothing_has() -> None:
    scheduler, candidates = FreezeThaw(9, 1), np.linspace(0, 1, 50)[:, None]
    seen = scheduler.expected_gain(_straight(13, 0.3), candidates)
    little = FreezeThaw(9, 1).expected_gain(_straight(13, 0.3)[9:], candidates)
    assert 0 <= seen < 0.02
    assert little > 2 * seen


def test_study_ends_when_its_epochs_are_spent_and_goes_on_with_more(tmp_path: Path) -> None:
    data = write_table(toy_transcripts(60), tmp_path / "toy.tsv")
    tracking = TrackingSettings(tmp_path / "store", enabled=False)
    changes = {"trials": 6, "scheduler": "freeze-thaw", "settings": {"train__epochs": 4}}
    request = small_study(data, tracking, **changes, until=Until(epochs=5))
    search, _ = work_through(request)
    spent = sum(each.epochs for each in search.courses())
    assert 5 <= spent < 9
    assert search.is_over()
    assert search.enough() == "its 5 epochs are spent"
    search, _ = work_through(replace(request, until=Until()))
    assert sum(each.epochs for each in search.courses()) > spent
    assert search.counts().complete + search.counts().paused == 6
