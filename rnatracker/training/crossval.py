"""k-fold cross-validation: a parent run, and a child run for each fold.

Owns the parent run. Must not know optuna or typer. Read next: `rnatracker/training/fold_run.py` for a
fold's run, `rnatracker/training/fold_workers.py` for folds in parallel,
`rnatracker/training/out_of_fold.py` for what all folds come to.

The fold that measures never chooses: each fold's best epoch is picked on an inner validation part of its training
transcripts, and only then is the fold itself predicted, once. The out-of-fold PCC is therefore free of the optimism of
choosing. Source: the original does the same, with 10 % inside.
"""

from __future__ import annotations

import math
from statistics import median

import numpy as np

from rnatracker import metrics
from rnatracker.prediction import run_table
from rnatracker.processes.stop import StopSignal
from rnatracker.tracking.contract import SUMMARY_STEP, TrackedRun, Tracker
from rnatracker.training.beside import Beside, nothing
from rnatracker.training.division import Training
from rnatracker.training.fold_run import run_folds
from rnatracker.training.fold_workers import run_in_parallel
from rnatracker.training.out_of_fold import OutOfFold
from rnatracker.training.parents import unseen
from rnatracker.training.reporting import LogFile, Reporter
from rnatracker.training.request import Outcome, PreparedRun
from rnatracker.training.session import describe_start, ending
from rnatracker.training.steps import seeds


def cross_validate(
    tracker: Tracker,
    run: TrackedRun,
    prepared: PreparedRun,
    trainings: list[Training],
    reporter: Reporter,
    stop: StopSignal,
    beside: Beside = nothing,
) -> Outcome:
    """Train and measure every fold that has not finished yet, then sum them up in the parent run.

    Raises:
        Interrupted: if it was stopped; finished folds stay finished.
        TrainingError: if a fold fails; others that run beside it are ended first.
    """
    with ending(run, prepared.request, stop), LogFile(run.files.log, reporter) as log:
        describe_start(run, prepared, log)
        unseen.count(run, prepared.transcripts, "test", log)
        done = {name for name, child in run.children().items() if child.status() == "FINISHED"}
        pending = [each for each in trainings if each.name not in done]
        log.line(f"{len(trainings)} folds" + (f", {len(done)} of them finished before" if done else ""))
        if prepared.request.run_folds is not None and pending:
            prepared.request.run_folds(run, prepared, pending, log, stop)
        elif prepared.request.jobs > 1 and len(pending) > 1:
            run_in_parallel(run, prepared, pending, log, stop)
        else:
            run_folds(tracker, run, prepared, pending, log, stop)
        return _summarise(run, prepared, trainings, log, beside)


def _summarise(run: TrackedRun, prepared: PreparedRun, folds: list[Training], log: Reporter, beside: Beside) -> Outcome:
    """Pool the folds' predictions and log mean, standard deviation and out-of-fold figures."""
    transcripts, children = prepared.transcripts, run.children()
    predicted = np.empty_like(transcripts.measured())
    by_fold, of_folds = [], []
    for each in folds:
        child = children[each.name]
        _, predicted[each.test], measured = run_table.read_predictions(child.files.test_predictions)
        scores = metrics.summarise(predicted[each.test], measured, transcripts.sites)
        by_fold.append({f"test/{name}": value for name, value in scores.items()})
        of_folds.append(child.metrics())
        run.log_metrics({f"fold/{name}": value for name, value in scores.items()}, each.fold)
    found = OutOfFold(transcripts, folds, predicted, by_fold)
    compared = beside(prepared, folds, predicted)
    summary = found.leave(run, compared.note) | compared.metrics
    for text in found.cautions:
        log.line(text)
    mean, overall = (metrics.shown(summary[f"oof/pcc_{name}"]) for name in ("mean", "overall"))
    log.line(f"out-of-fold PCC: mean {mean}, overall {overall}")
    networks = prepared.config.train.seeds
    if networks > 1:
        summary |= _leave_singles(run, of_folds, summary, networks, log)
    summary |= unseen.measure(run, transcripts, predicted, log)
    compared.leave(run, log)
    epoch, sites = int(median(int(each["best/epoch"]) for each in of_folds)), transcripts.sites
    state, lines = "FINISHED", compared.lines
    return Outcome(run.id, run.name, state, epoch, summary, run.folder, sites, by_fold, lines, networks)


def _leave_singles(
    run: TrackedRun,
    of_folds: list[dict[str, float]],
    summary: dict[str, float],
    networks: int,
    log: Reporter,
) -> dict[str, float]:
    """Record and say what one network of a fold reaches by itself: the mean over networks and folds."""
    names = dict.fromkeys(key for each in of_folds for key in each if key.startswith("single/"))
    singles = {name: metrics.mean_of(each.get(name, math.nan) for each in of_folds) for name in names}
    run.log_metrics(singles, SUMMARY_STEP)
    together = {name: summary[f"mean/{name}"] for name in ("pcc_mean", "pcc_overall")}
    log.line(f"mean of the folds: {seeds.said_beside(singles, together, networks)}")
    return singles
