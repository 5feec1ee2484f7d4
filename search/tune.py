"""Run a study with worker processes, from its beginning or from where it is.

Owns the study's run, the workers, and how the command ends. Must not know torch, which only workers need, nor typer.
Read next: `worker.py`, and `summary.py` for what is left in the study's run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from rnatracker import files, metrics
from rnatracker.data import shared
from rnatracker.data.readers import read_for
from rnatracker.data.similarity import grouped
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import StudyError, UsageError
from rnatracker.processes import identity, scratch
from rnatracker.processes.pool import Pool
from rnatracker.processes.stop import StopSignal
from rnatracker.processes.worker import Ending, How
from rnatracker.search import summary
from rnatracker.search.definition import check_name, find_search, open_search, warm_start
from rnatracker.search.faults import lost_runs
from rnatracker.search.records import leave, options
from rnatracker.search.remote import surroundings
from rnatracker.search.remote import transcripts as remote_transcripts
from rnatracker.search.study import CAUTIONS, RUN_BEGUN, RUN_ID, WORKER, Counts, Search, StudyRequest, WorkerTask
from rnatracker.search.trial_runs import match_runs, opened_tracker, waiting_for_runs
from rnatracker.tracking import provenance, ui_views
from rnatracker.tracking.contract import DatasetInput, DeletedRunError, NoRunError, Status, TrackedRun, Tracker
from rnatracker.tracking.tags import Tag
from rnatracker.training.division import divide, said_of_folds
from rnatracker.training.steps import trunk

KIND = "study"

Watch = Callable[[Search, float | None], None]
"""Told twice a second how the study goes, and how many seconds are left, where there is a limit."""

_TICK_SECONDS = 0.5
_ORPHANS_SECONDS = 60.0
"""How long to wait for workers whose command was killed; a trial of one that takes longer is left to it."""
_SPARE_STARTS = 20
"""Workers that may be started in place of ones that have died."""


class StopReason(StrEnum):
    """Why a study's command ended before it had as many trials as asked for."""

    REQUEST = "stopped on request"
    TIME = "its time is over"
    USED_UP = "its space is used up"
    ERROR = "an error"
    OTHERS = "others still work on it"
    LEFT = "its jobs go on"


@dataclass(frozen=True)
class TuneOutcome:
    """How the command ended.

    Attributes:
        search: the study.
        run: its run.
        counts: its trials.
        state: FINISHED; FAILED if all trials are over and none has a value; KILLED if it was stopped or timed out;
            RUNNING if others still work on it.
        reason: why it has fewer trials than asked for; None: it has as many.
    """

    search: Search
    run: TrackedRun
    counts: Counts
    state: str
    reason: StopReason | None = None


class Workers(Protocol):
    """Those who work on a study for a command: its own processes, or jobs of a cluster."""

    @property
    def pids(self) -> frozenset[int]:
        """The processes of this command among them."""

    def run(self, search: Search, stop: StopSignal, watch: Watch) -> StopReason | None:
        """Let them work until there are no more trials, or it is time to stop; return why it stopped.

        Raises:
            StudyError: if something is wrong.
        """


Launch = Callable[[Search, WorkerTask, Callable[[str], None]], Workers]
"""Makes workers of a study, from what each is given and what is told lines for people."""


def tune(
    request: StudyRequest,
    say: Callable[[str], None],
    watch: Watch,
    *,
    retry_failed: bool = False,
    launch: Launch | None = None,
) -> TuneOutcome:
    """Run, resume or join a study.

    Args:
        request: what is searched.
        say: told lines for people.
        watch: told how it goes.
        retry_failed: whether the settings of failed trials are tried again.
        launch: makes its workers; None: they are processes of this command.

    Raises:
        RNATrackerError: if it can't be done.
    """
    check_name(request.name)
    check_scheduler(request)
    check_beginning(request)
    tracker = opened_tracker(request.tracking)
    transcripts = waiting_for_runs(lambda: transcripts_of(request, tracker), tracker)
    cautions = check_objective(request, transcripts)
    digest = transcripts.digest()
    search = open_search(request, digest)
    search.study.set_user_attr(CAUTIONS, cautions)
    options.keep(search)
    _wait_for_orphans(search, say)
    before = search.study.user_attrs.get(RUN_ID)
    run = waiting_for_runs(lambda: own_run(search, tracker, transcripts), tracker)
    waiting_for_runs(lambda: remote_transcripts.keep(search, run, tracker, transcripts), tracker)
    if before not in (None, run.id):
        say(f"study {request.name}: its run {before} is gone for good, so a new one is begun: {run.name}")
    retried = _said_of_retries(search.retry_failed()) if retry_failed else []
    for line in [*transcripts.notes, *retried, *_greeting(search), *cautions, *warm_start(search, request.warm_start)]:
        say(line)
    with StopSignal() as stop, stop.polite(), scratch.folder() as folder:
        ends_at = None if request.timeout is None else time.time() + request.timeout
        task = WorkerTask(request, run.id, folder, digest, _threads(request), ends_at)
        workers = _Processes(task, say) if launch is None else launch(search, task, say)
        try:
            shared.dump(transcripts, folder)
            reason = workers.run(search, stop, watch)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):  # the second: workers were ended without saving
                search.put_back_those_of(workers.pids)
            _end_by(error, search, run)
            raise
        if reason is StopReason.LEFT:
            hand_over(search, run)
            return TuneOutcome(search, run, search.counts(), "RUNNING", reason)
        if reason is None and (enough := search.enough()):
            say(f"study {request.name} ends: {enough}")
        if reason is StopReason.USED_UP:
            say(f"the space {request.space.name} is used up: no settings are left that were not tried; widen it")
        return _finish(search, run, tracker, reason)


def _wait_for_orphans(search: Search, say: Callable[[str], None]) -> None:
    """Wait for workers whose command was killed: each puts its trial back and ends once it notices."""
    orphans = search.handed_out.orphans()
    if orphans:
        say(f"waiting for {len(orphans)} of a killed command's workers to save their trials and end")
        identity.wait_until_gone(orphans, _ORPHANS_SECONDS)


class _Processes:
    """Workers that are processes of this command.

    In place of one that was killed another is started, which takes its trial over.
    """

    def __init__(self, task: WorkerTask, say: Callable[[str], None]) -> None:
        self._task, self._say = task, say
        self._pool = Pool(
            "rnatracker.search.worker:work",
            task.request.jobs,
            on_message=lambda _name, _message: None,
            on_end=self._take_end,
            tick_seconds=_TICK_SECONDS,
        )
        self._reason: StopReason | None = None
        self._is_used_up = False
        self._errors: list[StudyError] = []
        self._spare = _SPARE_STARTS

    def run(self, search: Search, stop: StopSignal, watch: Watch) -> StopReason | None:
        """Run workers until there are no more trials, or it is time to stop; return why it stopped.

        Raises:
            StudyError: if a worker says that something is wrong.
        """
        timeout, begun = search.request.timeout, time.monotonic()

        def left() -> float | None:
            return None if timeout is None else timeout - (time.monotonic() - begun)

        def should_stop() -> bool:
            self._reason = self._reason or self._reason_to_stop(stop(), left())
            return self._reason is not None

        for number in range(self._task.request.jobs):
            self._pool.add(f"worker {number}", self._task)
        self._pool.run(should_stop, lambda: watch(search, left()))
        if self._errors:
            raise self._errors[0]
        return self._reason or (StopReason.USED_UP if self._is_used_up else None)

    @property
    def pids(self) -> frozenset[int]:
        """The processes of all workers that this command has had."""
        return self._pool.pids

    def _reason_to_stop(self, was_asked: bool, left: float | None) -> StopReason | None:
        if was_asked:
            return StopReason.REQUEST
        if self._errors:
            return StopReason.ERROR
        return StopReason.TIME if left is not None and left <= 0 else None

    def _take_end(self, name: str, ending: Ending) -> None:
        if ending.how is How.FAILED:
            self._errors.append(StudyError(ending.message, ending.remedy))
        elif ending.how is How.DONE and ending.result is StopReason.USED_UP:
            self._is_used_up = True
        elif ending.how is How.DIED and self._reason is None:
            if not self._spare:
                remedy = "see whether memory runs out, or use fewer --jobs"
                self._errors.append(StudyError(f"{_SPARE_STARTS} workers have died", remedy))
                return
            self._spare -= 1
            self._say(f"a worker died ({ending.message}); another takes over its trial")
            self._pool.add(name, self._task)


def check_scheduler(request: StudyRequest) -> None:
    """Check that a scheduler has what it needs, and that the sampler can follow the objectives.

    Raises:
        ConfigError: if it needs more folds, or can't.
    """
    if request.scheduler == "wilcoxon" and request.folds < 5:
        raise UsageError(
            f"--scheduler wilcoxon: its test can't tell anything before the 4th fold, and there are {request.folds}",
            "use --fold 5 or more, or --scheduler freeze-thaw",
        )
    if request.cost is not None and request.sampler == "cmaes":
        raise UsageError(
            f"--sampler cmaes: follows one objective, and this study has two ({request.config.train.objective}, "
            f"{request.cost})",
            "use --sampler tpe or gp",
        )


def check_beginning(request: StudyRequest) -> None:
    """Check that trials begin from random weights and are trained on one data set.

    Raises:
        ConfigError: if they shouldn't.
    """
    trunk.check_together(request.config.train)
    if request.config.data.also:
        raise UsageError(
            f"data.also: {request.config.data.also[0]}: a study's trials are trained on one data set",
            "leave it out, and train the settings that it finds with: rnatracker train --also FILE",
        )


def transcripts_of(request: StudyRequest, tracker: Tracker) -> Transcripts:
    """Return the study's transcripts: from their file, or where that isn't on this host from the study's run.

    Raises:
        RNATrackerError: if they can't be read.
    """
    if not remote_transcripts.is_here(request.config.data.path):
        search = find_search(request.name, request.storage, request.tracking)
        if search is not None and search.study.user_attrs.get(remote_transcripts.KEPT):
            return remote_transcripts.fetch(search, tracker)
    return read_transcripts(request)


def read_transcripts(request: StudyRequest) -> Transcripts:
    """Return the study's transcripts.

    Raises:
        ConfigError: if no file is named.
        DataError: if it can't be read.
    """
    data = request.config.data
    if data.path is None:
        raise UsageError(
            "data.path: no data to train on", "give a file with --data, or make one with: rnatracker data simulate FILE"
        )
    return grouped(read_for(data, data.path), data)


def check_objective(request: StudyRequest, transcripts: Transcripts) -> list[str]:
    """Check that trials can be compared by the objective; return what a reader of its values should know.

    Whether a PCC is defined depends on the validation transcripts alone, which are the same for all trials.

    Raises:
        StudyError: if it is undefined in every training of a trial.
    """
    objective, measured = request.config.train.objective, transcripts.measured()
    trainings = divide(transcripts, request.config.data)
    defined = [metrics.is_defined(objective, measured[each.validation]) for each in trainings]
    if not any(defined):
        n = len(trainings[0].validation)
        raise StudyError(
            f"{transcripts.source}: {objective} is undefined, so trials can't be compared by it: no site's measured "
            f"fraction varies among the validation transcripts ({n} of {len(transcripts)})",
            "compare them by the loss with --objective val_loss, or give more transcripts",
        )
    found = [
        (each.name, text)
        for each in trainings
        for text in metrics.cautions(measured[each.validation], transcripts.sites, "validation transcript")
    ]
    left_out = f"{objective} is undefined, and left out of each trial's value"
    found += [(each.name, left_out) for each, is_there in zip(trainings, defined, strict=True) if not is_there]
    return said_of_folds(found)


def _threads(request: StudyRequest) -> int:
    """Return each worker's share of the processor's cores, or what the settings say."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return request.config.train.threads or max(available // request.jobs, 1)


def _greeting(search: Search) -> list[str]:
    request, counts = search.request, search.counts()
    lines = [each for each in [surroundings.other_versions(search.study)] if each]
    if counts.over:
        lines.append(f"study {request.name} resumes: {counts.over} of {request.trials} trials are over")
    if request.config.train.seeds > 1:
        lines.append(f"trials train one network each; train.seeds {request.config.train.seeds} is for --refit")
    _, outside = request.space.params_of(request.config.flat())
    lines += [
        f"{key}: the starting config has a value outside of the space {request.space.name}; only the first trial has it"
        for key in outside
    ]
    return lines


def _said_of_retries(again: Mapping[int, int]) -> list[str]:
    if not again:
        return ["no failed trial could be tried again"]
    return [f"trial {failed} failed; it is tried again as trial {new}" for failed, new in again.items()]


def own_run(search: Search, tracker: Tracker, transcripts: Transcripts) -> TrackedRun:
    """Return the study's run, made if there is none: under the lock, and found again where a kill came in between.

    Raises:
        TrackingError: if the store can't be used.
    """
    with search.lock():
        token, may_be_there = lost_runs.token_of(search.study, RUN_BEGUN)
        run = _run_before(search, tracker) or (lost_runs.find(tracker, token) if may_be_there else None)
        if run is not None:
            if run.status() != "RUNNING" or not identity.is_alive_elsewhere(run.tags()):
                run.reopen(even_finished=True)
        else:
            run = _start_run(search.request, tracker, transcripts, token)
        if search.study.user_attrs.get(RUN_ID) != run.id:
            search.study.set_user_attr(RUN_ID, run.id)
        request = search.request
        view = ui_views.of_study(request.name, [each.key for each in request.space], maximize=request.maximize)
        tracker.keep_view(ui_views.study_key(request.name), view)
        files.write_text(run.files.config, search.request.config.to_yaml())
        files.write_text(run.files.space, summary.space_yaml(search.request.space))
        return run


def _run_before(search: Search, tracker: Tracker) -> TrackedRun | None:
    """Return the run that the study has; None if it has none, or that was deleted for good.

    Raises:
        DeletedRunError: if it was deleted, and can be restored.
        TrackingError: if the store can't be used.
    """
    run_id = search.study.user_attrs.get(RUN_ID)
    try:
        return tracker.find(run_id) if run_id else None
    except DeletedRunError:
        raise
    except NoRunError:
        return None


def _start_run(request: StudyRequest, tracker: Tracker, transcripts: Transcripts, token: str) -> TrackedRun:
    path = Path(str(request.config.data.path))
    own = {key: getattr(request, key) for key in ("name", "sampler", "scheduler", "seed")}
    params = {f"study.{key}": value for key, value in own.items()} | {"study.space": request.space.name}
    if request.cost is not None:
        params["study.cost"] = request.cost
    return tracker.start(
        log_name=request.name,
        params=request.config.flat() | params | {"data.sites": list(transcripts.sites)},
        tags={
            Tag.KIND: KIND,
            Tag.STUDY: request.name,
            Tag.BEGUN: token,
            Tag.DATA_DIGEST: transcripts.digest(),
            Tag.SITES: ",".join(transcripts.sites),
            **provenance.tags(),
        },
        dataset=DatasetInput(path.name, transcripts.digest(), str(path), len(transcripts)),
    )


def _finish(search: Search, run: TrackedRun, tracker: Tracker, reason: StopReason | None) -> TuneOutcome:
    """Leave the summary, and end the study's run if nobody else works on the study."""
    with search.lock():
        search.reap()
        counts, is_over = search.counts(), search.is_over() or reason is StopReason.USED_UP
    if search.running():
        hand_over(search, run)
        return TuneOutcome(search, run, counts, "RUNNING", StopReason.OTHERS)
    waiting_for_runs(lambda: match_runs(search, run), tracker)
    waiting_for_runs(lambda: leave.leave(search, run), tracker)
    state: Status = "KILLED" if not is_over else "FINISHED" if counts.complete else "FAILED"
    why = f"{reason.value if reason else 'ended'}; the same command resumes it"
    messages = {"KILLED": why, "FINISHED": search.enough() or "", "FAILED": f"no trial has a value; {_reasons(search)}"}
    waiting_for_runs(lambda: _end(search, run, state, messages[state]), tracker)
    return TuneOutcome(search, run, counts, state, reason)


def check_any_value(outcome: TuneOutcome) -> None:
    """Check that a study whose trials are all over has a value.

    Raises:
        StudyError: if it has none, with the reasons.
    """
    if outcome.state != "FAILED":
        return
    name, counts = outcome.search.request.name, outcome.counts
    raise StudyError(
        f"study {name}: none of its {counts.over} trials has a value; {_reasons(outcome.search)}",
        "mend what these say; then search under another --study, or ask for more --trials",
    )


def _reasons(search: Search) -> str:
    return "; ".join(summary.failure_lines(search)) or "all were pruned"


def _end(search: Search, run: TrackedRun, state: Status, message: str) -> None:
    """End the study's run, but for one on which others still work."""
    with search.lock():
        search.reap()
        if not search.running():
            run.finish(state, message)


def _end_by(error: BaseException, search: Search, run: TrackedRun) -> None:
    """End the study's run by an error, also where that is why its trials can't be read."""
    state: Status = "FAILED" if isinstance(error, StudyError) else "KILLED"
    try:
        _end(search, run, state, str(error))
    except StudyError:
        run.finish(state, str(error))


def hand_over(search: Search, run: TrackedRun) -> None:
    """Let the study's run belong to a process that still works on it: as this one's, it would count as dead."""
    workers = [trial.user_attrs.get(WORKER) for trial in search.running()]
    if any(workers):
        run.set_tags(next(filter(None, workers)))
