"""What the default pruner saves, and what it costs: simulated transcripts, several seeds.

For each seed and sampler one study is trained without pruning and one with the default pruner, at equal trials.
Random sampling suggests the same in both, so that there the difference is pruning's alone; TPE's suggestions go their
own ways, so that there luck is in it. Prints the table of the README.

    python benchmarks/pruning.py [--trials 40] [--epochs 27] [--seeds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rnatracker import config
from rnatracker.data import simulate, writers
from rnatracker.data.readers import read
from rnatracker.stop import StopSignal
from rnatracker.tracking import TrackingSettings, open_tracker
from search import space, summary, tune
from search.crew import WorkerTask
from search.opening import open_search
from search.study import StudyRequest
from search.worker import Quiet, run_trials, set_up

_SPACE = {
    "train.lr": {"float": [1e-4, 3e-2], "log": True},
    "model.conv1_channels": {"int": [4, 32], "step": 4},
    "model.conv2_channels": {"int": [4, 32], "step": 4},
    "model.rnn_hidden": {"int": [4, 32], "step": 4},
    "model.dropout": {"float": [0.0, 0.5]},
}
_IN_USE = {
    "encoding.max_length": 300,
    "model.conv1_channels": 8,
    "model.conv2_channels": 8,
    "model.rnn_hidden": 8,
    "train.lr": 1e-3,
    "train.batch_size": 16,
    "train.threads": 1,
}


@dataclass(frozen=True)
class _Result:
    best: float
    epochs: int
    seconds: float


def _run(data: Path, folder: Path, seed: int, sampler: str, pruner: str, trials: int, epochs: int) -> _Result:
    flat = _IN_USE | {"data.path": str(data), "train.epochs": epochs, "train.seed": seed, "data.split_seed": seed}
    request = StudyRequest(
        name=f"{sampler}-{pruner}-{seed}",
        config=config.build(config.nest(flat), "benchmark"),
        space=space.parse(_SPACE, "benchmark"),
        tracking=TrackingSettings(folder, enabled=False),
        trials=trials,
        sampler=sampler,  # type: ignore[arg-type]
        pruner=pruner,  # type: ignore[arg-type]
        seed=seed,
    )
    begun = time.perf_counter()
    transcripts = read(str(data))
    search = open_search(request, transcripts.digest())
    run = tune.own_run(search, open_tracker(request.tracking), transcripts)
    bench = set_up(WorkerTask(request, run.id, Path(), transcripts.digest(), 1), transcripts, search)
    run_trials(bench, Quiet(), StopSignal())
    best = float(summary.best(search, 1)[0].value or 0.0)
    return _Result(best, summary.savings(search).trained, time.perf_counter() - begun)


def main() -> None:
    """Run all studies and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=10, help="the pruner was chosen on seeds 0 to 8")
    parser.add_argument("--records", type=int, default=400)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    kinds = [("random", "none"), ("random", "forecast"), ("tpe", "none"), ("tpe", "forecast")]
    found: dict[tuple[str, str], list[_Result]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in seeds:
            data = folder / f"simulated{seed}.tsv"
            _simulate(data, options.records, seed)
            for kind in kinds:
                found[kind].append(_run(data, folder / "mlruns", seed, *kind, options.trials, options.epochs))
                last = found[kind][-1]
                print(
                    f"seed {seed} {kind}: best {last.best:.4f}, {last.epochs} epochs, {last.seconds:.0f} s", flush=True
                )
    all_epochs = options.trials * options.epochs
    print(f"\n{options.trials} trials of {options.epochs} epochs, {options.records} simulated transcripts\n")
    print(f"| sampler, pruner | {' | '.join(f'seed {i}' for i in seeds)} | epochs | less than unpruned |")
    print("|---|" + "---|" * (options.seeds + 2))
    for kind, results in found.items():
        cells = " | ".join(f"{result.best:.4f}" for result in results)
        share = statistics.fmean(result.epochs for result in results) / all_epochs
        less = [whole_one.best - one.best for whole_one, one in zip(found[kind[0], "none"], results, strict=True)]
        print(f"| {', '.join(kind)} | {cells} | {share:.0%} | {', '.join(f'{value:+.4f}' for value in less)} |")


def _simulate(path: Path, records: int, seed: int) -> None:
    writers.write(simulate.simulate(records, seed=seed, noise=0.3, median_length=250).transcripts, path)


if __name__ == "__main__":
    main()
