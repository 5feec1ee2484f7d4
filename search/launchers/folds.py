"""The folds of a cross-validation as jobs of SLURM: each job trains and measures one, in its child run.

Owns submitting folds and waiting for them. What a job does is `fold_job.py`'s. Must not know typer. Read next:
`slurm.py` for jobs, `rnatracker/training/crossval.py`, which calls this and sums the folds up.
"""

from __future__ import annotations

import json
import pickle
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rnatracker.errors import TrackingError, TrainingError
from rnatracker.processes.stop import StopSignal
from rnatracker.search.launchers import slurm
from rnatracker.search.launchers.slurm import Array
from rnatracker.search.launchers.task import Task
from rnatracker.search.remote.patience import patiently
from rnatracker.search.trial_runs import is_lost
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.names import masked
from rnatracker.tracking.tags import Tag
from rnatracker.training.division import Training
from rnatracker.training.fold_workers import without_transcripts
from rnatracker.training.reporting import Reporter
from rnatracker.training.request import PreparedRun
from rnatracker.training.trainer import Stopped

_ASK_SECONDS = 5.0
"""How often SLURM and the tracking server are asked."""
_TICK_SECONDS = 0.2
_DATA = "data-"
_SERVER = "the tracking server"
_MODULE = "rnatracker.search.launchers.fold_job"


@dataclass(frozen=True)
class FoldTask:
    """What a job is given, in a file.

    Attributes:
        prepared: what all folds share, without transcripts.
        parent_id: the cross-validation's run.
        fold: what to train.
        data: the folder with the transcripts, which the nodes see.
    """

    prepared: PreparedRun
    parent_id: str
    fold: Training
    data: Path


class SlurmFolds:
    """Trains folds as jobs of SLURM; a `RunFolds`.

    Args:
        options: of sbatch.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = options

    def __call__(
        self, run: TrackedRun, prepared: PreparedRun, folds: list[Training], reporter: Reporter, stop: StopSignal, /
    ) -> None:
        """Submit the folds that are no jobs yet, and wait for all.

        Raises:
            Stopped: if a stop was asked for; the jobs go on.
            StudyError: if SLURM refuses them.
            TrainingError: if a job ends and its fold has not finished.
        """
        folder = slurm.folder_of(prepared.request.tracking.store, f"{run.name}-{run.id[:8]}")
        jobs = jobs_of(run)
        alive = slurm.states(list(jobs.values()))
        new = [fold for fold in folds if fold.name not in jobs or jobs[fold.name].job not in alive]
        if new:
            with stop.shielded():  # a job that isn't noted would be submitted again
                jobs |= self._submit(run, prepared, new, folder)
                noted = {"folder": str(folder), "jobs": {name: each.job for name, each in jobs.items()}}
                patiently(lambda: run.set_tags({Tag.JOBS: json.dumps(noted)}), is_lost, _SERVER)
            reporter.line(f"submitted {', '.join(each.name for each in new)} as jobs; their logs: {folder}")
        _Watch(run, {fold.name: jobs[fold.name] for fold in folds}, reporter).wait(stop)
        for data in folder.glob(f"{_DATA}*"):
            shutil.rmtree(data, ignore_errors=True)

    def _submit(self, run: TrackedRun, prepared: PreparedRun, folds: list[Training], folder: Path) -> dict[str, Array]:
        """Submit folds as one array; return each one's job."""
        data = Path(tempfile.mkdtemp(prefix=_DATA, dir=folder))  # another's may be read by jobs that go on
        with ExitStack() as unless_submitted:
            unless_submitted.callback(shutil.rmtree, data, ignore_errors=True)
            array = self._submit_with(run, prepared, folds, folder, data)
            unless_submitted.pop_all()
        return {fold.name: Array(job, 1, str(folder)) for fold, job in zip(folds, array.names, strict=True)}

    def _submit_with(
        self, run: TrackedRun, prepared: PreparedRun, folds: list[Training], folder: Path, data: Path
    ) -> Array:
        """Submit folds whose transcripts are to lie in a folder."""
        request = replace(prepared.request, run_folds=None, jobs=1)
        light = without_transcripts(replace(prepared, request=request), data)
        tasks = []
        for fold in folds:
            path = folder / f"{fold.name}.pickle"
            path.write_bytes(pickle.dumps(FoldTask(light, run.id, fold, data)))
            tasks.append(Task([_MODULE, str(path)], slurm.environment(prepared.request.tracking)))
        return slurm.submit_tasks(tasks, folder, run.name, self._options)


def jobs_of(run: TrackedRun) -> dict[str, Array]:
    """Return the jobs that a cross-validation's folds were submitted as, by the fold's name."""
    noted = json.loads(run.tags().get(Tag.JOBS) or '{"folder": "", "jobs": {}}')
    return {name: Array(job, 1, noted["folder"]) for name, job in noted["jobs"].items()}


def check_no_jobs(run: TrackedRun) -> None:
    """Check that no fold of a run is a job that hasn't ended: it would be trained twice.

    Raises:
        TrackingError: if one is, or that can't be seen here.
    """
    if not run.tags().get(Tag.JOBS):
        return
    if shutil.which("squeue") is None:
        raise TrackingError(
            f"run {run.name}: its folds were submitted as jobs of SLURM, and this host has no squeue to see whether "
            "they have ended",
            "resume it on a login node with --launcher slurm",
        )
    alive = sorted(slurm.states(list(jobs_of(run).values())))
    if alive:
        raise TrackingError(
            f"run {run.name}: its folds are jobs of SLURM that have not ended ({', '.join(alive)})",
            f"watch them with --launcher slurm, or end them with: scancel {' '.join(alive)}",
        )


class _Watch:
    """Watches jobs until all their folds have finished.

    Args:
        run: the cross-validation's.
        jobs: by fold.
        reporter: told what becomes of them.
    """

    def __init__(self, run: TrackedRun, jobs: Mapping[str, Array], reporter: Reporter) -> None:
        self._run, self._jobs, self._reporter = run, jobs, reporter
        self._told: dict[str, str] = {}

    def wait(self, stop: StopSignal) -> None:
        """Wait for them; see `SlurmFolds`."""
        asked = -_ASK_SECONDS
        with stop.polite():
            while not stop():
                if time.monotonic() - asked >= _ASK_SECONDS:
                    asked = time.monotonic()
                    with suppress(slurm.SilentError):  # it is asked again
                        if self._look():
                            return
                time.sleep(_TICK_SECONDS)
        self._reporter.line("the jobs go on; resume the run to watch them and to sum the folds up")
        raise Stopped

    def _look(self) -> bool:
        """Tell whether all folds have finished, and their jobs have ended: what they made is on the server then."""
        alive = slurm.states(list(self._jobs.values()))  # first: a fold that ends in between has finished
        states = patiently(self._states, is_lost, _SERVER)
        is_done = {name: states.get(name) == "FINISHED" for name in self._jobs}
        for name, each in self._jobs.items():
            ended = "has finished" if is_done[name] else "its job has ended before the fold had finished"
            self._tell(name, alive.get(each.job, ended).lower())
        open_folds = [name for name, each in self._jobs.items() if not is_done[name] or each.job in alive]
        gone = [name for name in open_folds if self._jobs[name].job not in alive]
        if gone and len(gone) == len(open_folds):
            logs = ", ".join(str(self._jobs[name].log(self._jobs[name].job)) for name in gone)
            raise TrainingError(
                f"{', '.join(gone)}: the job has ended, and the fold has not finished; see {logs}",
                "then resume the run: finished folds stay, the others go on where they were saved",
            )
        return not open_folds

    def _states(self) -> dict[str, str]:
        return {name: child.status() for name, child in self._run.children().items()}

    def _tell(self, name: str, state: str) -> None:
        if state and self._told.get(name) != state:
            self._told[name] = state
            self._reporter.line(masked(f"{name}: {state}, job {self._jobs[name].job}"))
