"""Record learning curves of many settings, for `schedulers.py` to replay.

    python benchmarks/record_curves.py apexseq.fa tiger.fa.gz --work DIR [--jobs 2]

Of each data set (a simulated one, and the two files of docs/recipe.md) and each of the spaces `default` and `wide`: the
starting config and settings drawn at random, each trained twice, with another seed and another division. To be done in
hours and not in weeks, the networks see less than a user's: `max_length` is an eighth of what the space says, as many
transcripts of tiger.fa.gz are taken as apexseq.fa has, and there are 27 epochs. Of the files only figures are kept.

Interrupted, the same command goes on: each curve is a line in the work folder at once. At its end, and whenever it is
given with `--pack`, it writes a file for each data set and space into `benchmarks/curves`: `settings` (JSON, one for
each), `values` (settings, 2, epochs) the objective on validation, `seconds` of an epoch, `parameters` of the network,
and `made`, which says how.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

from rnatracker import config
from rnatracker.config import Config
from rnatracker.data import simulate
from rnatracker.data.encoding import cut
from rnatracker.data.readers import read
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import RNATrackerError
from rnatracker.model.batching import Batches
from rnatracker.search import space
from rnatracker.training.division import divide
from rnatracker.training.steps.heads import Part
from rnatracker.training.trainer import EpochResult, Trainer

FOLDER = Path(__file__).parent / "curves"
SPACES = ("default", "wide")
EPOCHS = 27
_TRANSCRIPTS, _SHORTER = 1629, 8
_REPEATS = 2
_SITES = {"apexseq": "Nucleus,Cytosol,ERM,OMM", "tiger": "TG,ER,CY"}


def load(name: str, path: str | None) -> Transcripts:
    """Return a data set: some transcripts of a file, or simulated ones."""
    if path is None:
        return simulate.simulate(_TRANSCRIPTS, seed=13, noise=0.5, median_length=600).transcripts
    transcripts = read(path, sites=_SITES[name].split(","))
    chosen = np.random.default_rng(13).permutation(len(transcripts))[:_TRANSCRIPTS]
    return transcripts.take(np.sort(chosen))


def settings_of(space_name: str, number: int) -> dict[str, Any]:
    """Return what is laid over the default config: nothing for number 0, else a random draw of the space."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    searched = space.load(space_name)
    if number == 0:
        return searched.params_of(config.build(config.starting(), "default.yaml").flat())[0]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
    return searched.draw(study.ask())


def config_of(space_name: str, number: int, repeat: int) -> Config:
    """Return the config of one training."""
    flat = config.build(config.starting(), "default.yaml").flat() | settings_of(space_name, number)
    flat["encoding.max_length"] = flat["encoding.max_length"] // _SHORTER
    flat |= {"train.epochs": EPOCHS, "train.seed": repeat, "data.split_seed": repeat}
    return config.build(config.nest(flat), "benchmark")


@dataclass(frozen=True)
class Job:
    """One training."""

    data: str
    space: str
    number: int
    repeat: int


def record(job: Job, transcripts: Transcripts) -> dict[str, Any]:
    """Train, and return the curve."""
    settings = config_of(job.space, job.number, job.repeat)
    (division,) = divide(transcripts, settings.data)
    encoded = cut(transcripts.codes, transcripts.offsets, settings.encoding, codons=settings.model.codons)
    device, measured = torch.device("cpu"), transcripts.measured()
    parts = [
        Part(Batches(encoded.take(part), settings.encoding, settings.model.masked, device), measured[part])
        for part in (division.train, division.validation)
    ]
    values: list[float] = []
    seconds: list[float] = []

    def on_epoch(result: EpochResult) -> None:
        values.append(round(result.scores["pcc_mean"], 5))
        seconds.append(result.epoch_seconds)

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(settings, transcripts.sites, *parts, Path(folder), device=device)
        parameters = sum(each.numel() for each in trainer.model.parameters())
        with suppress(RNATrackerError, RuntimeError):  # its loss is no number any more: the curve ends there
            trainer.fit(on_epoch)
    return vars(job) | {
        "values": values,
        "seconds": round(float(np.median(seconds)), 3) if seconds else None,
        "parameters": parameters,
    }


_loaded: dict[str, Transcripts] = {}


def _start_worker(paths: dict[str, str | None]) -> None:
    os.nice(19)
    torch.set_num_threads(1)
    _loaded.update({name: load(name, path) for name, path in paths.items()})


def _work(job: Job) -> dict[str, Any]:
    return record(job, _loaded[job.data])


def _jobs(names: list[str], n_settings: int) -> Iterator[Job]:
    for space_name in SPACES:
        for number in range(n_settings):
            for name in names:
                for repeat in range(_REPEATS):
                    yield Job(name, space_name, number, repeat)


def _recorded(work: Path) -> list[dict[str, Any]]:
    path = work / "curves.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def pack(work: Path) -> None:
    """Write the files of all settings that have been trained as often as wanted."""
    FOLDER.mkdir(exist_ok=True)
    found = {(each["data"], each["space"], each["number"], each["repeat"]): each for each in _recorded(work)}
    for name, space_name in sorted({key[:2] for key in found}):
        numbers = sorted({key[2] for key in found if key[:2] == (name, space_name)})
        keys = [[(name, space_name, number, repeat) for repeat in range(_REPEATS)] for number in numbers]
        whole = [each for each in keys if all(key in found for key in each)]
        values = np.full((len(whole), _REPEATS, EPOCHS), np.nan, np.float32)
        for i, each in enumerate(whole):
            for repeat, key in enumerate(each):
                values[i, repeat, : len(found[key]["values"])] = found[key]["values"]
        made = (
            f"benchmarks/record_curves.py: {_TRANSCRIPTS} transcripts, max_length / {_SHORTER}, "
            f"{EPOCHS} epochs, pcc_mean on validation; setting 0 is the starting config, n RandomSampler(seed=n)"
        )
        np.savez_compressed(
            FOLDER / f"{name}-{space_name}.npz",
            settings=np.array([json.dumps(settings_of(space_name, each[0][2])) for each in whole]),
            values=values,
            seconds=np.array([[found[key]["seconds"] or np.nan for key in each] for each in whole], np.float32),
            parameters=np.array([found[each[0]]["parameters"] for each in whole]),
            made=made,
        )
        print(f"{name}-{space_name}: {len(whole)} settings")


def main() -> None:
    """Record what isn't there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--settings", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--pack", action="store_true", help="write the files of what there is, and end")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if not options.pack:
        paths: dict[str, str | None] = {"simulated": None}
        paths |= {Path(each).name.split(".")[0]: each for each in options.files}
        done = {(each["data"], each["space"], each["number"], each["repeat"]) for each in _recorded(options.work)}
        jobs = [job for job in _jobs(list(paths), options.settings) if tuple(vars(job).values()) not in done]
        began = time.monotonic()
        with (
            multiprocessing.get_context("spawn").Pool(options.jobs, _start_worker, (paths,)) as pool,
            (options.work / "curves.jsonl").open("a") as file,
        ):
            for n, found in enumerate(pool.imap_unordered(_work, jobs), start=1):
                file.write(json.dumps(found) + "\n")
                file.flush()
                print(f"{n} of {len(jobs)}, {time.monotonic() - began:.0f} s", end="\r", flush=True)
    pack(options.work)


if __name__ == "__main__":
    main()
