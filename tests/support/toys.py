"""Small data and settings that several tests use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnatracker import config
from rnatracker.config import Config
from rnatracker.data.encoding import cut, encode
from rnatracker.data.transcripts import Transcripts
from rnatracker.model.batching import Batches
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.model.network import RNATracker
from rnatracker.training.steps.heads import Part
from rnatracker.training.trainer import EpochResult

SITES = ("Nucleus", "Cytosol", "ERM")
SMALL = {
    "model.conv1_channels": 4,
    "model.conv2_channels": 5,
    "model.conv1_kernel": 4,
    "model.conv2_kernel": 3,
    "model.pool": 2,
    "model.rnn_hidden": 3,
    "model.attention_size": 4,
    "encoding.max_length": 60,
    "train.epochs": 3,
    "train.batch_size": 8,
    "train.lr": 0.01,
    "train.threads": 1,
}


def small_config(**changes: Any) -> Config:
    """Return settings of a network that trains in a blink; keys with `__` for the dot."""
    flat = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    return config.build(config.nest(flat), "test")


def sequence_of(rng: np.random.Generator, length: int) -> str:
    """Return a random sequence."""
    return "".join(rng.choice(list("ACGT"), length))


def toy_transcripts(n: int = 40, seed: int = 0) -> Transcripts:
    """Return transcripts whose fractions follow from their share of A, C and G: easy to learn."""
    rng = np.random.default_rng(seed)
    sequences = [
        "".join(rng.choice(list("ACGT"), int(rng.integers(20, 90)), p=rng.dirichlet(np.full(4, 2.0)))) for _ in range(n)
    ]
    counts = np.array([[sequence.count(letter) + 1 for letter in "ACG"] for sequence in sequences], float)
    return Transcripts(
        ids=tuple(f"t{i}" for i in range(n)),
        codes=np.concatenate([encode(sequence) for sequence in sequences]),
        offsets=np.concatenate(([0], np.cumsum([len(s) for s in sequences]))).astype(np.int64),
        sites=SITES,
        fractions=counts / counts.sum(axis=1, keepdims=True),
        source="toy.tsv",
    )


def write_table(transcripts: Transcripts, path: Path) -> Path:
    """Write transcripts as a TSV."""
    rows = ["\t".join(["id", "sequence", *transcripts.sites])]
    for i, name in enumerate(transcripts.ids):
        rows.append("\t".join([name, transcripts.sequence(i), *(repr(float(x)) for x in transcripts.measured()[i])]))
    path.write_text("\n".join(rows) + "\n")
    return path


def part_of(transcripts: Transcripts, settings: Config) -> Part:
    """Return transcripts as the trainer takes them."""
    frames = settings.model.codons
    encoded = cut(transcripts.codes, transcripts.offsets, settings.encoding, codons=frames)
    batches = Batches(encoded, settings.encoding, settings.model.masked, torch.device("cpu"))
    return Part(batches, transcripts.measured())


class SilentReporter:
    """Remembers lines and epochs."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.epochs: list[EpochResult] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        pass

    def epoch(self, label: str, result: EpochResult, epochs: int, objective: str) -> None:
        self.epochs.append(result)

    def end(self, label: str) -> None:
        pass


def toy_checkpoint(seed: int = 0, **changes: Any) -> Checkpoint:
    """Return an untrained small network's checkpoint; keys with `__` for the dot."""
    settings = small_config(**changes)
    torch.manual_seed(seed)
    network = RNATracker(settings.model, len(SITES))
    return Checkpoint(settings.model, settings.encoding, SITES, network.state_dict(), epoch=1)


def ports_file(path: Path) -> dict[str, Any]:
    """Write a file as the port does, with another size of everything; return its content."""
    shapes = {
        "conv_block1.0.weight": (6, 4, 5), "conv_block2.0.weight": (7, 6, 3), "gru.weight_ih_l0": (9, 7),
        "gru.weight_hh_l0": (9, 3), "gru.bias_ih_l0": (9,), "gru.bias_hh_l0": (9,), "gru.weight_ih_l0_reverse": (9, 7),
        "gru.weight_hh_l0_reverse": (9, 3), "gru.bias_ih_l0_reverse": (9,), "gru.bias_hh_l0_reverse": (9,),
        "attention.attention_w.weight": (8, 6), "attention.attention_w.bias": (8,),
        "attention.attention_w2.weight": (1, 8), "output.weight": (4, 6), "output.bias": (4,),
    }  # fmt: skip
    torch.manual_seed(0)
    model = {name: torch.randn(shape) for name, shape in shapes.items()}
    average = torch.randn(6, 4, 5)
    state = {0: {"step": torch.tensor(1.0), "exp_avg": average, "exp_avg_sq": average**2}}
    content = {"epoch": 7, "model": model, "optimizer": {"state": state, "param_groups": [{"params": [0]}]}}
    torch.save(content, path)
    return content
