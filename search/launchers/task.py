"""What a job of a cluster does: one command, until that has ended or the job's time is over.

Owns how a job runs it and tells it to save. It is pickled, and loaded on another host. Must not know what the command
does. Read next: `slurm.py`, which submits it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import psutil

STORAGE = "RNATRACKER_STORAGE"
"""Environment variable with the address of a study's storage: in a command line all users of a host would see it."""
TRACKING = "MLFLOW_TRACKING_URI"
JOB = "RNATRACKER_JOB"
"""Environment variable with the job that a worker is."""

_STOPPED = 130
_SAVE_SECONDS = 600.0
_POLL_SECONDS = 0.2


class Task:
    """Runs a command. Submitit calls it, and `checkpoint` ahead of a time limit or a preemption.

    Args:
        words: of the command: a module of Python and its arguments; `--store` with a temporary folder is added.
        environment: variables that it needs, addresses with passwords among them.
    """

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self._words, self._environment = words, environment
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run the command to its end; return its exit status.

        Raises:
            RuntimeError: if it fails.
        """
        with tempfile.TemporaryDirectory(prefix="rnatracker.") as folder:
            command = [sys.executable, "-m", *self._words, "--store", folder]
            environment = os.environ | self._environment | {JOB: _job()}
            process = self._process = subprocess.Popen(command, env=environment)  # noqa: S603
            previous = signal.signal(signal.SIGTERM, lambda *_: self._ask_to_save())
            try:
                code = _wait(process)
            finally:
                signal.signal(signal.SIGTERM, previous)
        if code not in (0, _STOPPED):
            raise RuntimeError(f"the worker has ended with status {code}; what it has said stands above")
        return code

    def checkpoint(self) -> Any:
        """Let the command save and end; return what to run when the job is requeued."""
        from submitit.helpers import DelayedSubmission

        self._ask_to_save()
        until = time.monotonic() + _SAVE_SECONDS
        while self._process is not None and _lives(self._process.pid) and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
        return DelayedSubmission(Task(self._words, self._environment))

    def _ask_to_save(self) -> None:
        if self._process is not None and _lives(self._process.pid):
            os.kill(self._process.pid, signal.SIGTERM)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for a command's end; return its exit status.

    Not by `Popen.wait`: `checkpoint` is called within a signal handler, and would wait for that one's lock.
    """
    while (code := process.poll()) is None:
        time.sleep(_POLL_SECONDS)
    return code


def _lives(pid: int) -> bool:
    """Tell whether a process has not ended; nothing is collected of it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _job() -> str:
    """Return what SLURM calls this job, as `squeue` prints it."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
