"""A journal with a line that is none of Optuna's: each command says which, and nothing else is lost."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.choices import Objective
from rnatracker.errors import StudyError
from rnatracker.processes.stop import StopSignal
from rnatracker.search import definition, tune
from rnatracker.search.checks import check_trials
from rnatracker.search.definition import open_search
from rnatracker.search.faults.journal import JournalError
from rnatracker.search.storage import open_storage
from rnatracker.search.study import Search
from rnatracker.search.worker import run_trials
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.reporting import NullReporter
from rnatracker.training.trainer import EpochResult
from tests.support.studies import open_context, small_study
from tests.support.toys import toy_transcripts, write_table

_OF = {"worker_id": "x", "trial_id": 0}
_DISTRIBUTION = '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0, "high": 1, "log": false}}'
_STRANGE: dict[str, Any] = {
    "list": [],
    "null": None,
    "number": 123,
    "true": True,
    "text": "x",
    "empty": {},
    "no op_code": {"worker_id": "x"},
    "op_code null": {"op_code": None},
    "op_code list": {"op_code": []},
    "op_code text": {"op_code": "5", **_OF},
    "op_code true": {"op_code": True, **_OF},
    "op_code unknown": {"op_code": 99},
    "op_code below": {"op_code": -1, **_OF},
    "op_code float": {"op_code": 5.5, **_OF},
    "no worker": {"op_code": 7, "trial_id": 0, "step": 1, "intermediate_value": 0.5},
    "lacking all": {"op_code": 5, "worker_id": "x"},
    "lacking one": {"op_code": 7, **_OF, "step": 1},
    "study without name": {"op_code": 0, "study_name": None, "directions": None, "worker_id": "w"},
    "study of strange direction": {"op_code": 0, "study_name": "y", "directions": [7], "worker_id": "w"},
    "study that isn't there": {"op_code": 2, "study_id": 12, "user_attr": {"a": 1}, "worker_id": "w"},
    "trial that isn't there": {"op_code": 8, "worker_id": "x", "trial_id": 999, "user_attr": {"a": 1}},
    "trial below": {"op_code": 8, "worker_id": "x", "trial_id": -1, "user_attr": {"a": 1}},
    "trial of strange study": {"op_code": 4, "study_id": 12, "datetime_start": None, "worker_id": "w"},
    "attribute of two": {"op_code": 8, **_OF, "user_attr": {"a": 1, "b": 2}},
    "attribute that is a list": {"op_code": 9, **_OF, "system_attr": [1]},
    "value that is text": {"op_code": 7, **_OF, "step": 1, "intermediate_value": "x"},
    "step that is text": {"op_code": 7, **_OF, "step": "1", "intermediate_value": 0.5},
    "state unknown": {"op_code": 6, **_OF, "state": 9, "values": None},
    "end without time": {"op_code": 6, **_OF, "state": 1, "values": [0.5]},
    "end at no time": {"op_code": 6, **_OF, "state": 1, "values": [0.5], "datetime_complete": "noon"},
    "end with text": {"op_code": 6, **_OF, "state": 3, "values": ["x"], "datetime_complete": "2026-01-01"},
    "no distribution": {"op_code": 5, **_OF, "param_name": "a", "param_value_internal": 0.5, "distribution": "{}"},
    "new trial at no time": {"op_code": 4, "study_id": 0, "datetime_start": "noon", "worker_id": "x"},
    "new trial of two values": {
        "op_code": 4,
        "study_id": 0,
        "datetime_start": None,
        "worker_id": "x",
        "state": 1,
        "value": 0.5,
        "values": [0.5],
    },
    "new trial without distribution": {
        "op_code": 4,
        "study_id": 0,
        "datetime_start": None,
        "worker_id": "x",
        "params": {"a": 0.5},
        "distributions": {},
    },
}
_TORN = {"no JSON": b"{", "empty line": b"", "deep": b"[" * 100_000, "zeros": b"\0\0", "no UTF-8": b"\xff\xfe\xff"}
_LINES = {key: json.dumps(value).encode() for key, value in _STRANGE.items()} | _TORN
_COMMANDS = (["study", "toy"], ["study", "--list"], ["study", "toy", "--json"], ["tune", "--study", "toy"], ["doctor"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a journal with a trial that is complete, and one that runs."""
    folder = tmp_path_factory.mktemp("whole")
    tracking = TrackingSettings(folder, enabled=False)
    search = open_search(small_study(folder / "toy.tsv", tracking), "d")
    for number in range(2):
        claim = search.claim()
        assert claim is not None
        claim.trial.report(0.5, 1)
        if number == 0:
            search.study.tell(claim.trial, 0.5)
    return (folder / "optuna.journal").read_bytes()


def _with(whole: bytes, line: bytes, place: str, path: Path) -> int:
    """Write a journal with a strange line; return the line's number."""
    lines = whole.splitlines()
    before = {"first": 0, "middle": len(lines) - 3, "last": len(lines)}[place]
    path.write_bytes(b"\n".join([*lines[:before], line, *lines[before:]]) + b"\n")
    return before + 1


@pytest.mark.parametrize("kind", _LINES)
def test_strange_line_is_named_wherever_it_is(kind: str, whole: bytes, tmp_path: Path) -> None:
    journal = tmp_path / "optuna.journal"
    for place in ("first", "middle", "last"):
        number = _with(whole, _LINES[kind], place, journal)
        with pytest.raises(JournalError) as caught:
            open_storage(None, tmp_path)
        assert f"{journal}: not a journal of Optuna's (line {number} is none of its records" in caught.value.problem
        assert caught.value.line == number
        assert "remove that line, if the others are whole" in caught.value.remedy
        remove = caught.value.remedy.partition(": ")[2].partition(", or")[0]
        subprocess.run(remove, shell=True, check=True)
        assert journal.read_bytes() == whole
        assert definition.names(None, TrackingSettings(tmp_path)) == ["toy"]


@pytest.mark.parametrize("kind", _LINES)
def test_strange_line_that_comes_while_a_study_is_open_is_named_at_the_next_look(
    kind: str, whole: bytes, tmp_path: Path
) -> None:
    journal = tmp_path / "optuna.journal"
    journal.write_bytes(whole)
    search = definition.load_search("toy", None, TrackingSettings(tmp_path, enabled=False))
    assert search.counts().all == 2
    with journal.open("ab") as file:
        file.write(_LINES[kind] + b"\n")
    for _ in range(2):  # it isn't passed over at the second look
        with pytest.raises(JournalError) as caught:
            search.counts()
        assert caught.value.line == len(whole.splitlines()) + 1
    journal.write_bytes(whole)
    assert search.counts().all == 2


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("kind", ["list", "op_code unknown", "lacking all", "trial that isn't there"])
def test_every_command_names_the_line(kind: str, place: str, whole: bytes, tmp_path: Path) -> None:
    number = _with(whole, _LINES[kind], place, tmp_path / "optuna.journal")
    before = (tmp_path / "optuna.journal").read_bytes()
    data = write_table(toy_transcripts(20), tmp_path / "toy.tsv")
    for words in _COMMANDS:
        more = {"tune": ["--data", str(data), "--no-track"], "study": ["--no-track"]}.get(words[0], [])
        result = CliRunner().invoke(app, [*words, *more, "--store", str(tmp_path)])
        assert result.exit_code == 1, words
        assert f"optuna.journal: not a journal of Optuna's (line {number} is none of its records" in result.output
        assert f"sed -i.before {number}d" in result.output
    (found,) = check_trials(TrackingSettings(tmp_path, enabled=False))
    assert (found.id, found.level) == ("trials.unreadable", "broken")
    assert (tmp_path / "optuna.journal").read_bytes() == before


def test_commands_that_need_no_study_work(whole: bytes, tmp_path: Path) -> None:
    _with(whole, b"[]", "last", tmp_path / "optuna.journal")
    result = CliRunner().invoke(app, ["runs", "--store", str(tmp_path)])
    assert result.exit_code == 0


class _Appending(NullReporter):
    """Appends a strange line at a trial's second epoch."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal

    def epoch(self, label: str, result: EpochResult, epochs: int, objective: Objective) -> None:
        if result.epoch == 2:
            with self._journal.open("a") as file:
                file.write("[]\n")


def test_trial_goes_on_once_the_line_that_came_amid_it_is_removed(tmp_path: Path) -> None:
    data = write_table(toy_transcripts(60), tmp_path / "toy.tsv")
    tracking = TrackingSettings(tmp_path / "mlruns", enabled=False)
    search, context = open_context(small_study(data, tracking, trials=1))
    journal = tracking.store / "optuna.journal"
    with pytest.raises(JournalError) as caught:
        run_trials(context, _Appending(journal), StopSignal())
    assert context.parent.children()["trial0"].status() == "KILLED"
    tune._end_by(caught.value, search, context.parent)
    assert context.parent.status() == "FAILED"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(line for line in lines if line != "[]") + "\n")
    again, context = open_context(small_study(data, tracking, trials=1))
    run_trials(context, NullReporter(), StopSignal())
    (trial,) = again.trials()
    assert (trial.state, sorted(trial.intermediate_values)) == (TrialState.COMPLETE, [1, 2, 3])


def _finish_all(search: Search) -> None:
    while (claim := search.claim()) is not None:
        search.study.tell(claim.trial, claim.config.train.lr)


@pytest.mark.parametrize("torn", [b'{"op_code": 5, "trial_'.replace(b": ", b":"), b"{", b"\0\0\0\0", b'{"op_code":'])
def test_torn_last_line_is_cut_off_before_the_next_is_written(torn: bytes, tmp_path: Path) -> None:
    request = small_study(tmp_path / "toy.tsv", TrackingSettings(tmp_path, enabled=False), trials=3)
    search = open_search(request, "d")
    _finish_all(search)
    journal = tmp_path / "optuna.journal"
    journal.write_bytes(journal.read_bytes() + torn)
    more = replace(search, request=replace(request, trials=4))  # a study that has been open since before
    _finish_all(more)
    journal.write_bytes(journal.read_bytes() + torn)
    assert open_search(replace(request, trials=4), "d").counts().complete == 4
    assert all(json.loads(line) for line in journal.read_text().splitlines())


@pytest.mark.parametrize("text", ["notes of mine", "some\nnotes", '{"op": 1}'])
def test_file_of_something_else_is_refused_and_stays_as_it_is(text: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(StudyError, match="not a journal of Optuna's"):
        open_storage(str(path), tmp_path)
    assert path.read_text() == text


def test_copy_of_a_journal_that_can_only_be_read_is_called_by_its_own_name(whole: bytes, tmp_path: Path) -> None:
    from rnatracker.search import storage

    journal = tmp_path / "optuna.journal"
    number = _with(whole, b"[]", "middle", journal)
    with pytest.raises(JournalError) as caught:
        storage._open_journal(storage._copied(journal), journal)
    assert f"{journal}: not a journal of Optuna's (line {number}" in caught.value.problem


def test_all_that_optuna_writes_is_taken(tmp_path: Path) -> None:
    """Deleted and repeated studies, trials of every kind, values that are no numbers."""
    storage = open_storage(None, tmp_path)
    study = optuna.create_study(storage=storage, study_name="a")
    study.set_user_attr("x", {"y": [1, None]})
    for _ in range(2):
        optuna.create_study(storage=storage, study_name="a", load_if_exists=True)
    trial = study.ask()
    trial.suggest_float("f", 0, 1)
    trial.suggest_int("i", 1, 9, log=True)
    trial.suggest_categorical("c", ["x", None, True, 1.5])
    trial.report(float("nan"), 1)
    trial.report(float("inf"), 2)
    study.tell(trial, state=TrialState.PRUNED)
    study.tell(study.ask(), 0.5)
    study.enqueue_trial({"f": 0.25}, user_attrs={"start": True})
    study.add_trial(create_trial(value=1.0, params={}, distributions={}, intermediate_values={3: 0.1}))
    study.add_trial(create_trial(state=TrialState.FAIL))
    several = optuna.create_study(storage=storage, study_name="b", directions=["minimize", "maximize"])
    several.tell(several.ask(), [0.1, 0.2])
    optuna.delete_study(study_name="a", storage=storage)
    again = optuna.create_study(storage=storage, study_name="a")
    again.tell(again.ask(), 0.5)
    opened = open_storage(None, tmp_path)
    assert sorted(optuna.get_all_study_names(opened)) == ["a", "b"]
    assert [t.values for t in optuna.load_study(study_name="b", storage=opened).trials] == [[0.1, 0.2]]
    assert [t.value for t in optuna.load_study(study_name="a", storage=opened).trials] == [0.5]
