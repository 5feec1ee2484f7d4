"""The exceptions that a user's input can cause.

    RNATrackerError
    ├── ConfigError      a setting: unknown key, value out of range, settings that exclude each other
    │   └── UsageError   the same, in what was typed on the command line
    ├── DataError        a file of transcripts, or the records in it
    ├── CheckpointError  a file of weights: truncated, of another version, of other sizes or sites
    ├── TrainingError    a training that can't go on: a loss that isn't a number, memory, disk
    ├── TrackingError    the MLflow store or server
    ├── RegistryError    MLflow's model registry
    └── StudyError       an Optuna study

Each says in `problem` where, which rule and which value, and in `remedy` what to do. The command line prints both as
one line and exits with `exit_code`; nothing else in the package catches them to go on.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""That a disk, a quota or a file's size is used up."""


class RNATrackerError(Exception):
    """Base of all errors that are the input's fault, not the program's.

    Args:
        problem: the place, the rule and the value.
        remedy: what to do; empty where the problem says it.

    Attributes:
        problem: the same.
        remedy: the same.
        run_id: the run that it ended, where there was one.
        exit_code: what a command ends with.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy
        self.run_id: str | None = None

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem


class ConfigError(RNATrackerError):
    """A setting is unknown, out of range, or contradicts another."""


class UsageError(ConfigError):
    """Options or arguments of a command are missing, wrong or exclude each other, whatever the files hold."""

    exit_code = 2


class DataError(RNATrackerError):
    """A file of transcripts can't be read as what it should be.

    Raise it through `in_record` where a record is at fault, so that all messages look alike.
    """

    @classmethod
    def in_record(cls, source: str, number: int, identifier: str, problem: str, remedy: str = "") -> DataError:
        """Word an error about one record.

        Args:
            source: the file's name.
            number: the record's number, from 1.
            identifier: the record's id as far as it could be read, or an empty string.
            problem: the rule and the value.
            remedy: what to do.
        """
        name = f" ({identifier})" if identifier else ""
        return cls(f"{source}, record {number}{name}: {problem}", remedy)


@contextmanager
def about(source: str) -> Iterator[None]:
    """Put the file's name before what is wrong with its data as a whole."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{source}: {error.problem}", error.remedy) from None


class CheckpointError(RNATrackerError):
    """A file of weights can't be loaded, or doesn't fit what it is to be used for."""


class TrainingError(RNATrackerError):
    """A training can't go on: its loss is no number, or memory or disk have run out."""


class TrackingError(RNATrackerError):
    """The MLflow store or server can't be used."""


class RegistryError(RNATrackerError):
    """MLflow's model registry can't be used, or holds no such model."""


class StudyError(RNATrackerError):
    """An Optuna study can't be used, or there is none of that name."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory has run out, also as PyTorch says it."""
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in text or "out of memory" in text)
    )


def disk_fault(error: BaseException, place: object) -> tuple[str, str] | None:
    """Word what the system says of a file that can't be read or written.

    Args:
        error: what was raised.
        place: what to name where it doesn't say which file.

    Returns:
        The problem and the remedy; None for an error that is none of the system's, or of a connection's.
    """
    if not isinstance(error, OSError) or error.errno is None or isinstance(error, ConnectionError | TimeoutError):
        return None
    place = error.filename or place
    if error.errno in _FULL:
        return f"{place}: the disk is full", room_for(place)
    return f"{place}: {error.strerror}", "see whether that disk can be read and written"


def room_for(place: object) -> str:
    """Return what to do where the disk is full that a file lies on."""
    is_temporary = Path(tempfile.gettempdir()) in Path(str(place)).parents
    return "free some space" + (", or name another folder for temporary files with TMPDIR" if is_temporary else "")
