"""Trials that are read from a database by the project's own queries are as Optuna reads them."""

from __future__ import annotations

import inspect
import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, _cached_storage
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text

from rnatracker.search.remote.patient_storage import _CALLS, PatientStorage
from rnatracker.search.remote.trial_reader import TrialReader

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage:UserWarning")

Read = Callable[..., list[FrozenTrial]]


@pytest.fixture
def storage(tmp_path: Path) -> RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RDBStorage(f"sqlite:///{tmp_path}/studies.db", heartbeat_interval=30)


@pytest.fixture
def study(storage: RDBStorage) -> Study:
    """A study with a trial of each kind: 0 complete, 1 pruned, 2 failed, 3 running, 4 waiting, 5 enqueued."""
    made = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=1), directions=["maximize"])
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, None, TrialState.WAITING):
        trial = made.ask()
        trial.suggest_float("rate", 1e-4, 1e-1, log=True)
        trial.suggest_int("layers", 1, 5)
        trial.suggest_categorical("kind", ["a", "b", None])
        for step, value in enumerate((0.1, float("nan"), math.inf, -math.inf)):
            trial.report(value, step)
        trial.set_user_attr("worker", {"host": "n1", "pid": 7})
        if state == TrialState.WAITING:
            storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        elif state is not None:
            made.tell(trial, math.inf if state == TrialState.COMPLETE else None, state=state)
    made.enqueue_trial({"layers": 3}, user_attrs={"why": "given"})
    return made


@pytest.fixture
def read(storage: RDBStorage, study: Study) -> Read:
    reader = TrialReader("worker")

    def call(known: set[int], above: int) -> list[FrozenTrial]:
        with _create_scoped_session(storage.scoped_session) as session:
            return reader.read(session, study._study_id, known, above)

    return call


def _plain(trials: list[FrozenTrial]) -> list[str]:
    return [repr(vars(trial)) for trial in trials]


def test_trials_of_every_kind_are_as_optuna_reads_them(storage: RDBStorage, study: Study, read: Read) -> None:
    found = read(set(), -1)
    expected = storage._get_trials(study._study_id, None, set(), -1)
    assert [trial.state for trial in found] == [trial.state for trial in expected]
    assert _plain(found) == _plain(expected)


def test_trials_are_read_that_are_named_or_newer(read: Read) -> None:
    ids = [trial._trial_id for trial in read(set(), -1)]
    assert [t.number for t in read({ids[0], ids[2]}, ids[2])] == [0, 2]
    assert [t.number for t in read({ids[0]}, ids[0])] == [0, 1, 2]


def test_many_named_trials_are_found_without_naming_them(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnatracker.search.remote.trial_reader._NAMED", 1)
    monkeypatch.setattr("rnatracker.search.remote.trial_reader._AT_ONCE", 2)
    ids = [trial._trial_id for trial in read(set(), -1)]
    assert [t.number for t in read({ids[0], ids[1], ids[2]}, ids[2])] == [0, 1, 2]


def test_trial_that_waits_is_read_once_and_again_after_it_was_handed_out(storage: RDBStorage, read: Read) -> None:
    ids = {trial.number: trial._trial_id for trial in read(set(), -1)}
    unfinished = {ids[3], ids[4], ids[5]}
    assert read(unfinished, ids[2]) == []
    for state in (TrialState.RUNNING, TrialState.WAITING):
        storage.record_heartbeat(ids[4])
        storage.set_trial_state_values(ids[4], state)
    (paused,) = read(unfinished, ids[2])
    assert (paused.number, paused.state) == (4, TrialState.WAITING)
    assert read(unfinished, ids[2]) == []
    storage.record_heartbeat(ids[5])
    storage.set_trial_state_values(ids[5], TrialState.RUNNING)
    storage.set_trial_state_values(ids[5], TrialState.COMPLETE, [0.5])
    assert [t.number for t in read(unfinished, ids[2])] == [5]


def test_trial_that_is_worked_on_is_read_again_after_each_report_and_sign_of_life(
    storage: RDBStorage, study: Study, read: Read
) -> None:
    ids = {trial.number: trial._trial_id for trial in read(set(), -1)}
    assert read({ids[3]}, ids[5]) == []
    storage.set_trial_intermediate_value(ids[3], 7, 0.5)
    assert [t.intermediate_values[7] for t in read({ids[3]}, ids[5])] == [0.5]
    storage.set_trial_user_attr(ids[3], "seen", 1)
    assert read({ids[3]}, ids[5]) == []
    storage.record_heartbeat(ids[3])
    assert [t.user_attrs["seen"] for t in read({ids[3]}, ids[5])] == [1]
    storage.set_trial_user_attr(ids[3], "worker", None)
    with storage.engine.begin() as connection:  # SQLite's clock would tell the same second
        connection.execute(text("UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00.000000'"))
    for _ in range(2):  # handed out, and its worker is yet to be told
        assert [t.user_attrs["worker"] for t in read({ids[3]}, ids[5])] == [None]


def test_who_knows_nothing_yet_is_given_all(read: Read) -> None:
    assert len(read(set(), -1)) == len(read(set(), -1)) == 6


def test_one_trial_is_read_as_optuna_reads_it(storage: RDBStorage, study: Study) -> None:
    reader = TrialReader("worker")
    for expected in storage._get_trials(study._study_id, None, set(), -1):
        with _create_scoped_session(storage.scoped_session) as session:
            assert _plain([reader.read_one(session, expected._trial_id)]) == _plain([expected])
    with _create_scoped_session(storage.scoped_session) as session, pytest.raises(KeyError):
        reader.read_one(session, 99)


def test_what_is_set_together_is_there_at_its_end_as_if_set_one_by_one(tmp_path: Path) -> None:
    storage = PatientStorage(f"sqlite:///{tmp_path}/studies.db")
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=1))
    trial = study.ask()
    with storage.together():
        rate, kind = trial.suggest_float("rate", 1e-4, 1e-1, log=True), trial.suggest_categorical("kind", ["a", None])
        trial.set_user_attr("worker", None)
        trial.set_user_attr("worker", {"host": "n1"})
        assert storage.get_trial(trial._trial_id).params == {}
    (found,) = study.get_trials()
    assert (found.params, found.user_attrs) == ({"rate": rate, "kind": kind}, {"worker": {"host": "n1"}})
    with pytest.raises(ZeroDivisionError), storage.together():
        trial.set_user_attr("worker", 1 / 0)
    trial.set_user_attr("seen", 1)
    assert study.get_trials()[0].user_attrs == {"worker": {"host": "n1"}, "seen": 1}


def test_all_that_optunas_cache_asks_of_a_database_waits_for_it() -> None:
    asked = set(re.findall(r"_backend\.(\w+)\(", inspect.getsource(_cached_storage)))
    told_once = {"delete_study", "get_heartbeat_interval", "get_heartbeat_stale_trial_callback"}  # or not by studies
    assert asked - told_once <= set(_CALLS)
