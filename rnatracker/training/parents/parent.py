"""A network whose trunk another one begins from.

Owns finding it by its run or its file, what it brings, and what a run records of it. The trunk is everything but the
last layer, `output`. Must not know what else a run is given. Read next: `unseen.py`, for what a parent has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rnatracker import files
from rnatracker.config import Config, Settings
from rnatracker.data.fingerprints import Fingerprints
from rnatracker.errors import CheckpointError, DataError, TrackingError
from rnatracker.lineage import training_data
from rnatracker.model import checkpoint
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.tracking.contract import TrackedRun, Tracker
from rnatracker.tracking.hints import finish_advice, retrain_command
from rnatracker.tracking.open import open_tracker, run_of_file, settings_of_run
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from rnatracker.training.steps.trunk import is_trunk

_OPTION = "--transfer"
_NO_NETWORK = ("baseline", "blend", "study")


@dataclass(frozen=True)
class Parent:
    """A network whose trunk is taken over.

    Attributes:
        path: its file of weights.
        digest: SHA-256 of the file.
        weights: what the file holds.
        run_id: the id of the run that it is of; empty where that isn't known.
        name: what to call it.
        seen: fingerprints of the transcripts that it has been trained or chosen on; None where they aren't known.
        unknown: why they aren't.
    """

    path: Path
    digest: str
    weights: Checkpoint
    run_id: str = ""
    name: str = ""
    seen: Fingerprints | None = None
    unknown: str = ""

    @property
    def said(self) -> str:
        """What is taken over, and what is known of it, in words."""
        taken = f"the trunk is that of {self.name}, epoch {self.weights.epoch}; the last layer begins anew"
        if self.seen is not None:
            return taken
        return (
            f"{taken}. What it was trained on is not known ({self.unknown}), so neither is which of these transcripts "
            "it has seen"
        )

    def start(self, settings: Config, sites: tuple[str, ...]) -> Checkpoint:
        """Return what a new network of these sites begins from: the trunk alone, before its first epoch.

        Raises:
            CheckpointError: if the settings ask for another trunk, naming the first that differs.
        """
        checkpoint.check_fits(self.weights, settings.model, settings.encoding, None, self.name, _OPTION)
        trunk = {name: tensor for name, tensor in self.weights.weights.items() if is_trunk(name)}
        return replace(self.weights, sites=sites, weights=trunk, epoch=0, optimizer=None, progress=None, metrics={})

    def tags(self) -> dict[str, str]:
        """Return the tags by which a run remembers it."""
        of_run = {Tag.TRANSFER_RUN: self.run_id} if self.run_id else {}
        return {Tag.TRANSFER: str(self.path), Tag.TRANSFER_DIGEST: self.digest, **of_run}


def settings_of(named: str, tracking: TrackingSettings) -> Settings:
    """Return the settings that a parent brings: its network's sizes, and how it sees sequences.

    Args:
        named: a run, or a file of weights, as a user calls it.
        tracking: where runs are kept.

    Raises:
        CheckpointError: if it is no single network, or can't be loaded.
        TrackingError: if there is no such run.
    """
    found = checkpoint.load(_locate(named, tracking)[0])
    return {"model": found.model.model_dump(mode="json"), "encoding": found.encoding.model_dump(mode="json")}


def find(named: str, tracking: TrackingSettings) -> Parent:
    """Find a parent, and what it has seen, as `settings_of` does.

    Raises:
        CheckpointError: if it is no single network, or can't be loaded.
        TrackingError: if there is no such run.
    """
    path, run, tracker = _locate(named, tracking)
    weights, digest = checkpoint.load(path), files.digest_of(path)
    if run is None:
        reason = "no run is known that these weights are of"
        return Parent(path, digest, weights, name=path.name, unknown=reason)
    name = _full_name(run) + _which(run, path)
    found = Parent(path, digest, weights, run.id, name)
    try:
        return replace(found, seen=training_data.of_run(run, tracker))
    except training_data.UnknownTrainingDataError as error:
        return replace(found, unknown=error.reason)
    except DataError as error:
        return replace(found, unknown=error.problem)


def recorded(called: str, tags: Mapping[str, str], tracking: TrackingSettings) -> str | None:
    """Return where the parent is that a run has recorded, as `find` takes it; None if it has none.

    Args:
        called: the run's name.
        tags: its tags.
        tracking: where runs are kept.

    Raises:
        CheckpointError: if the parent is gone, or is not what it was.
    """
    if Tag.TRANSFER not in tags:
        return None
    path = Path(tags[Tag.TRANSFER])
    named = str(path)
    if not path.is_file() and Tag.TRANSFER_RUN in tags:
        named = tags[Tag.TRANSFER_RUN]
        try:
            path = _locate(named, tracking)[0]
        except (TrackingError, CheckpointError):
            named = str(path)
    if not path.is_file():
        raise CheckpointError(
            f"{path}: {called} began from the trunk of these weights, and they are gone", "put them back there"
        )
    if files.digest_of(path) != tags.get(Tag.TRANSFER_DIGEST):
        raise CheckpointError(
            f"{path}: not the weights whose trunk {called} began from (their digest differs)", "put those back"
        )
    return named


def _locate(named: str, tracking: TrackingSettings) -> tuple[Path, TrackedRun | None, Tracker]:
    """Return a parent's file of weights, the run that it is of, if that is known, and where that is kept."""
    path = Path(named).expanduser()
    if path.is_file():
        path, tracker = path.resolve(), open_tracker(tracking)
        return path, run_of_file(path, tracker), tracker
    if path.suffix == ".pt":  # no run is called so
        raise CheckpointError(f"{_OPTION} {path}: no such file of weights", "check the path")
    tracker = open_tracker(settings_of_run(named, tracking))
    run = tracker.find(named)
    _check_single(run, tracking)
    best = _best_of(run)
    if best is None:
        again = f"train them again with: {retrain_command(run, tracking)}"
        raise CheckpointError(f"run {_full_name(run)}: no weights in {run.files.checkpoints}", again)
    return best, run, tracker


def _check_single(run: TrackedRun, tracking: TrackingSettings) -> None:
    """Check that a run has one network, and that it changes no more.

    Raises:
        CheckpointError: if not.
    """
    kind, called = run.tags().get(Tag.KIND, ""), _full_name(run)
    if kind in _NO_NETWORK:
        remedy = "name a run of a single training, or a fold of one, as exp3/fold1"
        raise CheckpointError(f"{_OPTION} {called}: a {kind} has no network of its own", remedy)
    if kind == "cross-validation":
        first = next(iter(sorted(run.children())), "fold1")
        raise CheckpointError(
            f"{_OPTION} {called}: a cross-validation has a network for each fold",
            f"name one of them: {_OPTION} {called}/{first}",
        )
    several = sorted(run.files.checkpoints.glob("*/best.pt"))
    if several and _best_of(run) is None:
        raise CheckpointError(
            f"{_OPTION} {called}: the run has {len(several)} networks", f"give one's file: {_OPTION} {several[0]}"
        )
    if run.status() == "RUNNING":
        raise CheckpointError(f"{_OPTION} {called}: it has not ended", finish_advice(run, tracking))


def _best_of(run: TrackedRun) -> Path | None:
    """Return a run's best weights; an imported run has numbered files only, of which the last is taken."""
    found = run.files.training()
    if found.best.is_file():
        return found.best.resolve()
    numbered = found.numbered()
    return numbered[max(numbered)].resolve() if numbered else None


def _which(run: TrackedRun, path: Path) -> str:
    """Return which of a run's weights a file has, to be said behind its name; nothing for its only network's best."""
    if path != _best_of(run):
        folder = run.files.checkpoints.resolve()
        return f"'s {path.relative_to(folder) if path.is_relative_to(folder) else path.name}"
    return "'s first network" if run.files.training().networks(2)[1].folder.is_dir() else ""


def _full_name(run: TrackedRun) -> str:
    above = run.parent_name()
    return f"{above}/{run.name}" if above else run.name
