"""The runs of a study's trials: how they end together with their trials, and which of them keep their weights.

Must not import torch or typer. Read next: `objective.py`, which makes them.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from optuna.trial import TrialState

from rnatracker import metrics
from rnatracker.errors import StudyError, TrackingError
from rnatracker.search.front.cost import cost_of
from rnatracker.search.pruning import PruneReason
from rnatracker.search.records import dashboard
from rnatracker.search.remote.patience import patiently
from rnatracker.search.sampling import REASON
from rnatracker.search.scheduling.courses import is_paused
from rnatracker.search.scheduling.fresh import FRESH
from rnatracker.search.storage import OPENING_SECONDS
from rnatracker.search.study import EPOCHS, FOLD_VALUES, RUN_ID, SCHEDULE, SECONDS, Claim, Lost, Search
from rnatracker.tracking.contract import SUMMARY_STEP, NoRunError, Status, TrackedRun, Tracker
from rnatracker.tracking.names import masked
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.store import ServerLostError
from rnatracker.tracking.tags import Tag

_log = logging.getLogger("rnatracker")

_ENDS: dict[TrialState, Status] = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.FAIL: "FAILED",
    TrialState.PRUNED: "KILLED",
}


def name_of(number: int) -> str:
    """Return the name of a trial's run."""
    return f"trial{number}"


class Pruned(Exception):  # noqa: N818 - not an error
    """A trial is pruned.

    Attributes:
        reason: why.
        text: the same for people.
        fold: the fold it has reached, 0 if it has not started.
        epoch: the epoch of that fold.
    """

    def __init__(self, reason: PruneReason, text: str = "", *, fold: int = 0, epoch: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.text = reason, text or reason.value
        self.fold, self.epoch = fold, epoch


class Paused(Exception):  # noqa: N818 - not an error
    """A trial is paused.

    Attributes:
        fold: the fold it has reached.
        epoch: the epoch of that fold.
        why: for people.
        text: all of this, for people.
    """

    def __init__(self, fold: int, epoch: int, why: str) -> None:
        self.text = f"fold {fold}, epoch {epoch}: {why}"
        super().__init__(self.text)
        self.fold, self.epoch, self.why = fold, epoch, why


T = TypeVar("T")


def opened_tracker(settings: TrackingSettings, *, limit: float | None = OPENING_SECONDS) -> Tracker:
    """Open the place where runs are kept; a server that is only being restarted is waited for.

    Args:
        settings: where it is.
        limit: seconds to wait; None: as the environment says.

    Raises:
        TrackingError: if it can't be reached or used.
        StudyError: if a server stays away.
    """
    place = masked(settings.tracking_uri or str(settings.store))
    return patiently(lambda: open_tracker(settings), is_lost, place, limit=limit)


def waiting_for_runs(ask: Callable[[], T], tracker: Tracker) -> T:
    """Return what is asked of the place where runs are kept, as soon as it is there: a server may be away for a while.

    Raises:
        StudyError: if it stays away.
        TrackingError: if something else is wrong.
    """
    return patiently(ask, is_lost, tracker.location)


def is_lost(error: BaseException) -> bool:
    """Tell whether a failure is that of a tracking server that doesn't answer."""
    return isinstance(error, ServerLostError)


@dataclass
class Effort:
    """What a trial has taken.

    Attributes:
        epochs: trained in all.
        seconds: how long they took.
        each: how long each took.
    """

    epochs: int = 0
    seconds: float = 0.0
    each: list[float] = field(default_factory=list)

    def add(self, seconds: float) -> None:
        """Count an epoch."""
        self.epochs += 1
        self.seconds += seconds
        self.each.append(seconds)

    def as_metrics(self) -> dict[str, float]:
        """Return it under the names by which it is tracked."""
        return {"time/trial_seconds": self.seconds, "time/epochs": float(self.epochs)}


class TrialEnd:
    """Ends a trial, in Optuna and in its run.

    Args:
        search: the study.
        claim: the trial.
        run: its run.
        tracker: where runs are kept.
        effort: what it has taken until it is ended.
    """

    def __init__(self, search: Search, claim: Claim, run: TrackedRun, tracker: Tracker, effort: Effort) -> None:
        self._search, self._claim, self._run, self._effort = search, claim, run, effort
        self._tracker = tracker

    def complete(self, values: list[float], figures: dict[str, float]) -> None:
        """Record its value, which is the mean of these but for those that are undefined (NaN), and its figures."""
        self._check_own()
        value = metrics.mean_of(values)
        self._claim.trial.set_user_attr(FOLD_VALUES, [each if math.isfinite(each) else None for each in values])
        self._note()
        self._run.log_metrics(figures | self._effort.as_metrics() | self._cost(), SUMMARY_STEP)
        self._run.flush()  # first: once Optuna knows the value nobody comes back to this run for its metrics
        self._search.tell(self._claim, value)
        for training in (self._run.files.training(), *self._run.files.trainings_of_folds()):
            training.last.unlink(missing_ok=True)
        if FRESH in self._claim.trial.user_attrs:  # its value is all that is wanted
            drop_weights(self._run)
        self._close("FINISHED")
        self._tell_dashboard()

    def pruned(self, pruned: Pruned) -> None:
        """Record where it was pruned, and what that saved."""
        self._check_own()
        effort, epochs = self._effort, self._claim.config.train.epochs
        saved = self._search.request.folds * epochs - effort.epochs
        seconds = saved * effort.seconds / max(effort.epochs, 1)
        where = f"fold {pruned.fold}, epoch {pruned.epoch} of {epochs}" if pruned.fold else "before its first epoch"
        self._note(f"{pruned.text} at {where}" if pruned.fold else pruned.text)
        self._run.log_metrics({"saved/epochs": saved, "saved/seconds": seconds} | effort.as_metrics(), SUMMARY_STEP)
        self._tag(
            {
                Tag.PRUNED: pruned.text,
                Tag.PRUNED_FOLD: str(pruned.fold),
                Tag.PRUNED_EPOCH: str(pruned.epoch),
                Tag.PRUNED_SAVED_EPOCHS: str(saved),
                Tag.PRUNED_SAVED_SECONDS: f"{seconds:.0f}",
            }
        )
        self._end_without_value(TrialState.PRUNED, "KILLED", f"pruned ({pruned.text}), {where}")

    def failed(self, reason: str) -> None:
        """Record why it failed."""
        self._check_own()
        self._note(reason)
        self._end_without_value(TrialState.FAIL, "FAILED", reason)

    def put_back(self, message: str) -> None:
        """Let a trial be handed out again. Its run ends first: whoever gets the trial opens it anew."""
        if self._is_given_away():
            return
        self._close("KILLED", message)
        self._search.put_back(self._claim)
        self._tell_dashboard()

    def paused(self, paused: Paused) -> None:
        """Let a trial wait until the scheduler resumes it. Its run ends first, as above."""
        self._check_own()
        self._note_effort()
        self._run.flush()
        self._tag({Tag.PAUSED: paused.text, Tag.SCHEDULE: "\n".join([*self._schedule(), f"paused: {paused.text}"])})
        self._close("KILLED", f"paused at {paused.text}")
        self._search.pause(self._claim, paused.text)
        self._tell_dashboard()

    def _is_given_away(self) -> bool:
        """Tell whether the trial is another worker's; of a study that can't be read it isn't known to be."""
        with suppress(StudyError, OSError):
            return not self._search.handed_out.is_own(self._claim.number)
        return False

    def _tag(self, tags: dict[str, str]) -> None:
        waiting_for_runs(lambda: self._run.set_tags(tags), self._tracker)

    def _check_own(self) -> None:
        """Check that the trial is still this worker's, before anything of it is ended.

        Raises:
            Lost: if it isn't.
        """
        if not self._search.handed_out.is_own(self._claim.number):
            raise Lost(self._claim.number)

    def _schedule(self) -> list[str]:
        return list(self._claim.trial.user_attrs.get(SCHEDULE, ()))

    def _note_effort(self) -> None:
        self._claim.trial.set_user_attr(EPOCHS, self._effort.epochs)
        self._claim.trial.set_user_attr(SECONDS, round(self._effort.seconds, 3))

    def _cost(self) -> dict[str, float]:
        """Return what the trial costs under the name by which it is tracked; empty where the study has no cost."""
        measure, cost = self._search.request.cost, cost_of(self._search.trial(self._claim.number))
        return {} if measure is None or cost is None else {f"cost/{measure}": cost}

    def _note(self, reason: str = "") -> None:
        self._note_effort()
        if reason:
            self._claim.trial.set_user_attr(REASON, reason)
        if self._schedule():
            self._tag({Tag.SCHEDULE: "\n".join(self._schedule())})

    def _end_without_value(self, state: TrialState, status: Status, message: str) -> None:
        self._run.flush()
        self._search.tell(self._claim, state=state)
        drop_weights(self._run)
        self._close(status, message)
        self._tell_dashboard()

    def _close(self, status: Status, message: str = "") -> None:
        """End the run. Optuna knows already how the trial has ended, and `match_runs` adds what is missing here."""
        try:
            waiting_for_runs(lambda: self._run.finish(status, message), self._tracker)
        except (TrackingError, StudyError) as error:
            _log.warning("%s could not be recorded as %s: %s", self._run.name, status, error)

    def _tell_dashboard(self) -> None:
        """Leave a note for optuna-dashboard; one that can't be written is nothing to end a worker for."""
        with suppress(OSError, TrackingError):
            name = f"{self._run.parent_name() or ''}/{self._run.name}".lstrip("/")
            dashboard.note_trial(self._search, self._claim.number, name)


def match_runs(search: Search, run: TrackedRun) -> None:
    """Let the runs of trials end as the trials did, where a process was killed before it could see to that.

    Args:
        search: the study.
        run: its run.
    """
    trials = {name_of(trial.number): trial for trial in search.all_trials()}
    for name, child in run.children().items():
        trial = trials.get(name)
        if trial is None:
            continue
        status, expected = child.status(), _ENDS.get(trial.state)
        if expected is None and status == "RUNNING":
            child.finish("KILLED", "its process was killed; the study resumes it")
        elif expected is not None and status != expected:
            child.finish(expected, trial.user_attrs.get(REASON, ""))
            if trial.state != TrialState.COMPLETE:
                drop_weights(child)


def drop_weights(run: TrackedRun) -> None:
    """Delete the weights of a trial's run.

    Raises:
        TrackingError: if they aren't this store's.
    """
    run.check_own()
    shutil.rmtree(run.files.checkpoints, ignore_errors=True)


def trim_weights(search: Search, tracker: Tracker, trimmed: set[int]) -> None:
    """Delete the weights of all completed trials but the best, where the study keeps only so many.

    Of a trial among the best now, a later one may push out: the worker that completes that one deletes them.

    Args:
        search: the study.
        tracker: where runs are kept.
        trimmed: trials whose weights are known to be gone; those that go now are added.
    """
    request = search.request
    if request.keep_weights is None:
        return
    completed = [t for t in search.trials() if t.state == TrialState.COMPLETE and t.user_attrs.get(RUN_ID)]
    completed.sort(key=lambda t: t.value or 0.0, reverse=request.maximize)
    for trial in completed[request.keep_weights :]:
        if trial.number not in trimmed:
            try:
                drop_weights(tracker.find(trial.user_attrs[RUN_ID]))
            except NoRunError:
                pass  # its run was deleted
            except TrackingError:
                continue  # the store can't be read now: the next trial's end tries again
            trimmed.add(trial.number)


def _runs_at_rest(search: Search) -> Iterator[TrackedRun]:
    """Yield the runs of all trials that have ended or are paused, but for those that were deleted."""
    tracker: Tracker | None = None
    for trial in search.all_trials():
        run_id = trial.user_attrs.get(RUN_ID)
        if run_id and (trial.state.is_finished() or is_paused(trial)):
            tracker = tracker or opened_tracker(search.request.tracking)
            with suppress(NoRunError):
                yield tracker.find(run_id)


def delete_weights(search: Search) -> tuple[int, int]:
    """Delete the weights of all trials; return of how many, and how many bytes that were.

    A paused trial that is resumed later then begins anew.

    Raises:
        StudyError: if some of its trials are running.
        TrackingError: if the store can't be read.
    """
    if search.running():
        raise StudyError(f"study {search.request.name}: some of its trials are running", "stop them, or wait for them")
    n_trials = size = 0
    for child in _runs_at_rest(search):
        folder = child.files.checkpoints
        if not folder.is_dir():
            continue
        size += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        n_trials += 1
        child.check_own()
        shutil.rmtree(folder)
    return n_trials, size
