"""k-fold cross-validation: a parent run, and a child run for each fold.

Owns the division into folds and the parent's summary. Must not know optuna or typer. Read next:
`rnatracker/workers.py` for folds in parallel.

The fold that measures never chooses: each fold's best epoch is picked on an inner validation part of its training
transcripts, and only then is the fold itself predicted, once. The out-of-fold PCC is therefore free of the optimism of
choosing. Source: the original does the same, with 10 % inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import numpy as np

from rnatracker import artifacts, metrics, plots
from rnatracker.data import folds
from rnatracker.encoding import Indices
from rnatracker.errors import about
from rnatracker.invocation import resume_command
from rnatracker.reporting import LogFile, Reporter
from rnatracker.request import Outcome, Setting
from rnatracker.session import describe_start, ending, fit, leave_results
from rnatracker.stop import StopSignal
from rnatracker.tracked import SUMMARY_STEP, TrackedRun, Tracker


@dataclass(frozen=True)
class FoldPlan:
    """Which transcripts do what in one fold.

    Attributes:
        number: from 1.
        train: indices that are trained on.
        inner: indices on which the best epoch is chosen.
        test: indices of the fold itself, on which it is measured.
    """

    number: int
    train: Indices
    inner: Indices
    test: Indices

    @property
    def name(self) -> str:
        """Name of the fold's run."""
        return f"fold{self.number}"


def plan(setting: Setting) -> list[FoldPlan]:
    """Divide the transcripts into folds, groups kept together.

    Raises:
        DataError: if there are too few groups.
    """
    data, n = setting.config.data, len(setting.transcripts)
    groups = folds.default_groups(setting.transcripts)
    plans = []
    with about(setting.transcripts.source):
        for number, test in enumerate(folds.k_folds(n, groups, data.fold, data.split_seed), start=1):
            rest = np.setdiff1d(np.arange(n), test)
            of_rest = [groups[i] for i in rest]
            train, inner = folds.hold_out(len(rest), of_rest, data.inner_val, data.split_seed + number)
            plans.append(FoldPlan(number, rest[train], rest[inner], test))
    return plans


def digest(setting: Setting, plans: list[FoldPlan]) -> str:
    """Return what identifies this division into folds and inner parts."""
    parts = [part for each in plans for part in (each.train, each.inner, each.test)]
    return folds.assignment_digest(parts, setting.transcripts.ids)


def cross_validate(
    tracker: Tracker, run: TrackedRun, setting: Setting, plans: list[FoldPlan], reporter: Reporter, stop: StopSignal
) -> Outcome:
    """Train and measure every fold that has not finished yet, then sum them up in the parent run.

    Raises:
        Interrupted: if it was stopped; finished folds stay finished.
        TrainingError: if a fold fails; others that run beside it are ended first.
    """
    from rnatracker import workers  # it imports this module, in every worker

    with ending(run, setting.request, stop), LogFile(run.folder / "log.txt", reporter) as log:
        describe_start(run, setting, log)
        done = {name for name, child in run.children().items() if child.status() == "FINISHED"}
        pending = [each for each in plans if each.name not in done]
        log.line(f"{len(plans)} folds" + (f", {len(done)} of them finished before" if done else ""))
        if setting.request.jobs > 1 and len(pending) > 1:
            workers.run_folds(run, setting, pending, log, stop)
        else:
            for each in pending:
                run_fold(tracker, run, setting, each, log, stop)
        return _summarise(run, setting, plans, log)


def run_fold(
    tracker: Tracker, parent: TrackedRun, setting: Setting, fold: FoldPlan, reporter: Reporter, stop: StopSignal
) -> None:
    """Train one fold in a child run, new or interrupted before, and measure it."""
    with stop.shielded():
        child = parent.children().get(fold.name)
        if child is None:
            child = _start_fold(tracker, parent, setting, fold)
        else:
            child.reopen()
    command = resume_command(parent, setting.request.tracking, setting.request.jobs)
    with (
        ending(child, setting.request, stop, command=command),
        LogFile(child.folder / "log.txt", reporter) as log,
    ):
        log.line(
            f"{fold.name}: training on {len(fold.train)} transcripts, choosing the epoch on {len(fold.inner)}, "
            f"measuring on {len(fold.test)}"
        )
        history, best = fit(child, setting, (fold.train, fold.inner), log, fold.name, stop)
        part, predicted = leave_results(child, setting, best, history, fold.test, "test")
        scores = metrics.summarise(predicted, part.measured(), part.sites)
        child.log_metrics(
            {f"test/{name}": value for name, value in scores.items()} | {"best/epoch": float(best.epoch)}, SUMMARY_STEP
        )
        log.line(
            f"{fold.name}: epoch {best.epoch} measured on the fold: PCC mean {scores['pcc_mean']:.3f}, "
            f"overall {scores['pcc_overall']:.3f}"
        )


def _start_fold(tracker: Tracker, parent: TrackedRun, setting: Setting, fold: FoldPlan) -> TrackedRun:
    tags = {
        "rnatracker.kind": "fold",
        "rnatracker.fold": str(fold.number),
        "rnatracker.data_digest": setting.transcripts.digest(),
        "rnatracker.threads": str(setting.threads),
    }
    params = setting.config.flat() | {"fold": fold.number}
    return tracker.start(log_name=None, params=params, tags=tags, dataset=None, parent=parent, name=fold.name)


def _summarise(run: TrackedRun, setting: Setting, plans: list[FoldPlan], log: Reporter) -> Outcome:
    """Pool the folds' predictions and log mean, standard deviation and out-of-fold figures."""
    transcripts, children = setting.transcripts, run.children()
    predicted = np.empty_like(transcripts.measured())
    by_fold, best_epochs = [], []
    for each in plans:
        child = children[each.name]
        _, predicted[each.test], measured = artifacts.read_predictions(child.folder / "predictions" / "test.tsv")
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
    artifacts.write_predictions(
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
