"""`rnatracker study`.

Owns its options and what it prints. The work is done in `rnatracker.search`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnatracker.errors import StudyError
from rnatracker.terminal import options, output

if TYPE_CHECKING:
    from rnatracker.search.study import Search


def study(
    name: Annotated[str | None, typer.Argument(help="Name of the study.", metavar="STUDY", show_default=False)] = None,
    list_: Annotated[bool, typer.Option("--list", help="List all studies.")] = False,
    best: Annotated[int, typer.Option(help="Number of trials to show.", min=1)] = 10,
    trial: Annotated[
        int | None,
        typer.Option(
            help="Show one trial: its values, and when and why it was paused. With --export its settings are written.",
            metavar="N",
            min=0,
            show_default=False,
        ),
    ] = None,
    export: Annotated[
        str | None,
        typer.Option(help="Write the best settings as a config file.", **options.FILE),
    ] = None,
    plots: Annotated[
        str | None,
        typer.Option(
            help="Write plots, as pictures and as interactive pages, into a folder.",
            **options.DIR,
        ),
    ] = None,
    workers: Annotated[
        bool, typer.Option("--workers", help="Show who works on it: host, job, trial, and when last heard of.")
    ] = False,
    delete_weights: Annotated[
        bool, typer.Option("--delete-weights", help="Delete the weights of all trials of the study.")
    ] = False,
    json_: options.Json = False,
    storage: options.Storage = None,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
    no_track: options.NoTrack = False,
) -> None:
    """Show the best trials of a study, which settings matter, and what pruning saved.

    rnatracker study first --export best.yaml
    rnatracker study first --trial 7
    """
    from rnatracker.search import definition, hints
    from rnatracker.search.records.config_file import export_best, export_trial
    from rnatracker.terminal import study_tables

    tracking = options.tracking_settings(store, tracking_uri, experiment, no_track)
    if list_:
        start = hints.command(["tune", "--study", "NAME", "--data", "FILE"], tracking, storage)
        _print_names(definition.names(storage, tracking), start, json_)
        return
    if name is None:
        raise typer.BadParameter("give a study's name, or --list")
    search = definition.load_search(name, storage, tracking)
    if export is not None:
        file = Path(export)
        exported = export_best(search, file) if trial is None else export_trial(search, trial, file)
        again = hints.command(
            ["train", "--config", export, "--data", str(search.request.config.data.path)], tracking, None
        )
        output.say(f"trial {exported.number} is in {export}; use it with: {again}")
    if plots is not None:
        _draw(search, Path(plots))
    if delete_weights:
        _delete_weights(search)
    if workers:
        _print_workers(search, json_)
    elif trial is not None:
        _print_trial(search, trial, json_)
    elif json_:
        output.print_json(study_tables.study_as_json(search, best))
    else:
        study_tables.print_study(search, limit=best)
        study_tables.print_settings(search)
        study_tables.print_next(search)


def _print_trial(search: Search, number: int, json_: bool) -> None:
    from rnatracker.terminal import study_trial

    found = study_trial.find_trial(search, number)
    if json_:
        output.print_json(study_trial.trial_as_json(search, found))
    else:
        study_trial.print_trial(search, found)


def _print_workers(search: Search, json_: bool) -> None:
    from rnatracker.terminal import study_workers

    if json_:
        output.print_json(study_workers.workers_as_json(search))
    else:
        study_workers.print_workers(search)


def _print_names(names: list[str], start: str, json_: bool) -> None:
    if json_:
        output.print_json({"studies": names})
        return
    for name in names:
        output.tell(name)
    if not names:
        output.say(f"no studies yet; start one with: {start}")


def _draw(search: Search, folder: Path) -> None:
    from rnatracker.search.pictures import draw_all
    from rnatracker.search.records import verdict

    written = draw_all(search, folder, verdict.kept(search))
    if not written:
        raise StudyError(f"study {search.request.name}: no trial has come to a value yet, so there is nothing to plot")
    output.say(f"wrote {output.amount(len(written), 'file')} to {folder}")


def _delete_weights(search: Search) -> None:
    from rnatracker.search.trial_runs import delete_weights

    n_trials, size = delete_weights(search)
    output.say(f"deleted the weights of {output.amount(n_trials, 'trial')}, {size / 1e6:.1f} MB")
