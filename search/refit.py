"""What the best settings are worth: trained again with fresh seeds, measured on folds that chose nothing.

Owns the comparison. Must not know typer. Read next: `records/verdict.py` for the figures,
`rnatracker/training/fold_run.py` for how a fold is measured.

A study's best value is the best of many epochs and of many trials, so it promises too much. Here the best settings
and the starting config are cross-validated with seeds that the study has not seen: each seed gives other weights and
another division into folds, the same for all settings. Each fold's test part neither chose the epoch nor was predicted
in the search. What remains is that a transcript tested here was, in other folds or in a single division, among those on
which settings were compared: for a figure without even that, set records aside before the search (`rnatracker data
split`).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from rnatracker import files, metrics
from rnatracker.config import Config
from rnatracker.errors import StudyError, TrackingError
from rnatracker.search import summary
from rnatracker.search.faults import lost_runs
from rnatracker.search.front.pareto import to_measure
from rnatracker.search.hints import study_command
from rnatracker.search.launchers.folds import check_no_jobs
from rnatracker.search.records import leave
from rnatracker.search.records import verdict as verdicts
from rnatracker.search.records.verdict import Refitted, Verdict, judge
from rnatracker.search.sampling import REASON
from rnatracker.search.study import RUN_ID, Search, state_of
from rnatracker.search.trial_runs import opened_tracker
from rnatracker.tracking.contract import SUMMARY_STEP, NoRunError, TrackedRun, Tracker
from rnatracker.tracking.tags import Tag
from rnatracker.training.beside import Beside, nothing
from rnatracker.training.reporting import Reporter
from rnatracker.training.request import RunFolds, RunRequest
from rnatracker.training.run import resume, train

_FOLDS = 3
"""Folds where the study has none."""
_SEEDS_FROM = 1000
"""Fresh seeds are the study's own and this much more, and upwards."""
_RUN = "refit:{}"
"""Attribute of a study: the run of some settings with a seed, finished or not."""


def refit(
    search: Search,
    reporter: Reporter,
    say: Callable[[str], None],
    *,
    best: int,
    seeds: int,
    jobs: int,
    run_folds: RunFolds | None = None,
    beside: Beside = nothing,
) -> Verdict:
    """Cross-validate the best settings and the starting config with fresh seeds; resumes where it was interrupted.

    Args:
        search: the study.
        reporter: told how trainings go.
        say: told lines for people.
        best: how many of the best settings beside the starting config; in a study with a cost the front's first.
        seeds: how many fresh seeds.
        jobs: folds that are trained at a time.
        run_folds: trains folds elsewhere; None: they are trained here.
        beside: compares each cross-validation with simple models.

    Raises:
        StudyError: if no trial but the one with the starting config has been completed.
        Interrupted: if it was stopped; the same command resumes it.
        RNATrackerError: if a training can't be done.
    """
    start = summary.start_trial(search)
    others = [each for each in to_measure(search) if start is not None and each.number != start.number][:best]
    if not others or start is None:
        reasons = "".join(f"; {line}" for line in summary.failure_lines(search))
        raise StudyError(
            f"study {search.request.name}: nothing to refit: no trial but that with the starting config has "
            f"a value{reasons}",
            f"see its trials with: {study_command(search)}",
        )
    trials = [*others, start]
    if start.state != TrialState.COMPLETE:
        say(f"refit: the starting config, trial {start.number}, has no value in the study ({_why(start)})")
        trials = [start, *others]  # if it can't be trained at all, that shows at once
    tracker = opened_tracker(search.request.tracking)
    means = _Means(reporter, jobs, run_folds, beside)
    refitted = [_refit_one(search, tracker, trial, start, means, say, seeds) for trial in trials]
    verdict = judge(_objective(search), refitted)
    _record(search, tracker, verdict)
    return verdict


@dataclass(frozen=True)
class _Means:
    """By what settings are trained: see `refit`."""

    reporter: Reporter
    jobs: int
    run_folds: RunFolds | None
    beside: Beside


def _why(trial: FrozenTrial) -> str:
    """Word why a trial has no value."""
    reason = trial.user_attrs.get(REASON, "")
    return f"{state_of(trial)}{f', {reason}' if reason else ''}"


def _objective(search: Search) -> str:
    """Return what is compared: folds are measured by PCC only."""
    objective = search.request.config.train.objective
    return "pcc_mean" if objective == "val_loss" else objective


def _refit_one(
    search: Search,
    tracker: Tracker,
    trial: FrozenTrial,
    start: FrozenTrial,
    means: _Means,
    say: Callable[[str], None],
    seeds: int,
) -> Refitted:
    runs, values = [], []
    for i in range(seeds):
        seed = (search.request.seed + _SEEDS_FROM + i) % 2**32
        say(f"refit: trial {trial.number}, seed {seed}, {i + 1} of {seeds}")
        run = _trained(search, tracker, trial, seed, means)
        values.append(_fold_values(search, run))
        runs.append(run)
    return Refitted(
        trial.number,
        trial.number == start.number,
        _claimed(search, tracker, trial),
        np.array(values),
        tuple(run.id for run in runs),
        _over_baselines([run.metrics() for run in runs]),
        tuple(run.name for run in runs),
    )


def _over_baselines(figures: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    """Return by how much each run exceeds the baselines that all runs have been compared with."""
    found = {}
    for key in figures[0]:
        parts = key.split("/")
        if len(parts) == 3 and (parts[0], parts[2]) == ("baseline", "difference") and all(key in of for of in figures):
            found[parts[1]] = tuple(of[key] for of in figures)
    return found


def _claimed(search: Search, tracker: Tracker, trial: FrozenTrial) -> float:
    """Return what the study says of a trial, as what is compared: of a study of losses its run says that.

    NaN of the starting config's, where it has no value.
    """
    if trial.state != TrialState.COMPLETE:
        return math.nan
    if _objective(search) == search.request.config.train.objective:
        return float(trial.value or 0.0)
    try:
        return tracker.find(trial.user_attrs[RUN_ID]).metrics().get(f"best/{_objective(search)}", math.nan)
    except (KeyError, NoRunError):
        return math.nan


def _trained(search: Search, tracker: Tracker, trial: FrozenTrial, seed: int, means: _Means) -> TrackedRun:
    """Return the finished cross-validation of a trial's settings with a seed, made or resumed if need be."""
    networks = search.request.config.train.seeds
    study, key = search.study, _RUN.format(f"{trial.number}:{seed}" + (f":{networks}" if networks > 1 else ""))
    tracking = search.request.tracking
    begun = _find(tracker, study.user_attrs.get(key))
    token, may_be_there = lost_runs.token_of(study, f"{key}:begun")
    if begun is None and may_be_there:
        begun = lost_runs.find(tracker, token)
        if begun is not None:
            study.set_user_attr(key, begun.id)
    if begun is not None:
        if begun.status() != "FINISHED":
            _complete(begun, _config(search, trial, seed))
            reporter, jobs, run_folds = means.reporter, means.jobs, means.run_folds
            if run_folds is None:
                check_no_jobs(begun)
            resume(begun.id, tracking, reporter, jobs=jobs, run_folds=run_folds, beside=means.beside)
        return begun

    def note(run: TrackedRun) -> None:
        study.set_user_attr(key, run.id)

    tags = {Tag.STUDY: search.request.name, Tag.REFIT: f"trial {trial.number}", Tag.BEGUN: token}
    name = f"{search.request.name}-refit-trial{trial.number}-seed{seed}"
    settings, jobs, run_folds = _config(search, trial, seed), means.jobs, means.run_folds
    request = RunRequest(settings, tracking, log_name=name, jobs=jobs, tags=tags, run_folds=run_folds)
    return tracker.find(train(request, means.reporter, started=note, beside=means.beside).run_id)


def _complete(run: TrackedRun, settings: Config) -> None:
    """Keep a run's settings, which it is resumed by, where it was killed before it had."""
    if not run.files.config.is_file():
        run.check_own()
        run.folder.mkdir(parents=True, exist_ok=True)
        files.write_text(run.files.config, settings.to_yaml())


def _find(tracker: Tracker, run_id: str | None) -> TrackedRun | None:
    """Return a run, or None if it has not been begun, or was deleted."""
    try:
        return tracker.find(run_id) if run_id else None
    except NoRunError:
        return None


def _config(search: Search, trial: FrozenTrial, seed: int) -> Config:
    made = summary.config_of(search, trial)
    data = made.data.model_copy(update={"fold": made.data.fold or _FOLDS, "split_seed": seed})
    return made.model_copy(update={"data": data, "train": made.train.model_copy(update={"seed": seed})})


def _fold_values(search: Search, run: TrackedRun) -> list[float]:
    """Return the objective of each fold; NaN where it is undefined, which is recorded by being left out."""
    children = sorted(run.children().items(), key=lambda item: int(item[0].removeprefix("fold")))
    figures = [child.metrics() for _, child in children]
    if not figures or any("best/epoch" not in each for each in figures):
        raise TrackingError(f"run {run.name}: a fold's measurement is missing", "delete that run and refit again")
    values = [each.get(f"test/{_objective(search)}", math.nan) for each in figures]
    if all(map(math.isnan, values)):
        raise StudyError(
            f"run {run.name}: {_objective(search)} is undefined in every fold: at no site do the measured fractions of "
            "its transcripts differ, so settings can't be compared with fresh seeds",
            "give more transcripts, to a study of another name",
        )
    return values


def to_csv(verdict: Verdict) -> str:
    """Return the verdict as a CSV table, a row for each setting, seed and fold."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "in_use", "claimed", "run_id", "fold", verdict.objective])
    for each in verdict.refitted:
        for run_id, row in zip(each.run_ids, each.values, strict=True):
            for fold, value in enumerate(row, start=1):
                writer.writerow([each.trial, each.is_start, each.claimed, run_id, fold, value])
    return text.getvalue()


def _record(search: Search, tracker: Tracker, verdict: Verdict) -> None:
    """Leave the verdict in the study and its run, and mark the winner's run: that of its first seed, not its best."""
    winner, before = verdict.winner, verdicts.kept(search)
    if before is not None:
        _mark(tracker, before.winner.run_ids[0], f"trial {before.winner.trial}")
    _mark(tracker, winner.run_ids[0], f"winner of {search.request.name}")
    verdicts.keep(search, verdict)
    run = _find(tracker, search.study.user_attrs.get(RUN_ID))
    if run is None:
        return
    files.write_text(run.files.refit, to_csv(verdict))
    run.log_metrics(_figures(verdict), SUMMARY_STEP)
    run.flush()
    run.set_tags({Tag.WINNER: winner.run_ids[0]})
    leave.leave_verdict(search, run, verdict)


def _mark(tracker: Tracker, run_id: str, text: str) -> None:
    """Say in a run what it was for the refit."""
    run = _find(tracker, run_id)
    if run is not None:
        run.set_tags({Tag.REFIT: text})


def _figures(verdict: Verdict) -> dict[str, float]:
    winner = verdict.winner
    return {
        "refit/winner": winner.mean,
        "refit/winner_sd": winner.sd,
        "refit/winner_trial": winner.trial,
        "refit/difference": verdict.difference,
        "refit/difference_low": verdict.low,
        "refit/difference_high": verdict.high,
        "refit/optimism": metrics.mean_of(each.optimism for each in verdict.refitted if not each.is_start)
        if len(verdict.refitted) > 1
        else winner.optimism,
    }
