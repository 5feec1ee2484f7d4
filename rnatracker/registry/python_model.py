"""The model as MLflow loads it: sequences in a DataFrame to site fractions in another.

Owns that class alone, apart from `mlflow_model.py` because it can't be written without importing mlflow. Must not know
the registry.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from rnatracker.config import TrainConfig
from rnatracker.errors import RNATrackerError
from rnatracker.evaluation.weights import CHECKSUMS, WEIGHTS, load_weights
from rnatracker.model.device import pick_device
from rnatracker.prediction import table
from rnatracker.prediction.predictor import Predictor


class ServedModel(PythonModel):
    """One network or an ensemble, loaded only if each file of weights has its recorded checksum."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights.

        Raises:
            MlflowException: if they aren't those that were registered.
        """
        folder = Path(context.artifacts[WEIGHTS])
        checksums = (context.model_config or {}).get(CHECKSUMS, {})
        try:
            found = load_weights(folder, checksums, "this model", "register its run again")
            self._predictor = Predictor(found.models, pick_device(TrainConfig()), weights=found.weights)
        except RNATrackerError as error:
            raise MlflowException(str(error)) from None

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 (MLflow passes it)
        model_input: pd.DataFrame,
        params: dict[str, object] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """Predict the column `sequence`; other columns are left alone.

        Returns:
            One row for each sequence, in their order: a column for each site, `<site>_sd` of each where the model is an
            ensemble, `most_likely`.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE, which is 400 over HTTP, naming the first sequence that is none.
        """
        try:
            return table.prediction_frame(self._predictor, list(model_input[table.INPUT]))
        except RNATrackerError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
