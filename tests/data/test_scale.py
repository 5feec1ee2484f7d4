"""A hundred thousand transcripts: how long reading takes, and how much memory, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rnatracker.data.simulate import simulate
from rnatracker.data.writers import write
from tests.support import paths

MEASURE = """
import json, resource, sys, time
import dnaio, numpy, rnatracker.data
unit = 1 if sys.platform == "darwin" else 1024
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
start = time.perf_counter()
transcripts = rnatracker.data.read(sys.argv[1], sites=list("abcd"))
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
print(json.dumps([len(transcripts), seconds, peak, (peak - before) / len(transcripts.codes)]))
"""


def measure(path: Path) -> tuple[int, float, int, float]:
    """Return records, seconds, peak bytes, and bytes for each nucleotide above the libraries."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=paths.ROOT,
    )
    records, seconds, peak, each = json.loads(done.stdout)
    return records, seconds, peak, each


@pytest.mark.slow
def test_read_is_quick_and_lean_when_there_are_a_hundred_thousand(tmp_path: Path) -> None:
    transcripts = simulate(100_000).transcripts
    assert 2900 < transcripts.lengths.mean() < 3100
    for name, some in {"all.fa": transcripts, "part.fa": transcripts.take(np.arange(13_500))}.items():
        write(some, tmp_path / name)
    records, seconds, peak, _ = measure(tmp_path / "all.fa")
    assert records == 100_000
    assert seconds < 20
    assert peak < 1.5e9
    assert measure(tmp_path / "part.fa")[3] < 3
