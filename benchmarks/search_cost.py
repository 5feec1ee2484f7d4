"""What a study costs beside its trainings: many trials of an objective that costs nothing, by several workers.

    python benchmarks/search_cost.py [--workers 4] [--trials 200] [--storage ADDRESS] [--epoch-seconds S]

Prints trials a second, which share of a worker's time goes to handing out, reporting and ending trials in the storage
and to MLflow's runs, and how long a claim, a report with its pruning decision, and an end take: median and 95th
percentile. A trial reports as one of 30 epochs does. Without an address the rows are the journal, SQLite, and the
journal with MLflow; with that of a database server they are that, and with `--proxy` Optuna's gRPC proxy in front of
it, which is asked through Optuna alone, as it has neither the locks nor the signs of life that a study needs. Workers
are processes; with `--epoch-seconds` each waits about as long before a report as an epoch would take, so that one
machine can stand for the hosts of many.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import socket
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage

from rnatracker.config import Config
from rnatracker.search import space
from rnatracker.search.definition import open_search
from rnatracker.search.study import StudyRequest
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings

_KINDS = ("handing out", "report", "ending", "MLflow")


@dataclass(frozen=True)
class _Load:
    """What workers do: how many, how many trials, of how many epochs, of how many seconds each."""

    workers: int
    trials: int
    epochs: int
    seconds: float


class _Laps:
    """How long each step takes."""

    def __init__(self) -> None:
        self.took: dict[str, list[float]] = {kind: [] for kind in _KINDS}
        self._last = time.perf_counter()

    def begin(self) -> None:
        self._last = time.perf_counter()

    def end(self, kind: str) -> None:
        now = time.perf_counter()
        self.took[kind].append(now - self._last)
        self._last = now


_Told = tuple[list[int], dict[str, list[float]], float, float]
"""Of a worker: its trials, how long each step took, when it began and when it was done."""


def _work(request: StudyRequest, parent: str, load: _Load, barrier: Any, told: Queue[_Told]) -> None:
    """Take trials, report their epochs, and end them."""
    search, numbers = open_search(request, "benchmark"), []
    tracker = open_tracker(request.tracking) if parent else None
    run = tracker.find(parent) if tracker else None
    rng = random.Random(os.getpid())  # noqa: S311
    barrier.wait()
    begun, laps = time.time(), _Laps()
    while (claim := search.claim()) is not None:
        laps.end("handing out")
        child = None
        if tracker and run:
            start: dict[str, Any] = {"log_name": None, "tags": {}, "dataset": None, "parent": run}
            child = tracker.start(params=claim.config.flat(), name=f"trial{claim.number}", **start)
            laps.end("MLflow")
        first = max(search.trial(claim.number).intermediate_values, default=0) + 1
        if first == 1:
            numbers.append(claim.number)
        beats = search.handed_out.heartbeat(claim.number) or nullcontext()
        with beats:
            for epoch in range(first, load.epochs + 1):
                time.sleep(load.seconds * rng.uniform(0.5, 1.5))
                laps.begin()
                claim.trial.report(claim.config.train.lr * epoch / 30, epoch)
                claim.trial.should_prune()
                laps.end("report")
                if child:
                    child.log_metrics({f"val/pcc_{i}": 0.5 for i in range(10)}, epoch)
                    laps.end("MLflow")
                if claim.until and (1, epoch) >= claim.until and epoch < load.epochs:
                    decision, why = search.look(claim.number)
                    laps.end("handing out")
                    if decision.number != claim.number:
                        search.pause(claim, why)
                        break
                    claim = replace(claim, until=(decision.fold, decision.epoch))
            else:
                laps.begin()
                search.tell(claim, claim.config.train.lr)
        laps.end("ending")
        if child:
            child.finish("FINISHED")
            laps.end("MLflow")
    told.put((numbers, laps.took, begun, time.time()))


def _work_by_optuna(make: Callable[[str], BaseStorage], at: str, load: _Load, barrier: Any, told: Queue[_Told]) -> None:
    """Do the same through Optuna alone."""
    study = optuna.load_study(study_name="cost", storage=make(at), sampler=RandomSampler())
    found, numbers = space.load("default"), []
    rng = random.Random(os.getpid())  # noqa: S311
    barrier.wait()
    begun, laps = time.time(), _Laps()
    for _ in range(load.trials // load.workers):
        laps.begin()
        study.get_trials(deepcopy=False)
        trial = study.ask()
        found.draw(trial)
        laps.end("handing out")
        numbers.append(trial.number)
        for epoch in range(1, load.epochs + 1):
            time.sleep(load.seconds * rng.uniform(0.5, 1.5))
            laps.begin()
            trial.report(epoch / 30, epoch)
            trial.should_prune()
            laps.end("report")
        laps.begin()
        study.tell(trial, 0.5)
        laps.end("ending")
    told.put((numbers, laps.took, begun, time.time()))


def _run(what: str, load: _Load, work: Callable[..., None], *given: Any) -> None:
    """Let workers work, and print how they fared."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "rnatracker.search.objective"])
    barrier, told = context.Barrier(load.workers), context.Queue()
    processes = [context.Process(target=work, args=(*given, load, barrier, told)) for _ in range(load.workers)]
    for worker in processes:
        worker.start()
    results = [told.get() for _ in processes]
    for worker in processes:
        worker.join()
    numbers = sorted(number for each, *_ in results for number in each)
    wall = max(end for *_, end in results) - min(begun for *_, begun, _ in results)
    all_took = {kind: np.array([s for _, took, *_ in results for s in took[kind]]) for kind in _KINDS}
    total = sum(end - begun for *_, begun, end in results)
    steps = {kind: took for kind, took in all_took.items() if len(took)}
    print(
        f"{what}: {load.workers} workers, {len(numbers)} trials of {load.epochs} epochs of {load.seconds:g} s, "
        f"each once: {numbers == list(range(len(numbers)))}; {len(numbers) / wall:.1f} trials/s, "
        f"{len(all_took['report']) / wall:.0f} reports/s"
    )
    for kind, took in steps.items():
        median, late = 1000 * np.quantile(took, [0.5, 0.95])
        print(f"  {kind}: {median:.1f} ms, 95 % under {late:.1f} ms; {took.sum() / total:.0%} of a worker's time")
    print(end="", flush=True)


def _measure(what: str, load: _Load, storage: str | None, scheduler: str, *, tracked: bool = False) -> None:
    """Measure a study."""
    with tempfile.TemporaryDirectory() as name:
        tracking = TrackingSettings(Path(name) / "mlruns", enabled=tracked)
        url = storage.format(folder=name) if storage else None
        study = f"cost-{uuid.uuid4().hex[:8]}"
        made = StudyRequest(study, Config(), space.load("default"), tracking, url, trials=load.trials, sampler="random")
        request = replace(made, scheduler=scheduler, fresh_seeds=0)  # type: ignore[arg-type]
        open_search(request, "benchmark")
        parent = ""
        if tracked:
            parent = open_tracker(tracking).start(log_name="cost", params={}, tags={}, dataset=None).id
        _run(f"{what}, {scheduler}", load, _work, request, parent)


def _proxied(at: str) -> BaseStorage:
    return optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=int(at))


def _directly(at: str) -> BaseStorage:
    return optuna.storages.get_storage(at)


def _serve(url: str, port: int) -> None:
    optuna.storages.run_grpc_proxy_server(_directly(url), host="127.0.0.1", port=port)


def _measure_proxy(url: str, load: _Load) -> None:
    """Measure Optuna's own calls, straight to a database and through its proxy."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(url, port), daemon=True)
    server.start()
    for what, make, at in (("Optuna alone", _directly, url), ("Optuna's proxy", _proxied, str(port))):
        with_study = _directly(url)
        optuna.create_study(study_name="cost", storage=with_study)
        if make is _proxied:
            _proxied(at).wait_server_ready(timeout=60)  # type: ignore[attr-defined]
        _run(what, load, _work_by_optuna, make, at)
        optuna.delete_study(study_name="cost", storage=with_study)
    server.terminate()


def main() -> None:
    """Measure what a study costs where it is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--epoch-seconds", type=float, default=0.0)
    parser.add_argument("--storage", help="a database server's address, of an empty database")
    parser.add_argument("--scheduler", action="append", choices=["none", "forecast", "freeze-thaw"])
    parser.add_argument("--proxy", action="store_true", help="measure Optuna's proxy in front of it too")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    load = _Load(options.workers, options.trials, options.epochs, options.epoch_seconds)
    for scheduler in options.scheduler or ["none"]:
        if options.storage:
            _measure("database server", load, options.storage, scheduler)
        else:
            _measure("journal", load, None, scheduler)
            _measure("SQLite", load, "sqlite:///{folder}/studies.db", scheduler)
            _measure("journal, MLflow", load, None, scheduler, tracked=True)
    if options.proxy:
        _measure_proxy(options.storage, load)


if __name__ == "__main__":
    main()
