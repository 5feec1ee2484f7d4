"""The model as MLflow loads it: sequences in a DataFrame to site fractions in another.

Owns nothing but that: MLflow copies this file into each registered model and runs it there ("models from code"), so
that nothing is ever unpickled. Must not know the registry. Read next: `rnatracker/registry/mlflow_model.py`, which
writes the rest of the model's folder; `rnatracker/prediction/table.py` for the columns.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from rnatracker.config import TrainConfig
from rnatracker.errors import RNATrackerError
from rnatracker.model.device import pick_device
from rnatracker.prediction import table
from rnatracker.prediction.predictor import Predictor
from rnatracker.registry import mlflow_model


class ServedModel(PythonModel):
    """One network or an ensemble, loaded only if each file of weights has its recorded checksum."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights.

        Raises:
            MlflowException: if they aren't those that were registered.
        """
        folder = Path(context.artifacts[mlflow_model.WEIGHTS])
        checksums = (context.model_config or {}).get(mlflow_model.CHECKSUMS, {})
        try:
            found = mlflow_model.load_weights(folder, checksums, "this model", "register its run again")
            self._predictor = Predictor(found, pick_device(TrainConfig()))
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
            return table.prediction_frame(self._predictor, list(model_input[mlflow_model.INPUT]))
        except RNATrackerError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


set_model(ServedModel())
