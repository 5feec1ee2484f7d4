"""Old name of `rnatracker.registry.weights`, and of the column that goes in."""

from rnatracker.prediction.table import INPUT
from rnatracker.registry.weights import CHECKSUMS, WEIGHTS, load_weights

__all__ = ["CHECKSUMS", "INPUT", "WEIGHTS", "load_weights"]
