"""Old name of `rnatracker.prediction.table`."""

from rnatracker.prediction.table import prediction_frame

__all__ = ["prediction_frame"]
