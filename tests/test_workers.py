"""Worker processes and their pool: what they send arrives, also where one of them is killed in the middle of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from rnatracker.errors import ConfigError
from rnatracker.processes.pool import Pool
from rnatracker.processes.stop import StopOrOrphaned, StopSignal
from rnatracker.processes.worker import Channel, Ending, How, Worker, wait_for_any

_PATIENCE_SECONDS = 60.0


def count_to(number: int, channel: Channel, _stop: StopSignal) -> str:
    for i in range(number):
        channel.send(i)
    return f"counted to {number}"


def send_until_stopped(_task: object, channel: Channel, stop: StopSignal) -> str:
    with stop.polite():
        while not stop():
            channel.send("x" * 100_000)
    return "stopped as asked"


def die_within_a_message(_task: object, channel: Channel, _stop: StopSignal) -> None:
    channel.send("whole")
    os.write(channel._pipe.fileno(), (1000).to_bytes(4, "big") + b"half")  # a message of 1000 bytes, of which 4 come
    os.kill(os.getpid(), signal.SIGKILL)


def outlive_its_listener(_task: object, channel: Channel, _stop: StopSignal) -> None:
    channel.send(os.getpid())
    for _ in range(100):
        channel.send("x" * 100_000)  # more than the pipe holds: it waits until somebody reads, or nobody can


def fail_as_asked(kind: str, _channel: Channel, _stop: StopSignal) -> None:
    if kind == "ours":
        raise ConfigError("no such thing")
    if kind == "stop":
        raise KeyboardInterrupt
    if kind == "exit":
        os._exit(7)
    raise ZeroDivisionError("theirs")


def _entry(work: Callable[..., Any]) -> str:
    return f"{__name__}:{work.__name__}"


@contextmanager
def _started(*works: tuple[Callable[..., Any], Any]) -> Iterator[list[Worker]]:
    workers = [Worker(str(i), _entry(work), task) for i, (work, task) in enumerate(works)]
    try:
        yield workers
    finally:
        for each in workers:
            each.close()


def _listen_to_its_end(worker: Worker) -> list[Any]:
    heard: list[Any] = []
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        wait_for_any([worker], 0.2)
        is_over = worker.is_over
        heard += worker.messages()
        if is_over:
            return heard
    raise AssertionError(f"not over after {_PATIENCE_SECONDS} s: {heard[:3]}")


def _hear_something(worker: Worker) -> list[Any]:
    until = time.monotonic() + _PATIENCE_SECONDS
    heard: list[Any] = []
    while not heard:
        assert time.monotonic() < until
        wait_for_any([worker], 0.2)
        heard = list(worker.messages())
    return heard


def test_all_is_heard_when_a_process_ends_before_it_is_listened_to() -> None:
    with _started((count_to, 500)) as (worker,):
        worker._process.join(_PATIENCE_SECONDS)
        assert worker.is_over
        assert _listen_to_its_end(worker) == list(range(500))
        assert worker.ending == Ending(How.DONE, "counted to 500")


def test_others_are_heard_when_one_is_killed_while_it_sends() -> None:
    with _started((send_until_stopped, None), (send_until_stopped, None)) as (killed, other):
        assert _hear_something(killed)
        assert _hear_something(other)
        killed._process.kill()
        _listen_to_its_end(killed)
        assert killed.ending == Ending(How.DIED, message="signal 9")
        other.ask_to_stop()
        _listen_to_its_end(other)
        assert other.ending == Ending(How.DONE, "stopped as asked")


def test_half_a_message_is_passed_over_when_its_sender_is_killed() -> None:
    with _started((die_within_a_message, None)) as (worker,):
        assert _listen_to_its_end(worker) == ["whole"]
        assert worker.ending == Ending(How.DIED, message="signal 9")


def test_sending_does_no_harm_when_nobody_listens_any_more() -> None:
    with _started((outlive_its_listener, None)) as (worker,):
        assert _hear_something(worker)
        worker._pipe.close()
        worker._process.join(_PATIENCE_SECONDS)
        assert worker._process.exitcode == 0


def test_waiting_ends_when_a_process_ends() -> None:
    with _started((count_to, 0)) as (worker,):
        began = time.monotonic()
        while not worker.is_over and time.monotonic() - began < _PATIENCE_SECONDS:
            wait_for_any([worker], _PATIENCE_SECONDS)
            list(worker.messages())
        assert time.monotonic() - began < _PATIENCE_SECONDS


@pytest.mark.parametrize(
    ("kind", "how", "message"),
    [
        ("ours", How.FAILED, "no such thing"),
        ("theirs", How.FAILED, "ZeroDivisionError: theirs"),
        ("stop", How.STOPPED, ""),
        ("exit", How.DIED, "code 7"),
    ],
)
def test_how_a_task_ended_is_told(kind: str, how: How, message: str) -> None:
    with _started((fail_as_asked, kind)) as (worker,):
        assert _listen_to_its_end(worker) == []
        assert worker.ending.how is how
        assert worker.ending.message.splitlines()[-1:] == ([message] if message else [])


def test_worker_is_an_orphan_when_its_parent_died_before_it_began_to_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not StopOrOrphaned()()
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace(pid=os.getppid()))
    assert not StopOrOrphaned()()
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace(pid=os.getppid() + 1))
    assert StopOrOrphaned()()


class TestPool:
    def _pool(self, work: Callable[..., Any], jobs: int) -> tuple[Pool, list[Any], dict[str, Ending]]:
        heard: list[Any] = []
        ends: dict[str, Ending] = {}
        pool = Pool(
            _entry(work),
            jobs,
            on_message=lambda name, message: heard.append((name, message)),
            on_end=lambda name, ending: ends.update({name: ending}),
        )
        return pool, heard, ends

    def test_all_tasks_are_done_so_many_at_a_time(self) -> None:
        pool, heard, ends = self._pool(count_to, 2)
        for number in (3, 0, 2):
            pool.add(f"to {number}", number)
        at_work: list[int] = []
        pool.run(lambda: False, lambda: at_work.append(len(pool._running)))
        assert sorted(heard) == [("to 2", 0), ("to 2", 1), ("to 3", 0), ("to 3", 1), ("to 3", 2)]
        assert {name: ending.result for name, ending in ends.items()} == {
            "to 3": "counted to 3",
            "to 0": "counted to 0",
            "to 2": "counted to 2",
        }
        assert max(at_work) <= 2
        assert len(pool.pids) == 3

    def test_a_stop_is_passed_on_and_no_task_is_started_after_it(self) -> None:
        pool, heard, ends = self._pool(send_until_stopped, 1)
        pool.add("first", None)
        pool.add("second", None)
        pool.run(lambda: bool(heard))
        assert {name: ending.result for name, ending in ends.items()} == {"first": "stopped as asked"}

    def test_a_task_may_be_added_when_another_has_ended(self) -> None:
        ends: list[Ending] = []

        def take_end(name: str, ending: Ending) -> None:
            ends.append(ending)
            if len(ends) < 3:
                pool.add(name, "exit")

        pool = Pool(_entry(fail_as_asked), 1, on_message=lambda _n, _m: None, on_end=take_end)
        pool.add("dying", "exit")
        pool.run(lambda: False)
        assert ends == [Ending(How.DIED, message="code 7")] * 3

    def test_nobody_is_left_at_work_when_listening_fails(self) -> None:
        pool, _, _ = self._pool(send_until_stopped, 2)

        def fail() -> None:
            if len(pool._running) == 2:
                raise RuntimeError("the display broke")

        pool.add("first", None)
        pool.add("second", None)
        with pytest.raises(RuntimeError, match="the display broke"):
            pool.run(lambda: False, fail)
        assert all(worker.is_over for worker in pool._running)
