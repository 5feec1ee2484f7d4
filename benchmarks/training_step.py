"""How long a step of training and a batch of inference take: the port's loop, our torch path, our fused path.

    python benchmarks/training_step.py [--batch 8 64] [--threads 1 2] [--repeats 7]
    python benchmarks/training_step.py --data ../shared/data/apexseq.fa

The first prints medians and spreads on sequences of 4000 nucleotides, interleaved in one process. Ratios are of
medians, against the port with its loader, as it was used, by wall time and by CPU time. The floor is the time of
the network's dense products at the speed of a large matrix product of PyTorch, measured here. The second trains on a
file, masked, as `--config v1` does, with tracking in MLflow and validation in every epoch, and compares an epoch's wall
time with the port's, which validated every fifth epoch.

Other processes on the machine falsify wall times, those of two threads most: the load is printed. The CPU time of one
thread is right even then; that of two has their waiting for each other in it.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import cast

import epochs
import numpy as np
import port
import torch
import torch.nn.functional as F
from torch import Tensor

from rnatracker import config
from rnatracker.choices import Kernel
from rnatracker.config import Config
from rnatracker.data import Transcripts, read
from rnatracker.data.encoding import cut, decode
from rnatracker.data.folds import hold_out
from rnatracker.model.batching import Batches
from rnatracker.model.kernels.functions import kernel_in_use
from rnatracker.model.network import RNATracker
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings

_SITES = 4
_FUSED_AT_A_TIME = 8
"""Fused steps in each round, since the first ones find the caches as another variant left them; training goes on."""


class Ours:
    """Our step, as `Trainer` takes it, with one kernel.

    Args:
        settings: the port's settings.
        kernel: `torch` or `fused`.
        transcripts: what to train on.
    """

    def __init__(self, settings: Config, kernel: Kernel, transcripts: Transcripts) -> None:
        self.model = RNATracker(settings.model.model_copy(update={"kernel": kernel}), _SITES)
        encoded = cut(transcripts.codes, transcripts.offsets, settings.encoding)
        self.batches = Batches(encoded, settings.encoding, settings.model.masked, torch.device("cpu"))
        self._targets = torch.from_numpy(transcripts.measured()).float()
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.train.lr, fused=True)

    def step(self, indices: np.ndarray) -> None:
        """Assemble a batch and train on it."""
        batch = self.batches.gather(indices)
        logits = self.model(batch.codes, batch.lengths, batch.total_lengths)
        target = self._targets[torch.from_numpy(indices)]
        loss = F.kl_div(F.log_softmax(logits, dim=1), target, reduction="batchmean")
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()

    def predict(self, indices: np.ndarray) -> Tensor:
        """Assemble a batch and predict it."""
        with torch.inference_mode():
            batch = self.batches.gather(indices)
            return torch.softmax(self.model(batch.codes, batch.lengths, batch.total_lengths).double(), dim=1)


class Times:
    """Wall and CPU milliseconds of one thing, measured several times."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def measure(self, action: Callable[[], object]) -> None:
        """Do it and note its time."""
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        self.wall.append(1000 * (time.perf_counter() - wall))
        self.cpu.append(1000 * (time.process_time() - cpu))

    def medians(self) -> tuple[float, float]:
        """Return the medians of wall and CPU."""
        return statistics.median(self.wall), statistics.median(self.cpu)

    def __str__(self) -> str:
        wall, cpu = self.medians()
        return f"{wall:8.2f} ms ({min(self.wall):7.2f} to {max(self.wall):7.2f}), CPU {cpu:7.2f}"


def dense_products(settings: Config) -> float:
    """Return the multiplications and additions of one sequence forward through the dense network."""
    model, length = settings.model, settings.encoding.max_length
    first = length - model.conv1_kernel + 1
    second = first // model.pool - model.conv2_kernel + 1
    steps, hidden = second // model.pool, model.rnn_hidden
    products = first * model.conv1_channels * 4 * model.conv1_kernel
    products += second * model.conv2_channels * model.conv1_channels * model.conv2_kernel
    products += steps * 2 * 3 * hidden * (model.conv2_channels + hidden) + steps * 2 * hidden * model.attention_size
    return 2.0 * products


def matmul_peak() -> float:
    """Return operations per second of a large matrix product with the threads set: the best of some tries."""
    a = torch.randn(1536, 1536)
    torch.mm(a, a)
    times = Times()
    for _ in range(8):
        times.measure(lambda: torch.mm(a, a))
    return 2 * 1536**3 / min(times.wall) * 1000


def compare(settings: Config, batch_size: int, threads: int, repeats: int) -> None:
    """Print one table: training and inference at this batch size with so many threads."""
    torch.set_num_threads(threads)
    transcripts = _random_transcripts(batch_size, settings.encoding.max_length)
    letters = [
        decode(transcripts.codes[a:b]) for a, b in zip(transcripts.offsets, transcripts.offsets[1:], strict=False)
    ]
    old = port.Loop(port.Sequences(letters, torch.from_numpy(transcripts.measured()).float()), _SITES)
    plain, fused = (Ours(settings, kernel, transcripts) for kernel in cast("list[Kernel]", ["torch", "fused"]))
    indices = np.arange(batch_size)
    times: dict[str, Times] = defaultdict(Times)
    for number in range(repeats + 1):
        x, y = old.load(range(batch_size))
        times["loader"].measure(lambda: old.load(range(batch_size)))
        times["training port"].measure(lambda x=x, y=y: old.step(x, y))
        times["inference port"].measure(lambda x=x: old.predict(x))
        for name, ours, in_a_row in (("torch", plain, 1), ("fused", fused, _FUSED_AT_A_TIME)):
            ours.model.train()
            for _ in range(in_a_row):
                times[f"training {name}"].measure(lambda ours=ours: ours.step(indices))
            ours.model.eval()
            for _ in range(in_a_row):
                times[f"inference {name}"].measure(lambda ours=ours: ours.predict(indices))
        if not number:  # first uses: memory, compiled kernels
            times.clear()
    floor = dense_products(settings) * batch_size / matmul_peak() * 1000
    print(f"\nbatch {batch_size}, threads {threads}, load {os.getloadavg()[0]:.1f}")
    _print_table(times, batch_size, floor)


def _print_table(times: dict[str, Times], batch_size: int, floor: float) -> None:
    print(f"  {'loader, port':20} {times['loader']}")
    loader = times["loader"].medians()
    for kind, passes in (("training", 3), ("inference", 1)):
        old = times[f"{kind} port"].medians()
        for name in ("port", "torch", "fused"):
            wall, cpu = times[f"{kind} {name}"].medians()
            added = loader if name == "port" else (0, 0)
            ratios = (old[0] + loader[0]) / (wall + added[0]), (old[1] + loader[1]) / (cpu + added[1])
            line = (
                f"  {f'{kind}, {name}':20} {times[f'{kind} {name}']}; {(wall + added[0]) / batch_size:5.2f} s per 1000"
            )
            line += f"; ratio {ratios[0]:4.1f}, CPU {ratios[1]:4.1f}; without loader {old[0] / wall:4.1f}, "
            print(f"{line}CPU {old[1] / cpu:4.1f}; of floor {wall / (floor * passes):4.2f}")


def _random_transcripts(n: int, length: int) -> Transcripts:
    rng = np.random.default_rng(0)
    return Transcripts(
        ids=tuple(f"random{i}" for i in range(n)),
        codes=rng.integers(1, 5, n * length).astype(np.uint8),
        offsets=np.arange(n + 1) * length,
        sites=config.DEFAULT_SITES,
        fractions=rng.dirichlet(np.ones(_SITES), n),
        source="random",
    )


def end_to_end(path: str, batch_size: int, threads: int, repeats: int) -> None:
    """Print an epoch's wall time on a file: ours with validation and tracking, the port's with a fifth of one."""
    torch.set_num_threads(threads)
    transcripts = read(path, assumed=config.DEFAULT_SITES)  # an epoch takes as long whatever they are called
    train_part, val_part = hold_out(len(transcripts), None, 0.2, 0)
    letters = [
        decode(transcripts.codes[a:b]) for a, b in zip(transcripts.offsets, transcripts.offsets[1:], strict=False)
    ]
    fractions = torch.from_numpy(transcripts.measured()).float()
    old = port.Loop(port.Sequences(letters, fractions), fractions.shape[1])
    rng = np.random.default_rng(0)
    steps, tests = Times(), Times()
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        open_tracker(TrackingSettings(Path(folder)))  # making the store, once in its life, is not part of a run
        for _ in range(repeats):
            for _ in range(6):
                chosen = rng.choice(train_part, 8, replace=False).tolist()
                steps.measure(lambda chosen=chosen: old.step(*old.load(chosen)))
                tests.measure(lambda chosen=chosen: old.predict(old.load(chosen)[0]))
            seconds += _our_epochs(path, transcripts.sites, Path(folder), batch_size, threads)
    step, test = steps.medians()[0] / 1000, tests.medians()[0] / 1000
    old_epoch = (step * len(train_part) + test * len(val_part) / 5) / 8
    ours = statistics.median(seconds)
    print(f"\n{Path(path).name}: {len(train_part)} to train on, {len(val_part)} to validate on, threads {threads}")
    print(f"  port, batch 8, validated every fifth epoch: {old_epoch:.1f} s an epoch, from {len(steps.wall)} batches")
    print(
        f"  fused, batch {batch_size}, masked, validated every epoch, tracked: {ours:.2f} s "
        f"({min(seconds):.2f} to {max(seconds):.2f}), ratio {old_epoch / ours:.1f}, load {os.getloadavg()[0]:.1f}"
    )


def _our_epochs(path: str, sites: tuple[str, ...], store: Path, batch_size: int, threads: int) -> list[float]:
    options = {"data.path": path, "data.sites": sites}
    options |= {"train.epochs": 4, "train.batch_size": batch_size, "train.threads": threads}
    return epochs.seconds_of(config.build(config.nest(options), "here"), store)


def main() -> None:
    """Parse the options and print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--data", help="a file of transcripts: whole epochs instead of single steps")
    options = parser.parse_args()
    settings = config.build(config.read(config.find("port")), "port.yaml")
    print(f"{_cpu()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print("kernels:", *kernel_in_use(settings.model, torch.device("cpu")))
    for threads in options.threads:
        if options.data:
            for batch_size in options.batch:
                end_to_end(options.data, batch_size, threads, options.repeats)
            continue
        torch.set_num_threads(threads)
        print(f"\nmatrix product, {threads} threads: {matmul_peak() / 1e9:.0f} Gflop/s")
        for batch_size in options.batch:
            compare(settings, batch_size, threads, options.repeats)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
