"""How long `rnatracker runs` takes with ten thousand runs in the store.

    python benchmarks/many_runs.py [--runs 10000] [--keep DIR]

Makes a store as trainings, cross-validations of 10 folds and studies of 200 trials would leave it, each run with 45
parameters, 20 tags, 10 epochs of 10 metrics and 8 figures at its end, and prints the seconds of each command, Python's
start included, and for comparison those of MLflow's own search for 200 of the runs.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import closing
from pathlib import Path

from rnatracker.config import Config
from rnatracker.tracking.names import as_text
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings

_EPOCHS = 10
_SITES = ("Cytosol", "Insoluble", "Membrane", "Nuclear")
_ROOT = Path(__file__).resolve().parent.parent
_COMMANDS = (
    ["runs"],
    ["runs", "--all"],
    ["runs", "--sort", "pcc"],
    ["runs", "--study", "study8", "--all"],
    ["runs", "--where", "metrics.val/pcc_mean > 0.4 and params.train.lr = 0.001"],
    ["runs", "--all", "--sort", "metrics.val/loss", "--limit", "0"],
    ["runs", "--all", "--csv", "{folder}/runs.csv"],
)


def _insert(connection: sqlite3.Connection, experiment: int, folder: Path, number: int, **tags: str) -> str:
    """Put one run into the database; return its id."""
    run_id, rng = uuid.uuid4().hex, random.Random(number)  # noqa: S311 - no secret
    name = tags.pop("name")
    started = 1_700_000_000_000 + number * 60_000
    row = (run_id, name, "LOCAL", "FINISHED", started, started + 50_000, "active", f"{folder}/{run_id}", experiment)
    connection.execute(
        "INSERT INTO runs (run_uuid, name, source_type, status, start_time, end_time, lifecycle_stage, artifact_uri, "
        "experiment_id, user_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'me')",
        row,
    )
    params = Config().flat() | {"train.lr": rng.choice([0.001, 0.002, 0.005]), "data.path": "/data/transcripts.tsv"}
    params["train.seed"] = rng.randrange(5)
    connection.executemany(
        "INSERT INTO params VALUES (?, ?, ?)", [(key, as_text(value), run_id) for key, value in params.items()]
    )
    named = {f"rnatracker.{key}" if "." not in key else key: value for key, value in tags.items()}
    named |= {"rnatracker.data_digest": "0123456789ab", "rnatracker.split_digest": f"{number % 3:012}"}
    named |= {f"filler.{i}": "x" * 20 for i in range(20 - len(named))}
    connection.executemany("INSERT INTO tags VALUES (?, ?, ?)", [(k, v, run_id) for k, v in named.items()])
    keys = ["train/loss", "val/loss", *(f"val/pcc_{site}" for site in (*_SITES, "mean", "overall"))]
    keys += ["time/epoch_seconds", "time/sequences_per_second"]
    history = [(key, rng.random(), started + e, run_id, e, 0) for key in keys for e in range(1, _EPOCHS + 1)]
    final = [(f"best/pcc_{site}", rng.random(), started, run_id, 0, 0) for site in (*_SITES, "mean", "overall")]
    final += [("best/loss", rng.random(), started, run_id, 0, 0), ("best/epoch", 7.0, started, run_id, 0, 0)]
    insert = "INSERT INTO {} (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, ?)"
    connection.executemany(insert.format("metrics"), history + final)
    last = [row for row in history if row[4] == _EPOCHS]
    connection.executemany(insert.format("latest_metrics"), last + final)
    return run_id


def fill(store: Path, runs: int) -> None:
    """Make a store with so many runs."""
    open_tracker(TrackingSettings(store))
    database = store / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA synchronous = off")
        (experiment,) = connection.execute("SELECT experiment_id FROM experiments WHERE name = 'rnatracker'").fetchone()
        made, number = 0, 0
        folder = store / "artifacts" / "rnatracker"
        while made < runs:
            number += 1
            kind, child, n = (("train", "", 0), ("cross-validation", "fold", 10), ("study", "trial", 200))[number % 3]
            study = {"study": f"study{number}"} if kind == "study" else {}
            parent = _insert(connection, experiment, folder, made, name=f"exp{number}", kind=kind, **study)
            made += 1
            for i in range(min(n, runs - made)):
                above = {"mlflow.parentRunId": parent, "name": f"{child}{i}", "kind": child, **study}
                _insert(connection, experiment, folder, made, **above)
                made += 1


def _measure_mlflow(store: Path, runs: int) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "rnatracker"]
    client.search_runs([experiment], max_results=1)
    begun = time.perf_counter()
    found = client.search_runs([experiment], max_results=min(runs, 200))
    seconds = time.perf_counter() - begun
    print(f"{seconds:7.2f} s  MLflow's search_runs, {len(found)} runs: {seconds / len(found) * runs:.0f} s for {runs}")


def main() -> None:
    """Make the store, and time the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="keep the store in this folder, or use the one that is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        store = folder / "mlruns"
        if not store.exists():
            fill(store, options.runs)
        size = (store / "mlflow.db").stat().st_size / 1e6
        print(f"{options.runs} runs, a database of {size:.0f} MB", flush=True)
        for words in _COMMANDS:
            words = [word.format(folder=folder) for word in words]
            begun = time.perf_counter()
            command = [sys.executable, str(_ROOT / "cli.py"), *words, "--store", str(store)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"{time.perf_counter() - begun:7.2f} s  {' '.join(words)}: {len(done.stdout.splitlines())} lines")
        _measure_mlflow(store, options.runs)


if __name__ == "__main__":
    main()
