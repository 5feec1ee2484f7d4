"""What predicting a long file takes: sequences a second, peak memory at two sizes, and where the time goes.

    python benchmarks/predict_stream.py [--records 100000] [--median-length 600] [--threads 0] [--out-format tsv]

The command itself is run, on simulated transcripts, with a network of the default sizes and random weights; once on a
tenth of the records, and once on all of them: its memory must not grow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from rnatracker import config
from rnatracker.config import DEFAULT_SITES
from rnatracker.data.encoding import cut
from rnatracker.data.simulate import simulate
from rnatracker.data.stream import stream
from rnatracker.model import checkpoint
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.model.network import RNATracker

_CLI = Path(__file__).parent.parent / "cli.py"
_AT_ONCE = 5000


def _write_fasta(path: Path, records: int, median_length: int) -> int:
    """Write simulated transcripts, made in parts since a million would not fit into memory; return nucleotides."""
    nucleotides = 0
    with path.open("w", encoding="ascii") as file:
        for first in range(0, records, _AT_ONCE):
            n = min(_AT_ONCE, records - first)
            made = simulate(max(n, 2), seed=first, median_length=median_length).transcripts
            file.writelines(f">SIM{first + i + 1:07d}\n{made.sequence(i)}\n" for i in range(n))
            nucleotides += int(made.lengths[:n].sum())
    return nucleotides


def _write_weights(path: Path) -> None:
    settings = config.build(config.read(config.find("default")), "default")
    torch.manual_seed(0)
    network = RNATracker(settings.model, len(DEFAULT_SITES))
    checkpoint.save(Checkpoint(settings.model, settings.encoding, DEFAULT_SITES, network.state_dict(), 0), path)


def _predict(source: Path, weights: Path, out: Path, options: list[str]) -> tuple[dict[str, float], float, float, int]:
    """Run the command: what it counts, its seconds from start to end and on the CPU, its peak memory in bytes."""
    command = [sys.executable, str(_CLI), "predict", str(source), "--model", str(weights), "--out", str(out), "--json"]
    began = time.perf_counter()
    with out.with_suffix(".json").open("w+b") as printed, out.with_suffix(".log").open("wb") as said:
        process = subprocess.Popen([*command, *options], stdout=printed, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        if process.returncode:
            raise SystemExit(out.with_suffix(".log").read_text())
        printed.seek(0)
        counts = json.load(printed)
    return counts, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _reading(source: Path) -> float:
    """Return the seconds of CPU that reading, checking and encoding alone take."""
    encoding = config.build({}, "here").encoding
    began = time.process_time()
    with stream(source) as pieces:
        for piece in pieces:
            cut(piece.codes, piece.offsets, encoding)
    return time.process_time() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--median-length", type=int, default=600)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out-format", default="tsv")
    parser.add_argument("--attention", action="store_true", help="write the attention too")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, PyTorch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = folder / "weights.pt"
        _write_weights(weights)
        options = ["--threads", str(arguments.threads), "--out-format", arguments.out_format]
        options += ["--attention", str(folder / "attention.tsv")] if arguments.attention else []
        for records in (arguments.records // 10, arguments.records):
            source, out = folder / "simulated.fa", folder / "out"
            nucleotides = _write_fasta(source, records, arguments.median_length)
            counts, seconds, on_cpu, peak = _predict(source, weights, out, options)
            reading = _reading(source)
            speed, share = counts["transcripts"] / counts["seconds"], reading / on_cpu
            print(
                f"{records:>9,} transcripts, {nucleotides / records:,.0f} nt on average: {seconds:.1f} s from start to "
                f"end ({on_cpu:.1f} s of CPU), {speed:,.0f} sequences/s, peak memory {peak / 2**20:,.0f} MiB; reading "
                f"and encoding take {share:.1%}; output {out.stat().st_size / 2**20:,.1f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
