"""Old name of `rnatracker.prediction.predictor`."""

from rnatracker.prediction.predictor import Predictor

__all__ = ["Predictor"]
