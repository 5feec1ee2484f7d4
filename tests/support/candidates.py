"""Finished runs and test sets whose better model is known by construction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rnatracker import files
from rnatracker.data.readers import read
from rnatracker.data.transcripts import Transcripts
from rnatracker.model import checkpoint
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.prediction.predictor import Predictor
from rnatracker.tracking.contract import TrackedRun, Tracker
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support.toys import small_config, toy_checkpoint, toy_transcripts, write_table


def lively_checkpoint(seed: int) -> Checkpoint:
    """Return a checkpoint whose predictions vary from transcript to transcript, as an untrained network's hardly do."""
    found = toy_checkpoint(seed)
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: tensor + 0.5 * torch.randn(tensor.shape, generator=generator) for name, tensor in found.weights.items()
    }
    weights["output.weight"] = weights["output.weight"] * 5
    return replace(found, weights=weights)


def training_data(folder: Path) -> str:
    """Write the file that all candidates are said to be trained on."""
    return str(write_table(toy_transcripts(40), folder / "train.tsv"))


def measured_by(seed: int, path: Path, *, n: int = 120, noise: float = 0.02, records: int = 1) -> str:
    """Write a test set whose measured fractions are what the candidate of this seed predicts, with noise.

    Args:
        seed: the candidate's.
        path: the file.
        n: transcripts.
        noise: added to the fractions, standard deviation.
        records: seed of the transcripts.
    """
    transcripts = toy_transcripts(n, seed=records)
    predicted = Predictor([lively_checkpoint(seed)], torch.device("cpu")).predict(transcripts)
    measured = np.abs(predicted + noise * np.random.default_rng(records).standard_normal(predicted.shape))
    return str(write_table(replace(transcripts, fractions=measured / measured.sum(axis=1, keepdims=True)), path))


def finished_run(tracking: TrackingSettings, data: str, *seeds: int, status: str = "FINISHED") -> TrackedRun:
    """Leave a run as training leaves it: of one network, or with several seeds a cross-validation."""
    tracker, transcripts = open_tracker(tracking), read(data)
    settings = small_config(data__path=data, data__fold=len(seeds) if len(seeds) > 1 else 0)
    run = tracker.start(
        log_name=None,
        params={},
        tags={
            "rnatracker.kind": "cross-validation" if len(seeds) > 1 else "train",
            "rnatracker.data_digest": transcripts.digest(),
            "rnatracker.split_digest": "0123456789abcdef",
            "rnatracker.sites": ",".join(transcripts.sites),
        },
        dataset=None,
    )
    files.write_text(run.folder / "config.yaml", settings.to_yaml())
    group = "oof" if len(seeds) > 1 else "best"
    run.log_metrics({f"{group}/pcc_{name}": 0.5 for name in (*transcripts.sites, "mean", "overall")}, 0)
    if len(seeds) == 1:
        _leave_weights(run, seeds[0])
    for number, seed in enumerate(seeds if len(seeds) > 1 else (), start=1):
        _finished_fold(tracker, run, number, seed)
    run.finish(status)  # type: ignore[arg-type]
    return run


def _finished_fold(tracker: Tracker, parent: TrackedRun, number: int, seed: int) -> None:
    tags = {"rnatracker.kind": "fold"}
    fold = tracker.start(log_name=None, params={}, tags=tags, dataset=None, parent=parent, name=f"fold{number}")
    _leave_weights(fold, seed)
    fold.finish("FINISHED")


def _leave_weights(run: TrackedRun, seed: int) -> None:
    (run.folder / "checkpoints").mkdir(parents=True)
    checkpoint.save(lively_checkpoint(seed), run.folder / "checkpoints" / "best.pt")


def with_ids(transcripts: Transcripts, prefix: str) -> Transcripts:
    """Return the same sequences under other ids."""
    return replace(transcripts, ids=tuple(f"{prefix}{name}" for name in transcripts.ids))
