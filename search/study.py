"""A study at work: its trials are handed out, put back, counted.

Owns who works on which trial, and what becomes of trials whose worker has died. Must not know torch. Read next:
`definition.py` for how a study is made, resumed and joined, `objective.py` for a trial.

Every trial is in Optuna's storage from the moment it is handed out, under the study's lock, with the process that
works on it. A trial whose process is gone goes back to WAITING and is handed out again, under its number, to be
continued from its checkpoint: at most twice at one place, since settings that kill a process would kill the next one
too (`faults/deaths.py` has what counts). A trial that was stopped on request goes back to WAITING as well, and that is
not counted. So does one that the scheduler pauses (`scheduling/freeze_thaw.py`), but that one is handed out again only
when the scheduler says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from rnatracker.config import Config
from rnatracker.errors import ConfigError
from rnatracker.search import sampling
from rnatracker.search import storage as storages
from rnatracker.search.faults.deaths import DEATHS as DEATHS
from rnatracker.search.faults.deaths import SEEN as SEEN
from rnatracker.search.faults.deaths import STARTER as STARTER
from rnatracker.search.faults.deaths import WORKER as WORKER
from rnatracker.search.faults.handed_out import HandedOut
from rnatracker.search.optuna_private import is_given
from rnatracker.search.pruning import START
from rnatracker.search.request import StudyRequest as StudyRequest
from rnatracker.search.request import WorkerTask as WorkerTask
from rnatracker.search.sampling import REASON, REPEATS, RETRIES, tried_again
from rnatracker.search.scheduling import courses, fresh
from rnatracker.search.scheduling.courses import EPOCHS as EPOCHS
from rnatracker.search.scheduling.courses import PAUSED
from rnatracker.search.scheduling.courses import SECONDS as SECONDS
from rnatracker.search.scheduling.freeze_thaw import Course, Decision, Forecast, What
from rnatracker.search.scheduling.planning import Planner
from rnatracker.search.scheduling.true_value import Estimate
from rnatracker.search.space import apply, of_trial

OUTSIDE = "outside"
"""User attribute of the first trial: keys whose value in the starting config lies outside of the space, and is kept."""
RUN_ID = "run_id"
"""User attribute with a trial's MLflow run; as one of the study, its parent run."""
RUN_BEGUN = "run_begun"
"""User attribute: a trial's run is being made. Where `RUN_ID` doesn't follow, that was interrupted.

As one of the study: what its own run is found by then (`faults/lost_runs.py`).
"""

CAUTIONS = "cautions"
"""User attribute of a study: sentences on what a reader of its values should know."""

FOLD_VALUES = "fold_values"
"""User attribute: the value of each fold; None where it is undefined."""

_MAX_REPEATS = 10
"""Suggestions in a row that were tried before; then one is drawn at random that was not."""
_RANDOM_DRAWS = 1000
PLACE = "place"
"""User attribute of a running trial: its worker's cluster job, if it is one, and what computes there."""
SCHEDULE = "schedule"
"""User attribute of a trial: when it was paused and resumed, and why: a list of sentences."""


class Lost(Exception):  # noqa: N818 - not an error
    """A trial is another worker's: this one was taken for dead, since nothing was heard of it.

    Attributes:
        number: the trial.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"trial {number} was given to another worker, since nothing was heard of this one")
        self.number = number


@dataclass(frozen=True)
class Claim:
    """A trial that this process is to run.

    Attributes:
        trial: Optuna's handle on it.
        config: its settings.
        until: fold and epoch after which the scheduler looks at it; None: it goes to its end.
        why: why it was resumed; empty for one that was not paused.
    """

    trial: Trial
    config: Config
    until: tuple[int, int] | None = None
    why: str = ""

    @property
    def number(self) -> int:
        """The trial's number, from 0."""
        return self.trial.number


STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
"""What a state of Optuna's is called; `state_of` tells paused trials from others that wait."""


@dataclass
class Counts:
    """How many trials a study has, by what became of them: those of `Search.trials`.

    Attributes:
        complete: measured to their end.
        pruned: stopped early.
        failed: could not be measured.
        running: handed out.
        paused: by the scheduler.
        waiting: enqueued or interrupted.
    """

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    paused: int = 0
    waiting: int = 0

    @property
    def over(self) -> int:
        """Trials that have come to an end."""
        return self.complete + self.pruned + self.failed

    @property
    def all(self) -> int:
        """All trials."""
        return self.over + self.running + self.paused + self.waiting


@dataclass
class Search:
    """A study that is being worked on by this process.

    Attributes:
        request: what is searched.
        study: Optuna's study.
        storage: where it is kept.
        folder: the store.
        handed_out: its trials that somebody works on.
        planner: decides what it does next.
    """

    request: StudyRequest
    study: Study
    storage: BaseStorage
    folder: Path
    handed_out: HandedOut = field(init=False, repr=False)
    planner: Planner = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.handed_out = HandedOut(self.study, self.storage)
        self.planner = Planner(self.request)

    def lock(self) -> AbstractContextManager[None]:
        """Return the study's lock, as a context manager."""
        return storages.lock(self.request.storage, self.folder, self.request.name, storage=self.storage)

    def trials(self) -> list[FrozenTrial]:
        """Return all trials that count, by number: no repeats, and none that another tries again. Not to be changed."""
        return fresh.not_fresh(self._work())

    def fresh(self) -> list[FrozenTrial]:
        """Return the trainings with fresh seeds, by number. Not to be changed."""
        return [trial for trial in self.all_trials() if fresh.is_fresh(trial)]

    def running(self) -> list[FrozenTrial]:
        """Return what somebody works on: trials and trainings with fresh seeds. Not to be changed."""
        return [trial for trial in self._work() if trial.state == TrialState.RUNNING]

    def _work(self, read: Sequence[FrozenTrial] | None = None) -> list[FrozenTrial]:
        """Return all trials that count, and trainings with fresh seeds.

        Args:
            read: all, if they were just read.
        """
        trials = self.all_trials() if read is None else _not_repeats(read)
        again = tried_again(trials)
        return [trial for trial in trials if trial.number not in again]

    def all_trials(self) -> list[FrozenTrial]:
        """Return all trials but repeats, by number, those too that are tried again or have fresh seeds.

        Not to be changed.
        """
        return _not_repeats(self.study.get_trials(deepcopy=False))

    def trial(self, number: int) -> FrozenTrial:
        """Return one trial, by its number. Not to be changed."""
        return self.study.get_trials(deepcopy=False)[number]

    def counts(self) -> Counts:
        """Return how many trials there are of each kind."""
        return count(self.trials())

    def claim(self) -> Claim | None:
        """Take the next piece of work: a trial that was interrupted, a paused one, one that is enqueued, or a new one.

        None if there is nothing more to do, or all of the space has been tried: `is_used_up` tells.
        """
        repeats = 0
        while True:
            trials = self._work()  # before the lock, so that little is left to be read while others wait for it
            ahead = self.planner.ahead(trials)
            with self.lock():
                trials = self._reaped()
                work = self.planner.next(self._work(trials), ahead)
                if work.what == What.NEW and repeats == _MAX_REPEATS:
                    novel = self._never_tried()
                    if novel is None:
                        self.planner.is_used_up = True
                        work = self.planner.next(self._work(trials), ahead)  # a paused trial may go on
                    else:
                        self.study.enqueue_trial(novel)
                        trials, repeats = self.study.get_trials(deepcopy=False), 0
                if work.what == What.NOTHING:
                    return None
                claim = self._take(work, trials, ahead)
            if claim is not None:
                return claim
            repeats += 1

    def look(self, number: int) -> tuple[Decision, str]:
        """Decide about a trial that has come to where it was to go: what is to be done now, and why."""
        ahead = self.planner.ahead(self._work())
        with self.lock():
            return self.planner.look(self._work(), number, ahead)

    @property
    def is_used_up(self) -> bool:
        """Whether no settings were found any more that had not been tried."""
        return self.planner.is_used_up

    def enough(self) -> str | None:
        """Return why the study ends before it has all its trials; None if it doesn't."""
        return self.planner.enough(self._work())

    def expected_gain(self) -> float | None:
        """Return how far ten more trials are expected to come above the best; None before there are enough."""
        return self.planner.expected_gain(self._work())

    def is_over(self) -> bool:
        """Tell whether there is nothing more to do; under the lock."""
        return self.planner.next(self._work()).what == What.NOTHING

    def estimate(self) -> Estimate | None:
        """Return the true values of the best complete trials; None with too few trials, or where there is a cost."""
        return self.planner.estimate(self._work())

    def courses(self) -> list[Course]:
        """Return how far each trial that was begun has come, more being better."""
        return self.planner.courses(self._work())

    def _reaped(self) -> list[FrozenTrial]:
        """Return all trials, those of dead workers put back; under the lock."""
        trials = self.study.get_trials(deepcopy=False)
        return self.study.get_trials(deepcopy=False) if self.handed_out.reap(trials) else trials

    def _take(self, work: Decision, before: list[FrozenTrial], ahead: Forecast | None) -> Claim | None:
        """Take or make a trial and draw its settings; None if it repeats another, or its settings can't be.

        Args:
            work: what to take.
            before: all trials, just read.
            ahead: what was forecast.
        """
        request, number = self.request, work.number
        if work.what == What.FRESH:
            number = fresh.enqueue(self.study, self.trial(number), work.round, (START, OUTSIDE))
            before = self.study.get_trials(deepcopy=False)
        if work.what == What.NEW:  # of one that is enqueued its own number
            number = next((t.number for t in before if courses.is_enqueued(t)), len(before))
        self._set_sampler(before, number, ahead)
        with storages.together(self.storage):
            trial = self.handed_out.make() if number == len(before) else self.handed_out.take(number)
            if trial is None:
                return None
            why = self._resumed(trial, work.why)
        earlier = set(trial.params)
        is_resumed = bool(earlier)  # it was interrupted: others may have drawn the same since
        outside = tuple(trial.user_attrs.get(OUTSIDE, ()))
        with storages.together(self.storage):  # apart: that may take long, and the trial has its worker by then
            drawn = request.space.draw(trial, without=outside)
        if is_resumed and earlier != set(drawn) and not is_given(self.trial(trial.number)):
            # Interrupted amid its drawing: the rest would not be what it would have been, so all is drawn anew.
            trial.set_user_attr(REPEATS, trial.number)
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        others = (t for t in before if t.number != trial.number and REPEATS not in t.user_attrs)
        again = trial.user_attrs.get(fresh.FRESH)
        is_kept = outside or is_resumed or RETRIES in trial.user_attrs or again
        same = [t.number for t in others if t.params == drawn and not is_kept]
        if same:
            trial.set_user_attr(REPEATS, same[0])
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        until = (work.fold, work.epoch) if work.epoch else None
        try:
            settings = of_trial(apply(request.config, drawn))
            return Claim(trial, fresh.with_seeds(settings, request.seed, again[1]) if again else settings, until, why)
        except ConfigError as error:
            trial.set_user_attr(REASON, f"impossible settings: {error}")
            self.study.tell(trial, state=TrialState.FAIL)
            return None

    def _resumed(self, trial: Trial, why: str) -> str:
        """Note that a trial is resumed, if it was paused; return why."""
        if not trial.user_attrs.get(PAUSED):
            return ""
        why = why or "the study's scheduler is another now"
        self.explain(trial, f"resumed: {why}")
        trial.set_user_attr(PAUSED, None)
        return why

    def _set_sampler(self, before: list[FrozenTrial], number: int, ahead: Forecast | None) -> None:
        """Let the study have the sampler of a trial; none is needed for one whose settings are drawn."""
        request = self.request
        if number < len(before) and before[number].params:
            self.study.sampler = RandomSampler()
            return
        # What was interrupted before its settings were drawn draws the same again.
        n_drawn = sum(t.user_attrs.get(REPEATS) != t.number for t in before[:number])
        self.study.sampler = sampling.make(
            request.sampler,
            self.study,
            request.seed,
            n_drawn,
            conditional=request.space.has_conditions,
            forecasts=self.planner.forecasts(self._work(before), ahead),
            has_cost=request.cost is not None,
        )

    def retry_failed(self) -> dict[int, int]:
        """Enqueue the settings of each failed trial once more; return the new trials' numbers by the failed ones'.

        Settings that can't be are left out.
        """
        with self.lock():
            failed = [trial for trial in self.trials() if trial.state == TrialState.FAIL and self._can_be(trial)]
            for trial in failed:
                kept = {key: trial.user_attrs[key] for key in (START, OUTSIDE) if key in trial.user_attrs}
                self.study.enqueue_trial(trial.params, user_attrs={RETRIES: trial.number, **kept})
            again = tried_again(self.all_trials())
        return {trial.number: again[trial.number] for trial in failed}

    def _can_be(self, trial: FrozenTrial) -> bool:
        try:
            apply(self.request.config, trial.params)
        except ConfigError:
            return False
        return True

    def _never_tried(self) -> dict[str, Any] | None:
        """Return settings that no trial has had, of many drawn at random; None if there are none among them."""
        tried = [trial.params for trial in self.study.get_trials(deepcopy=False)]
        elsewhere = optuna.create_study(sampler=RandomSampler(seed=len(tried)))
        for _ in range(_RANDOM_DRAWS):
            drawn = self.request.space.draw(elsewhere.ask())
            with suppress(ConfigError):
                apply(self.request.config, drawn)
                if drawn not in tried:
                    return drawn
        return None

    def reap(self) -> None:
        """Put back the trials whose process has died; under the lock. One at which three died is FAILED."""
        self._reaped()

    def put_back_those_of(self, pids: Collection[int]) -> None:
        """Put back the trials of processes of this machine that were ended on request."""
        with self.lock():
            for trial in self.handed_out.of_processes(pids):
                self.handed_out.put_back(trial)

    def put_back(self, claim: Claim) -> None:
        """Put back a trial that was stopped on request, unless it is another worker's by now."""
        with self.lock():
            if self.handed_out.is_own(claim.number):
                self.handed_out.put_back(self.trial(claim.number))

    def pause(self, claim: Claim, why: str) -> None:
        """Put back a trial until the scheduler resumes it.

        Raises:
            Lost: if it is another worker's by now.
        """
        with self._own(claim):
            self.explain(claim.trial, f"paused: {why}")
            self.handed_out.set(self.trial(claim.number), PAUSED, why)
            self.handed_out.put_back(self.trial(claim.number))

    def tell(self, claim: Claim, value: float | None = None, state: TrialState | None = None) -> None:
        """Tell how a trial has ended.

        Raises:
            Lost: if it is another worker's by now.
        """
        with self._own(claim):
            self.study.tell(claim.trial, value, state)

    @contextmanager
    def _own(self, claim: Claim) -> Iterator[None]:
        """Hold the lock, with a trial that is still this process's."""
        with self.lock():
            if not self.handed_out.is_own(claim.number):
                raise Lost(claim.number)
            yield

    def explain(self, trial: Trial, what: str) -> None:
        """Note what has become of a trial that is handed out to this process, for people."""
        known = trial.user_attrs.get(SCHEDULE, [])
        trial.set_user_attr(SCHEDULE, [*known, what])


def _not_repeats(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if REPEATS not in trial.user_attrs]


def state_of(trial: FrozenTrial) -> str:
    """Return what a trial's state is called: a field of `Counts`."""
    return "paused" if courses.is_paused(trial) else STATES[trial.state]


def count(trials: list[FrozenTrial]) -> Counts:
    """Count trials by their state."""
    return Counts(**Counter(map(state_of, trials)))
