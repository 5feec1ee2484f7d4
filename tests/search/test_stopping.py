"""When a study has had enough."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnatracker.errors import UsageError
from rnatracker.search.scheduling.stopping import Until, expected_gain
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


def test_gain_is_what_the_last_ones_gained_in_all_orders() -> None:
    values = [0.1 * i for i in range(12)]
    orders = np.array([np.random.default_rng(seed).permutation(values)[:6].max() for seed in range(20000)])
    gained = max(values) - orders.mean()
    assert expected_gain(values) == pytest.approx(gained * math.log(22 / 12) / math.log(2), rel=0.02)


def test_gain_is_nothing_where_many_are_alike_and_unknown_of_few() -> None:
    assert expected_gain([0.5] * 30) == 0.0
    assert expected_gain([0.1 * i for i in range(11)]) is None
    assert expected_gain([0.0] * 39 + [1.0]) == pytest.approx(0.25 * math.log(50 / 40) / math.log(40 / 30))


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
