"""A recorded run, run again from what was logged, and compared with the record.

Owns what a replay needs to find again, what it warns of, and whether figures agree. Must not know optuna or typer. Read
next: `agreement.py` for the figures, `rnatracker/training/trial.py` for a trial's trainings.

What must be the same is refused where it isn't: the transcripts and their division, by their digests, and the file of
weights that a run began from. What may change figures by a little, or at all, is warned of: versions, commit, device,
kernel, threads, machine. Seeds and settings are those recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rnatracker import config, files
from rnatracker.choices import Device
from rnatracker.config import Config
from rnatracker.data import fingerprints
from rnatracker.errors import CheckpointError, DataError, TrackingError
from rnatracker.lineage.others import check_same
from rnatracker.model.kernels.functions import kernel_in_use
from rnatracker.processes import identity
from rnatracker.processes.stop import StopSignal
from rnatracker.tracking import provenance
from rnatracker.tracking.contract import SUMMARY_STEP, TrackedRun
from rnatracker.tracking.hints import replay_command, resume_command, retrain_command
from rnatracker.tracking.open import open_tracker, settings_of_run
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from rnatracker.training import trial
from rnatracker.training.division import plan as plan_trainings
from rnatracker.training.division import split_digest
from rnatracker.training.fold_loop import Destination, Watcher, into, train_all
from rnatracker.training.parents import parent as parents
from rnatracker.training.reporting import LogFile, Reporter
from rnatracker.training.request import PreparedRun, RunRequest, prepare
from rnatracker.training.run import train
from rnatracker.training.session import describe_start, ending, start_run
from rnatracker.training.trainer import EpochResult

_COMPARED = {
    Tag.VERSION: "rnatracker",
    Tag.PYTHON: "Python",
    Tag.TORCH: "torch",
    Tag.NUMPY: "numpy",
    Tag.SCIPY: "scipy",
    Tag.PANDAS: "pandas",
    Tag.MLFLOW: "mlflow",
    Tag.COMMIT: "the git commit",
}


@dataclass(frozen=True)
class Plan:
    """A replay that can begin.

    Attributes:
        original: the recorded run.
        name: what to call it: a child's name stands behind its parent's.
        kind: `train`, `cross-validation` or `trial`.
        prepared: everything that the replay needs.
        warnings: what differs from the record and may change figures.
        until: where a pruned trial was stopped, fold and epoch; None: it is trained to its end.
    """

    original: TrackedRun
    name: str
    kind: str
    prepared: PreparedRun
    warnings: list[str]
    until: tuple[int, int] | None = None


class _ReachedError(Exception):
    """The replay has come to where the original was pruned."""


def plan(
    name: str, tracking: TrackingSettings, *, data: str | None = None, device: Device | None = None, jobs: int = 1
) -> Plan:
    """Find again all that a recorded run was made from.

    Args:
        name: the run.
        tracking: where it is kept, and the replay will be.
        data: where its data lie now, if not where they were.
        device: where to compute, if not as it was set.
        jobs: folds that are trained at a time.

    Raises:
        TrackingError: if there is no such run, or it can't be replayed.
        DataError: if the data can't be found, or are others.
        CheckpointError: if the weights it began from can't be found, or are others.
    """
    place = settings_of_run(name, tracking)
    run = open_tracker(place).find(name)
    tags, parent = run.tags(), run.parent_name()
    called = f"{parent}/{run.name}" if parent else run.name
    kind, until = _check_kind(run, called, tags, place)
    settings = _settings(run, called, data, device)
    request = RunRequest(
        settings,
        place,
        log_name=f"replay-of-{called.replace('/', '-')}"[:80],
        weights=_weights(called, tags),
        jobs=jobs,
        transfer=parents.recorded(called, tags, place),
    )
    recorded_threads = tags.get(Tag.THREADS, "")
    threads = int(recorded_threads) if recorded_threads.isdigit() else None
    prepared = _with_recorded_parent(prepare(request, threads=threads, recorded=tags), run)
    _check_same_data(prepared, called, kind, tags)
    return Plan(run, called, kind, prepared, differences(tags, prepared), until)


def _with_recorded_parent(prepared: PreparedRun, run: TrackedRun) -> PreparedRun:
    """Return the same with what the run has kept of what its parent had seen: that parent's data may be gone by now."""
    seen = fingerprints.load(run.files.seen_by_parent)
    if prepared.parent is None or seen is None:
        return prepared
    return replace(prepared, parent=replace(prepared.parent, seen=seen, unknown=""))


def _check_same_data(prepared: PreparedRun, called: str, kind: str, tags: Mapping[str, str]) -> None:
    """Check that the transcripts and their division are those recorded."""
    if prepared.transcripts.digest() != tags.get(Tag.DATA_DIGEST):
        raise DataError(
            f"{prepared.config.data.path}: not the transcripts of {called} (their digest is "
            f"{prepared.transcripts.digest()}, recorded is {tags.get(Tag.DATA_DIGEST, 'none')})",
            "give the original file with --data",
        )
    check_same(prepared.others, tags, called)
    split = tags.get(Tag.SPLIT_DIGEST)
    if kind != "trial" and split and split != split_digest(prepared):
        raise DataError(
            f"{called}: its transcripts would be divided otherwise than recorded, so its figures can't be had again",
            f"use the version of rnatracker that made it, {tags.get(Tag.VERSION, 'unknown')}",
        )


def _check_kind(
    run: TrackedRun, called: str, tags: Mapping[str, str], place: TrackingSettings
) -> tuple[str, tuple[int, int] | None]:
    """Return a run's kind, and where it was pruned; refuse what can't be replayed."""
    kind, status = tags.get(Tag.KIND, ""), run.status()
    if kind in ("fold", "study"):
        advice = f"its whole run {run.parent_name()}" if kind == "fold" else f"one of its trials, as {called}/trial0"
        raise TrackingError(f"run {called} is a {kind}, which is not replayed by itself", f"replay {advice}")
    if kind in ("baseline", "blend"):
        again = f"run it again with: {retrain_command(run, place)}"
        raise TrackingError(f"run {called} is a {kind}, which is not replayed", again)
    if kind not in ("train", "cross-validation", "trial"):
        raise TrackingError(f"run {called} ({kind or 'of another program'}) was not trained here", "train a new one")
    pruned = Tag.PRUNED in tags
    if status != "FINISHED" and not pruned:
        remedy = "wait for its end" if status == "RUNNING" else f"finish it with: {resume_command(run, place)}"
        if kind == "trial" and status != "RUNNING":
            remedy = "resume its study first, with its tune command"
        raise TrackingError(f"run {called} is {status}: it has no final figures to compare a replay with", remedy)
    if not pruned:
        return kind, None
    until = (int(tags.get(Tag.PRUNED_FOLD, "0")), int(tags.get(Tag.PRUNED_EPOCH, "0")))
    if not until[1]:
        raise TrackingError(f"run {called} was pruned before its first epoch: there is nothing to replay")
    return kind, until


def _settings(run: TrackedRun, called: str, data: str | None, device: Device | None) -> Config:
    path = run.files.config
    if not path.is_file():
        raise TrackingError(f"{path}: missing, so {called} can't be replayed", "train a new run")
    settings = config.build(config.read(path), path.name)
    if data is not None:
        settings = config.with_data(settings, data)
    if not Path(str(settings.data.path)).is_file():
        raise DataError(
            f"{settings.data.path}: there is no such file, and {called} was trained on it", "give it with --data"
        )
    if device is not None:
        settings = settings.model_copy(update={"train": settings.train.model_copy(update={"device": device})})
    return settings


def _weights(called: str, tags: Mapping[str, str]) -> str | None:
    """Return the file of weights that the run began from."""
    path = tags.get(Tag.WEIGHTS)
    if path is None:
        return None
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: {called} began from these weights, and they are gone", "put them back there")
    if tags.get(Tag.WEIGHTS_DIGEST, files.digest_of(Path(path))) != files.digest_of(Path(path)):
        raise CheckpointError(
            f"{path}: not the weights that {called} began from (their digest differs)", "put those back"
        )
    return path


def differences(tags: Mapping[str, str], prepared: PreparedRun) -> list[str]:
    """Return what differs from a record's tags and may change figures."""
    now = provenance.tags()
    differing = [
        f"{what} was {tags[key][:12]}, now {now.get(key, 'unknown')[:12]}"
        for key, what in _COMPARED.items()
        if key in tags and tags[key] != now.get(key)
    ]
    if tags.get(Tag.GIT_DIRTY) == "true":
        differing.append("the code had been changed since that commit, and how is not recorded")
    if now.get(Tag.GIT_DIRTY) == "true":
        differing.append("the code has been changed since the present commit")
    here = {
        Tag.DEVICE: str(prepared.device),
        Tag.KERNEL: kernel_in_use(prepared.config.model, prepared.device)[0],
        Tag.THREADS: str(prepared.threads),
        identity.HOST: identity.own_tags()[identity.HOST],
    }
    names = {identity.HOST: "the machine"}
    for key, value in here.items():
        if key in tags and tags[key] != value:
            differing.append(f"{names.get(key, key.removeprefix('rnatracker.'))} was {tags[key]}, now {value}")
    if Tag.WEIGHTS in tags and Tag.WEIGHTS_DIGEST not in tags:
        differing.append(f"the weights it began from, {tags[Tag.WEIGHTS]}, have no recorded digest")
    return differing


def replay(planned: Plan, reporter: Reporter) -> TrackedRun:
    """Run it again, in a new run that is tagged with what it replays.

    Raises:
        Interrupted: if it was stopped.
        RNATrackerError: if it can't be done.
    """
    prepared = planned.prepared

    def mark(run: TrackedRun) -> None:
        run.set_tags({Tag.REPLAYS: planned.original.id})

    if planned.kind == "trial":
        return _replay_trial(planned, reporter)
    outcome = train(prepared.request, reporter, started=mark, prepared=prepared)
    return open_tracker(prepared.request.tracking).find(outcome.run_id)


def _replay_trial(planned: Plan, reporter: Reporter) -> TrackedRun:
    prepared = planned.prepared
    result = trial.TrialResult(prepared.config.train.objective)
    with StopSignal() as stop:
        run = start_run(open_tracker(prepared.request.tracking), prepared, "trial", "", stop)
        run.set_tags({Tag.REPLAYS: planned.original.id})
        again = replay_command(planned.name, planned.original.folder, planned.prepared.request.tracking)
        with ending(run, prepared.request, stop, command=again), LogFile(run.files.log, reporter) as log:
            describe_start(run, prepared, log)
            try:
                train_all(prepared, plan_trainings(prepared), into(run, log), stop, [_Until(planned.until), result])
                run.log_metrics(result.summary(), SUMMARY_STEP)
            except _ReachedError:
                log.line(f"as far as {planned.name} was trained before it was pruned")
    return run


class _Until(Watcher):
    """Ends a trial's trainings where the original was pruned.

    Args:
        until: the fold, from 1 also where there is one training only, and the epoch; None: it wasn't.
    """

    def __init__(self, until: tuple[int, int] | None) -> None:
        self._until = until

    def on_epoch(self, destination: Destination, result: EpochResult) -> None:
        """Raise what ends them."""
        if self._until == (max(destination.training.fold, 1), result.epoch):
            raise _ReachedError
