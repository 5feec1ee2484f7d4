"""`rnatracker baseline`.

Owns its options and what it prints. The work is done by `rnatracker.baselines.run`. Must not import anything heavy at
module level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rnatracker.errors import RNATrackerError
from rnatracker.terminal import options, output

if TYPE_CHECKING:
    from rnatracker.baselines.run import BaselineOutcome, BaselineRequest
    from rnatracker.tracking.settings import TrackingSettings

_RUN = "Run"


def baseline(
    data: options.Data = None,
    file_format: options.FileFormatSetting = None,
    sites: options.Sites = None,
    labels: options.LabelsSetting = None,
    id_column: options.IdColumn = None,
    sequence_column: options.SequenceColumn = None,
    group_column: options.GroupColumn = None,
    kind: Annotated[
        Literal["all", "mean", "length", "kmer-ridge", "kmer-boosting", "codon-boosting"],
        typer.Option(
            help="Which: mean, of the fractions; length, a curve of it; kmer-ridge and kmer-boosting, ridge regression "
            "and boosted trees on k-mers and length; codon-boosting, trees that also look at the longest open reading "
            "frame; all.",
            metavar="KIND",
            rich_help_panel=options.TRAINING_PANEL,
        ),
    ] = "all",
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the boosted trees.", show_default="0", rich_help_panel=options.TRAINING_PANEL),
    ] = None,
    config: options.Config = None,
    set_: options.Sets = None,
    fold: options.Fold = None,
    group_by: options.GroupBySetting = None,
    val: Annotated[
        float | None,
        typer.Option(
            help="Share of the transcripts for validation, without --fold.",
            show_default="0.2",
            rich_help_panel=options.VALIDATION_PANEL,
        ),
    ] = None,
    split_seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of the split into folds, or into training and validation.",
            show_default="0",
            rich_help_panel=options.VALIDATION_PANEL,
        ),
    ] = None,
    threads: options.ThreadsSetting = None,
    log_name: Annotated[
        str | None,
        typer.Option(
            help="Added to the runs' names: exp7_NAME.", metavar="NAME", show_default="the kind", rich_help_panel=_RUN
        ),
    ] = None,
    json_: options.Json = False,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
    no_track: options.NoTrack = False,
) -> None:
    """Train simple models on the division that `train` makes of the same data, seed and folds; each is a tracked run.

    A network is worth its cost if it is better than these.

    rnatracker baseline --data apexseq.fa --sites Nucleus,Cytosol,ERM,OMM --fold 5
    """
    from rnatracker import config as settings

    given = {
        "data.path": data,
        "data.format": file_format,
        "data.sites": options.site_names(sites),
        "data.labels": labels,
        "data.id_column": id_column,
        "data.sequence_column": sequence_column,
        "data.group_column": group_column,
        "data.group_by": group_by,
        "data.val": val,
        "data.fold": fold,
        "data.split_seed": split_seed,
        "train.seed": seed,
        "train.threads": threads,
    }
    checked = settings.assemble(config, {}, given, set_ or [])
    tracking = options.tracking_settings(store, tracking_uri, experiment, no_track)

    from rnatracker.baselines.models import KINDS
    from rnatracker.baselines.run import BaselineRequest

    kinds = KINDS if kind == "all" else (kind,)
    _run(BaselineRequest(checked, tracking, kinds, log_name), json_)


def _run(request: BaselineRequest, json_: bool) -> None:
    """Do the work; print what it came to."""
    from rnatracker.baselines.run import run_baselines
    from rnatracker.processes.stop import Interrupted
    from rnatracker.terminal.progress import reporter

    try:
        with reporter() as display:
            found = run_baselines(request, display)
    except Interrupted as stopped:
        if json_:
            output.print_json({"run_id": stopped.run_id, "state": "KILLED", "baselines": []})
        output.say(f"Stopped; baselines that had ended are kept. Run it again with: {stopped.command}")
        raise typer.Exit(130) from None
    except RNATrackerError as error:
        if json_:
            output.print_json({"run_id": error.run_id, "state": "FAILED", "baselines": [], "error": str(error)})
        raise
    if json_:
        output.print_json({"state": "FINISHED", "baselines": [_as_json(each) for each in found]})
    else:
        _print(found, request.tracking)


def _as_json(found: BaselineOutcome) -> dict[str, Any]:
    outcome = found.outcome
    return {
        "kind": found.kind,
        "run_id": outcome.run_id,
        "name": outcome.name,
        "state": outcome.state,
        "metrics": outcome.metrics,
        "folds": outcome.folds,
        "folder": str(outcome.folder),
        "seconds": found.seconds,
    }


def _print(found: Sequence[BaselineOutcome], tracking: TrackingSettings) -> None:
    from rnatracker.terminal.tables import print_ui
    from rnatracker.tracking.hints import evaluate_command

    _print_table(found)
    for each in found:
        output.tell(f"Run {each.outcome.name} ({each.outcome.run_id}): {each.outcome.folder}")
    print_ui(tracking)
    last = found[-1].outcome
    output.tell(f"Next: {evaluate_command(last.name, last.folder, tracking)}")


def _print_table(found: Sequence[BaselineOutcome]) -> None:
    """Print the PCC of each site, a column for each kind."""
    from rnatracker.terminal.tables import new_table, show

    first = found[0].outcome
    group, measured_on = ("oof", "Out-of-fold") if first.folds else ("best", "Validation")
    table = new_table()
    table.add_column("site")
    for each in found:
        table.add_column(each.kind, justify="right")
    for name in (*first.sites, "mean", "overall"):
        if name == "mean":
            table.add_section()
        values = [each.outcome.metrics[f"{group}/pcc_{name}"] for each in found]
        table.add_row(name, *("-" if value != value else f"{value:.3f}" for value in values))
    table.add_section()
    table.add_row("seconds", *(f"{each.seconds:.1f}" for each in found))
    show(table, f"{measured_on} PCC of baselines, on transcripts that they have not seen")
