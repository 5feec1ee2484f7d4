"""`rnatracker tune`.

Owns its options and what it prints. The work is done by `rnatracker.search.tune`. Must not import anything heavy at
module level.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rnatracker.commands.train import run_folds
from rnatracker.errors import StudyError
from rnatracker.terminal import options, output

if TYPE_CHECKING:
    from rnatracker.search.records.verdict import Verdict
    from rnatracker.search.request import StudyRequest
    from rnatracker.search.tune import Launch, TuneOutcome
    from rnatracker.tracking.settings import TrackingSettings

_RUN = "Study"
_SEARCH = "Search"
_OR_KEPT = ", or as the study began"


def seconds_of(text: str) -> float:
    """Return the seconds in a time span such as `90`, `45m`, `2h` or `1h30m`.

    Raises:
        typer.BadParameter: if the text is not a time span.
    """
    from rnatracker.search.scheduling.stopping import seconds_in

    seconds = seconds_in(text)
    if seconds is None:
        raise typer.BadParameter(f"{text!r}: expected a time span as in 90s, 45m, 2h or 1h30m")
    return seconds


def tune(
    study: Annotated[
        str,
        typer.Option(
            help="Name of the study: a new one, or one to resume or join.", metavar="NAME", rich_help_panel=_RUN
        ),
    ],
    data: options.Data = None,
    sites: options.Sites = None,
    id_column: options.IdColumn = None,
    sequence_column: options.SequenceColumn = None,
    group_column: options.GroupColumn = None,
    config: options.Config = None,
    set_: options.Sets = None,
    epochs: options.Epochs = None,
    fold: options.Fold = None,
    group_by: options.GroupBySetting = None,
    objective: options.Objectives = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="Search space: a file, or one of default, wide, smoke and v1.",
            metavar="NAME|FILE",
            parser=options.expanded,
            show_default=f"default{_OR_KEPT}",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            help="Number of trials, those of earlier calls included.",
            min=1,
            show_default=f"20{_OR_KEPT}",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(help="Stop after this time, as in 90m or 2h.", metavar="T", rich_help_panel=_SEARCH)
    ] = None,
    until: Annotated[
        list[str] | None,
        typer.Option(
            help="End before all trials: after 2h, 800epochs, or at gain:0.005, when ten more trials are expected to "
            "gain less. Repeatable.",
            metavar="LIMIT",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    sampler: Annotated[
        Literal["tpe", "gp", "random", "cmaes"] | None,
        typer.Option(
            help="Optuna's sampler, which chooses the settings of each trial.",
            show_default=f"tpe{_OR_KEPT}",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    scheduler: Annotated[
        Literal["freeze-thaw", "forecast", "hyperband", "median", "wilcoxon", "none"] | None,
        typer.Option(
            "--scheduler",
            "--pruner",
            help="Rule that says which trials go on: freeze-thaw pauses and resumes them; forecast, hyperband, median "
            "and wilcoxon end poor ones; none.",
            metavar="RULE",
            show_default=f"freeze-thaw{_OR_KEPT}",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    fresh_seeds: Annotated[
        int | None,
        typer.Option(
            help="At the end, train the best settings again with other seeds and divisions, so many times in all, to "
            "tell them apart and to estimate what they are worth.",
            metavar="N",
            min=0,
            show_default=f"2, fewer in a small study{_OR_KEPT}",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the sampler and of each training.", show_default="0", rich_help_panel=_SEARCH),
    ] = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(
            help="Try the best settings of another study or run early. Repeatable.",
            metavar="STUDY|RUN",
            parser=options.expanded,
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    device: options.DeviceSetting = None,
    threads: options.ThreadsSetting = None,
    jobs: options.Jobs = 1,
    keep_weights: Annotated[
        int | None,
        typer.Option(help="Keep the weights of the best N trials only.", metavar="N", min=1, rich_help_panel=_RUN),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Try the settings of failed trials again, each as a new trial in its place.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="At the end, cross-validate the best settings and the starting config with fresh seeds.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    refit_best: Annotated[int, typer.Option(help="Number of best settings to refit.", min=1, rich_help_panel=_RUN)] = 3,
    refit_seeds: Annotated[int, typer.Option(help="Number of fresh seeds for each.", min=1, rich_help_panel=_RUN)] = 3,
    no_baseline: options.NoBaseline = False,
    launcher: options.Launcher = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of SLURM jobs to submit; 0 only watches those that there are.",
            metavar="N",
            min=0,
            show_default="1",
            rich_help_panel=options.CLUSTER_PANEL,
        ),
    ] = None,
    slurm: options.Slurm = None,
    patience_server: Annotated[
        str | None,
        typer.Option(
            help="How long workers wait for a database or tracking server that is away, as in 10m.",
            metavar="T",
            show_default="10m",
            rich_help_panel=options.CLUSTER_PANEL,
        ),
    ] = None,
    cancel: Annotated[
        bool,
        typer.Option(
            "--cancel",
            help="End the study's SLURM jobs, which save their trials first.",
            rich_help_panel=options.CLUSTER_PANEL,
        ),
    ] = False,
    json_: options.Json = False,
    storage: options.Storage = None,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
    no_track: options.NoTrack = False,
) -> None:
    """Search for better settings.

    The study's name alone resumes it later, or joins it in a second terminal; options given then are taken anew.

    rnatracker tune --data mine.tsv --study first --trials 50 --jobs 2 --epochs 30
    """
    from rnatracker.search.front import cost
    from rnatracker.search.records.command import Typed, completed
    from rnatracker.search.scheduling.stopping import Until
    from rnatracker.search.tune import StopReason, check_any_value

    if launcher == "local" and (workers is not None or slurm or cancel):
        given = "--workers" if workers is not None else "--slurm" if slurm else "--cancel"
        raise typer.BadParameter(f"{given}: only with --launcher slurm")
    if patience_server is not None:
        from rnatracker.search.remote import patience

        os.environ[patience.VARIABLE] = f"{seconds_of(patience_server):.0f}"  # for its workers too
    if cancel:
        _cancel(study, storage, options.tracking_settings(store, tracking_uri, experiment, no_track))
        return
    value, second = (None, None) if objective is None else cost.parse(objective)
    limits = Until.of(until or [])
    times = [each for each in (timeout and seconds_of(timeout), limits.seconds) if each is not None]
    request = completed(
        Typed(
            study,
            options.tracking_settings(store, tracking_uri, experiment, no_track),
            storage,
            config,
            settings={
                "data.path": None if data is None else str(Path(data).resolve()),
                "data.sites": options.site_names(sites),
                "data.id_column": id_column,
                "data.sequence_column": sequence_column,
                "data.group_column": group_column,
                "data.group_by": group_by,
                "data.fold": fold,
                "train.epochs": epochs,
                "train.objective": value,
                "train.device": device,
                "train.threads": threads,
                "train.seed": seed,
            },
            sets=set_ or [],
            space=space,
            options={
                "trials": trials,
                "sampler": sampler,
                "scheduler": scheduler,
                "keep_weights": keep_weights,
                "fresh_seeds": fresh_seeds,
            },
            others={
                "timeout": min(times, default=None),
                "until": limits,
                "jobs": jobs,
                "warm_start": tuple(warm_start or ()),
                **({} if objective is None else {"cost": second}),
            },
        )
    )
    outcome = _run(request, retry_failed, None if launcher == "local" else _slurm(request, workers, slurm))
    if outcome.reason is StopReason.LEFT:
        _print_left(outcome)
        return
    stopped = outcome.reason is StopReason.REQUEST
    verdict = None
    try:
        check_any_value(outcome)
        if refit and not stopped and outcome.state != "RUNNING":  # when its time is over too
            verdict = _refit(outcome, refit_best, refit_seeds, no_baseline, launcher, slurm)
            stopped = verdict is None
    except StudyError as error:
        _print_outcome(outcome, json_, error)
        raise
    _print_outcome(outcome, json_)
    if stopped:
        output.say("Stopped; nothing is lost. Resume with the same command.")
        raise typer.Exit(130)


def _refit(
    outcome: TuneOutcome, best: int, seeds: int, no_baseline: bool, launcher: str, slurm: list[str] | None
) -> Verdict | None:
    """Refit under a progress display; None if it was stopped."""
    from rnatracker.baselines.beside import beside
    from rnatracker.processes.stop import Interrupted
    from rnatracker.search.refit import refit as refit_study
    from rnatracker.terminal.progress import reporter
    from rnatracker.training.beside import nothing

    search, compare = outcome.search, nothing if no_baseline else beside
    jobs, elsewhere = search.request.jobs, run_folds(launcher, slurm, search.request.tracking)
    try:
        with reporter() as display:
            return refit_study(
                search, display, display.line, best=best, seeds=seeds, jobs=jobs, run_folds=elsewhere, beside=compare
            )
    except Interrupted:
        return None


def _run(request: StudyRequest, retry_failed: bool, launch: Launch | None) -> TuneOutcome:
    from rnatracker.search.tune import tune as run_study
    from rnatracker.terminal.study_progress import StudyDisplay

    with StudyDisplay() as display:
        return run_study(request, display.say, display.watch, retry_failed=retry_failed, launch=launch)


def _slurm(request: StudyRequest, workers: int | None, typed: list[str] | None) -> Launch:
    """Return what makes jobs of SLURM the study's workers."""
    from rnatracker.search.launchers import slurm
    from rnatracker.search.launchers.monitor import SlurmWorkers

    slurm.check(request)
    wanted = slurm.parse(typed or [])
    n = 1 if workers is None else workers
    return lambda search, _task, say: SlurmWorkers(search, n, wanted, say)


def _cancel(study: str, storage: str | None, tracking: TrackingSettings) -> None:
    from rnatracker.search import definition
    from rnatracker.search.launchers import slurm

    search = definition.load_search(study, storage, tracking)
    slurm.check(search.request)
    n = slurm.cancel(search)
    output.say(f"told {output.amount(n, 'job')} to save and end" if n else f"study {study} has no jobs")


def _print_left(outcome: TuneOutcome) -> None:
    """Say how to come back to a study whose jobs go on."""
    from rnatracker.search import hints

    again = hints.tune_command(outcome.search, "--launcher", "slurm", "--workers", "0")
    end = hints.tune_command(outcome.search, "--launcher", "slurm", "--cancel")
    output.say("The study's jobs go on.")
    output.say(f"Watch them again: {again}")
    output.say(f"End them, their trials saved: {end}")


def _print_outcome(outcome: TuneOutcome, json_: bool, error: StudyError | None = None) -> None:
    from rnatracker.search import summary
    from rnatracker.search.tune import StopReason
    from rnatracker.terminal import study_tables
    from rnatracker.terminal.tables import print_ui

    search, counts, is_used_up = outcome.search, outcome.counts, outcome.reason is StopReason.USED_UP
    if json_:
        best = summary.best(search, 1)
        output.print_json(
            {
                "study": search.request.name,
                "state": outcome.state,
                "reason": outcome.reason or "",
                "run_id": outcome.run.id,
                "run": outcome.run.name,
                "trials": vars(counts),
                "best": study_tables.as_json(search, best[0]) if best else None,
                "saved": vars(summary.savings(search)),
                "cost": search.request.cost,
                "front": study_tables.front_as_json(search),
                "folder": str(outcome.run.folder),
                "refit": study_tables.refit_as_json(search),
                "failures": study_tables.failures_as_json(search),
                "retries": study_tables.retries_as_json(search),
                "warnings": summary.cautions(search),
                "next": study_tables.next_step(search, is_used_up=is_used_up),
                **({"error": str(error)} if error else {}),
            }
        )
        return
    study_tables.print_study(search, limit=5)
    if outcome.state in ("KILLED", "RUNNING"):
        output.tell(f"{outcome.state}: {outcome.reason}; the same command resumes the study")
    output.tell(f"Run {outcome.run.name} ({outcome.run.id}): {outcome.run.folder}")
    print_ui(search.request.tracking, search.request.name)
    study_tables.print_next(search, is_used_up=is_used_up)
