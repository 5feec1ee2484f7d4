"""A registered model as MLflow keeps it: the files of its folder, and what MLflow runs there.

Owns the layout of that folder. Must not know the registry.

Every registered model carries a copy of `served.py`, which imports this module. So its name and that of `served_model`
are promised to copies that are out already: they stay, and so do the names `weights`, `weights_sha256` and `sequence`,
under which a model finds its weights, their checksums and its input.

    MLmodel                          MLflow's description: signature, checksums of the weights
    served.py                        a copy of ours
    artifacts/weights/model1.pt ...  our own files of weights, one for each model of an ensemble; model1.npz: a baseline
    artifacts/weights/blend.json     what each of them counts, where that isn't the same
    artifacts/training_records.npy   which transcripts it was trained on (`rnatracker/data/fingerprints.py`)
    artifacts/residuals.npy          what out-of-fold predictions were off by (`rnatracker/prediction/intervals.py`)
    input_example.json, serving_input_example.json, requirements.txt, conda.yaml, python_env.yaml
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from rnatracker import __version__
from rnatracker.baselines.models import SUFFIX
from rnatracker.evaluation.weights import CHECKSUMS, WEIGHTS, checksums_of, files_of_members
from rnatracker.prediction import table

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.pyfunc.model import PythonModel

ARTIFACTS = "artifacts"
"""MLflow's folder of artifacts in that of a model."""
RECORDS = "training_records"
"""The artifact that tells which transcripts a model was trained on."""
RECORDS_FILE = f"{RECORDS}.npy"
RESIDUALS = "residuals"
"""The artifact that tells what out-of-fold predictions were off by."""
RESIDUALS_FILE = f"{RESIDUALS}.npy"


def served_model() -> PythonModel:
    """Return what answers for a model that MLflow has loaded; promised to the copies of `served.py`."""
    from rnatracker.registry.python_model import ServedModel

    return ServedModel()


def write_model(
    folder: Path, weights: Path, beside: Mapping[str, Path], sites: Sequence[str], *, model_id: str, run_id: str
) -> None:
    """Write the folder of a model that MLflow can load and serve, from its weights' files.

    Args:
        folder: what is written; not there yet.
        weights: folder of the weights' files, as `write_weights` makes it.
        beside: the artifacts beside them, `RECORDS` and `RESIDUALS`, as far as there are any.
        sites: names of its sites.
        model_id: of MLflow's logged model.
        run_id: the run that trained it.

    Raises:
        OSError: if it can't be written.
    """
    from mlflow import pyfunc
    from mlflow.models import Model

    checksums = checksums_of(weights)
    artifacts = {WEIGHTS: str(weights)} | {name: str(path) for name, path in beside.items()}
    with _quiet():
        pyfunc.save_model(
            path=str(folder),
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts=artifacts,
            signature=signature(sites, ensemble=len(files_of_members(checksums)) > 1),
            input_example=example(),
            pip_requirements=requirements(checksums),
            metadata={"rnatracker": {"sites": list(sites), CHECKSUMS: checksums}},
            model_config={CHECKSUMS: checksums},
            mlflow_model=Model(run_id=run_id, model_id=model_id),
        )


def signature(sites: Sequence[str], *, ensemble: bool) -> ModelSignature:
    """Return what goes in and comes out: `sequence` to the columns of `rnatracker.prediction.table`."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    *figures, likely = table.columns(sites, ensemble)
    outputs = [*(ColSpec("double", name) for name in figures), ColSpec("string", likely)]
    return ModelSignature(Schema([ColSpec("string", table.INPUT)]), Schema(outputs))  # type: ignore[arg-type]


def example() -> pd.DataFrame:
    """Return an example of what goes in, also for those who try the server."""
    import pandas as pd

    return pd.DataFrame({table.INPUT: ["AUGGCUUCACGGAUUGCUUAAAGGCUUACGAUUGCAGGAUCCAAUAAA", "ACGTACGTNNACGTTTGACA"]})


def requirements(weights: Collection[str]) -> list[str]:
    """Return the packages that a model of these files needs, at the versions that are installed here."""
    trees = ["lightgbm"] if any(name.endswith(SUFFIX) for name in weights) else []
    packages = ("mlflow", "torch", "numpy", "pandas", *trees)
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
