"""Old name of what `rnatracker/registry/served.py` took from `rnatracker.registry.mlflow_model`."""

from rnatracker.registry.mlflow_model import CHECKSUMS, INPUT, WEIGHTS, load_weights

__all__ = ["CHECKSUMS", "INPUT", "WEIGHTS", "load_weights"]
