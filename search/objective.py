"""One trial: train its settings, report, prune it or measure it, and leave its run in the store.

Owns what a trial's value is, and how its run and its state in Optuna end. Must not know typer. Read next: `pruning.py`
for when a trial is pruned, `rnatracker/training/trainings.py` for the training.

A trial's value is the mean, over its folds, of the best validation objective that a fold has had. That is what pruning
looks at too, and it is all the search ever sees: the folds' own test parts are never predicted, in fold k the epoch is
chosen on the inner validation part of its training transcripts. Being the best of many epochs, and the study's best
the best of many trials, a value is optimistic. `refit.py` gives the figure to believe.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from optuna.trial import TrialState

from rnatracker import files
from rnatracker.errors import RNATrackerError, TrackingError
from rnatracker.processes.stop import StopSignal
from rnatracker.search import memory
from rnatracker.search.pruning import PruneReason, step_of
from rnatracker.search.sampling import REASON
from rnatracker.search.study import DEATHS, EPOCHS, FOLD_VALUES, RUN_ID, SECONDS, SEEN, Claim, Search
from rnatracker.search.trial_runs import drop_weights, name_of, trim_weights
from rnatracker.tracking import provenance
from rnatracker.tracking.contract import SUMMARY_STEP, Status, TrackedRun, Tracker
from rnatracker.tracking.tags import Tag
from rnatracker.training.division import Training
from rnatracker.training.reporting import LogFile, Reporter
from rnatracker.training.request import PreparedRun
from rnatracker.training.session import dataset_of, describe_start, params_of, resource_error, tags_of
from rnatracker.training.trainer import EpochResult, Stopped
from rnatracker.training.trainings import Destination, Trained, into, train_all
from rnatracker.training.trial import TrialResult, value_of

KIND = "trial"

_SEEN_EVERY_SECONDS = 60.0

_log = logging.getLogger("rnatracker")


class _Pruned(Exception):  # noqa: N818 - not an error
    """The trial is pruned.

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


@dataclass(frozen=True)
class TrialContext:
    """What a worker needs for each of its trials.

    Attributes:
        search: the study.
        tracker: where runs are kept.
        parent: the study's run.
        prepared: transcripts, device and threads; its settings are the starting config, not the trial's.
        split_digest: what identifies the division of the transcripts.
        trainings: those of each trial.
        provenance: tags that say where the numbers come from.
        trimmed: trials whose weights are known to be gone.
    """

    search: Search
    tracker: Tracker
    parent: TrackedRun
    prepared: PreparedRun
    split_digest: str
    trainings: list[Training]
    provenance: dict[str, str] = field(default_factory=provenance.tags)
    trimmed: set[int] = field(default_factory=set)

    def prepared_for(self, claim: Claim) -> PreparedRun:
        """Return the same with a trial's settings."""
        return replace(self.prepared, request=replace(self.prepared.request, config=claim.config))


def run_trial(context: TrialContext, claim: Claim, reporter: Reporter, stop: StopSignal) -> None:
    """Run one trial to its end, whatever that is.

    Raises:
        Stopped: if it was asked to; the trial can be resumed.
        RNATrackerError: if something is wrong that isn't the settings' fault; the trial can be resumed then too.
    """
    prepared, run = context.prepared_for(claim), _open_run(context, claim)
    reports = _Reports(context.search, claim)
    end = _End(context, claim, run, reports)
    try:
        with LogFile(run.files.log, reporter) as log:
            describe_start(run, prepared, log)
            _check_memory(prepared)
            destination_of = into(run, log, lambda training: f"{run.name} {training.name}".rstrip())
            train_all(prepared, context.trainings, destination_of, stop, [reports])
    except _Pruned as pruned:
        end.pruned(pruned)
    except (Stopped, KeyboardInterrupt):
        end.put_back("stopped on request; the study resumes it")
        raise Stopped from None
    except (TrackingError, OSError) as error:
        end.put_back(f"interrupted: {error}")
        raise resource_error(error, claim.config, "give the same command again", run.folder) or error from None
    except (RNATrackerError, RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
        worded = resource_error(error, claim.config, "give the same command again", run.folder) or error
        end.failed(str(worded) if isinstance(worded, RNATrackerError) else f"{type(worded).__name__}: {worded}")
    else:
        end.complete()


def _open_run(context: TrialContext, claim: Claim) -> TrackedRun:
    """Return the trial's run, new or interrupted before."""
    earlier = _earlier_run(context, claim)
    if earlier is not None:
        earlier.reopen(even_finished=True)
        return earlier
    prepared = context.prepared_for(claim)
    own_tags = {Tag.STUDY: context.search.request.name, Tag.TRIAL: str(claim.number)}
    run = context.tracker.start(
        log_name=None,
        params=params_of(prepared),
        tags=tags_of(prepared, KIND, context.split_digest) | own_tags | context.provenance,
        dataset=dataset_of(prepared),
        parent=context.parent,
        name=name_of(claim.number),
    )
    claim.trial.set_user_attr(RUN_ID, run.id)
    files.write_text(run.files.config, claim.config.to_yaml())
    return run


def _earlier_run(context: TrialContext, claim: Claim) -> TrackedRun | None:
    run_id = claim.trial.user_attrs.get(RUN_ID)
    if run_id:
        return context.tracker.find(run_id)
    if claim.trial.user_attrs.get(DEATHS):  # killed after its run was made and before that was noted
        return context.parent.children().get(name_of(claim.number))
    return None


def _check_memory(prepared: PreparedRun) -> None:
    """Prune a trial that can't fit into memory before it starts."""
    transcripts = prepared.transcripts
    longest = int(transcripts.lengths.max())
    why = memory.why_not(prepared.config, len(transcripts.sites), longest, prepared.device)
    if why is not None:
        raise _Pruned(PruneReason.MEMORY, why)


class _Reports(TrialResult):
    """Reports a trial's epochs to Optuna, and prunes it where its pruner says so; keeps what it has come to.

    Of a trial that is resumed, the epochs before it are told again: these are counted, and nothing is asked before the
    last of them.

    Attributes:
        epochs: trained in all.
        seconds: what they took.
    """

    def __init__(self, search: Search, claim: Claim) -> None:
        super().__init__(claim.config.train.objective)
        self.epochs, self.seconds = 0, 0.0
        self._trial, self._all_epochs = claim.trial, claim.config.train.epochs
        self._reported = set(search.trial(claim.number).intermediate_values)
        self._last_seen = time.monotonic()

    def on_start(self, destination: Destination, history: Sequence[EpochResult]) -> None:
        """Count the epochs before an interruption."""
        for result in history:
            self.on_epoch(destination, result)

    def on_epoch(self, destination: Destination, result: EpochResult) -> None:
        """Count an epoch, and report it if it was evaluated."""
        self.epochs += 1
        self.seconds += result.epoch_seconds
        if result.scores:
            self._report(destination, result, result.epoch)

    def on_end(self, trained: Trained) -> None:
        """Let a fold that ran out of patience be compared as one that has come to its end."""
        last = trained.history[-1]
        if last.epoch < self._all_epochs:
            self._report(trained.destination, last, self._all_epochs)
        super().on_end(trained)

    def effort(self) -> dict[str, float]:
        """Return what the trial took, as metrics."""
        return {"time/trial_seconds": self.seconds, "time/epochs": float(self.epochs)}

    def _report(self, destination: Destination, result: EpochResult, epoch: int) -> None:
        fold = max(destination.training.fold, 1)
        step = step_of(fold, epoch, self._all_epochs)
        if step not in self._reported:
            self._trial.report(value_of(result, self.objective), step)
        if time.monotonic() - self._last_seen > _SEEN_EVERY_SECONDS:
            self._last_seen = time.monotonic()
            self._trial.set_user_attr(SEEN, time.time())
        if step >= max(self._reported, default=0) and self._trial.should_prune():
            raise _Pruned(PruneReason.VALUE, fold=fold, epoch=result.epoch)


class _End:
    """Ends a trial, in Optuna and in its run.

    Args:
        context: what all trials share.
        claim: the trial.
        run: its run.
        reports: what it has come to.
    """

    def __init__(self, context: TrialContext, claim: Claim, run: TrackedRun, reports: _Reports) -> None:
        self._context, self._claim, self._run, self._reports = context, claim, run, reports
        self._study = context.search.study

    def complete(self) -> None:
        """Record its value."""
        run, reports = self._run, self._reports
        self._claim.trial.set_user_attr(FOLD_VALUES, reports.values)
        self._note()
        run.log_metrics(reports.summary() | reports.effort(), SUMMARY_STEP)
        run.flush()  # first: once Optuna knows the value nobody comes back to this run for its metrics
        self._study.tell(self._claim.trial, statistics.fmean(reports.values))
        for training in self._context.trainings:
            run.files.training(training.name).last.unlink(missing_ok=True)
        self._close("FINISHED")
        trim_weights(self._context.search, self._context.tracker, self._context.trimmed)

    def pruned(self, pruned: _Pruned) -> None:
        """Record where it was pruned, and what that saved."""
        reports, epochs = self._reports, self._claim.config.train.epochs
        saved = len(self._context.trainings) * epochs - reports.epochs
        seconds = saved * reports.seconds / max(reports.epochs, 1)
        where = f"fold {pruned.fold}, epoch {pruned.epoch} of {epochs}" if pruned.fold else "before its first epoch"
        self._note(f"{pruned.text} at {where}" if pruned.fold else pruned.text)
        self._run.log_metrics({"saved/epochs": saved, "saved/seconds": seconds} | reports.effort(), SUMMARY_STEP)
        self._run.set_tags(
            {
                Tag.PRUNED: pruned.text,
                Tag.PRUNED_FOLD: str(pruned.fold),
                Tag.PRUNED_EPOCH: str(pruned.epoch),
                Tag.PRUNED_SAVED_EPOCHS: str(saved),
                Tag.PRUNED_SAVED_SECONDS: f"{seconds:.0f}",
            }
        )
        self._run.flush()
        self._study.tell(self._claim.trial, state=TrialState.PRUNED)
        drop_weights(self._run)
        self._close("KILLED", f"pruned ({pruned.text}), {where}")

    def failed(self, reason: str) -> None:
        """Record why it failed."""
        self._note(reason)
        self._run.flush()
        self._study.tell(self._claim.trial, state=TrialState.FAIL)
        drop_weights(self._run)
        self._close("FAILED", reason)

    def put_back(self, message: str) -> None:
        """Let a trial be handed out again. Its run ends first: whoever gets the trial opens it anew."""
        self._close("KILLED", message)
        self._context.search.pause(self._claim)

    def _note(self, reason: str = "") -> None:
        trial = self._claim.trial
        trial.set_user_attr(EPOCHS, self._reports.epochs)
        trial.set_user_attr(SECONDS, round(self._reports.seconds, 3))
        if reason:
            trial.set_user_attr(REASON, reason)

    def _close(self, status: Status, message: str = "") -> None:
        """End a run. Optuna knows already how the trial has ended, and `tune` makes up for what is missing here."""
        try:
            self._run.finish(status, message)
        except TrackingError as error:
            _log.warning("%s could not be recorded as %s: %s", self._run.name, status, error)
