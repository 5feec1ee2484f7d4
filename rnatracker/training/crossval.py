"""k-fold cross-validation: a parent run, and a child run for each fold.

Owns the parent run and its summary. Must not know optuna or typer. Read next: `rnatracker/training/fold_run.py` for a
fold's run, `rnatracker/training/fold_workers.py` for folds in parallel.

The fold that measures never chooses: each fold's best epoch is picked on an inner validation part of its training
transcripts, and only then is the fold itself predicted, once. The out-of-fold PCC is therefore free of the optimism of
choosing. Source: the original does the same, with 10 % inside.
"""

from __future__ import annotations

from statistics import median

import numpy as np

from rnatracker import metrics, plots
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.escapes import markdown
from rnatracker.prediction import run_table
from rnatracker.processes.stop import StopSignal
from rnatracker.tracking.contract import SUMMARY_STEP, TrackedRun, Tracker
from rnatracker.training.division import Training, said_of_folds
from rnatracker.training.fold_run import run_folds
from rnatracker.training.fold_workers import run_in_parallel
from rnatracker.training.reporting import LogFile, Reporter
from rnatracker.training.request import Outcome, PreparedRun
from rnatracker.training.session import describe_start, ending


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
            run_in_parallel(run, prepared, pending, log, stop)
        else:
            run_folds(tracker, run, prepared, pending, log, stop)
        return _summarise(run, prepared, trainings, log)


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
    cautions = _cautions(transcripts, folds)
    run.describe(_note(summary, transcripts.sites, len(folds), cautions))
    for text in cautions:
        log.line(text)
    mean, overall = (metrics.shown(summary[f"oof/pcc_{name}"]) for name in ("mean", "overall"))
    log.line(f"out-of-fold PCC: mean {mean}, overall {overall}")
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
    """Return each figure's mean and standard deviation over the folds in which it is defined."""
    summary = {}
    for key in by_fold[0]:
        values = [scores[key] for scores in by_fold]
        name = key.removeprefix("test/")
        summary[f"mean/{name}"] = metrics.mean_of(values)
        summary[f"sd/{name}"] = metrics.sd_of(values)
    return summary


def _cautions(transcripts: Transcripts, folds: list[Training]) -> list[str]:
    """Word what a reader of the folds' figures should know."""
    measured = transcripts.measured()
    return said_of_folds(
        (each.name, text)
        for each in folds
        for text in metrics.cautions(measured[each.test], transcripts.sites, "test transcript")
    )


def _note(summary: dict[str, float], sites: tuple[str, ...], n_folds: int, cautions: list[str]) -> str:
    groups = ("oof", "mean", "sd")
    rows = [
        f"| {markdown(name)} | {' | '.join(metrics.shown(summary[f'{group}/pcc_{name}']) for group in groups)} |"
        for name in (*sites, "mean", "overall")
    ]
    header = [f"{n_folds}-fold cross-validation, PCC on transcripts that chose nothing:", ""]
    table = ["| site | out-of-fold | mean of folds | sd |", "|---|---|---|---|", *rows]
    return "\n".join([*header, *table, *(f"\n{markdown(text)}." for text in cautions)])
