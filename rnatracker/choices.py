"""Settings that are a choice among words, apart from `config.py` so that the command line knows them without pydantic.

Owns the words. Must not import any dependency.
"""

from __future__ import annotations

from typing import Literal

Objective = Literal["pcc_mean", "pcc_overall", "val_loss"]
"""What a training's best epoch is chosen by."""
Keep = Literal["5p", "3p", "both"]
"""Which end of a transcript is kept when it is cut."""
Labels = Literal["A", "B", "mean"]
"""Which of two replicates is learned."""
Kernel = Literal["auto", "fused", "torch"]
"""What computes the network."""
Schedule = Literal["constant", "cosine", "one-cycle"]
"""How the learning rate changes from step to step."""
Pooling = Literal["attention", "mean", "max", "attention+mean"]
"""How a network's states along a transcript become one."""
Device = Literal["auto", "cpu", "cuda", "mps"]
Format = Literal["auto", "port3", "port6", "original", "table"]
"""Formats of files with measured fractions."""
AnyFormat = Literal["auto", "fasta", "port3", "port6", "original", "table"]
"""Formats of files to predict."""
GroupBy = Literal["group", "similarity"]
"""What is never divided."""
BaselineKind = Literal["mean", "length", "kmer-ridge", "kmer-boosting", "codon-boosting"]
"""Models without a network, the simplest first."""
OutFormat = Literal["tsv", "csv", "jsonl", "parquet"]
"""Formats of predictions."""
