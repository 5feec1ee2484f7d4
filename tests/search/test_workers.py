"""Who works on a study, as `study --workers` tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnatracker.processes import identity
from rnatracker.search.launchers import slurm
from rnatracker.search.study import PLACE
from rnatracker.search.worker import run_trials
from rnatracker.terminal import study_workers
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.reporting import NullReporter
from rnatracker.training.trainer import Stopped
from tests.support.studies import StopAfter, open_context, small_study
from tests.support.toys import toy_transcripts, write_table


def test_who_works_on_a_study_is_told_with_trial_place_and_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_table(toy_transcripts(40), tmp_path / "toy.tsv")
    search, context = open_context(small_study(data, TrackingSettings(tmp_path / "mlruns", enabled=False)))
    assert study_workers.workers_as_json(search) == {"study": "toy", "workers": []}
    with pytest.raises(Stopped):
        run_trials(context, NullReporter(), StopAfter(2))
    claim = search.claim()
    assert claim is not None
    claim.trial.set_user_attr(PLACE, {"job": "7_1", "threads": 2, "device": "cpu"})
    search.study.set_user_attr(slurm.JOBS, [{"job": "7", "tasks": 2, "folder": "/logs"}])
    (found,) = study_workers.workers_as_json(search)["workers"]
    own = identity.own_tags()
    assert (found["host"], found["pid"]) == (own[identity.HOST], int(own[identity.PID]))
    assert (found["trial"], found["job"], found["threads"], found["device"]) == (claim.number, "7_1", 2, "cpu")
    assert found["log"] == "/logs/7_1_0_log.err"
    assert 0 <= found["silent"] < 60
    study_workers.print_workers(search)
    shown = capsys.readouterr().out
    assert "1 worker of study toy" in shown and "7_1" in shown and "/logs/7_1_0_log.err" in shown
