"""k-fold cross-validation: a parent run, and a child run for each fold.

Owns the division into folds and the parent's summary. Must not know optuna or typer. Read next:
`rnatracker/training/crossval.py` for folds in parallel.

The fold that measures never chooses: each fold's best epoch is picked on an inner validation part of its training
transcripts, and only then is the fold itself predicted, once. The out-of-fold PCC is therefore free of the optimism of
choosing. Source: the original does the same, with 10 % inside.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from rnatracker import metrics, plots
from rnatracker.choices import Objective
from rnatracker.data import shared
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import TrainingError
from rnatracker.prediction import run_table
from rnatracker.processes.pool import Pool
from rnatracker.processes.stop import StopSignal
from rnatracker.processes.worker import Channel, Ending, How
from rnatracker.tracking.contract import SUMMARY_STEP, TrackedRun, Tracker
from rnatracker.tracking.hints import resume_command
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.tags import Tag
from rnatracker.training.division import FoldPlan
from rnatracker.training.reporting import LogFile, Reporter
from rnatracker.training.request import Outcome, PreparedRun
from rnatracker.training.session import describe_start, ending, fit, leave_results
from rnatracker.training.trainer import EpochResult, Stopped


def cross_validate(
    tracker: Tracker,
    run: TrackedRun,
    prepared: PreparedRun,
    plans: list[FoldPlan],
    reporter: Reporter,
    stop: StopSignal,
) -> Outcome:
    """Train and measure every fold that has not finished yet, then sum them up in the parent run.

    Raises:
        Interrupted: if it was stopped; finished folds stay finished.
        TrainingError: if a fold fails; others that run beside it are ended first.
    """
    with ending(run, prepared.request, stop), LogFile(run.folder / "log.txt", reporter) as log:
        describe_start(run, prepared, log)
        done = {name for name, child in run.children().items() if child.status() == "FINISHED"}
        pending = [each for each in plans if each.name not in done]
        log.line(f"{len(plans)} folds" + (f", {len(done)} of them finished before" if done else ""))
        if prepared.request.jobs > 1 and len(pending) > 1:
            _run_in_parallel(run, prepared, pending, log, stop)
        else:
            for each in pending:
                run_fold(tracker, run, prepared, each, log, stop)
        return _summarise(run, prepared, plans, log)


def run_fold(
    tracker: Tracker, parent: TrackedRun, prepared: PreparedRun, fold: FoldPlan, reporter: Reporter, stop: StopSignal
) -> None:
    """Train one fold in a child run, new or interrupted before, and measure it."""
    with stop.shielded():
        child = parent.children().get(fold.name)
        if child is None:
            child = _start_fold(tracker, parent, prepared, fold)
        else:
            child.reopen()
    command = resume_command(parent, prepared.request.tracking, prepared.request.jobs)
    with (
        ending(child, prepared.request, stop, command=command),
        LogFile(child.folder / "log.txt", reporter) as log,
    ):
        log.line(
            f"{fold.name}: training on {len(fold.train)} transcripts, choosing the epoch on {len(fold.inner)}, "
            f"measuring on {len(fold.test)}"
        )
        history, best = fit(child, prepared, (fold.train, fold.inner), log, fold.name, stop)
        part, predicted = leave_results(child, prepared, best, history, fold.test, "test")
        scores = metrics.summarise(predicted, part.measured(), part.sites)
        child.log_metrics(
            {f"test/{name}": value for name, value in scores.items()} | {"best/epoch": float(best.epoch)}, SUMMARY_STEP
        )
        log.line(
            f"{fold.name}: epoch {best.epoch} measured on the fold: PCC mean {scores['pcc_mean']:.3f}, "
            f"overall {scores['pcc_overall']:.3f}"
        )


def _start_fold(tracker: Tracker, parent: TrackedRun, prepared: PreparedRun, fold: FoldPlan) -> TrackedRun:
    tags = {
        Tag.KIND: "fold",
        Tag.FOLD: str(fold.number),
        Tag.DATA_DIGEST: prepared.transcripts.digest(),
        Tag.THREADS: str(prepared.threads),
    }
    params = prepared.config.flat() | {"fold": fold.number}
    return tracker.start(log_name=None, params=params, tags=tags, dataset=None, parent=parent, name=fold.name)


def _summarise(run: TrackedRun, prepared: PreparedRun, plans: list[FoldPlan], log: Reporter) -> Outcome:
    """Pool the folds' predictions and log mean, standard deviation and out-of-fold figures."""
    transcripts, children = prepared.transcripts, run.children()
    predicted = np.empty_like(transcripts.measured())
    by_fold, best_epochs = [], []
    for each in plans:
        child = children[each.name]
        _, predicted[each.test], measured = run_table.read_predictions(child.folder / "predictions" / "test.tsv")
        scores = metrics.summarise(predicted[each.test], measured, transcripts.sites)
        by_fold.append({f"test/{name}": value for name, value in scores.items()})
        best_epochs.append(int(child.metrics()["best/epoch"]))
        run.log_metrics({f"fold/{name}": value for name, value in scores.items()}, each.number)
    summary = _statistics(by_fold) | {
        f"oof/{name}": value
        for name, value in metrics.summarise(predicted, transcripts.measured(), transcripts.sites).items()
    }
    if transcripts.replicates is not None:
        ceiling = metrics.summarise(*transcripts.replicates, transcripts.sites)
        summary |= {f"ceiling/{name}": value for name, value in ceiling.items()}
    run.log_metrics(summary, SUMMARY_STEP)
    run_table.write_predictions(
        run.folder / "predictions" / "out_of_fold.tsv",
        transcripts.ids,
        transcripts.sites,
        predicted,
        transcripts.measured(),
    )
    pictures = run.folder / "plots"
    pictures.mkdir(exist_ok=True)
    plots.predicted_against_measured(
        predicted,
        transcripts.measured(),
        transcripts.sites,
        pictures / "predicted_against_measured.png",
        title=f"{run.name}: out-of-fold, {len(transcripts)} transcripts, {len(plans)} folds",
    )
    run.describe(_note(summary, transcripts.sites, len(plans)))
    log.line(f"out-of-fold PCC: mean {summary['oof/pcc_mean']:.3f}, overall {summary['oof/pcc_overall']:.3f}")
    return Outcome(
        run.id, run.name, "FINISHED", int(median(best_epochs)), summary, run.folder, transcripts.sites, by_fold
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
    fold: FoldPlan
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


def _run_in_parallel(
    run: TrackedRun, prepared: PreparedRun, plans: list[FoldPlan], reporter: Reporter, stop: StopSignal
) -> None:
    """Run folds, as many at a time as the request's `jobs`.

    Raises:
        Stopped: if it was asked to; the workers have saved and ended.
        TrainingError: with the first fold's message, if any failed; the others have been trained to their end.
    """
    failures: dict[str, list[str]] = {}

    def fail(name: str, message: str) -> None:  # said at once: other folds may train for hours yet
        reporter.line(f"{name} failed: {message}")
        failures.setdefault(message, []).append(name)

    def pass_on(_name: str, message: tuple[str, tuple[Any, ...]]) -> None:
        method, values = message
        getattr(reporter, method)(*values)

    def take_end(name: str, ending: Ending) -> None:
        if ending.how is How.FAILED:
            fail(name, "; ".join(filter(None, (ending.message, ending.remedy))))
        elif ending.how is How.STOPPED and not stop():  # somebody else has stopped it, and its fold is not trained
            fail(name, "its process was stopped; resume the run")
        elif ending.how is How.DIED and not stop():
            fail(
                name,
                f"its process died ({ending.message}); if memory ran out, use fewer --jobs; then resume the run",
            )

    pool = Pool("rnatracker.training.crossval:work", prepared.request.jobs, on_message=pass_on, on_end=take_end)
    with tempfile.TemporaryDirectory(prefix="rnatracker-") as folder, stop.polite():
        shared.dump(prepared.transcripts, Path(folder))
        light = replace(prepared, transcripts=_NO_TRANSCRIPTS)
        for plan in plans:
            pool.add(plan.name, _FoldTask(light, run.id, plan, Path(folder)))
        try:
            pool.run(stop)
        finally:
            _end_orphans(run, stop())
    if stop():
        raise Stopped
    if failures:
        raise TrainingError("; ".join(f"{', '.join(names)}: {message}" for message, names in failures.items()))


def work(task: _FoldTask, channel: Channel, stop: StopSignal) -> None:
    """Run one fold in a worker process."""
    prepared = replace(task.prepared, transcripts=shared.open_shared(task.data))
    tracker = open_tracker(prepared.request.tracking)
    run_fold(tracker, tracker.find(task.parent_id), prepared, task.fold, _Relay(channel), stop)


def _end_orphans(run: TrackedRun, stopped: bool) -> None:
    """End the runs of workers that could not do so themselves, since they were killed."""
    for child in run.children().values():
        if child.status() == "RUNNING":
            child.finish("KILLED" if stopped else "FAILED", "its process was killed")
