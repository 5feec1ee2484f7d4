"""Options that commands share: the store's, the registered model's, `--json`.

Owns their names and what their help says. Must not import anything heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rnatracker.tracking.settings import TrackingSettings


_STORE_PANEL = "Store"

Store = Annotated[
    str | None,
    typer.Option(
        help="Folder of the store.",
        metavar="DIR",
        rich_help_panel=_STORE_PANEL,
        show_default="./mlruns",
        envvar="RNATRACKER_STORE",
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        help="MLflow server to use in place of a store.",
        metavar="URI",
        rich_help_panel=_STORE_PANEL,
        envvar="MLFLOW_TRACKING_URI",
    ),
]
Experiment = Annotated[str, typer.Option(help="MLflow experiment.", metavar="NAME", rich_help_panel=_STORE_PANEL)]
ModelName = Annotated[
    str,
    typer.Option("--name", help="Name of the registered model.", metavar="NAME", rich_help_panel=_STORE_PANEL),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")]


def tracking_settings(store: str | None, tracking_uri: str | None, experiment: str, no_track: bool) -> TrackingSettings:
    """Return where runs are kept, from a command's options."""
    from rnatracker.tracking.settings import settings_from

    return settings_from(store, tracking_uri, experiment, no_track)
