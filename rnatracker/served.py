"""The model as MLflow loads it: sequences in a DataFrame to site fractions in another.

Owns nothing but that: MLflow copies this file into each registered model and runs it there ("models from code"), so
that nothing is ever unpickled. Must not know the registry. Read next: `packaging.py`, which writes the rest of the
model's folder; `rnatracker/predicting.py` for the columns.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from rnatracker import packaging, predicting
from rnatracker.config import TrainConfig
from rnatracker.device import pick_device
from rnatracker.errors import RNATrackerError
from rnatracker.predictor import Predictor


class ServedModel(PythonModel):
    """One network or an ensemble, loaded only if each file of weights has its recorded checksum."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights.

        Raises:
            MlflowException: if they aren't those that were registered.
        """
        folder = Path(context.artifacts[packaging.WEIGHTS])
        checksums = (context.model_config or {}).get(packaging.CHECKSUMS, {})
        try:
            found = packaging.load_weights(folder, checksums, "this model", "register its run again")
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
            return predicting.prediction_frame(self._predictor, list(model_input[packaging.INPUT]))
        except RNATrackerError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


set_model(ServedModel())
