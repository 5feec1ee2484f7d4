"""What a study costs beside its trainings: many trials of an objective that costs nothing, by several workers.

    python benchmarks/search_cost.py [--workers 4] [--trials 200]

Prints trials a second, and which share of a worker's time goes to handing out and ending trials in the storage and to
MLflow's runs. A trial reports as one of 30 epochs does.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from rnatracker.config import Config
from rnatracker.search import space
from rnatracker.search.definition import open_search
from rnatracker.search.study import StudyRequest
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings

_EPOCHS = 30
_Times = dict[str, float]


class _Laps:
    """Where the time goes: each lap's counts for what is named at its end."""

    def __init__(self) -> None:
        self.spent = {"handing out": 0.0, "reports": 0.0, "ending": 0.0, "MLflow": 0.0}
        self._last = time.perf_counter()

    def end(self, what: str) -> None:
        now = time.perf_counter()
        self.spent[what] += now - self._last
        self._last = now


def _work(request: StudyRequest, parent: str, barrier: object, times: Queue[tuple[list[int], _Times]]) -> None:
    """Take trials, report 30 epochs of each, and end it; tell where the time went."""
    search, numbers = open_search(request, "benchmark"), []
    tracker = open_tracker(request.tracking) if parent else None
    run = tracker.find(parent) if tracker else None
    barrier.wait()  # type: ignore[attr-defined]
    begun, laps = time.perf_counter(), _Laps()
    while (claim := search.claim()) is not None:
        laps.end("handing out")
        numbers.append(claim.number)
        child = None
        if tracker and run:
            start: dict[str, Any] = {"log_name": None, "tags": {}, "dataset": None, "parent": run}
            child = tracker.start(params=claim.config.flat(), name=f"trial{claim.number}", **start)
            laps.end("MLflow")
        for epoch in range(1, _EPOCHS + 1):
            claim.trial.report(epoch / _EPOCHS, epoch)
            claim.trial.should_prune()
            laps.end("reports")
            if child:
                child.log_metrics({f"val/pcc_{i}": 0.5 for i in range(10)}, epoch)
                laps.end("MLflow")
        search.study.tell(claim.trial, claim.config.train.lr)
        laps.end("ending")
        if child:
            child.finish("FINISHED")
            laps.end("MLflow")
    laps.end("handing out")
    times.put((numbers, laps.spent | {"all": time.perf_counter() - begun}))


def _measure(workers: int, trials: int, storage: str | None, tracked: bool) -> None:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        tracking = TrackingSettings(Path(name) / "mlruns", enabled=tracked)
        found = space.load("default")
        url = storage.format(folder=name) if storage else None
        request = StudyRequest(
            "cost", Config(), found, tracking, url, trials=trials, sampler="random", scheduler="none"
        )
        open_search(request, "benchmark")
        parent = ""
        if tracked:
            parent = open_tracker(tracking).start(log_name="cost", params={}, tags={}, dataset=None).id
        barrier, times = context.Barrier(workers), context.Queue()
        processes = [context.Process(target=_work, args=(request, parent, barrier, times)) for _ in range(workers)]
        for worker in processes:
            worker.start()
        results = [times.get() for _ in processes]
        for worker in processes:
            worker.join()
        numbers = sorted(number for each, _ in results for number in each)
        wall = max(spent["all"] for _, spent in results)
        total = sum(spent["all"] for _, spent in results)
        shares = {key: sum(spent[key] for _, spent in results) / total for key in results[0][1] if key != "all"}
        what = f"{'SQLite' if storage else 'journal'}{', MLflow' if tracked else ''}"
        print(
            f"{what}: {workers} workers, {trials} trials, each once: {numbers == list(range(trials))}; "
            f"{trials / wall:.1f} trials/s; "
            + ", ".join(f"{key} {share:.0%}" for key, share in shares.items() if share)
            + f"; {1000 * total / trials:.0f} ms of a worker's time for each trial",
            flush=True,
        )


def main() -> None:
    """Measure the journal, SQLite, and the journal with MLflow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--trials", type=int, default=200)
    options = parser.parse_args()
    _measure(options.workers, options.trials, None, False)
    _measure(options.workers, options.trials, "sqlite:///{folder}/studies.db", False)
    _measure(options.workers, options.trials, None, True)


if __name__ == "__main__":
    main()
