"""Optuna's storage in a database server that may be away for a while.

Owns which of its calls are tried again: all. Each may be done twice, since what one writes is the same then; a trial
made in vain belongs to nobody, and is handed out as one that waits. Must not know studies.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, delete, insert
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

from rnatracker.search.faults.deaths import WORKER
from rnatracker.search.remote.patience import patiently
from rnatracker.search.remote.trial_reader import TrialReader
from rnatracker.tracking.names import masked

_REFUSALS = (
    "authentication failed",
    "does not exist",
    "no pg_hba.conf entry",
    "failed to resolve host",
    "Name or service not known",
    "Access denied",
    "Unknown database",
)
"""What a connection that waiting doesn't mend has failed by."""
_CALLS = [
    "create_new_study", "get_study_id_from_name", "get_study_name_from_id", "get_study_directions",
    "get_study_user_attrs", "get_study_system_attrs", "set_study_user_attr", "set_study_system_attr",
    "get_all_studies", "create_new_trial", "_set_trial_param", "get_trial_id_from_study_id_trial_number",
    "set_trial_state_values", "set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr",
    "get_trial", "get_all_trials", "get_n_trials", "get_best_trial", "record_heartbeat",
    "_get_stale_trial_ids", "_get_trials", "_create_new_trial", "_get_best_trial_id", "_write",
]  # fmt: skip


def is_away(error: BaseException | None) -> bool:
    """Tell whether a failure is that of a connection, and not of what was asked."""
    if isinstance(error, StorageInternalError):
        return is_away(error.__cause__)
    if any(sign in str(error) for sign in _REFUSALS):
        return False
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    # The last: Optuna goes on in a transaction that a lost connection has ended.
    return isinstance(error, OperationalError | InterfaceError | PendingRollbackError)


class _Held(threading.local):
    """What a thread has yet to write: settings and attributes of trials."""

    params: list[dict[str, Any]] | None = None
    attributes: dict[tuple[int, str], str] | None = None


class PatientStorage(RDBStorage):
    """Optuna's storage, whose calls wait for the server, and which reads only trials that may have changed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reader = TrialReader(WORKER, remembers=self.engine.dialect.name == "postgresql")
        self._held = _Held()

    @contextmanager
    def on_one_connection(self) -> Iterator[Connection]:
        """Let all that this thread asks for within this go through one connection, which is given.

        Where that is lost, the rest goes through another.
        """
        with self.engine.connect() as connection:
            session = self.scoped_session()
            session.bind = connection
            try:
                yield connection
            finally:
                session.close()
                session.bind = self.engine

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write the settings and user attributes of trials that are set within this in one transaction at its end.

        Optuna takes four statements for each. Nothing of it is read back before; nothing is written after an error.
        """
        self._held.params, self._held.attributes = [], {}
        try:
            yield
            params, attributes = self._held.params, self._held.attributes
        finally:
            self._held.params = self._held.attributes = None
        self._write(params, attributes)

    def _write(self, params: list[dict[str, Any]], attributes: dict[tuple[int, str], str]) -> None:
        """Write rows, in place of earlier ones; safe to be done twice."""
        param, attribute = models.TrialParamModel, models.TrialUserAttributeModel
        rows = [{"trial_id": id_, "key": key, "value_json": text} for (id_, key), text in attributes.items()]
        for id_ in {row["trial_id"] for row in [*params, *rows]}:
            self._reader.forget(id_)
        with _create_scoped_session(self.scoped_session) as session:
            for table, named, wanted in ((param, "param_name", params), (attribute, "key", rows)):
                for id_ in {row["trial_id"] for row in wanted}:
                    names = [row[named] for row in wanted if row["trial_id"] == id_]
                    where = (table.trial_id == id_, getattr(table, named).in_(names))
                    session.execute(delete(table).where(*where).execution_options(synchronize_session=False))
                if wanted:
                    session.execute(insert(table), wanted)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial as it is now.

        Raises:
            KeyError: if there is none.
        """
        with _create_scoped_session(self.scoped_session) as session:
            return self._reader.read_one(session, trial_id)

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        """Set a setting, or keep it until the end of `together`."""
        if self._held.params is None:
            super()._set_trial_param(trial_id, param_name, param_value_internal, distribution, previous_distribution)
            return
        row = {"param_name": param_name, "param_value": param_value_internal}
        self._held.params.append({"trial_id": trial_id, **row, "distribution_json": distribution_to_json(distribution)})

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a user attribute, or keep it until the end of `together`."""
        if self._held.attributes is None:
            super().set_trial_user_attr(trial_id, key, value)
            self._reader.forget(trial_id)
        else:
            self._held.attributes[trial_id, key] = json.dumps(value)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if states is not None:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        try:
            with _create_scoped_session(self.scoped_session) as session:
                return self._reader.read(session, study_id, included_trial_ids, trial_id_greater_than)
        except BaseException:
            self._reader.forget_all()
            raise


def _patient(name: str) -> Any:
    asked = PatientStorage.__dict__.get(name) or getattr(RDBStorage, name)

    @functools.wraps(asked)
    def call(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
        tried = 0

        def ask() -> Any:
            nonlocal tried
            tried += 1
            try:
                return asked(self, *args, **kwargs)
            except UpdateFinishedTrialError:
                if tried > 1 and name == "set_trial_state_values":  # it was done, and only the answer was lost
                    return True
                raise
            except Exception as error:
                if is_away(error):
                    self.remove_session()  # the next try has another connection
                raise

        return patiently(ask, is_away, masked(self.url))

    return call


for _name in _CALLS:
    setattr(PatientStorage, _name, _patient(_name))
