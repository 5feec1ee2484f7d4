"""A database server in which workers on several hosts share a study: locks, tables, signs of life."""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from rnatracker.errors import StudyError
from rnatracker.search import storage
from rnatracker.search.remote import database as locks
from rnatracker.search.remote import heartbeat, patience
from rnatracker.search.study import WORKER, Claim, Lost, Search, StudyRequest
from rnatracker.search.worker import run_trials
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.reporting import NullReporter
from tests.support import postgresql
from tests.support.studies import StopAfter, open_context, small_study
from tests.support.toys import toy_transcripts, write_table
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

_HOLDER = """
import sys, time
from rnatracker.search.remote.database import lock
with lock(sys.argv[1], "study"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def request_(tmp_path: Path, database: str) -> StudyRequest:
    data = write_table(toy_transcripts(40), tmp_path / "toy.tsv")
    return small_study(data, TrackingSettings(tmp_path / "mlruns", enabled=False), storage=database)


def _on_host(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)


def test_lock_is_held_by_one_at_a_time_and_freed_by_a_kill(database: str) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, database], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    taken = threading.Event()

    def take() -> None:
        with locks.lock(database, "study"):
            taken.set()

    waiting = threading.Thread(target=take)
    waiting.start()
    with locks.lock(database, "another"):  # another study's is another lock
        assert not taken.wait(0.5)
    holder.kill()
    holder.communicate()
    waiting.join(timeout=20)
    assert taken.is_set()


def test_lock_that_is_never_freed_is_an_error(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_LOCK_SECONDS", 1)
    locks._engine.cache_clear()
    with locks.lock(database, "study"), pytest.raises(StudyError) as raised, locks.lock(database, "study"):
        pass
    assert "held the lock of study for 1 s" in raised.value.problem
    assert "secret" not in str(raised.value)


def _open(url: str, folder: Path) -> None:
    storage.open_storage(url, folder)


def test_tables_are_made_once_though_many_begin_at_once(database: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=_open, args=(database, tmp_path / str(i))) for i in range(6)]
    for each in started:
        each.start()
    for each in started:
        each.join()
    assert [each.exitcode for each in started] == [0] * 6


@pytest.mark.parametrize("change", [("secret@", "wrong@"), ("/studies", "/nosuch")])
def test_what_cannot_be_opened_is_one_error_without_the_password(
    change: tuple[str, str], database: str, tmp_path: Path
) -> None:
    url = database.replace(*change)
    with pytest.raises(StudyError) as raised:
        storage.open_storage(url, tmp_path)
    assert "can't be opened" in raised.value.problem
    assert "secret" not in str(raised.value)


def test_driver_that_is_missing_is_named_with_what_installs_it(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as raised:
        storage.open_storage("postgresql+asyncpg2://r:secret@127.0.0.1/x", tmp_path)
    assert "secret" not in str(raised.value)
    with pytest.raises(StudyError) as raised:
        storage.open_storage("mysql+mysqldb://r:secret@127.0.0.1/x", tmp_path)
    assert "rnatracker[mysql]" in str(raised.value.remedy)


def _claimed(search: Search) -> Claim:
    claim = search.claim()
    assert claim is not None
    return claim


def test_trial_of_a_silent_worker_is_put_back_and_the_worker_ends_nothing_any_more(
    request_: StudyRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(heartbeat.VARIABLE, "1")
    _on_host("one", monkeypatch)
    first, _ = open_context(request_)
    claim = _claimed(first)
    _on_host("two", monkeypatch)
    second, _ = open_context(request_)
    assert _claimed(second).number != claim.number  # it is not silent yet
    wait_until(lambda: (second.reap(), second.trial(claim.number).state == TrialState.WAITING)[1], "it is put back")
    taken = _claimed(second)
    assert taken.number == claim.number
    _on_host("one", monkeypatch)
    assert not first.handed_out.sign(claim.number)
    with pytest.raises(Lost):
        first.tell(claim, 0.5)
    first.put_back(claim)
    assert first.trial(claim.number).state == TrialState.RUNNING
    _on_host("two", monkeypatch)
    second.tell(taken, 0.25)
    assert second.trial(claim.number).value == 0.25


def test_worker_that_gives_signs_of_life_keeps_its_trial_however_long_it_is_silent_otherwise(
    request_: StudyRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(heartbeat.VARIABLE, "1")
    _on_host("one", monkeypatch)
    first, _ = open_context(request_)
    claim = _claimed(first)
    tags = first.trial(claim.number).user_attrs[WORKER]
    monkeypatch.setattr("rnatracker.search.faults.handed_out.identity.own_tags", lambda: tags)
    beats = first.handed_out.heartbeat(claim.number)
    assert beats is not None
    with beats:
        time.sleep(heartbeat.GRACE + 2)
        monkeypatch.undo()
        monkeypatch.setenv(heartbeat.VARIABLE, "1")
        second, _ = open_context(request_)
        second.reap()
        assert second.trial(claim.number).state == TrialState.RUNNING
    assert beats.is_lost  # since this process is another by now


def test_worker_that_lost_its_trial_stops_in_it_and_takes_another(
    request_: StudyRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial is given away while it is trained; the run that another has by then stays as it is."""
    search, context = open_context(request_)
    taken: list[int] = []
    sign = search.handed_out.sign

    def given_away(number: int) -> bool:
        if not taken:
            taken.append(number)
            search.handed_out.set(search.trial(number), WORKER, {"rnatracker.host": "elsewhere"})
        return sign(number)

    monkeypatch.setattr(search.handed_out, "sign", given_away)
    monkeypatch.setattr(heartbeat, "interval", lambda: 0.01)
    run_trials(context, NullReporter(), StopAfter(10**6))
    lost = search.trial(taken[0])
    assert lost.state == TrialState.RUNNING
    assert context.parent.children()[f"trial{lost.number}"].status() == "RUNNING"
    assert search.counts().complete == request_.trials - 1


def test_study_waits_for_a_database_that_is_restarted_and_loses_nothing(
    request_: StudyRequest, server: postgresql.Server
) -> None:
    search, context = open_context(replace(request_, trials=6))
    stopped, begun = threading.Event(), time.monotonic()

    def restart() -> None:
        wait_until(lambda: context.parent.children(), "a trial has begun")
        server.stop()
        time.sleep(2)
        server.start()
        stopped.set()

    away = threading.Thread(target=restart)
    away.start()
    run_trials(context, NullReporter(), StopAfter(10**6))
    away.join()
    assert stopped.is_set() and time.monotonic() - begun > 2
    assert [trial.state for trial in search.study.get_trials()] == [TrialState.COMPLETE] * 6
    assert search.counts().complete == 6


def test_database_that_stays_away_is_one_error_and_the_study_goes_on_later(
    request_: StudyRequest, server: postgresql.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, context = open_context(request_)
    claim = _claimed(search)
    monkeypatch.setenv(patience.VARIABLE, "2")
    server.stop()
    try:
        with pytest.raises(StudyError) as raised:
            search.claim()
        assert "away" in raised.value.problem and "secret" not in str(raised.value)
    finally:
        server.start()
    again, context = open_context(request_)
    run_trials(context, NullReporter(), StopAfter(10**6))
    assert again.counts().complete == 4
    assert again.trial(claim.number).state == TrialState.COMPLETE
