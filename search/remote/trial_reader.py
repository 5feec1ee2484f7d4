"""Reads a study's trials from a database: only those that may have changed, and a query for each table.

Owns which of them those are. Optuna reads all trials that haven't ended, each time anew, and through objects for each
row; a study that pauses trials has hundreds. Must not know studies. Read next: `patient_storage.py`, which uses it.

A trial that waits is at rest: what becomes of it does so while it is handed out, and that begins with a sign of life
(`search/faults/handed_out.py`). So one that waits, and whose last sign of life is the same as before, is as it was. One
that is handed out, and has a worker, is as it was but for some of its attributes until its next sign of life or report.
"""

from __future__ import annotations

import datetime
import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Row, Select, func, or_, select
from sqlalchemy.orm import Session

_AT_ONCE = 1000
"""Trials whose rows are asked for at once."""
_NAMED = 100
"""Trials that are named in a query; of more, all that are newer than the first of them are asked for."""

_distribution = lru_cache(maxsize=1024)(json_to_distribution)


_State = tuple[TrialState, datetime.datetime | None, int]
"""By what a trial is known to be as it was: its state, its last sign of life, how many values it has reported."""


class TrialReader:
    """Reads trials, and remembers which it has read that are as they were.

    Args:
        owner: the user attribute that says to whom a trial is handed out.
        remembers: whether it remembers at all: signs of life have to be told apart, and times in whole seconds don't.
    """

    def __init__(self, owner: str, *, remembers: bool = True) -> None:
        self._owner, self._remembers = owner, remembers
        self._known: dict[int, _State] = {}

    def read(self, session: Session, study_id: int, known: Collection[int], above: int) -> list[FrozenTrial]:
        """Return the trials of a study that may have changed since they were read, by number.

        Args:
            session: of the database.
            study_id: the study.
            known: ids of trials that were read before and had not ended.
            above: all trials with a greater id are wanted too.
        """
        if not known and above < 0:
            self._known.clear()  # whoever asks knows nothing
        all_heads = session.execute(_heads(study_id, known, above))
        wanted = (head for head in all_heads if head.trial_id > above or head.trial_id in known)
        heads, reports = list(wanted), dict[int, int]()
        running = [head.trial_id for head in heads if head.state == TrialState.RUNNING]
        if running:
            report = models.TrialIntermediateValueModel
            count = select(report.trial_id, func.count()).where(report.trial_id.in_(running)).group_by(report.trial_id)
            reports = {int(row[0]): int(row[1]) for row in session.execute(count)}
        states: dict[int, _State] = {
            head.trial_id: (head.state, head.sign, reports.get(head.trial_id, 0)) for head in heads
        }
        found = _built(session, [head for head in heads if self._known.get(head.trial_id) != states[head.trial_id]])
        for trial in found:
            is_whole = trial.state == TrialState.WAITING or (trial.params and trial.user_attrs.get(self._owner))
            if self._remembers and is_whole and not trial.state.is_finished():
                self._known[trial._trial_id] = states[trial._trial_id]
            else:
                self._known.pop(trial._trial_id, None)
        return found

    def forget_all(self) -> None:
        """Read all anew: what was read last has not reached who asked."""
        self._known.clear()

    def forget(self, trial_id: int) -> None:
        """Read a trial anew next time: this process has changed it."""
        self._known.pop(trial_id, None)

    def read_one(self, session: Session, trial_id: int) -> FrozenTrial:
        """Return a trial, whatever was read before.

        Raises:
            KeyError: if there is none of that id.
        """
        heads = list(session.execute(_all_heads().where(models.TrialModel.trial_id == trial_id)))
        if not heads:
            raise KeyError(f"there is no trial with the id {trial_id}")
        return _built(session, heads)[0]


def _heads(study_id: int, known: Collection[int], above: int) -> Select[Any]:
    """Return what asks for the state of trials, of others too where naming those that are wanted would take longer."""
    trial = models.TrialModel
    above_all = trial.trial_id > min([above, *(id_ - 1 for id_ in known)])
    wanted = or_(trial.trial_id.in_(known), trial.trial_id > above) if len(known) <= _NAMED else above_all
    return _all_heads().where(trial.study_id == study_id, wanted).order_by(trial.trial_id)


def _all_heads() -> Select[Any]:
    """Return what asks for the state of all trials."""
    trial, beat = models.TrialModel, models.TrialHeartbeatModel
    return select(
        trial.trial_id,
        trial.number,
        trial.state,
        trial._datetime_start_utc.label("start"),
        trial._datetime_complete_utc.label("complete"),
        beat.heartbeat.label("sign"),
    ).outerjoin(beat, beat.trial_id == trial.trial_id)


def _built(session: Session, heads: list[Row[Any]]) -> list[FrozenTrial]:
    """Return the trials of these rows, with what the other tables have of them."""
    ids = [head.trial_id for head in heads]
    # Attributes first: what is written with the owner is then there too.
    user, system = (
        _attributes(session, table, ids) for table in (models.TrialUserAttributeModel, models.TrialSystemAttributeModel)
    )
    params: dict[int, list[Any]] = defaultdict(list)
    for row in _rows(session, models.TrialParamModel, ids):
        params[row.trial_id].append(row)
    values: dict[int, list[Any]] = defaultdict(list)
    for row in _rows(session, models.TrialValueModel, ids):
        values[row.trial_id].append(row)
    reports: dict[int, dict[int, float]] = defaultdict(dict)
    to_report = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value
    for row in _rows(session, models.TrialIntermediateValueModel, ids):
        reports[row.trial_id][row.step] = to_report(row.intermediate_value, row.intermediate_value_type)
    return [
        _trial(head, params[id_], values[id_], user[id_], system[id_], reports[id_])
        for id_, head in zip(ids, heads, strict=True)
    ]


def _attributes(session: Session, table: Any, ids: list[int]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for row in _rows(session, table, ids):
        found[row.trial_id][row.key] = json.loads(row.value_json)
    return found


def _rows(session: Session, table: Any, ids: list[int]) -> Iterator[Row[Any]]:
    """Yield the rows of trials, in the order in which they were made."""
    (key,) = table.__table__.primary_key.columns
    for i in range(0, len(ids), _AT_ONCE):
        query = select(*table.__table__.columns).where(table.trial_id.in_(ids[i : i + _AT_ONCE])).order_by(key)
        yield from session.execute(query)


def _trial(
    head: Row[Any],
    params: list[Any],
    values: list[Any],
    user: dict[str, Any],
    system: dict[str, Any],
    reports: dict[int, float],
) -> FrozenTrial:
    distributions: dict[str, BaseDistribution] = {
        row.param_name: _distribution(row.distribution_json) for row in params
    }
    to_value = models.TrialValueModel.stored_repr_to_value
    ordered = sorted(values, key=lambda row: int(row.objective))
    return FrozenTrial(
        number=head.number,
        state=head.state,
        value=None,
        values=[to_value(row.value, row.value_type) for row in ordered] or None,
        datetime_start=_local(head.start),
        datetime_complete=_local(head.complete),
        params={row.param_name: distributions[row.param_name].to_external_repr(row.param_value) for row in params},
        distributions=distributions,
        user_attrs=user,
        system_attrs=system,
        intermediate_values=reports,
        trial_id=head.trial_id,
    )


def _local(time: datetime.datetime | None) -> datetime.datetime | None:
    """Return a time of the database, which is UTC, as Optuna's trials have it."""
    return None if time is None else time.replace(tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)
