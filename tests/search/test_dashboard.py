"""Notes for optuna-dashboard: what has become of each trial, and what a user has typed stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import TrialState, create_trial

from rnatracker.processes.stop import StopSignal
from rnatracker.search.objective import TrialContext
from rnatracker.search.optuna_private import Notes
from rnatracker.search.records import dashboard, leave
from rnatracker.search.sampling import REASON, REPEATS
from rnatracker.search.scheduling.courses import PAUSED
from rnatracker.search.study import SCHEDULE, Search
from rnatracker.search.worker import run_trials
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.reporting import NullReporter
from tests.support.studies import open_context, small_study
from tests.support.toys import toy_transcripts, write_table


@pytest.fixture
def opened(tmp_path: Path) -> tuple[Search, TrialContext]:
    data = write_table(toy_transcripts(40), tmp_path / "toy.tsv")
    tracking = TrackingSettings(tmp_path / "mlruns", enabled=False)
    return open_context(small_study(data, tracking, trials=1))


def _note(search: Search, number: int) -> str:
    return Notes(search.study).read(search.trial(number))[0]


def test_trial_is_noted_as_it_ends(opened: tuple[Search, TrialContext]) -> None:
    search, context = opened
    run_trials(context, NullReporter(), StopSignal())
    note = _note(search, 0)
    assert note.startswith(f"**Complete**: pcc_mean {search.trial(0).value:.4f} on validation.\n\nIt has the starting")
    assert f"Run: `{context.parent.name}/trial0`" in note
    assert "rnatracker train --data" in note


def test_trials_that_came_to_no_value_say_why(opened: tuple[Search, TrialContext]) -> None:
    search, context = opened
    search.request.space.draw(search.study.ask())
    for state, reason in ((TrialState.PRUNED, "its value"), (TrialState.FAIL, "loss is *nan*")):
        trial = search.study.ask()
        trial.report(0.25, 2)
        trial.set_user_attr(REASON, reason)
        search.study.tell(trial, state=state)
    trial = search.study.ask()
    trial.report(0.25, 2)
    trial.set_user_attr(REPEATS, 1)
    search.study.tell(trial, state=TrialState.FAIL)
    for why in (None, "fold 1, epoch 2: others gain more"):
        waiting = create_trial(
            state=TrialState.WAITING,
            intermediate_values={2: 0.25},
            user_attrs={PAUSED: why, SCHEDULE: ["paused: once"]},
        )
        search.study.add_trial(waiting)
    leave.leave(search, context.parent)
    assert _note(search, 0) == ""  # it is being worked on
    assert _note(search, 1).startswith("**Pruned**: its value.")
    assert _note(search, 2).startswith("**Failed**: loss is \\*nan\\*.")
    assert "counts for nothing" in _note(search, 3)
    assert _note(search, 4).startswith(
        "**Interrupted** at fold 1, epoch 2, pcc_mean 0.2500 so far; the study resumes it."
    )
    assert _note(search, 5).startswith("**Paused**, pcc_mean 0.2500 so far: fold 1, epoch 2: others gain more.")
    assert "- paused: once" in _note(search, 5)
    assert "0 complete, 1 paused, 1 pruned, 1 failed" in Notes(search.study).read(None)[0]


def test_what_a_user_has_typed_stays(opened: tuple[Search, TrialContext]) -> None:
    search, context = opened
    run_trials(context, NullReporter(), StopSignal())
    ours, mark = Notes(search.study).read(search.trial(0))
    Notes(search.study).write(search.trial(0), f"Look here!\n\n{ours}", mark)
    dashboard.note_trial(search, 0, "another/name")
    note = _note(search, 0)
    assert note.startswith("Look here!\n\n**Complete**")
    assert note.count("**Complete**") == 1 and "another/name" in note
