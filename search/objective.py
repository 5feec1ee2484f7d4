"""One trial: train its settings, report, drop it or measure it, and leave its run in the store.

Owns what a trial's value is, and how its run and its state in Optuna end. Must not know typer. Read next: `pruning.py`
for when a trial is dropped, `rnatracker/training/session.py` for the training.

A trial's value is the mean, over its folds, of the best validation objective that a fold has had. That is what pruning
looks at too, and it is all the search ever sees: the folds' own test parts are never predicted, in fold k the epoch is
chosen on the inner validation part of its training transcripts. Being the best of many epochs, and the study's best
the best of many trials, a value is optimistic. `refit.py` gives the figure to believe.
"""

from __future__ import annotations

import logging
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from optuna.trial import TrialState

from rnatracker import files
from rnatracker.data.encoding import Indices
from rnatracker.errors import RNATrackerError, TrackingError
from rnatracker.model.kernels.functions import kernel_in_use
from rnatracker.processes.stop import StopSignal
from rnatracker.search import memory, weights
from rnatracker.search.pruning import step_of
from rnatracker.search.sampling import REASON
from rnatracker.search.study import DEATHS, EPOCHS, FOLD_VALUES, RUN_ID, SECONDS, SEEN, Claim, Search
from rnatracker.tracking import provenance
from rnatracker.tracking.contract import SUMMARY_STEP, DatasetInput, Status, TrackedRun, Tracker
from rnatracker.tracking.tags import Tag
from rnatracker.training.reporting import LogFile, Reporter
from rnatracker.training.request import PreparedRun
from rnatracker.training.session import describe_start, fit, resource_error
from rnatracker.training.trainer import EpochResult, Stopped
from rnatracker.training.trial import TrialResult, value_of

KIND = "trial"

_SEEN_EVERY_SECONDS = 60.0

_log = logging.getLogger("rnatracker")


class _Dropped(Exception):  # noqa: N818 - not an error
    """The trial is pruned.

    Attributes:
        fold: the fold it has reached, 0 if it has not started.
        epoch: the epoch of that fold.
    """

    def __init__(self, why: str, fold: int = 0, epoch: int = 0) -> None:
        super().__init__(why)
        self.fold, self.epoch = fold, epoch


@dataclass(frozen=True)
class Bench:
    """What a worker needs for each of its trials.

    Attributes:
        search: the study.
        tracker: where runs are kept.
        parent: the study's run.
        prepared: transcripts, device and threads; its settings are those in use, not the trial's.
        split_digest: what identifies the division of the transcripts.
        parts: for each training of a trial its name and its division into training and validation.
        provenance: tags that say where the numbers come from.
        trimmed: trials whose weights are known to be gone.
    """

    search: Search
    tracker: Tracker
    parent: TrackedRun
    prepared: PreparedRun
    split_digest: str
    parts: list[tuple[str, tuple[Indices, Indices]]]
    provenance: dict[str, str] = field(default_factory=provenance.tags)
    trimmed: set[int] = field(default_factory=set)


@dataclass
class _Course(TrialResult):
    """How far a trial has come.

    Attributes:
        epochs: trained in all.
        seconds: what they took.
    """

    epochs: int = 0
    seconds: float = 0.0


def run_trial(bench: Bench, claim: Claim, reporter: Reporter, stop: StopSignal) -> None:
    """Run one trial to its end, whatever that is.

    Raises:
        Stopped: if it was asked to; the trial can go on.
        RNATrackerError: if something is wrong that isn't the settings' fault; the trial can go on then too.
    """
    course = _Course()
    run = _open_run(bench, claim)
    try:
        with LogFile(run.folder / "log.txt", reporter) as log:
            _train(bench, claim, run, course, log, stop)
    except _Dropped as dropped:
        _end_pruned(bench, claim, run, course, dropped)
    except (Stopped, KeyboardInterrupt):
        _put_back(bench, claim, run, "stopped on request; the study goes on with it")
        raise Stopped from None
    except (TrackingError, OSError) as error:
        _put_back(bench, claim, run, f"interrupted: {error}")
        raise resource_error(error, claim.config, "the same command", run.folder) or error from None
    except (RNATrackerError, RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
        worded = resource_error(error, claim.config, "the same command", run.folder) or error
        reason = str(worded) if isinstance(worded, RNATrackerError) else f"{type(worded).__name__}: {worded}"
        _end_failed(bench, claim, run, course, reason)
    else:
        _end_complete(bench, claim, run, course)


def _open_run(bench: Bench, claim: Claim) -> TrackedRun:
    """Return the trial's run, new or interrupted before."""
    found = _earlier_run(bench, claim)
    if found is not None:
        found.reopen(even_finished=True)
        return found
    prepared, request = bench.prepared, bench.search.request
    path = Path(str(request.config.data.path))
    tags = {
        Tag.KIND: KIND,
        Tag.STUDY: request.name,
        Tag.TRIAL: str(claim.number),
        Tag.DATA_DIGEST: prepared.transcripts.digest(),
        Tag.SPLIT_DIGEST: bench.split_digest,
        Tag.SITES: ",".join(prepared.transcripts.sites),
        Tag.KERNEL: kernel_in_use(claim.config.model, prepared.device)[0],
        Tag.SEED: str(claim.config.train.seed),
        Tag.DEVICE: str(prepared.device),
        Tag.THREADS: str(prepared.threads),
        **bench.provenance,
    }
    run = bench.tracker.start(
        log_name=None,
        params=claim.config.flat() | {"data.sites": list(prepared.transcripts.sites)},
        tags=tags,
        dataset=DatasetInput(path.name, prepared.transcripts.digest(), str(path), len(prepared.transcripts)),
        parent=bench.parent,
        name=f"trial{claim.number}",
    )
    claim.trial.set_user_attr(RUN_ID, run.id)
    files.write_text(run.folder / "config.yaml", claim.config.to_yaml())
    return run


def _earlier_run(bench: Bench, claim: Claim) -> TrackedRun | None:
    run_id = claim.trial.user_attrs.get(RUN_ID)
    if run_id:
        return bench.tracker.find(run_id)
    if claim.trial.user_attrs.get(DEATHS):  # killed after its run was made and before that was noted
        return bench.parent.children().get(f"trial{claim.number}")
    return None


def _train(bench: Bench, claim: Claim, run: TrackedRun, course: _Course, log: LogFile, stop: StopSignal) -> None:
    """Train all parts, reporting each evaluated epoch; what came of it stands in `course`."""
    prepared = replace(bench.prepared, request=replace(bench.prepared.request, config=claim.config))
    describe_start(run, prepared, log)
    lengths = prepared.transcripts.lengths
    why = memory.why_not(claim.config, len(prepared.transcripts.sites), int(lengths.max()), prepared.device)
    if why is not None:
        raise _Dropped(why)
    for fold, (place, division) in enumerate(bench.parts, start=1):
        label = f"trial{claim.number}{' ' if place else ''}{place}"
        watcher = _Watcher(claim, course, fold)
        history, best = fit(run, prepared, division, log, label, stop, place=place, watch=watcher)
        watcher.end(history)
        course.add(run, place, history, best, claim.config.train.objective)
        if stop() and fold < len(bench.parts):
            raise Stopped


class _Watcher:
    """Reports a fold's epochs to Optuna, and drops the trial where its pruner says so.

    Of a trial that goes on after an interruption, the epochs before it are told again: these are counted, and nothing
    is asked before the last of them.
    """

    def __init__(self, claim: Claim, course: _Course, fold: int) -> None:
        self._trial, self._course, self._fold = claim.trial, course, fold
        self._settings = claim.config.train
        self._reported = set(self._trial.storage.get_trial(self._trial._trial_id).intermediate_values)
        self._heard = time.monotonic()

    def __call__(self, result: EpochResult) -> None:
        self._course.epochs += 1
        self._course.seconds += result.epoch_seconds
        if result.scores:
            self._report(result, result.epoch)

    def end(self, history: list[EpochResult]) -> None:
        """Let a fold that ran out of patience be compared as one that has come to its end."""
        if history[-1].epoch < self._settings.epochs:
            self._report(history[-1], self._settings.epochs)

    def _report(self, result: EpochResult, epoch: int) -> None:
        step = step_of(self._fold, epoch, self._settings.epochs)
        if step not in self._reported:
            self._trial.report(value_of(result, self._settings.objective), step)
        if time.monotonic() - self._heard > _SEEN_EVERY_SECONDS:
            self._heard = time.monotonic()
            self._trial.set_user_attr(SEEN, time.time())
        if step >= max(self._reported, default=0) and self._trial.should_prune():
            raise _Dropped("its validation value", self._fold, result.epoch)


def _note(claim: Claim, course: _Course, reason: str = "") -> None:
    claim.trial.set_user_attr(EPOCHS, course.epochs)
    claim.trial.set_user_attr(SECONDS, round(course.seconds, 3))
    if reason:
        claim.trial.set_user_attr(REASON, reason)


def _end_complete(bench: Bench, claim: Claim, run: TrackedRun, course: _Course) -> None:
    search, value = bench.search, statistics.fmean(course.values)
    claim.trial.set_user_attr(FOLD_VALUES, course.values)
    _note(claim, course)
    run.log_metrics(course.summary() | _effort(course), SUMMARY_STEP)
    run.flush()  # first: once Optuna knows the value nobody comes back to this run for its metrics
    search.study.tell(claim.trial, value)
    for last in (run.folder / "checkpoints").rglob("last.pt"):
        last.unlink()
    _close(run, "FINISHED")
    _trim_weights(bench)


def _end_pruned(bench: Bench, claim: Claim, run: TrackedRun, course: _Course, dropped: _Dropped) -> None:
    epochs = claim.config.train.epochs
    saved = len(bench.parts) * epochs - course.epochs
    seconds = saved * course.seconds / max(course.epochs, 1)
    where = f"fold {dropped.fold}, epoch {dropped.epoch} of {epochs}" if dropped.fold else "before its first epoch"
    _note(claim, course, str(dropped) if not dropped.fold else f"{dropped} at {where}")
    run.log_metrics({"saved/epochs": saved, "saved/seconds": seconds} | _effort(course), SUMMARY_STEP)
    run.set_tags(
        {
            Tag.PRUNED: str(dropped),
            Tag.PRUNED_FOLD: str(dropped.fold),
            Tag.PRUNED_EPOCH: str(dropped.epoch),
            Tag.PRUNED_SAVED_EPOCHS: str(saved),
            Tag.PRUNED_SAVED_SECONDS: f"{seconds:.0f}",
        }
    )
    run.flush()
    bench.search.study.tell(claim.trial, state=TrialState.PRUNED)
    weights.drop(run)
    _close(run, "KILLED", f"pruned ({dropped}), {where}")


def _end_failed(bench: Bench, claim: Claim, run: TrackedRun, course: _Course, reason: str) -> None:
    _note(claim, course, reason)
    run.flush()
    bench.search.study.tell(claim.trial, state=TrialState.FAIL)
    weights.drop(run)
    _close(run, "FAILED", reason)


def _put_back(bench: Bench, claim: Claim, run: TrackedRun, message: str) -> None:
    """Let a trial be handed out again. Its run ends first: whoever gets the trial opens it anew."""
    _close(run, "KILLED", message)
    bench.search.pause(claim)


def _effort(course: _Course) -> dict[str, float]:
    return {"time/trial_seconds": course.seconds, "time/epochs": float(course.epochs)}


def _close(run: TrackedRun, status: Status, message: str = "") -> None:
    """End a run. Optuna knows already how the trial has ended, and `tune` makes up for what is missing here."""
    try:
        run.finish(status, message)
    except TrackingError as error:
        _log.warning("%s could not be recorded as %s: %s", run.name, status, error)


def _trim_weights(bench: Bench) -> None:
    """Delete the weights of all completed trials but the best.

    Of a trial among the best now, a later one may push out: the worker that completes that one deletes them.
    """
    request = bench.search.request
    if request.keep_weights is None:
        return
    completed = [t for t in bench.search.trials() if t.state == TrialState.COMPLETE and t.user_attrs.get(RUN_ID)]
    completed.sort(key=lambda t: t.value or 0.0, reverse=request.maximize)
    for trial in completed[request.keep_weights :]:
        if trial.number not in bench.trimmed:
            with suppress(TrackingError):  # its run was deleted
                weights.drop(bench.tracker.find(trial.user_attrs[RUN_ID]))
            bench.trimmed.add(trial.number)
