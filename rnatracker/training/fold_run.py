"""A fold's run: a child of the cross-validation's, trained and then measured.

Must not know optuna or typer. Read next: `rnatracker/training/fold_loop.py` for the loop over folds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from rnatracker import metrics
from rnatracker.processes.stop import StopSignal
from rnatracker.tracking.contract import SUMMARY_STEP, TrackedRun, Tracker
from rnatracker.tracking.hints import resume_command
from rnatracker.tracking.tags import Tag
from rnatracker.training.artifacts import leave_results
from rnatracker.training.division import Training
from rnatracker.training.fold_loop import Destination, Trained, Watcher, train_all
from rnatracker.training.reporting import LogFile, Reporter
from rnatracker.training.request import PreparedRun
from rnatracker.training.session import ending
from rnatracker.training.steps import seeds


def run_folds(
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
        results, destination = leave_results(self._prepared, trained), trained.destination
        scores, singles = results.scores, results.of_single()
        figures = {f"test/{name}": value for name, value in scores.items()} | {"best/epoch": float(trained.best_epoch)}
        destination.run.log_metrics(figures | singles, SUMMARY_STEP)
        destination.log.line(
            f"{destination.training.name}: {trained.model} measured on the fold: PCC mean "
            f"{metrics.shown(scores['pcc_mean'])}, overall {metrics.shown(scores['pcc_overall'])}"
        )
        destination.run.flush()
        destination.run.publish(now=True)  # before the run may be taken for finished elsewhere
        if singles:
            said = seeds.said_beside(singles, scores, len(trained.networks))
            destination.log.line(f"{destination.training.name}: {said}")


def _start_fold(tracker: Tracker, parent: TrackedRun, prepared: PreparedRun, fold: Training) -> TrackedRun:
    tags = {
        Tag.KIND: "fold",
        Tag.FOLD: str(fold.fold),
        Tag.DATA_DIGEST: prepared.transcripts.digest(),
        Tag.THREADS: str(prepared.threads),
    }
    params = prepared.config.flat() | {"fold": fold.fold}
    return tracker.start(log_name=None, params=params, tags=tags, dataset=None, parent=parent, name=fold.name)
