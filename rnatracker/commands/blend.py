"""`rnatracker blend`.

Owns its options and what it prints. The work is done by `rnatracker.blends.run`. Must not import anything heavy at
module level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnatracker.errors import RNATrackerError
from rnatracker.terminal import options, output

if TYPE_CHECKING:
    from rnatracker.blends.run import BlendOutcome, BlendRequest
    from rnatracker.tracking.settings import TrackingSettings


def blend(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two or more runs on the same data and folds: ids, names or folders.",
            **options.RUN,
            show_default=False,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="The file that the runs were trained on, where it isn't found where it was.",
            **options.FILE,
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = None,
    log_name: Annotated[
        str, typer.Option(help="Added to the run's name: exp7_NAME.", metavar="NAME", rich_help_panel="Run")
    ] = "blend",
    no_baseline: options.NoBaseline = False,
    json_: options.Json = False,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
    no_track: options.NoTrack = False,
) -> None:
    """Make one model of several runs on the same data and folds: networks of other settings or seeds, baselines.

    What each run counts is fitted to the out-of-fold predictions. The blend's own figure comes from weights that have
    not seen the fold that they predict.

    rnatracker blend exp3 exp5_kmer-boosting
    """
    from rnatracker.blends.run import BlendRequest

    tracking = options.tracking_settings(store, tracking_uri, experiment, no_track)
    _run(BlendRequest(runs, tracking, data, log_name, not no_baseline), json_)


def _run(request: BlendRequest, json_: bool) -> None:
    """Do the work; print what it came to."""
    from rnatracker.blends.run import run_blend
    from rnatracker.processes.stop import Interrupted
    from rnatracker.terminal.progress import reporter

    try:
        with reporter() as display:
            found = run_blend(request, display)
    except Interrupted as stopped:
        if json_:
            output.print_json({"run_id": stopped.run_id, "state": "KILLED"})
        output.say(f"Stopped. Run it again with: {stopped.command}")
        raise typer.Exit(130) from None
    except RNATrackerError as error:
        if json_:
            output.print_json({"run_id": error.run_id, "state": "FAILED", "error": str(error)})
        raise
    if json_:
        output.print_json(_as_json(found))
    else:
        _print(found, request.tracking)


def _as_json(found: BlendOutcome) -> dict[str, Any]:
    outcome = found.outcome
    return {
        "run_id": outcome.run_id,
        "name": outcome.name,
        "state": outcome.state,
        "members": [
            {"name": each.name, "weight": each.weight, "low": each.low, "high": each.high, "metrics": each.scores}
            for each in found.shares
        ],
        "metrics": outcome.metrics,
        "folds": outcome.folds,
        "verdict": found.verdict,
        "beside": list(outcome.beside),
        "folder": str(outcome.folder),
    }


def _print(found: BlendOutcome, tracking: TrackingSettings) -> None:
    from rnatracker.terminal.tables import print_beside, print_ui
    from rnatracker.tracking.hints import command, evaluate_command

    outcome = found.outcome
    _print_table(found)
    output.tell(found.verdict)
    print_beside(outcome)
    output.tell(f"Run {outcome.name} ({outcome.run_id}): {outcome.folder}")
    print_ui(tracking)
    promote = command(["promote", outcome.name], tracking)  # which needs a run in MLflow
    measure = evaluate_command(outcome.name, outcome.folder, tracking)
    output.tell(f"Next: {promote if tracking.enabled else measure}")


def _print_table(found: BlendOutcome) -> None:
    """Print what each run counts, and the PCC of each and of the blend."""
    from rnatracker import metrics
    from rnatracker.terminal.tables import new_table, show

    outcome = found.outcome
    table = new_table()
    table.add_column("run")
    table.add_column("weight", justify="right")
    names = ("mean", "overall", *outcome.sites)
    for name in names:
        table.add_column(name, justify="right")
    for share in found.shares:
        table.add_row(share.name, f"{share.weight:.3f}", *(metrics.shown(share.scores[f"pcc_{n}"]) for n in names))
    table.add_section()
    table.add_row(outcome.name, "", *(metrics.shown(outcome.metrics[f"oof/pcc_{name}"]) for name in names))
    show(table, "Out-of-fold PCC of the runs, and of their blend with weights from the other folds")
