"""The table of predicted and measured fractions that a run leaves beside its weights.

Owns its format, written and read. Must not know mlflow. Read next: `docs/formats.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rnatracker.data.transcripts import Fractions
from rnatracker.errors import DataError
from rnatracker.files import write_text

MEASURED = "measured_"
"""Prefix of the columns that hold what was measured."""


def write_predictions(
    path: Path, ids: Sequence[str], sites: Sequence[str], predicted: Fractions, measured: Fractions | None = None
) -> None:
    """Write a TSV: `id`, the predicted fraction of each site under its name, then the measured ones.

    Args:
        path: the file; its folder is made.
        ids: (N,).
        sites: (S,).
        predicted: (N, S).
        measured: (N, S), under `measured_<site>`; None: left out.

    Raises:
        OSError: if it can't be written.
    """
    columns = ["id", *sites, *(f"{MEASURED}{site}" for site in sites if measured is not None)]
    values = predicted if measured is None else np.hstack([predicted, measured])
    rows = ["\t".join([name, *map(repr, row)]) for name, row in zip(ids, values.tolist(), strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join(["\t".join(columns), *rows]) + "\n")


def predicted_sites(path: Path) -> tuple[str, ...]:
    """Return the sites of a table that `write_predictions` wrote.

    Raises:
        DataError: if the file is missing.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return _sites(file.readline())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable table of predictions ({error})") from None


def _sites(header: str) -> tuple[str, ...]:
    columns = header.rstrip("\n").split("\t")[1:]
    sites = columns[: len(columns) // 2]
    measured = [f"{MEASURED}{site}" for site in sites]
    return tuple(sites if columns[len(sites) :] == measured else columns)


def read_predictions(path: Path) -> tuple[list[str], Fractions, Fractions]:
    """Read what `write_predictions` wrote with measured fractions.

    Returns:
        ids, predicted (N, S) and measured (N, S) float64.

    Raises:
        DataError: if the file is missing or not such a table.
    """
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        rows = [line.split("\t") for line in lines]
        values = np.array([[float(value) for value in row[1:]] for row in rows])
        n_sites = len(_sites(header))
        predicted, measured = values[:, :n_sites], values[:, n_sites : 2 * n_sites]
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path}: not a readable table of predictions ({error})", "run the fold again") from None
    return [row[0] for row in rows], predicted, measured
