"""Worker processes: what they tell arrives, also where one of them is killed in the middle of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from rnatracker.processes.stop import StopOrOrphaned
from rnatracker.processes.worker import Spawned, Voice, wait_for_any

_PATIENCE_SECONDS = 60.0


def count_to(number: int, voice: Voice) -> None:
    for i in range(number):
        voice.tell(i)


def talk_until_told_to_stop(voice: Voice) -> None:
    with StopOrOrphaned() as stop, stop.polite():
        while not stop():
            voice.tell("x" * 100_000)
    voice.tell("stopped")


def die_within_a_word(voice: Voice) -> None:
    voice.tell("whole")
    os.write(voice._pipe.fileno(), (1000).to_bytes(4, "big") + b"half")  # a message of 1000 bytes, of which 4 come
    os.kill(os.getpid(), signal.SIGKILL)


def outlive_its_listener(voice: Voice) -> None:
    voice.tell(os.getpid())
    time.sleep(0.5)
    for _ in range(3):
        voice.tell("x" * 100_000)


@contextmanager
def _started(*works: Any) -> Iterator[list[Spawned]]:
    spawned = [Spawned(str(i), *work) for i, work in enumerate(works)]
    try:
        yield spawned
    finally:
        for each in spawned:
            each.close()


def _listen_to_its_end(spawned: Spawned) -> list[Any]:
    heard: list[Any] = []
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        wait_for_any([spawned], 0.2)
        is_over = spawned.is_over
        heard += spawned.told()
        if is_over:
            return heard
    raise AssertionError(f"not over after {_PATIENCE_SECONDS} s: {heard[:3]}")


def _hear_something(spawned: Spawned) -> list[Any]:
    until = time.monotonic() + _PATIENCE_SECONDS
    heard: list[Any] = []
    while not heard:
        assert time.monotonic() < until
        wait_for_any([spawned], 0.2)
        heard = list(spawned.told())
    return heard


def test_all_is_heard_when_a_process_ends_before_it_is_listened_to() -> None:
    with _started((count_to, 500)) as (spawned,):
        until = time.monotonic() + _PATIENCE_SECONDS
        while not spawned.is_over and time.monotonic() < until:
            time.sleep(0.05)
        assert _listen_to_its_end(spawned) == list(range(500))
        assert spawned.death == ""


def test_others_are_heard_when_one_is_killed_while_it_speaks() -> None:
    with _started((talk_until_told_to_stop,), (talk_until_told_to_stop,)) as (killed, other):
        assert _hear_something(killed)
        assert _hear_something(other)
        killed._process.kill()
        _listen_to_its_end(killed)
        assert killed.death == "signal 9"
        other.ask_to_stop()
        assert _listen_to_its_end(other)[-1] == "stopped"
        assert other.death == ""


def test_half_a_word_is_passed_over_when_its_speaker_is_killed() -> None:
    with _started((die_within_a_word,)) as (spawned,):
        assert _listen_to_its_end(spawned) == ["whole"]
        assert spawned.death == "signal 9"


def test_speaking_does_no_harm_when_nobody_listens_any_more() -> None:
    with _started((outlive_its_listener,)) as (spawned,):
        assert _hear_something(spawned)
        spawned._pipe.close()
        spawned._process.join(_PATIENCE_SECONDS)
        assert spawned.death == ""


def test_waiting_ends_when_a_process_ends() -> None:
    with _started((count_to, 0)) as (spawned,):
        began = time.monotonic()
        while not spawned.is_over and time.monotonic() - began < _PATIENCE_SECONDS:
            wait_for_any([spawned], _PATIENCE_SECONDS)
        assert time.monotonic() - began < _PATIENCE_SECONDS


def test_worker_is_an_orphan_when_its_parent_died_before_it_began_to_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not StopOrOrphaned()()
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace(pid=os.getppid()))
    assert not StopOrOrphaned()()
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace(pid=os.getppid() + 1))
    assert StopOrOrphaned()()
