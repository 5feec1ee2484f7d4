"""Where runs are kept, as options and the environment say it.

Owns the settings. Imports no dependency, so that they can be handed to a worker process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class TrackingSettings:
    """Where runs are kept. Can be pickled: a worker process opens its own tracker from it.

    Attributes:
        store: the folder for `mlflow.db`, `artifacts/` and `untracked/`.
        tracking_uri: a server or another database; None for the store's own.
        experiment: MLflow's experiment.
        enabled: False to keep runs in plain folders, without MLflow (`--no-track`).
    """

    store: Path
    tracking_uri: str | None = None
    experiment: str = "rnatracker"
    enabled: bool = True

    @property
    def has_ui(self) -> bool:
        """Whether runs are kept in MLflow, whose UI shows them."""
        return self.enabled

    def without_mlflow(self) -> TrackingSettings:
        """Return the settings of the plain folders in the same store."""
        return replace(self, enabled=False)


def settings_from(store: str | None, tracking_uri: str | None, experiment: str, no_track: bool) -> TrackingSettings:
    """Return the settings that these options give, with the environment's and the defaults behind them.

    Args:
        store: `--store`, else `RNATRACKER_STORE`, else `mlruns` in the current folder.
        tracking_uri: `--tracking-uri`, else `MLFLOW_TRACKING_URI`, else none.
        experiment: `--experiment`.
        no_track: `--no-track`.
    """
    folder = Path(store or os.environ.get("RNATRACKER_STORE") or "mlruns").expanduser().resolve()
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None
    return TrackingSettings(folder, uri, experiment, enabled=not no_track)
