"""Jobs of SLURM, submitted through submitit: an array of workers of a study, or of the folds of a cross-validation.

Owns submitting, asking what has become of the jobs, and cancelling them. A study itself knows nothing of SLURM: its
workers find each other through its storage. Must not know torch or typer. Read next: `task.py` for what a job does,
`monitor.py` for who watches a study, `folds.py` for folds.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rnatracker.errors import StudyError, UsageError
from rnatracker.search.launchers.task import STORAGE, TRACKING, Task
from rnatracker.search.remote import database, heartbeat, patience
from rnatracker.search.request import StudyRequest
from rnatracker.search.study import Search
from rnatracker.tracking.settings import TrackingSettings

JOBS = "slurm_jobs"
"""Attribute of a study: the job arrays that were submitted for it."""

_MINUTES = 240
_SAVE_AHEAD_SECONDS = 90
_TIMEOUTS = 10_000
"""How often a job is requeued after its time limit."""
_FOLDER = "slurm"
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


class SilentError(StudyError):
    """SLURM does not answer: what has become of jobs is not known."""


@dataclass(frozen=True)
class Array:
    """A job array that was submitted.

    Attributes:
        job: its number.
        tasks: how many workers it has.
        folder: where their logs lie.
    """

    job: str
    tasks: int
    folder: str

    @property
    def names(self) -> list[str]:
        """Return what `squeue` calls its tasks."""
        return [self.job] if self.tasks == 1 else [f"{self.job}_{i}" for i in range(self.tasks)]

    def log(self, name: str) -> Path:
        """Return the file with what a task has said on stderr."""
        return Path(self.folder) / f"{name}_0_log.err"


def check(request: StudyRequest) -> None:
    """Check that workers on other hosts can find a study.

    Raises:
        UsageError: if it is kept in files.
        StudyError: if SLURM or submitit is not installed here.
    """
    if not database.is_server(request.storage):
        raise UsageError(
            "--launcher slurm: workers on other hosts can't reach a study that is kept in a file",
            "give a database server with --storage postgresql://USER:PASSWORD@HOST/NAME",
        )
    check_place(request.tracking)


def check_place(tracking: TrackingSettings) -> None:
    """Check that jobs can be submitted here, and can reach the place where runs are kept.

    Raises:
        UsageError: if that is a folder.
        StudyError: if SLURM or submitit is not installed here.
    """
    if not (tracking.tracking_uri or "").startswith("http"):
        raise UsageError(
            "--launcher slurm: workers on other hosts can't reach runs that are kept in a folder",
            "give an MLflow server with --tracking-uri http://HOST:PORT",
        )
    if shutil.which("sbatch") is None:
        raise StudyError("--launcher slurm: there is no sbatch on this host", "give the command on a login node")
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise StudyError(
            "--launcher slurm: needs the package submitit", "install it with: pip install 'rnatracker[slurm]'"
        ) from None


def parse(texts: Sequence[str]) -> dict[str, str]:
    """Return what `--slurm KEY=VALUE` options say.

    Raises:
        UsageError: if one is no such pair, or has a time that is none.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        name = key.strip().lstrip("-").replace("-", "_")
        if not equals or not name or not value:
            raise UsageError(f"--slurm {text}: not KEY=VALUE", "give options of sbatch, as in --slurm partition=gpu")
        if name in found:
            raise UsageError(f"--slurm {text}: {name} is given twice", "give it once")
        if name == "time":
            minutes_in(value)
        found[name] = value
    return found


def minutes_in(text: str) -> int:
    """Return the minutes of a time limit as sbatch writes it: `90`, `4:00:00`, `1-12`, `1-12:30`.

    Raises:
        UsageError: if it is none.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--slurm time={text}: no time", "give minutes, or HOURS:MINUTES:SECONDS, or DAYS-HOURS")
    days, first, second, third = (int(each or 0) for each in match.groups())
    if match[1] is not None:  # DAYS-HOURS:MINUTES:SECONDS
        return max(days * 1440 + first * 60 + second + -(-third // 60), 1)
    if match[4] is not None:  # HOURS:MINUTES:SECONDS
        return max(first * 60 + second + -(-third // 60), 1)
    return max(first + -(-second // 60), 1)  # MINUTES, or MINUTES:SECONDS


def submit(search: Search, workers: int, options: Mapping[str, str]) -> Array:
    """Submit an array of workers, and note it in the study.

    Raises:
        StudyError: if SLURM refuses it.
    """
    request = search.request
    words = ["rnatracker", "tune", "--study", request.name, "--experiment", request.tracking.experiment, "--jobs", "1"]
    task = Task(words, environment(request.tracking) | {STORAGE: str(request.storage)})
    array = submit_tasks([task] * workers, folder_of(search.folder, request.name), request.name, options)
    with search.lock():
        search.study.set_user_attr(JOBS, [*search.study.user_attrs.get(JOBS, []), asdict(array)])
    return array


def folder_of(store: Path, name: str) -> Path:
    """Return the folder for the files of a study's or a run's jobs, made; only this user may read it."""
    folder = store / _FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(stat.S_IRWXU)  # what jobs are given has the addresses in it, with passwords
    return folder


def submit_tasks(tasks: Sequence[Task], folder: Path, name: str, options: Mapping[str, str]) -> Array:
    """Submit tasks as one array.

    Raises:
        StudyError: if SLURM refuses it.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError

    executor = SlurmExecutor(folder, max_num_timeout=_TIMEOUTS)
    try:
        executor.update_parameters(**_parameters(name, options, executor._valid_parameters()))
        with executor.batch():
            jobs = [executor.submit(task) for task in tasks]
        first = str(jobs[0].job_id)
    except (FailedJobError, subprocess.SubprocessError, OSError, ValueError) as error:
        raise StudyError(
            f"--launcher slurm: the jobs could not be submitted ({_reason(error)})",
            "correct it with --slurm KEY=VALUE; sinfo shows which partitions there are",
        ) from None
    return Array(first.split("_")[0], len(tasks), str(folder))


def environment(tracking: TrackingSettings) -> dict[str, str]:
    """Return the variables that a job needs to reach the place where runs are kept, and those that set its patience."""
    found = {TRACKING: str(tracking.tracking_uri)}
    passed = ["MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"]
    passed += [heartbeat.VARIABLE, patience.VARIABLE]
    return found | {name: os.environ[name] for name in passed if name in os.environ}


def _parameters(name: str, options: Mapping[str, str], known: set[str]) -> dict[str, Any]:
    """Return submitit's parameters: those that it knows, all others as sbatch has them."""
    found: dict[str, Any] = {"job_name": f"rnatracker-{name}", "time": _MINUTES}
    others: dict[str, Any] = {}
    for key, value in options.items():
        if key == "time":
            found["time"] = minutes_in(value)
        elif key == "setup":
            found["setup"] = [line.strip() for line in value.split(";")]
        elif key in known:
            found[key] = int(value) if value.isdigit() else value
        else:
            others[key.replace("_", "-")] = value
    found.setdefault("signal_delay_s", min(_SAVE_AHEAD_SECONDS, found["time"] * 20))  # a third of a short time
    return found | ({"additional_parameters": others} if others else {})


def _reason(error: BaseException) -> str:
    """Return what sbatch has said."""
    said = getattr(error, "stderr", None) or str(error)
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("sbatch:")]
    return (told or lines or [type(error).__name__])[-1].removeprefix("sbatch: ").removeprefix("error: ")


def arrays(search: Search) -> list[Array]:
    """Return the job arrays that were submitted for a study."""
    return [Array(**each) for each in search.study.user_attrs.get(JOBS, [])]


def states(found: Sequence[Array]) -> dict[str, str]:
    """Return what SLURM says of each job that isn't over, by its name: `RUNNING`, `PENDING`, ...

    Raises:
        SilentError: if SLURM doesn't answer.
    """
    if not found:
        return {}
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(each.job for each in found)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode and "Invalid job id" not in done.stderr:  # that is what it says of jobs that are long over
        raise SilentError(f"SLURM does not answer ({done.stderr.strip() or 'squeue failed'})", "try again later")
    known = {name for each in found for name in each.names}
    pairs = (line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip())
    return {name: state for name, state in pairs if name in known}


def cancel(search: Search) -> int:
    """End a study's jobs, which save their trials first; return how many there were."""
    alive = states(arrays(search))
    if alive:
        subprocess.run(["scancel", *alive], check=False, capture_output=True)  # noqa: S603, S607
    return len(alive)
