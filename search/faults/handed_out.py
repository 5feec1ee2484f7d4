"""Trials that are handed out: to which worker, whether that lives, and how they are put back.

Owns what a trial keeps of its worker, and that a worker which was taken for dead ends nothing any more. Must not know
torch or mlflow. Read next: `deaths.py` for which deaths count, `search/study.py`, which hands trials out.

Of a worker on this machine its process is looked at. Of one on another host, a database server keeps signs of life
(`search/remote/heartbeat.py`); other storages only its reports.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from rnatracker.processes import identity
from rnatracker.search.faults import deaths
from rnatracker.search.faults.deaths import DEATHS, SEEN, STARTER, WORKER
from rnatracker.search.optuna_private import silent_trials
from rnatracker.search.remote import heartbeat
from rnatracker.search.sampling import REASON


class HandedOut:
    """The trials of a study that somebody works on.

    Args:
        study: the study.
        storage: where it is kept.
    """

    def __init__(self, study: Study, storage: BaseStorage) -> None:
        self._study, self._storage = study, storage
        self._beats = heartbeat.can_beat(storage)

    def id_of(self, number: int) -> int:
        """Return what the storage knows a trial by: another number than that in its study."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def make(self) -> Trial:
        """Make a new trial, and hand it to this process."""
        id_ = self._storage.create_new_trial(self._study_id)
        self._sign(id_)
        return self._to_this_process(id_)

    def take(self, number: int) -> Trial | None:
        """Hand a trial that waits to this process; None if it doesn't wait any more."""
        id_ = self.id_of(number)
        self._sign(id_)  # first: by what an earlier worker has left it would be silent
        if not self._storage.set_trial_state_values(id_, TrialState.RUNNING):
            return None  # handed out already: a lock was lost with its server
        return self._to_this_process(id_)

    def _to_this_process(self, id_: int) -> Trial:
        trial = Trial(self._study, id_)
        trial.set_user_attr(WORKER, identity.own_tags())
        trial.set_user_attr(STARTER, identity.starter_tags())
        trial.set_user_attr(SEEN, time.time())
        return trial

    def _sign(self, id_: int) -> None:
        if self._beats:
            self._storage.record_heartbeat(id_)  # type: ignore[attr-defined]

    def sign(self, number: int) -> bool:
        """Give a sign of life of a trial's worker, which is this process; return whether it still is."""
        if not self.is_own(number):
            return False
        self._sign(self.id_of(number))
        return True

    def heartbeat(self, number: int) -> heartbeat.Heartbeat | None:
        """Return what gives signs of life of a trial; None where the storage keeps none."""
        if not self._beats:
            return None
        return heartbeat.Heartbeat(lambda: self.sign(number), float(heartbeat.interval()))

    def is_own(self, number: int) -> bool:
        """Tell whether a trial is still handed out to this process: it isn't if this one was taken for dead."""
        trial = self._storage.get_trial(self.id_of(number))
        return trial.state == TrialState.RUNNING and trial.user_attrs.get(WORKER) == identity.own_tags()

    def put_back(self, trial: FrozenTrial) -> None:
        """Let a trial wait until it is handed out again."""
        self.set(trial, WORKER, None)
        self._storage.set_trial_state_values(self.id_of(trial.number), TrialState.WAITING)

    def set(self, trial: FrozenTrial, key: str, value: Any) -> None:
        """Set a user attribute."""
        self._storage.set_trial_user_attr(self.id_of(trial.number), key, value)

    def reap(self, trials: Sequence[FrozenTrial]) -> bool:
        """Put back the trials whose worker has died; under the lock. One at which three died is FAILED.

        Args:
            trials: all, just read.

        Returns:
            Whether there were any.
        """
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        n_dead = 0
        silent = silent_trials(self._storage, self._study_id) if self._beats and running else set()
        for trial in running:
            if self._is_worked_on(trial, silent):
                continue
            n_dead += 1
            trial = self._storage.get_trial(self.id_of(trial.number))  # as it is now, whatever was read of it before
            n_deaths = deaths.count_after(trial)
            if deaths.is_its_own(trial.user_attrs):
                self.set(trial, DEATHS, n_deaths)
                self.set(trial, deaths.DIED_AT, deaths.progress(trial))
            if n_deaths >= deaths.MAX_DEATHS:
                self.set(trial, REASON, f"{n_deaths} processes died at it, each killed or out of memory at one place")
                self._study.tell(trial.number, state=TrialState.FAIL)
            else:
                self.put_back(trial)
        return n_dead > 0

    def _is_worked_on(self, trial: FrozenTrial, silent: Collection[int]) -> bool:
        """Tell whether a running trial's process lives, and is not this one, which has just come to ask for a trial."""
        worker = trial.user_attrs.get(WORKER)
        if not worker:
            return False
        if not deaths.is_remote(worker):
            return identity.is_alive_elsewhere(worker)
        if self._beats:
            return self.id_of(trial.number) not in silent
        silence = deaths.silence(trial.user_attrs)
        if silence.watched is not None:
            self.set(trial, deaths.WATCHED, silence.watched)
        return not silence.is_death

    def orphans(self) -> list[Mapping[str, str]]:
        """Return the workers of this machine that live though the command that started them was killed."""
        found = [t.user_attrs for t in self._running() if identity.is_dead(t.user_attrs.get(STARTER) or {})]
        return [each[WORKER] for each in found if each.get(WORKER) and identity.is_alive_elsewhere(each[WORKER])]

    def of_processes(self, pids: Collection[int]) -> list[FrozenTrial]:
        """Return the trials of processes of this machine."""
        host, found = identity.own_tags()[identity.HOST], []
        for trial in self._running():
            worker = trial.user_attrs.get(WORKER) or {}
            if worker.get(identity.HOST) == host and int(worker.get(identity.PID, 0)) in pids:
                found.append(trial)
        return found

    def _running(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    @cached_property
    def _study_id(self) -> int:
        return self._storage.get_study_id_from_name(self._study.study_name)
