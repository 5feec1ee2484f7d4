"""One trial: train its settings, report its epochs, and prune it or measure it.

Owns what a trial's value is. Must not know typer. Read next: `pruning.py` for when a trial is pruned, `trial_runs.py`
for how it ends, `rnatracker/training/fold_loop.py` for the training.

A trial's value is the mean, over its folds, of the best validation objective that a fold has had; a fold in which the
objective is undefined, for all trials alike, is left out. That is what pruning
looks at too, and it is all the search ever sees: the folds' own test parts are never predicted, in fold k the epoch is
chosen on the inner validation part of its training transcripts. Being the best of many epochs, and the study's best
the best of many trials, a value is optimistic. `refit.py` gives the figure to believe.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace

import torch

from rnatracker import files
from rnatracker.errors import RNATrackerError, StudyError, TrackingError
from rnatracker.processes.stop import StopSignal
from rnatracker.search import memory
from rnatracker.search.faults.deaths import SEEN, UNREPORTED
from rnatracker.search.front.cost import COST, of_epochs
from rnatracker.search.front.size import n_parameters
from rnatracker.search.pruning import PruneReason, step_of
from rnatracker.search.remote import surroundings
from rnatracker.search.remote.heartbeat import Heartbeat
from rnatracker.search.scheduling.freeze_thaw import What
from rnatracker.search.scheduling.fresh import FRESH
from rnatracker.search.study import PLACE, RUN_BEGUN, RUN_ID, Claim, Lost, Search
from rnatracker.search.trial_runs import (
    Effort,
    Paused,
    Pruned,
    TrialEnd,
    name_of,
    trim_weights,
    waiting_for_runs,
)
from rnatracker.tracking import provenance
from rnatracker.tracking.contract import DeletedRunError, NoRunError, TrackedRun, Tracker
from rnatracker.tracking.tags import Tag
from rnatracker.training.division import Training, digest_of, plan
from rnatracker.training.fold_loop import Destination, Trained, into, train_all
from rnatracker.training.reporting import LogFile, Reporter
from rnatracker.training.request import PreparedRun
from rnatracker.training.session import dataset_of, describe_start, params_of, reason_of, resource_error, tags_of
from rnatracker.training.trainer import EpochResult, Stopped
from rnatracker.training.trial import TrialResult, is_defined

KIND = "trial"

_SEEN_EVERY_SECONDS = 60.0


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

    def trainings_of(self, claim: Claim) -> list[Training]:
        """Return a trial's trainings: of one with a fresh seed, in another division."""
        return plan(self.prepared_for(claim)) if FRESH in claim.trial.user_attrs else self.trainings


def run_trial(context: TrialContext, claim: Claim, reporter: Reporter, stop: StopSignal) -> None:
    """Run one trial to its end, whatever that is.

    Raises:
        Stopped: if it was asked to; the trial can be resumed.
        RNATrackerError: if something is wrong that isn't the settings' fault; the trial can be resumed then too.
    """
    run, prepared = _open_run(context, claim), context.prepared_for(claim)
    place = surroundings.place(_name_of(prepared.device), prepared.threads)
    moved = surroundings.moved(claim.trial.user_attrs.get(PLACE), place)
    if moved:
        context.search.explain(claim.trial, moved)
        claim = replace(claim, why="; ".join(filter(None, [claim.why, moved])))
    claim.trial.set_user_attr(PLACE, place)
    heartbeat = context.search.handed_out.heartbeat(claim.number)
    reports = _Reports(context.search, claim, heartbeat)
    end = TrialEnd(context.search, claim, run, context.tracker, reports.effort)
    with heartbeat or nullcontext(), suppress(Lost):
        _run_to_end(context, claim, run, prepared, reports, end, reporter, stop)


def _run_to_end(
    context: TrialContext,
    claim: Claim,
    run: TrackedRun,
    prepared: PreparedRun,
    reports: _Reports,
    end: TrialEnd,
    reporter: Reporter,
    stop: StopSignal,
) -> None:
    """Train and end a trial, whatever its end is.

    Raises:
        Lost: if it is another worker's by now; nothing of it is ended then.
        Stopped: if it was asked to.
        RNATrackerError: if something is wrong that isn't the settings' fault.
    """
    try:
        with LogFile(run.files.log, reporter) as log:
            if claim.why:
                log.line(f"{run.name}: resumed: {claim.why}")
            describe_start(run, prepared, log)
            if context.search.request.cost == "parameters":
                claim.trial.set_user_attr(COST, n_parameters(claim.config.model, len(prepared.transcripts.sites)))
            _check_memory(prepared)
            destination_of = into(run, log, lambda training: f"{run.name} {training.name}".rstrip())
            try:
                train_all(prepared, context.trainings_of(claim), destination_of, stop, [reports])
            except Paused as paused:
                log.line(f"{run.name}: paused: {paused}")
                raise
    except Pruned as pruned:
        end.pruned(pruned)
    except Paused as paused:
        end.paused(paused)
    except (Stopped, KeyboardInterrupt):
        end.put_back("stopped on request; the study resumes it")
        raise Stopped from None
    except (TrackingError, StudyError, OSError) as error:
        end.put_back(f"interrupted: {error}")
        raise resource_error(error, claim.config, "give the same command again", run.folder) or error from None
    except (RNATrackerError, RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
        end.failed(reason_of(resource_error(error, claim.config, "give the same command again", run.folder) or error))
    else:
        end.complete(reports.values, reports.summary())
        trim_weights(context.search, context.tracker, context.trimmed)


def _name_of(device: torch.device) -> str:
    """Return what a device is called: of a GPU its model."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _open_run(context: TrialContext, claim: Claim) -> TrackedRun:
    """Return the trial's run, new or interrupted before.

    Raises:
        TrackingError: if it can't be made or reopened; the trial is put back then.
        OSError: if its files can't be written; the same.
    """
    try:
        run = waiting_for_runs(lambda: _begun_run(context, claim), context.tracker)
        if claim.trial.user_attrs.get(RUN_ID) != run.id:
            claim.trial.set_user_attr(RUN_ID, run.id)
        if not run.files.config.exists():
            files.write_text(run.files.config, claim.config.to_yaml())
    except (TrackingError, StudyError, OSError):
        with suppress(
            OSError, StudyError
        ):  # what stopped it is the thing to tell, and the next command sees that it is dead
            context.search.put_back(claim)
        raise
    return run


def _begun_run(context: TrialContext, claim: Claim) -> TrackedRun:
    """Return the trial's run, RUNNING; may be done again, where a server was lost amid it."""
    run = _earlier_run(context, claim)
    if run is None:
        claim.trial.set_user_attr(RUN_BEGUN, True)
        return _new_run(context, claim)
    run.reopen(even_finished=True)
    if run.tags().get(Tag.PAUSED):
        run.set_tags({Tag.PAUSED: ""})
    return run


def _new_run(context: TrialContext, claim: Claim) -> TrackedRun:
    prepared = context.prepared_for(claim)
    own_tags = {Tag.STUDY: context.search.request.name, Tag.TRIAL: str(claim.number)}
    digest = context.split_digest
    if FRESH in claim.trial.user_attrs:
        digest = digest_of(context.trainings_of(claim), prepared.transcripts)
        number, round_ = claim.trial.user_attrs[FRESH]
        own_tags[Tag.FRESH] = f"trial {number}, round {round_}"
    return context.tracker.start(
        log_name=None,
        params=params_of(prepared),
        tags=tags_of(prepared, KIND, digest) | own_tags | context.provenance,
        dataset=dataset_of(prepared),
        parent=context.parent,
        name=name_of(claim.number),
    )


def _earlier_run(context: TrialContext, claim: Claim) -> TrackedRun | None:
    run_id = claim.trial.user_attrs.get(RUN_ID)
    if run_id:
        try:
            return context.tracker.find(run_id)
        except DeletedRunError:
            raise
        except NoRunError:
            pass  # deleted for good: it is trained anew, or has been begun anew already
    if claim.trial.user_attrs.get(RUN_BEGUN):  # interrupted after its run was made and before that was noted
        return context.parent.children().get(name_of(claim.number))
    return None


def _check_memory(prepared: PreparedRun) -> None:
    """Prune a trial that can't fit into memory before it starts."""
    transcripts = prepared.transcripts
    longest = int(transcripts.lengths.max())
    why = memory.why_not(prepared.config, len(transcripts.sites), longest, prepared.device)
    if why is not None:
        raise Pruned(PruneReason.MEMORY, why)


class _Reports(TrialResult):
    """Reports a trial's epochs to Optuna, and prunes it where its pruner says so; keeps what it has come to.

    Of a trial that is resumed, the epochs before it are told again: these are counted, and nothing is asked before the
    last of them.

    Attributes:
        effort: what it has taken.
    """

    def __init__(self, search: Search, claim: Claim, heartbeat: Heartbeat | None) -> None:
        super().__init__(claim.config.train.objective)
        self.effort = Effort()
        self._search, self._trial, self._all_epochs = search, claim.trial, claim.config.train.epochs
        self._until, self._folds = claim.until, search.request.folds
        self._reported = set(search.trial(claim.number).intermediate_values)
        self._last_seen, self._heartbeat = time.monotonic(), heartbeat

    def on_start(self, destination: Destination, history: Sequence[EpochResult]) -> None:
        """Count the epochs before an interruption."""
        for result in history:
            self.on_epoch(destination, result)

    def on_epoch(self, destination: Destination, result: EpochResult) -> None:
        """Count an epoch, and report it if it was evaluated.

        Raises:
            Lost: if the trial is another worker's.
        """
        if self._heartbeat is not None and self._heartbeat.is_lost:
            raise Lost(self._trial.number)
        self.effort.add(result.epoch_seconds)
        if result.scores and is_defined(result, self.objective):
            self._report(destination, result, result.epoch)
        elif self.effort.epochs > self._trial.user_attrs.get(UNREPORTED, 0):
            self._trial.set_user_attr(UNREPORTED, self.effort.epochs)  # so that it is known to have got further

    def on_end(self, trained: Trained) -> None:
        """Let a fold that ran out of patience be compared as one that has come to its end."""
        last = trained.networks[0].history[-1]
        super().on_end(trained)
        if last.epoch < self._all_epochs and math.isfinite(self.values[-1]):
            self._report(trained.destination, last, self._all_epochs)

    def _report(self, destination: Destination, result: EpochResult, epoch: int) -> None:
        fold = max(destination.training.fold, 1)
        step = step_of(fold, epoch, self._all_epochs)
        if step not in self._reported:
            self._note_cost()  # first: whoever compares reports compares costs too
            self._trial.report(result.best_value, step)
        if time.monotonic() - self._last_seen > _SEEN_EVERY_SECONDS:
            self._last_seen = time.monotonic()
            self._trial.set_user_attr(SEEN, time.time())
        if step >= max(self._reported, default=0) and self._trial.should_prune():
            raise Pruned(PruneReason.VALUE, fold=fold, epoch=result.epoch)
        if self._until and (fold, epoch) >= self._until and (fold, epoch) != (self._folds, self._all_epochs):
            self._look(fold, result.epoch)

    def _note_cost(self) -> None:
        """Note what its epochs have taken, where that is what trials cost; what else they cost is known before."""
        if self._search.request.cost == "seconds":
            self._trial.set_user_attr(COST, of_epochs(self.effort.each))

    def _look(self, fold: int, epoch: int) -> None:
        """Ask the scheduler whether the trial is to go on, and how far."""
        decision, why = self._search.look(self._trial.number)
        if decision.what != What.RESUME or decision.number != self._trial.number:
            raise Paused(fold, epoch, why)
        self._until = decision.fold, decision.epoch
