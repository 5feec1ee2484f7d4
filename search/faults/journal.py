"""A journal that says which of its lines is none of Optuna's, whenever it is read.

Owns what a journal's lines may hold. Must not know torch, nor what a study searches. Read next:
`rnatracker/search/storage.py`, which opens it.

Optuna replays a journal line by line, at each look at a study what was appended since. At a line that it has not
written it stumbles with whatever error that happens to cause, in the midst of any command, or takes it in and others
stumble later. Here each line is checked before it is replayed: its fields and their types, that what it names was made
by a line before, and that Optuna can read the texts in it.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.distributions import json_to_distribution
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from rnatracker.errors import StudyError
from rnatracker.search.optuna_private import JournalFileLock

STUMBLES = (ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, RecursionError)
"""What Python and Optuna raise at a line that Optuna has not written."""

_BEGIN = b'{"op_code":'
"""What Optuna begins each line with."""
_NUMBER = (int, float)
_OR_NOTHING = type(None)
_CREATE_STUDY, _DELETE_STUDY, _CREATE_TRIAL, _SET_PARAM, _SET_STATE = 0, 1, 4, 5, 6
_OPERATIONS: dict[int, dict[str, tuple[type, ...]]] = {
    _CREATE_STUDY: {"study_name": (str,), "directions": (list,)},
    _DELETE_STUDY: {"study_id": (int,)},
    2: {"study_id": (int,), "user_attr": (dict,)},
    3: {"study_id": (int,), "system_attr": (dict,)},
    _CREATE_TRIAL: {"study_id": (int,), "datetime_start": (str, _OR_NOTHING)},
    _SET_PARAM: {"trial_id": (int,), "param_name": (str,), "param_value_internal": _NUMBER, "distribution": (str,)},
    _SET_STATE: {"trial_id": (int,), "state": (int,), "values": (list, _OR_NOTHING)},
    7: {"trial_id": (int,), "step": (int,), "intermediate_value": _NUMBER},
    8: {"trial_id": (int,), "user_attr": (dict,)},
    9: {"trial_id": (int,), "system_attr": (dict,)},
    10: {},
}
"""Optuna's operations (`optuna.storages.journal`), and the fields that each must have."""
_OF_NEW_TRIAL: dict[str, tuple[type, ...]] = {
    "state": (int,),
    "value": (*_NUMBER, _OR_NOTHING),
    "values": (list, _OR_NOTHING),
    "datetime_complete": (str,),
    "distributions": (dict,),
    "params": (dict,),
    "user_attrs": (dict,),
    "system_attrs": (dict,),
    "intermediate_values": (dict,),
}
"""Fields that a new trial may have."""
_SHOWN = 40


class JournalError(StudyError):
    """A journal has a line that is none of its records.

    Args:
        path: the journal.
        line: the line's number, from 1.
        why: what is wrong with it; empty where its form already is.
    """

    def __init__(self, path: Path, line: int, why: str = "") -> None:
        reason = f": {why}" if why else ""
        super().__init__(
            f"{path}: not a journal of Optuna's (line {line} is none of its records{reason})",
            "remove that line, if the others are whole and no command works on these studies: sed -i.before "
            f"{line}d {shlex.quote(str(path))}, or choose another --storage",
        )
        self.line = line


class CheckedJournal(JournalFileBackend):
    """Optuna's journal file, each of whose lines is checked when it is read.

    Args:
        path: the file.
        shown: what to call it: another path where this one is a copy.
        lock: its lock.
    """

    def __init__(self, path: Path, shown: Path, lock: JournalFileLock) -> None:
        super().__init__(str(path), lock_obj=lock)
        self._journal, self._shown = path, shown
        self._replay, self._offset = _Replay(), 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override] # a generator too
        """Yield the records from one on; the last line may still be being written.

        Raises:
            JournalError: if a line is none.
        """
        if log_number_from != self._replay.n_lines:  # another reader than before: all is read again
            self._replay, self._offset = _Replay(), 0
        with self._journal.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(self._offset)
            while self._offset < size:
                line = file.readline()
                if not line.endswith(b"\n") or self._offset + len(line) > size:
                    return
                try:
                    record = self._replay.take(line)
                except _Strange as strange:
                    raise JournalError(self._shown, self._replay.n_lines + 1, str(strange)) from None
                self._offset += len(line)
                if self._replay.n_lines > log_number_from:
                    yield record


class _Strange(Exception):  # noqa: N818 - becomes a JournalError
    """A line is no record of a journal; why, where its form doesn't tell."""


class _Replay:
    """What the lines so far have made.

    Attributes:
        n_lines: how many they are.
    """

    def __init__(self) -> None:
        self.n_lines = 0
        self._names: dict[int, str] = {}
        self._n_studies = self._n_trials = 0

    def take(self, line: bytes) -> dict[str, Any]:
        """Check the next line, and return its record.

        Raises:
            _Strange: if it is none.
        """
        record = _parsed(line)
        operation = record["op_code"]
        if operation not in _OPERATIONS:
            raise _Strange(f"it has op_code {operation}, which is none of Optuna's")
        _check_fields(record, {"worker_id": (str,), **_OPERATIONS[operation]})
        for key, known in (("study_id", self._n_studies), ("trial_id", self._n_trials)):
            if key in record and not 0 <= record[key] < known:
                raise _Strange(f"it has {key} {record[key]}, which no line before it has made")
        try:
            _check_values(operation, record)
        except STUMBLES as error:
            first = (str(error).splitlines() or [""])[0]
            raise _Strange(f"Optuna can't read it, {first or type(error).__name__}") from None
        self._note(operation, record)
        self.n_lines += 1
        return record

    def _note(self, operation: int, record: dict[str, Any]) -> None:
        """Take in what a record makes; Optuna passes over a study whose name is taken, and trials of one deleted."""
        if operation == _CREATE_STUDY and record["study_name"] not in self._names.values():
            self._names[self._n_studies] = record["study_name"]
            self._n_studies += 1
        elif operation == _DELETE_STUDY:
            self._names.pop(record["study_id"], None)
        elif operation == _CREATE_TRIAL and record["study_id"] in self._names:
            self._n_trials += 1


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise _Strange from None
    if not isinstance(record, dict) or not _is_a(record.get("op_code"), (int,)):
        raise _Strange
    return record


def _is_a(value: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _check_fields(record: dict[str, Any], fields: dict[str, tuple[type, ...]]) -> None:
    for key, kinds in fields.items():
        if key not in record:
            raise _Strange(f"it has no {key}")
        if not _is_a(record[key], kinds):
            raise _Strange(f"its {key} is {json.dumps(record[key])[:_SHOWN]}")


def _check_values(operation: int, record: dict[str, Any]) -> None:
    """Check what Optuna makes of a record's values: raise what it would."""
    for key in ("user_attr", "system_attr"):
        if key in record and len(record[key]) != 1:
            raise ValueError(f"{key} sets {len(record[key])} at once")
    if operation == _CREATE_STUDY:
        _ = [StudyDirection(each) for each in record["directions"]]
    elif operation == _SET_PARAM:
        json_to_distribution(record["distribution"]).to_external_repr(record["param_value_internal"])
    elif operation == _SET_STATE:
        state = TrialState(record["state"])
        _check_numbers(record["values"] or [])
        if state == TrialState.RUNNING:
            datetime.fromisoformat(record["datetime_start"])
        elif state.is_finished():
            datetime.fromisoformat(record["datetime_complete"])
    elif operation == _CREATE_TRIAL:
        _check_new_trial(record)


def _check_new_trial(record: dict[str, Any]) -> None:
    _check_fields(record, {key: kinds for key, kinds in _OF_NEW_TRIAL.items() if key in record})
    TrialState(record.get("state", TrialState.RUNNING))
    distributions = {key: json_to_distribution(text) for key, text in record.get("distributions", {}).items()}
    for key, value in record.get("params", {}).items():
        distributions[key].to_external_repr(value)
    for text in (record["datetime_start"], record.get("datetime_complete")):
        if text is not None:
            datetime.fromisoformat(text)
    reported = record.get("intermediate_values", {})
    _ = [int(step) for step in reported]
    _check_numbers([*reported.values(), *(record.get("values") or [])])
    if record.get("value") is not None and record.get("values") is not None:
        raise ValueError("it has value and values")


def _check_numbers(values: list[Any]) -> None:
    strange = [value for value in values if not _is_a(value, _NUMBER)]
    if strange:
        raise ValueError(f"{json.dumps(strange[0])[:_SHOWN]} is no number")


def cut_torn_line(path: Path, shown: Path) -> None:
    """Cut off what a full disk or a loss of power has left of a last line: the next one would be appended to it.

    To be called under the journal's lock, so that the line isn't one that is just being written.

    Raises:
        JournalError: if what would be cut off was no record: then the file is something else, and stays as it is.
    """
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        position = _begin_of_last_line(path, end)
        if position == end:
            return
        file.seek(position)
        part = file.read(len(_BEGIN)).strip(b"\0")  # a loss of power may leave zeros
        if part and not _BEGIN.startswith(part):
            file.seek(0)
            raise JournalError(shown, sum(line.endswith(b"\n") for line in file) + 1)
        file.truncate(position)


def _begin_of_last_line(path: Path, end: int) -> int:
    """Return where the line begins that no line break ends; the file's end where there is none."""
    with path.open("rb") as file:
        position = end
        while position > 0:
            begin = max(position - 4096, 0)
            file.seek(begin)
            block = file.read(position - begin)
            if b"\n" in block:
                return begin + block.rindex(b"\n") + 1
            position = begin
    return 0
