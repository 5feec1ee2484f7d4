"""`rnatracker import`.

Owns its options and what it prints. The work is done by `rnatracker.training.ported_logs`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rnatracker.terminal import options, output, tables


def import_(
    folder: Annotated[
        str,
        typer.Argument(
            help="A log folder of the PyTorch port, with log.txt and weights/.",
            metavar="LOGFOLDER",
            parser=options.expanded,
        ),
    ],
    json_: options.Json = False,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
) -> None:
    """Import a log folder of the PyTorch port of RNATracker as an MLflow run.

    rnatracker import logs/exp0
    """
    from rnatracker.tracking.hints import evaluate_command
    from rnatracker.tracking.open import open_tracker
    from rnatracker.training.ported_logs import import_log_folder

    tracking = options.tracking_settings(store, tracking_uri, experiment)
    tracker = open_tracker(tracking)
    run = import_log_folder(Path(folder), tracker)
    if json_:
        output.print_json({"run_id": run.id, "name": run.name, "state": run.status(), "metrics": run.metrics()})
        return
    output.tell(f"Imported {folder} as {run.name} ({run.id}): {run.folder}")
    tables.print_ui(tracking)
    output.tell(f"Next: {evaluate_command(run.name, run.folder, tracking)}")
