"""Registered models as files: what lies in a version's folder, and that it is what was registered.

Owns the layout of that folder, which is a model of MLflow's, and the checksums. Must not know the registry. Read next:
`served.py`, the code that MLflow runs in that folder; `registry.py`, which keeps versions;
`rnatracker/model/checkpoint.py` for a file of weights.

    MLmodel                          MLflow's description: signature, checksums of the weights
    served.py                        a copy of ours
    artifacts/weights/model1.pt ...  our own files of weights, one for each network of an ensemble
    artifacts/training_records.npy   which transcripts it was trained on (`rnatracker/data/fingerprints.py`)
    input_example.json, serving_input_example.json, requirements.txt, conda.yaml, python_env.yaml
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from rnatracker import __version__
from rnatracker.errors import CheckpointError
from rnatracker.files import digest_of
from rnatracker.model import checkpoint
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.prediction import table

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

ARTIFACTS = "artifacts"
"""MLflow's folder of artifacts in that of a model."""
WEIGHTS = "weights"
"""Folder of the weights' files, and the name of that artifact."""
RECORDS = "training_records"
"""The artifact that tells which transcripts a model was trained on."""
RECORDS_FILE = f"{RECORDS}.npy"
CHECKSUMS = "weights_sha256"
INPUT = "sequence"
"""The column that goes in."""


def checksums_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder by its name, sorted.

    Raises:
        OSError: if one can't be read.
    """
    return {path.name: digest_of(path) for path in sorted(folder.iterdir()) if path.is_file()}


def load_weights(folder: Path, checksums: Mapping[str, str], what: str, remedy: str) -> list[Checkpoint]:
    """Load the files of weights in a folder, after holding each against its recorded checksum.

    Args:
        folder: where they lie.
        checksums: the recorded SHA-256 of each file by name.
        what: whose they are, for messages.
        remedy: what to do where they aren't what was recorded.

    Raises:
        CheckpointError: if there are no checksums, a file is missing, can't be read, or is another; nothing is then
            loaded.
    """
    if not checksums:
        raise CheckpointError(f"{what}: no checksums of its weights are recorded, so it is not loaded", remedy)
    for name, expected in checksums.items():
        try:
            found = digest_of(folder / name)
        except OSError as error:
            raise CheckpointError(
                f"{what}: its weights {folder / name} can't be read ({error.strerror})", remedy
            ) from None
        if found != expected:
            raise CheckpointError(
                f"{what}: its weights {folder / name} are not what was registered (SHA-256 {found[:12]}..., recorded "
                f"{expected[:12]}...): damaged or changed, so not loaded",
                remedy,
            )
    return [checkpoint.load(folder / name) for name in sorted(checksums, key=_number)]


def _number(name: str) -> tuple[int, str]:
    """Return a key that sorts `model2.pt` before `model10.pt`."""
    digits = "".join(letter for letter in name if letter.isdigit())
    return int(digits or 0), name


def write_weights(folder: Path, checkpoints: Sequence[Checkpoint]) -> dict[str, str]:
    """Write what is needed to predict, `model1.pt` and so on, without what only training needs.

    Returns:
        The files' checksums.

    Raises:
        OSError: if they can't be written.
    """
    folder.mkdir(parents=True)
    for number, each in enumerate(checkpoints, start=1):
        checkpoint.save(replace(each, optimizer=None, progress=None), folder / f"model{number}.pt")
    return checksums_of(folder)


def write_model(
    folder: Path, weights: Path, records: Path | None, sites: Sequence[str], *, model_id: str, run_id: str
) -> None:
    """Write the folder of a model that MLflow can load and serve, from its weights' files.

    Args:
        folder: what is written; not there yet.
        weights: folder of the weights' files, as `write_weights` makes it.
        records: file that tells which transcripts it was trained on, as `rnatracker.records` writes it; None where
            that isn't known.
        sites: names of its sites.
        model_id: of MLflow's logged model.
        run_id: the run that trained it.

    Raises:
        OSError: if it can't be written.
    """
    from mlflow import pyfunc
    from mlflow.models import Model

    checksums = checksums_of(weights)
    artifacts = {WEIGHTS: str(weights)} | ({} if records is None else {RECORDS: str(records)})
    with _quiet():
        pyfunc.save_model(
            path=str(folder),
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts=artifacts,
            signature=signature(sites, ensemble=len(checksums) > 1),
            input_example=example(),
            pip_requirements=requirements(),
            metadata={"rnatracker": {"sites": list(sites), CHECKSUMS: checksums}},
            model_config={CHECKSUMS: checksums},
            mlflow_model=Model(run_id=run_id, model_id=model_id),
        )


def signature(sites: Sequence[str], *, ensemble: bool) -> ModelSignature:
    """Return what goes in and comes out: `sequence` to the columns of `rnatracker.predicting`."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    *figures, likely = table.columns(sites, ensemble)
    outputs = [*(ColSpec("double", name) for name in figures), ColSpec("string", likely)]
    return ModelSignature(Schema([ColSpec("string", INPUT)]), Schema(outputs))  # type: ignore[arg-type]


def example() -> pd.DataFrame:
    """Return an example of what goes in, also for those who try the server."""
    import pandas as pd

    return pd.DataFrame({INPUT: ["AUGGCUUCACGGAUUGCUUAAAGGCUUACGAUUGCAGGAUCCAAUAAA", "ACGTACGTNNACGTTTGACA"]})


def requirements() -> list[str]:
    """Return the packages that a model needs, at the versions that are installed here."""
    packages = ("mlflow", "torch", "numpy", "pandas")
    # Without what names a build, as in 2.13.0+cpu: it isn't found everywhere.
    found = (f"{name}=={metadata.version(name).partition('+')[0]}" for name in packages)
    return [f"rnatracker=={__version__}", *found]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow from saying what nobody need know while it writes a model."""
    log = logging.getLogger("mlflow")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
