"""Where the project, and the real data beside it, lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The project's own folder."""
CLI = ROOT / "cli.py"
SHARED = ROOT.parent / "shared"
"""Real data, which not everybody has: tests that use it are marked `shared` and skipped without it."""
REAL = SHARED / "data" / "apexseq.fa"
SEED = SHARED / "seed"
"""A log folder of the PyTorch port, and what its own code predicts."""
