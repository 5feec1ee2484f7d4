"""The choice of the number of threads."""

from __future__ import annotations

import time

import pytest
import torch

from rnatracker.model.threads import Threads, _fastest, pick_threads
from tests.support.toys import small_config


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        ({1: 8, 2: 4, 4: 2}, 4),
        ({1: 2, 2: 60, 4: 60}, 1),  # cores are busy
        ({1: 8, 2: 4, 4: 3.99}, 2),  # two more threads that gain nothing
    ],
)
def test_fastest_number_of_threads_is_taken(
    milliseconds: dict[int, float], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, threads = [0.0], [0]
    monkeypatch.setattr(torch, "set_num_threads", lambda n: threads.__setitem__(0, n))
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def step() -> None:
        now[0] += milliseconds[threads[0]]

    assert _fastest([1, 2, 4], step) == expected


def test_threads_that_collapse_are_not_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now, used = [0.0], [0]
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def step() -> None:
        now[0] += 1 if used[-1] == 1 else 30

    assert _fastest([1, 2], step) == 1
    assert used.count(2) == 1


def test_picking_threads_changes_neither_their_number_nor_the_random_state() -> None:
    before, state = torch.get_num_threads(), torch.get_rng_state()
    assert 1 <= pick_threads(small_config(), 3, max_threads=3) <= 3
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_are_chosen_again_when_the_machine_gets_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    now, threads, busy = [0.0], [4], [False]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: threads.__setitem__(0, n))
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def step() -> None:
        now[0] += 0.001 * (20 * threads[0] if busy[0] else 1 / threads[0])

    with Threads(step, every_seconds=10) as chosen:
        chosen.review()
        assert threads == [4]
        busy[0] = True
        chosen.review()
        assert threads == [4], "a choice is kept for a while"
        now[0] += 10
        chosen.review()
        assert threads == [1]
        busy[0], now[0] = False, now[0] + 11
        chosen.review()
    assert threads == [4]


def test_threads_are_left_alone_when_there_is_nothing_to_time() -> None:
    before = torch.get_num_threads()
    with Threads(None) as chosen:
        torch.set_num_threads(3)
        chosen.review()
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)
