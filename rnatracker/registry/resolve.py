"""Any model by what a user calls it: an alias, a version, a run, a file of weights.

Owns what each form of a reference means.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rnatracker.errors import CheckpointError, RegistryError, TrackingError
from rnatracker.registry.registry import Registry
from rnatracker.registry.version import ALIASES, CHAMPION, NAME
from rnatracker.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from rnatracker.evaluation.models import Model


def resolve(reference: str, tracking: TrackingSettings, name: str = NAME) -> Model:
    """Return a model by what a user calls it.

    Args:
        reference: `champion`, `challenger` or `previous`; a version's number; `models:/NAME@ALIAS` or
            `models:/NAME/VERSION`; a run's id, name or folder; a file of weights. Where a file has the name of
            a run, `exp3` say, the run is meant.
        tracking: where runs and models are kept.
        name: the registered model that an alias or number is of.

    Raises:
        RegistryError: if there is no such version, or its files are gone.
        TrackingError: if there is no such run.
        CheckpointError: if its weights can't be loaded, or aren't what was registered.
    """
    from rnatracker.evaluation import models

    registered = _registered(reference, name)
    if registered is not None:
        registry = Registry(tracking, registered[0])
        which = registered[1]
        version = registry.version(int(which)) if which.isdigit() else registry.named(which)
        return registry.model(version)
    is_file = Path(reference).is_file()
    if is_file and not re.fullmatch(r"exp\d+(_.*)?|[0-9a-f]{6,32}", reference):
        return models.model_of_file(reference)
    no_file = CheckpointError(f"{reference}: no such file of weights", "give a file, a run, a version or champion")
    if not is_file and Path(reference).suffix in (".pt", ".npz"):
        raise no_file
    try:
        return models.model_of_run(reference, tracking)
    except TrackingError as error:
        if is_file:
            return models.model_of_file(reference)
        if reference.count("/") > 1 and not Path(reference).is_dir():
            raise no_file from None
        near = difflib.get_close_matches(reference.lower(), ALIASES, n=1, cutoff=0.75)
        if near:
            raise TrackingError(f"{error}", f"did you mean {near[0]}?") from None
        raise


def _registered(reference: str, name: str) -> tuple[str, str] | None:
    """Return the model's name and the alias or number that a reference means, or None for a run or file."""
    if reference.startswith("models:"):
        match = re.fullmatch(r"models:/+([^/@]+)(?:@([^/@]+)|/(\d+))", reference)
        if not match:
            raise RegistryError(
                f"{reference}: expected models:/NAME@ALIAS or models:/NAME/VERSION, as in models:/{name}@{CHAMPION}"
            )
        return match[1], match[2] or match[3]
    if reference in ALIASES or re.fullmatch(r"[1-9]\d{0,4}", reference):
        return name, reference
    return None
