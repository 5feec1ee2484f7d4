"""Small studies that several tests use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rnatracker.processes.stop import StopSignal
from rnatracker.search import space, tune
from rnatracker.search.definition import open_search
from rnatracker.search.objective import TrialContext
from rnatracker.search.study import Search, StudyRequest, WorkerTask
from rnatracker.search.worker import run_trials, set_up
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.reporting import NullReporter
from tests.support.toys import small_config

SPACE = {"train.lr": {"float": [1e-3, 1e-1], "log": True}, "model.rnn_hidden": {"int": [2, 6]}}


def small_study(data: Path, tracking: TrackingSettings, **changes: Any) -> StudyRequest:
    """Return a study whose trials take a blink; `settings` changes its config, `content` its space."""
    made = small_config(data__path=str(data), **changes.pop("settings", {}))
    found = space.parse(changes.pop("content", SPACE), "x.yaml")
    return replace(StudyRequest("toy", made, found, tracking, trials=4, scheduler="none"), **changes)


def open_context(request: StudyRequest) -> tuple[Search, TrialContext]:
    """Return a study and what its trials need in this process."""
    transcripts = tune.read_transcripts(request)
    search = open_search(request, transcripts.digest())
    run = tune.own_run(search, open_tracker(request.tracking), transcripts)
    task = WorkerTask(request, run.id, Path(), transcripts.digest(), 1)
    return search, set_up(task, transcripts, search)


def work_through(request: StudyRequest) -> tuple[Search, TrialContext]:
    """Run a whole study in this process."""
    search, context = open_context(request)
    run_trials(context, NullReporter(), StopSignal())
    return search, context


class StopAfter(StopSignal):
    """Asks to stop after so many questions."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self._left = questions

    def __call__(self) -> bool:
        self._left -= 1
        return self._left < 0
