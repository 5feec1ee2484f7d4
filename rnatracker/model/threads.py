"""With how many CPU threads work goes fastest, found by timing it.

Owns that choice. Must not know data, mlflow or the trainer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from types import TracebackType

import torch
import torch.nn.functional as F

from rnatracker.config import Config
from rnatracker.model.network import RNATracker

_ROUNDS = 5
"""Steps timed with each number of threads; the median leaves out the first, which may compile the kernels."""


_WORTHWHILE = 0.95
"""More threads must take at most this share of the time that fewer take."""


_HOPELESS = 2.0
"""Slower than one thread by this factor: not tried again. Threads that wait for a busy core take up to 20 times as
long."""


_MAX_SEQUENCES = 64
"""The maximum in a batch that is only timed."""


def use_threads(threads: int) -> None:
    """Compute with so many CPU threads; 0: as many as PyTorch takes by itself."""
    if threads:
        torch.set_num_threads(threads)


def pick_threads(config: Config, n_sites: int, max_threads: int = 0) -> int:
    """Return with how many CPU threads a training goes fastest now, by timing steps on random sequences.

    On a machine that does nothing else that is usually all cores. On one that is shared, threads wait for each other,
    and one alone can be many times faster. Takes about a second; neither the number of threads nor the state of the
    random generators is changed.

    Args:
        config: the settings of the training, on the CPU.
        n_sites: number of sites.
        max_threads: the maximum number of threads to try; 0: as many as PyTorch takes by itself.
    """
    with torch.random.fork_rng(devices=[]):
        return fastest_threads(_rehearsal(config, n_sites), max_threads)


def fastest_threads(step: Callable[[], None], max_threads: int = 0) -> int:
    """Return with how many CPU threads a step of some work goes fastest now; their number is not changed.

    Args:
        step: is done some ten times.
        max_threads: the maximum number of threads to try; 0: as many as PyTorch takes by itself.
    """
    before = torch.get_num_threads()
    max_threads = max_threads or before
    powers = [2**i for i in range(max_threads.bit_length())]
    candidates = [*(n for n in powers if n < max_threads), max_threads]
    try:
        return _fastest(candidates, step)
    finally:
        torch.set_num_threads(before)


class Threads:
    """Keeps long work on as many CPU threads as are fastest, also when the machine gets busier or idle meanwhile.

    As a context manager it gives back the number of threads that there was.

    Args:
        step: a step of the work, to be timed; None: the number is not touched.
        every_seconds: how long a choice is kept.
    """

    def __init__(self, step: Callable[[], None] | None, every_seconds: float = 15.0) -> None:
        self._step = step
        self._every = every_seconds
        self._max_threads = torch.get_num_threads()
        self._chosen_at = -math.inf

    def __enter__(self) -> Threads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._step is not None:
            torch.set_num_threads(self._max_threads)

    def review(self) -> None:
        """Choose again, if it is time; to be called between the work's steps."""
        if self._step is None or self._max_threads < 2 or time.monotonic() - self._chosen_at < self._every:
            return
        torch.set_num_threads(fastest_threads(self._step, self._max_threads))
        self._chosen_at = time.monotonic()


def _rehearsal(config: Config, n_sites: int) -> Callable[[], None]:
    """Return a step of training of a network that is thrown away."""
    n, length = min(config.train.batch_size, _MAX_SEQUENCES), config.encoding.max_length
    network = RNATracker(config.model, n_sites).train()
    codes = torch.randint(1, 5, (n, length), dtype=torch.uint8)
    lengths, target = torch.full((n,), length), torch.full((n, n_sites), 1 / n_sites)

    def step() -> None:
        network.zero_grad()
        logits = network(codes, lengths, lengths)
        F.kl_div(F.log_softmax(logits, dim=1), target, reduction="batchmean").backward()  # type: ignore[no-untyped-call]

    return step


def _fastest(candidates: list[int], step: Callable[[], None]) -> int:
    """Return the number of threads with the lowest median, fewer ones where more gain little."""
    seconds: dict[int, list[float]] = {n: [] for n in candidates}
    for _ in range(_ROUNDS):
        for threads, times in seconds.items():
            if times and min(times) > _HOPELESS * min(seconds[candidates[0]]):
                continue
            torch.set_num_threads(threads)
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
    chosen = candidates[0]
    for threads in candidates[1:]:
        if median(seconds[threads]) < _WORTHWHILE * median(seconds[chosen]):
            chosen = threads
    return chosen
