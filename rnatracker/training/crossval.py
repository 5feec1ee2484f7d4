"""k-fold cross-validation: a parent run, and a child run for each fold.

Owns the children's runs, the folds' workers and the parent's summary. Must not know optuna or typer. Read next:
`rnatracker/training/trainings.py` for the loop over folds.

The fold that measures never chooses: each fold's best epoch is picked on an inner validation part of its training
transcripts, and only then is the fold itself predicted, once. The out-of-fold PCC is therefore free of the optimism of
choosing. Source: the original does the same, with 10 % inside.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from rnatracker import metrics, plots
from rnatracker.choices import Objective
from rnatracker.data import shared
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.errors import TrainingError
from rnatracker.prediction import run_table
from rnatracker.processes.pool import Pool
from rnatracker.processes.stop import StopSignal
from rnatracker.processes.worker import Channel, Ending, How
from rnatracker.tracking.contract import SUMMARY_STEP, TrackedRun, Tracker
from rnatracker.tracking.hints import resume_command
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.tags import Tag
from rnatracker.training.division import Training
from rnatracker.training.reporting import LogFile, Reporter
from rnatracker.training.request import Outcome, PreparedRun
from rnatracker.training.results import leave_results
from rnatracker.training.session import describe_start, ending
from rnatracker.training.trainer import EpochResult, Stopped
from rnatracker.training.trainings import Destination, Trained, Watcher, train_all


def cross_validate(
    tracker: Tracker,
    run: TrackedRun,
    prepared: PreparedRun,
    trainings: list[Training],
    reporter: Reporter,
    stop: StopSignal,
) -> Outcome:
    """Train and measure every fold that has not finished yet, then sum them up in the parent run.

    Raises:
        Interrupted: if it was stopped; finished folds stay finished.
        TrainingError: if a fold fails; others that run beside it are ended first.
    """
    with ending(run, prepared.request, stop), LogFile(run.files.log, reporter) as log:
        describe_start(run, prepared, log)
        done = {name for name, child in run.children().items() if child.status() == "FINISHED"}
        pending = [each for each in trainings if each.name not in done]
        log.line(f"{len(trainings)} folds" + (f", {len(done)} of them finished before" if done else ""))
        if prepared.request.jobs > 1 and len(pending) > 1:
            _run_in_parallel(run, prepared, pending, log, stop)
        else:
            _run_folds(tracker, run, prepared, pending, log, stop)
        return _summarise(run, prepared, trainings, log)


def _run_folds(
    tracker: Tracker,
    parent: TrackedRun,
    prepared: PreparedRun,
    folds: list[Training],
    reporter: Reporter,
    stop: StopSignal,
) -> None:
    """Train and measure folds in this process, each in a child run, new or interrupted before."""

    def child_of(fold: Training) -> AbstractContextManager[Destination]:
        return _child(tracker, parent, prepared, fold, reporter, stop)

    train_all(prepared, folds, child_of, stop, [_Measure(prepared)])


@contextmanager
def _child(
    tracker: Tracker,
    parent: TrackedRun,
    prepared: PreparedRun,
    fold: Training,
    reporter: Reporter,
    stop: StopSignal,
) -> Iterator[Destination]:
    """Open a fold's run, and end it as what happens within deserves."""
    with stop.shielded():
        child = parent.children().get(fold.name)
        if child is None:
            child = _start_fold(tracker, parent, prepared, fold)
        else:
            child.reopen()
    command = resume_command(parent, prepared.request.tracking, prepared.request.jobs)
    with ending(child, prepared.request, stop, command=command), LogFile(child.files.log, reporter) as log:
        n_test = 0 if fold.test is None else len(fold.test)
        log.line(
            f"{fold.name}: training on {len(fold.train)} transcripts, choosing the epoch on {len(fold.validation)}, "
            f"measuring on {n_test}"
        )
        yield Destination(fold, child, log, fold.name)


class _Measure(Watcher):
    """Measures each fold once it is trained.

    Args:
        prepared: what all folds share.
    """

    def __init__(self, prepared: PreparedRun) -> None:
        self._prepared = prepared

    def on_end(self, trained: Trained) -> None:
        """Predict the fold's test part, and leave figures, table and pictures in its run."""
        part, predicted = leave_results(self._prepared, trained)
        scores = metrics.summarise(predicted, part.measured(), part.sites)
        figures = {f"test/{name}": value for name, value in scores.items()} | {"best/epoch": float(trained.best.epoch)}
        trained.destination.run.log_metrics(figures, SUMMARY_STEP)
        trained.destination.log.line(
            f"{trained.destination.training.name}: epoch {trained.best.epoch} measured on the fold: PCC mean "
            f"{scores['pcc_mean']:.3f}, overall {scores['pcc_overall']:.3f}"
        )


def _start_fold(tracker: Tracker, parent: TrackedRun, prepared: PreparedRun, fold: Training) -> TrackedRun:
    tags = {
        Tag.KIND: "fold",
        Tag.FOLD: str(fold.fold),
        Tag.DATA_DIGEST: prepared.transcripts.digest(),
        Tag.THREADS: str(prepared.threads),
    }
    params = prepared.config.flat() | {"fold": fold.fold}
    return tracker.start(log_name=None, params=params, tags=tags, dataset=None, parent=parent, name=fold.name)


def _summarise(run: TrackedRun, prepared: PreparedRun, folds: list[Training], log: Reporter) -> Outcome:
    """Pool the folds' predictions and log mean, standard deviation and out-of-fold figures."""
    transcripts, children = prepared.transcripts, run.children()
    predicted = np.empty_like(transcripts.measured())
    by_fold, best_epochs = [], []
    for each in folds:
        child = children[each.name]
        _, predicted[each.test], measured = run_table.read_predictions(child.files.test_predictions)
        scores = metrics.summarise(predicted[each.test], measured, transcripts.sites)
        by_fold.append({f"test/{name}": value for name, value in scores.items()})
        best_epochs.append(int(child.metrics()["best/epoch"]))
        run.log_metrics({f"fold/{name}": value for name, value in scores.items()}, each.fold)
    out_of_fold = metrics.summarise(predicted, transcripts.measured(), transcripts.sites)
    summary = _statistics(by_fold) | {f"oof/{name}": value for name, value in out_of_fold.items()}
    if transcripts.replicates is not None:
        ceiling = metrics.summarise(*transcripts.replicates, transcripts.sites)
        summary |= {f"ceiling/{name}": value for name, value in ceiling.items()}
    run.log_metrics(summary, SUMMARY_STEP)
    _leave_out_of_fold(run, transcripts, predicted, len(folds))
    run.describe(_note(summary, transcripts.sites, len(folds)))
    log.line(f"out-of-fold PCC: mean {summary['oof/pcc_mean']:.3f}, overall {summary['oof/pcc_overall']:.3f}")
    return Outcome(
        run.id, run.name, "FINISHED", int(median(best_epochs)), summary, run.folder, transcripts.sites, by_fold
    )


def _leave_out_of_fold(run: TrackedRun, transcripts: Transcripts, predicted: Fractions, n_folds: int) -> None:
    """Leave a table and a picture of all transcripts in the parent run."""
    measured, sites = transcripts.measured(), transcripts.sites
    run_table.write_predictions(run.files.out_of_fold_predictions, transcripts.ids, sites, predicted, measured)
    plots.predicted_against_measured(
        predicted,
        measured,
        sites,
        run.files.predicted_against_measured,
        title=f"{run.name}: out-of-fold, {len(transcripts)} transcripts, {n_folds} folds",
    )


def _statistics(by_fold: list[dict[str, float]]) -> dict[str, float]:
    summary = {}
    for key in by_fold[0]:
        values = np.array([scores[key] for scores in by_fold])
        name = key.removeprefix("test/")
        summary[f"mean/{name}"] = float(values.mean())
        summary[f"sd/{name}"] = float(values.std(ddof=1))
    return summary


def _note(summary: dict[str, float], sites: tuple[str, ...], n_folds: int) -> str:
    rows = [
        f"| {name} | {summary[f'oof/pcc_{name}']:.3f} | {summary[f'mean/pcc_{name}']:.3f} "
        f"| {summary[f'sd/pcc_{name}']:.3f} |"
        for name in (*sites, "mean", "overall")
    ]
    header = [f"{n_folds}-fold cross-validation, PCC on transcripts that chose nothing:", ""]
    return "\n".join([*header, "| site | out-of-fold | mean of folds | sd |", "|---|---|---|---|", *rows])


_NO_TRANSCRIPTS = Transcripts((), np.empty(0, np.uint8), np.zeros(1, np.int64))


@dataclass(frozen=True)
class _FoldTask:
    """What a worker is given; the transcripts come from the shared folder."""

    prepared: PreparedRun
    parent_id: str
    fold: Training
    data: Path


class _Relay:
    """A reporter that sends everything to the main process, as the name of its method and the values."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def line(self, text: str) -> None:
        self._channel.send(("line", (text,)))

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        self._channel.send(("batch", (label, epoch, epochs, done, total)))

    def epoch(self, label: str, result: EpochResult, epochs: int, objective: Objective) -> None:
        self._channel.send(("epoch", (label, result, epochs, objective)))

    def end(self, label: str) -> None:
        self._channel.send(("end", (label,)))


class _Failures:
    """The folds whose workers failed, by what was wrong.

    Args:
        reporter: told of each at once: other folds may train for hours yet.
        stop: whether the stop of a worker was asked for here.
    """

    def __init__(self, reporter: Reporter, stop: StopSignal) -> None:
        self._reporter, self._stop = reporter, stop
        self._folds: dict[tuple[str, str], list[str]] = {}

    def take_end(self, name: str, end: Ending) -> None:
        """Take how a fold's worker has ended."""
        if end.how is How.FAILED:
            self._add(name, end.message, end.remedy)
        elif end.how is How.STOPPED and not self._stop():  # somebody else has stopped it, and its fold is not trained
            self._add(name, "its process was stopped", "resume the run")
        elif end.how is How.DIED and not self._stop():
            remedy = "if memory ran out, use fewer --jobs; then resume the run"
            self._add(name, f"its process died ({end.message})", remedy)

    def _add(self, name: str, problem: str, remedy: str) -> None:
        self._reporter.line(f"{name} failed: {'; '.join(filter(None, (problem, remedy)))}")
        self._folds.setdefault((problem, remedy), []).append(name)

    def check(self) -> None:
        """Check that there were none.

        Raises:
            TrainingError: if any fold failed.
        """
        if self._folds:
            problems = (f"{', '.join(names)}: {problem}" for (problem, _), names in self._folds.items())
            remedies = dict.fromkeys(remedy for _, remedy in self._folds if remedy)
            raise TrainingError("; ".join(problems), "; ".join(remedies))


def _run_in_parallel(
    run: TrackedRun, prepared: PreparedRun, folds: list[Training], reporter: Reporter, stop: StopSignal
) -> None:
    """Run folds, as many at a time as the request's `jobs`.

    Raises:
        Stopped: if it was asked to; the workers have saved and ended.
        TrainingError: if any fold failed; the others have been trained to their end.
    """

    def pass_on(_name: str, message: tuple[str, tuple[Any, ...]]) -> None:
        method, values = message
        getattr(reporter, method)(*values)

    failures = _Failures(reporter, stop)
    pool = Pool(
        "rnatracker.training.crossval:work", prepared.request.jobs, on_message=pass_on, on_end=failures.take_end
    )
    with tempfile.TemporaryDirectory(prefix="rnatracker-") as folder, stop.polite():
        shared.dump(prepared.transcripts, Path(folder))
        light = replace(prepared, transcripts=_NO_TRANSCRIPTS)
        for fold in folds:
            pool.add(fold.name, _FoldTask(light, run.id, fold, Path(folder)))
        try:
            pool.run(stop)
        finally:
            _end_orphans(run, stop())
    if stop():
        raise Stopped
    failures.check()


def work(task: _FoldTask, channel: Channel, stop: StopSignal) -> None:
    """Run one fold in a worker process."""
    prepared = replace(task.prepared, transcripts=shared.open_shared(task.data))
    tracker = open_tracker(prepared.request.tracking)
    _run_folds(tracker, tracker.find(task.parent_id), prepared, [task.fold], _Relay(channel), stop)


def _end_orphans(run: TrackedRun, stopped: bool) -> None:
    """End the runs of workers that could not do so themselves, since they were killed."""
    for child in run.children().values():
        if child.status() == "RUNNING":
            child.finish("KILLED" if stopped else "FAILED", "its process was killed")
