"""`rnatracker train`.

Owns its options and what it prints. The work is done by `rnatracker.training.run`. Must not import anything heavy at
module level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnatracker.choices import Keep
from rnatracker.errors import RNATrackerError, UsageError
from rnatracker.terminal import options, output

if TYPE_CHECKING:
    from rnatracker.config import Config
    from rnatracker.tracking.settings import TrackingSettings
    from rnatracker.training.beside import Beside
    from rnatracker.training.reporting import Reporter
    from rnatracker.training.request import Outcome, RunFolds, RunRequest

_RUN = "Run"


def train(
    data: options.Data = None,
    file_format: options.FileFormatSetting = None,
    sites: options.Sites = None,
    labels: options.LabelsSetting = None,
    id_column: options.IdColumn = None,
    sequence_column: options.SequenceColumn = None,
    group_column: options.GroupColumn = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="A further data set for the same network, with a last layer of its own. Repeatable.",
            metavar="FILE[:A,B,...]",
            parser=options.expanded,
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Maximum length in nucleotides; longer transcripts are cut.",
            show_default="4000",
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = None,
    full_length: Annotated[
        bool,
        typer.Option(
            "--full-length",
            help="Cut no transcript; needs, and sets, --masked.",
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = False,
    keep: Annotated[
        Keep | None,
        typer.Option(
            help="Which end of a transcript is kept when it is cut.",
            show_default="5p",
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = None,
    config: options.Config = None,
    set_: options.Sets = None,
    epochs: options.Epochs = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Transcripts per batch.", show_default="32", rich_help_panel=options.TRAINING_PANEL),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate.", show_default="0.004", rich_help_panel=options.TRAINING_PANEL),
    ] = None,
    masked: Annotated[
        bool | None,
        typer.Option(
            "--masked/--no-masked", help="Hide padding from the network.", rich_help_panel=options.TRAINING_PANEL
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of initial weights, order of batches and dropout.",
            show_default="0",
            rich_help_panel=options.TRAINING_PANEL,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start a new run from a file of weights, ours or the PyTorch port's.",
            **options.FILE,
            rich_help_panel=options.TRAINING_PANEL,
        ),
    ] = None,
    transfer: Annotated[
        str | None,
        typer.Option(
            help="Start a new run from the trunk of another network: all but the last layer.",
            metavar="RUN|FILE",
            parser=options.expanded,
            rich_help_panel=options.TRAINING_PANEL,
        ),
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(
            help="Share of the transcripts for validation, without --fold.",
            show_default="0.2",
            rich_help_panel=options.VALIDATION_PANEL,
        ),
    ] = None,
    fold: options.Fold = None,
    group_by: options.GroupBySetting = None,
    split_seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of the split into folds, or into training and validation.",
            show_default="0",
            rich_help_panel=options.VALIDATION_PANEL,
        ),
    ] = None,
    objective: options.Objective = None,
    no_baseline: options.NoBaseline = False,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after this many evaluations without improvement.",
            show_default="0, never",
            rich_help_panel=options.VALIDATION_PANEL,
        ),
    ] = None,
    eval_every: Annotated[
        int | None,
        typer.Option(help="Epochs between evaluations.", show_default="1", rich_help_panel=options.VALIDATION_PANEL),
    ] = None,
    device: options.DeviceSetting = None,
    amp: Annotated[
        bool | None,
        typer.Option(
            "--amp/--no-amp", help="Mixed precision (bfloat16) on a GPU.", rich_help_panel=options.COMPUTING_PANEL
        ),
    ] = None,
    threads: options.ThreadsSetting = None,
    jobs: options.Jobs = 1,
    launcher: options.Launcher = "local",
    slurm: options.Slurm = None,
    log_name: Annotated[
        str | None,
        typer.Option(help="Added to the run's name: exp7_NAME.", metavar="NAME", rich_help_panel=_RUN),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(help="Resume an interrupted run.", **options.RUN, rich_help_panel=_RUN),
    ] = None,
    save_every: Annotated[
        int | None,
        typer.Option(
            help="Epochs between numbered checkpoints, in addition to best.pt and last.pt.",
            show_default="0, none",
            rich_help_panel=_RUN,
        ),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard events too.", rich_help_panel=_RUN)
    ] = False,
    json_: options.Json = False,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
    no_track: options.NoTrack = False,
) -> None:
    """Train RNATracker on transcripts with measured site fractions; every run is tracked in MLflow.

    rnatracker train --data apexseq.fa --sites Nucleus,Cytosol,ERM,OMM --epochs 30
    """
    settings_given: dict[str, Any] = {
        "data.path": data,
        "data.format": file_format,
        "data.sites": options.site_names(sites),
        "data.labels": labels,
        "data.id_column": id_column,
        "data.sequence_column": sequence_column,
        "data.group_column": group_column,
        "data.group_by": group_by,
        "data.also": also or None,
        "data.val": val,
        "data.fold": fold,
        "data.split_seed": split_seed,
        "encoding.max_length": max_length,
        "encoding.full_length": True if full_length else None,
        "encoding.keep": keep,
        "model.masked": True if full_length and masked is None else masked,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.lr": lr,
        "train.seed": seed,
        "train.device": device,
        "train.amp": amp,
        "train.threads": threads,
        "train.objective": objective,
        "train.patience": patience,
        "train.eval_every": eval_every,
        "train.save_every": save_every,
    }
    tracking = options.tracking_settings(store, tracking_uri, experiment, no_track)

    def elsewhere(config: Config | None) -> RunFolds | None:
        if config is not None and not config.data.fold and launcher != "local":
            raise UsageError("--launcher slurm: jobs train folds, and there are none", "give a number with --fold")
        return run_folds(launcher, slurm, tracking)

    def work(reporter: Reporter) -> Outcome:
        if resume is None:
            beginning = _Beginning(weights, transfer)
            request = _request(tracking, config, settings_given, set_ or [], beginning, log_name, tensorboard, jobs)
            return _start(replace(request, run_folds=elsewhere(request.config)), reporter, no_baseline)
        others = {"--config": config, "--set": set_, "--weights": weights, "--transfer": transfer}
        others |= {"--log-name": log_name}
        given = [name for name, value in others.items() if value]
        return _resume(resume, tracking, jobs, elsewhere(None), settings_given, given, reporter, no_baseline)

    _run(work, tracking, json_)


@dataclass(frozen=True)
class _Beginning:
    """What a new run begins from, as it was typed."""

    weights: str | None
    transfer: str | None

    def settings(self, tracking: TrackingSettings) -> dict[str, Any]:
        """Return the settings that it brings, below all that is typed; none where it is new weights."""
        if self.weights is not None:
            from rnatracker.training.request import settings_of_weights

            return settings_of_weights(self.weights)
        if self.transfer is not None:
            from rnatracker.training.parents.parent import settings_of

            return settings_of(self.transfer, tracking)
        return {}


def _beside(no_baseline: bool) -> Beside:
    """Return what compares a run with simple models."""
    from rnatracker.baselines.beside import beside
    from rnatracker.training.beside import nothing

    return nothing if no_baseline else beside


def _start(request: RunRequest, reporter: Reporter, no_baseline: bool) -> Outcome:
    from rnatracker.training.run import train as run_training

    return run_training(request, reporter, beside=_beside(no_baseline))


def _request(
    tracking: TrackingSettings,
    config: str | None,
    settings_given: dict[str, Any],
    sets: list[str],
    beginning: _Beginning,
    log_name: str | None,
    tensorboard: bool,
    jobs: int,
) -> RunRequest:
    from rnatracker import config as settings

    # Without weights before torch is imported: errors are quick.
    checked = settings.assemble(config, beginning.settings(tracking), settings_given, sets)

    from rnatracker.training.request import RunRequest

    return RunRequest(checked, tracking, log_name, beginning.weights, tensorboard, jobs, beginning.transfer)


def _resume(
    resume: str,
    tracking: TrackingSettings,
    jobs: int,
    run_folds: RunFolds | None,
    settings_given: dict[str, Any],
    others: list[str],
    reporter: Reporter,
    no_baseline: bool,
) -> Outcome:
    given = [key for key, value in settings_given.items() if value is not None and key != "data.path"] + others
    if given:
        raise UsageError(
            f"--resume {resume}: the run is resumed with its own settings, so {given[0]} can't be given",
            "leave it out, or start a new run with --weights",
        )
    from rnatracker.tracking.open import settings_of_run
    from rnatracker.training.run import resume as resume_run

    data, place = settings_given["data.path"], settings_of_run(resume, tracking)
    if run_folds is None:
        _check_no_jobs(resume, place)
    return resume_run(resume, place, reporter, data=data, jobs=jobs, run_folds=run_folds, beside=_beside(no_baseline))


def _check_no_jobs(run: str, tracking: TrackingSettings) -> None:
    """Check that a run's folds are no jobs of a cluster, which this host would train beside."""
    if not (tracking.tracking_uri or "").startswith("http"):
        return
    from rnatracker.search.launchers.folds import check_no_jobs
    from rnatracker.tracking.open import open_tracker

    check_no_jobs(open_tracker(tracking).find(run))


def run_folds(launcher: str, slurm: list[str] | None, tracking: TrackingSettings) -> RunFolds | None:
    """Return what trains folds as jobs of SLURM; None where they are trained here.

    Raises:
        RNATrackerError: if they can't be submitted here, or an option of sbatch is none.
    """
    if launcher == "local":
        if slurm:
            raise typer.BadParameter("--slurm: only with --launcher slurm")
        return None
    from rnatracker.search.launchers import folds
    from rnatracker.search.launchers import slurm as jobs

    options = jobs.parse(slurm or [])
    jobs.check_place(tracking)
    return folds.SlurmFolds(options)


def _run(work: Callable[[Reporter], Outcome], tracking: TrackingSettings, json_: bool) -> None:
    """Do the work under a progress display; print how it ended."""
    from rnatracker.processes.stop import Interrupted
    from rnatracker.terminal.progress import reporter

    try:
        with reporter() as display:
            outcome = work(display)
    except Interrupted as stopped:
        if json_:
            output.print_json({"run_id": stopped.run_id, "state": "KILLED", "best_epoch": None, "metrics": {}})
        lost = "nothing is lost" if stopped.saved else "the epoch it was in is lost"
        output.say(f"Stopped; {lost}. Resume with: {stopped.command}")
        raise typer.Exit(130) from None
    except RNATrackerError as error:
        if json_:
            ended: dict[str, Any] = {"run_id": error.run_id, "state": "FAILED", "best_epoch": None, "metrics": {}}
            output.print_json(ended | {"error": str(error)})
        raise
    if json_:
        output.print_json(
            {
                "run_id": outcome.run_id,
                "name": outcome.name,
                "state": outcome.state,
                "best_epoch": outcome.best_epoch,
                "metrics": outcome.metrics,
                "folds": outcome.folds,
                "beside": list(outcome.beside),
                "folder": str(outcome.folder),
            }
        )
    else:
        from rnatracker.terminal.tables import print_outcome

        print_outcome(outcome, tracking)
