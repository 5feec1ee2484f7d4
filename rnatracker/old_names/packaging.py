"""Old name of `rnatracker.evaluation.weights`, and of the column that goes in."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rnatracker.evaluation import weights
from rnatracker.evaluation.weights import CHECKSUMS, WEIGHTS, Member
from rnatracker.prediction.table import INPUT

__all__ = ["CHECKSUMS", "INPUT", "WEIGHTS", "load_weights"]


def load_weights(folder: Path, checksums: Mapping[str, str], what: str, remedy: str) -> Sequence[Member]:
    """Load models as `rnatracker.evaluation.weights.load_weights` does; there were no blends then."""
    return weights.load_weights(folder, checksums, what, remedy).models
