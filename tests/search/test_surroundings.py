"""What a worker runs on and with is compared with what was before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnatracker.search.remote import surroundings
from rnatracker.search.study import PLACE, SCHEDULE
from rnatracker.search.tune import _greeting
from rnatracker.search.worker import run_trials
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.reporting import NullReporter
from rnatracker.training.trainer import Stopped
from tests.support.studies import StopAfter, open_context, small_study
from tests.support.toys import toy_transcripts, write_table


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (None, ""),
        ({"job": "7_1", "threads": 2, "device": "cpu", "processor": "A"}, ""),
        ({"threads": 2, "device": "cpu"}, ""),
        ({"threads": 2, "device": "cpu", "processor": "B"}, "processor B before, A now"),
        ({"threads": 4, "device": "H100", "processor": "A"}, "device H100 before, cpu now; threads 4 before, 2 now"),
    ],
)
def test_what_computes_is_told_only_where_it_differs(before: dict[str, object] | None, told: str) -> None:
    found = surroundings.moved(before, {"job": "8_3", "threads": 2, "device": "cpu", "processor": "A"})
    assert told in found
    assert bool(found) == bool(told)


def test_trial_that_goes_on_on_other_hardware_says_so_in_its_run_and_its_course(tmp_path: Path) -> None:
    data = write_table(toy_transcripts(40), tmp_path / "toy.tsv")
    search, context = open_context(small_study(data, TrackingSettings(tmp_path / "mlruns", enabled=False)))
    with pytest.raises(Stopped):
        run_trials(context, NullReporter(), StopAfter(2))
    trial = search.trial(0)
    assert trial.user_attrs[PLACE]["processor"] == surroundings.processor()
    search.handed_out.set(trial, PLACE, trial.user_attrs[PLACE] | {"processor": "an older one"})
    run_trials(context, NullReporter(), StopAfter(1000))
    (told,) = search.trial(0).user_attrs[SCHEDULE]
    assert told.startswith("it goes on elsewhere (processor an older one before, ")
    log = context.tracker.find(search.trial(0).user_attrs["run_id"]).files.log.read_text()
    assert "trial0: resumed: it goes on elsewhere (processor an older one before" in log


def test_host_with_other_packages_is_told_how_they_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_table(toy_transcripts(40), tmp_path / "toy.tsv")
    search, _ = open_context(small_study(data, TrackingSettings(tmp_path / "mlruns", enabled=False)))
    own = surroundings.versions()
    assert search.study.user_attrs[surroundings.VERSIONS] == own
    assert surroundings.other_versions(search.study) is None
    monkeypatch.setattr(surroundings, "versions", lambda: own | {"torch": "1.0"})
    (told,) = [line for line in _greeting(search) if "other versions" in line]
    assert f"was begun with other versions: torch {own['torch']} there, 1.0 here. Trials" in told
