"""A run's weights as a version of a registered model.

Owns what is recorded of a version. Must not know mlflow, nor what makes a champion. Read next: `mlflow_model.py` for
the files, `registry.py` for how it is kept.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from rnatracker import __version__
from rnatracker.data import fingerprints
from rnatracker.data.fingerprints import Fingerprints
from rnatracker.errors import CheckpointError, RegistryError
from rnatracker.escapes import markdown
from rnatracker.evaluation.models import Model
from rnatracker.evaluation.weights import WEIGHTS, write_weights
from rnatracker.files import digest_of
from rnatracker.prediction import intervals
from rnatracker.processes import scratch
from rnatracker.registry import mlflow_model
from rnatracker.registry.registry import Registry
from rnatracker.registry.version import Version
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.tags import Tag

_DIGESTS = {mlflow_model.RECORDS: Tag.RECORDS_DIGEST, mlflow_model.RESIDUALS: Tag.RESIDUALS_DIGEST}
_SUMMARY = re.compile(r"(best|oof|oof_unseen|mean|sd|single|ceiling)/\w+")


def register(registry: Registry, run: TrackedRun, model: Model, trained_on: Fingerprints | None) -> Version:
    """Register a run's weights, or return the version that they are already.

    Args:
        registry: where.
        run: the run.
        model: its models.
        trained_on: what they were trained on; None where that isn't known.

    Raises:
        TrackingError: if the registry or the disk can't be written.
    """
    with scratch.folder() as temporary:
        weights = temporary / WEIGHTS
        checksums = write_weights(weights, model.members, model.weights)
        known = _same(registry, run, checksums)
        if known is not None:
            return known
        beside = _beside(temporary, model, trained_on)
        sites = model.sites

        def build(model_id: str, folder: Path) -> None:
            mlflow_model.write_model(folder, weights, beside, sites, model_id=model_id, run_id=run.id)

        size = sum(path.stat().st_size for path in weights.iterdir())
        digests = {_DIGESTS[name]: digest_of(path) for name, path in beside.items()}
        tags = _tags(run, model, checksums, size) | digests
        return registry.register(run.id, build, tags, description(run, model))


def _beside(folder: Path, model: Model, trained_on: Fingerprints | None) -> dict[str, Path]:
    """Write what is kept beside the weights, as far as it is known; return the files by the artifact's name."""
    beside = {}
    if trained_on is not None:
        beside[mlflow_model.RECORDS] = folder / mlflow_model.RECORDS_FILE
        fingerprints.write(beside[mlflow_model.RECORDS], trained_on)
    residuals = model.find_residuals()
    if residuals is not None:
        beside[mlflow_model.RESIDUALS] = folder / mlflow_model.RESIDUALS_FILE
        intervals.write(beside[mlflow_model.RESIDUALS], residuals.ordered(model.sites))
    return beside


def _same(registry: Registry, run: TrackedRun, checksums: dict[str, str]) -> Version | None:
    """Return the version of these very weights, if its files are whole."""
    for version in registry.versions():
        if version.run_id == run.id and version.checksums == checksums:
            try:
                registry.model(version)
            except (RegistryError, CheckpointError):
                continue
            return version
    return None


def _tags(run: TrackedRun, model: Model, checksums: dict[str, str], size: int) -> dict[str, str]:
    tags = run.tags()
    return {
        Tag.CHECKSUMS: json.dumps(checksums),
        Tag.RUN_NAME: full_name(run),
        Tag.DATA_DIGEST: model.data_digest,
        Tag.SPLIT_DIGEST: tags.get(Tag.SPLIT_DIGEST, ""),
        Tag.SITES: json.dumps(list(model.sites)),
        Tag.METRICS: json.dumps({key: value for key, value in run.metrics().items() if _SUMMARY.match(key)}),
        Tag.DESCRIPTION: model.description,
        Tag.SIZE: str(size),
        Tag.KIND: tags.get(Tag.KIND, ""),
        Tag.VERSION: __version__,
    }


def full_name(run: TrackedRun) -> str:
    """Return a run's name, and its parent's where it has one: `exp4/trial3`."""
    parent = run.parent_name()
    return f"{parent}/{run.name}" if parent else run.name


def description(run: TrackedRun, model: Model) -> str:
    """Return what MLflow shows above a version, as Markdown: what it is, and its figures as the run had them."""
    figures = run.metrics()
    headings = {"best": "validation", "oof": "out-of-fold"}
    group = next((each for each in ("oof", "best") if f"{each}/pcc_mean" in figures), None)
    about = f"Run {full_name(run)}: {model.description}. Sites: {', '.join(model.sites)}."
    lines = [markdown(about)]
    if group:
        rows = [(name, figures.get(f"{group}/pcc_{name}")) for name in (*model.sites, "mean", "overall")]
        lines += ["", f"| site | {headings[group]} PCC |", "|---|---|"]
        lines += [f"| {markdown(name)} | {value:.3f} |" for name, value in rows if value is not None]
    return "\n".join(lines)
