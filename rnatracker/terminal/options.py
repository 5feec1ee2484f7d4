"""The options that several commands have: each is defined once, with its help and its panel.

Owns their names and what their help says. Must not import anything heavy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rnatracker import choices
from rnatracker import site_names as rules
from rnatracker.errors import UsageError

if TYPE_CHECKING:
    from rnatracker.tracking.settings import TrackingSettings


def expanded(text: str) -> str:
    """Return what was typed for a file, a folder or what may be one, with `~` as the home folder.

    The `parser` of every such option: a shell expands `--data ~/x.fa`, but not `--data=~/x.fa`.
    """
    return os.path.expanduser(text)  # noqa: PTH111 - a path would lose what `./x` and `x/` say


def path(text: str) -> Path:
    """Return the path that was typed, as `expanded` does."""
    return Path(expanded(text))


FILE: dict[str, Any] = {"metavar": "FILE", "parser": expanded}
DIR: dict[str, Any] = {"metavar": "DIR", "parser": expanded}
RUN: dict[str, Any] = {"metavar": "RUN", "parser": expanded}
DATA_PANEL = "Data"
TRAINING_PANEL = "Model and training"
VALIDATION_PANEL = "Validation"
COMPUTING_PANEL = "Computing"
CLUSTER_PANEL = "Cluster"
STORE_PANEL = "Store"

# Where two types share one definition, the first is a setting that may come from a config file instead (None: not
# given), and the second has a default of its own.

Data = Annotated[
    str | None,
    typer.Option(help="File of transcripts with measured fractions.", **FILE, rich_help_panel=DATA_PANEL),
]
_FORMAT_HELP = "Format of the file: port3, port6, original or table; auto: recognised by its content."
FileFormatSetting = Annotated[
    choices.Format | None,
    typer.Option("--format", help=_FORMAT_HELP, metavar="FORMAT", show_default="auto", rich_help_panel=DATA_PANEL),
]
FileFormat = Annotated[
    choices.Format, typer.Option("--format", help=_FORMAT_HELP, metavar="FORMAT", rich_help_panel=DATA_PANEL)
]
Sites = Annotated[
    str | None,
    typer.Option(
        help="Names of the sites, in the order of the file's values; of a table, the columns to use.",
        metavar="A,B,...",
        rich_help_panel=DATA_PANEL,
    ),
]
IdColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of a table that holds the id.",
        metavar="NAME",
        show_default="id, transcript_id or name",
        rich_help_panel=DATA_PANEL,
    ),
]
SequenceColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of a table that holds the sequence.",
        metavar="NAME",
        show_default="sequence, seq or cdna",
        rich_help_panel=DATA_PANEL,
    ),
]
GroupColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of a table that says which transcripts are never divided, as those of a gene.",
        metavar="NAME",
        show_default="group, gene, gene_id or gene_name, if there",
        rich_help_panel=DATA_PANEL,
    ),
]
_GROUP_BY_HELP = "What is never divided: the file's groups, or similar sequences too (80 % identity; needs MMseqs2)."
GroupBySetting = Annotated[
    choices.GroupBy | None, typer.Option(help=_GROUP_BY_HELP, show_default="group", rich_help_panel=VALIDATION_PANEL)
]
GroupBy = Annotated[choices.GroupBy, typer.Option(help=_GROUP_BY_HELP, rich_help_panel=DATA_PANEL)]
_LABELS_HELP = "Which replicate to use, where there are two."
LabelsSetting = Annotated[
    choices.Labels | None, typer.Option(help=_LABELS_HELP, show_default="mean", rich_help_panel=DATA_PANEL)
]
Labels = Annotated[choices.Labels, typer.Option(help=_LABELS_HELP, rich_help_panel=DATA_PANEL)]

Config = Annotated[
    str | None,
    typer.Option(
        help="Config to start from: a file, or one of default, v1, port and paper.",
        metavar="NAME|FILE",
        parser=expanded,
        rich_help_panel=TRAINING_PANEL,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Set any key of the config, as in --set model.rnn_hidden=64. Repeatable.",
        metavar="KEY=VALUE",
        rich_help_panel=TRAINING_PANEL,
    ),
]
Epochs = Annotated[
    int | None, typer.Option(help="Epochs of each training.", show_default="50", rich_help_panel=TRAINING_PANEL)
]
Fold = Annotated[
    int | None,
    typer.Option(
        help="Number of folds of the cross-validation; 0: a single split.",
        show_default="0",
        rich_help_panel=VALIDATION_PANEL,
    ),
]
_OBJECTIVE_HELP = (
    "What the best epoch, and in a study the best trial, is chosen by: pcc_mean, pcc_overall or val_loss. A study "
    "takes what a trial costs too, after a comma: seconds or parameters."
)
Objective = Annotated[
    choices.Objective | None,
    typer.Option(
        help=_OBJECTIVE_HELP,
        metavar="MEASURE",
        show_default="pcc_mean",
        rich_help_panel=VALIDATION_PANEL,
    ),
]

Objectives = Annotated[
    str | None,
    typer.Option(
        help=_OBJECTIVE_HELP,
        metavar="MEASURE[,COST]",
        show_default="pcc_mean",
        rich_help_panel=VALIDATION_PANEL,
    ),
]

_DEVICE_HELP = "Where to compute."
DeviceSetting = Annotated[
    choices.Device | None, typer.Option(help=_DEVICE_HELP, show_default="auto", rich_help_panel=COMPUTING_PANEL)
]
Device = Annotated[choices.Device, typer.Option(help=_DEVICE_HELP, rich_help_panel=COMPUTING_PANEL)]
ThreadsSetting = Annotated[
    int | None,
    typer.Option(
        help="CPU threads of each training.",
        show_default="automatic",
        rich_help_panel=COMPUTING_PANEL,
    ),
]
Threads = Annotated[int, typer.Option(help="CPU threads; 0: all.", min=0, rich_help_panel=COMPUTING_PANEL)]
NoBaseline = Annotated[
    bool,
    typer.Option(
        "--no-baseline", help="Don't compare with simple models of k-mers and length.", rich_help_panel=VALIDATION_PANEL
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        help="Folds, or trials of a study, to train at the same time.", min=1, rich_help_panel=COMPUTING_PANEL
    ),
]
Launcher = Annotated[
    Literal["local", "slurm"],
    typer.Option(
        help="Where workers of a study, or folds, run: here (--jobs), or as jobs of SLURM.",
        rich_help_panel=CLUSTER_PANEL,
    ),
]
Slurm = Annotated[
    list[str] | None,
    typer.Option(
        help="An option of sbatch for each job, as in partition=gpu, time=4:00:00 or gres=gpu:1. Repeatable.",
        metavar="KEY=VALUE",
        rich_help_panel=CLUSTER_PANEL,
    ),
]

Store = Annotated[
    str | None,
    typer.Option(
        help="Folder of the store.",
        **DIR,
        rich_help_panel=STORE_PANEL,
        show_default="./mlruns",
        envvar="RNATRACKER_STORE",
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        help="MLflow server to use instead of a store.",
        metavar="URI",
        rich_help_panel=STORE_PANEL,
        envvar="MLFLOW_TRACKING_URI",
    ),
]
Experiment = Annotated[str, typer.Option(help="MLflow experiment.", metavar="NAME", rich_help_panel=STORE_PANEL)]
NoTrack = Annotated[
    bool,
    typer.Option("--no-track", help="Keep runs in plain folders, without MLflow.", rich_help_panel=STORE_PANEL),
]
Storage = Annotated[
    str | None,
    typer.Option(
        help="Where studies are kept: a journal file, or the address of a database.",
        metavar="FILE|URL",
        envvar="RNATRACKER_STORAGE",
        show_envvar=False,
        parser=expanded,
        rich_help_panel=STORE_PANEL,
        show_default="optuna.journal in the store",
    ),
]
ModelName = Annotated[
    str,
    typer.Option("--name", help="Name of the registered model.", metavar="NAME", rich_help_panel=STORE_PANEL),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")]


def tracking_settings(
    store: str | None, tracking_uri: str | None, experiment: str, no_track: bool = False
) -> TrackingSettings:
    """Return where runs are kept, from a command's options."""
    from rnatracker.tracking.settings import settings_from

    return settings_from(store, tracking_uri, experiment, no_track)


def site_names(sites: str | None) -> list[str] | None:
    """Return the names in the text of `--sites`; None where it was not given.

    Raises:
        UsageError: if a site can't be called so.
    """
    if sites is None:
        return None
    names = [name.strip() for name in sites.split(",")]
    fault = rules.fault(names)
    if fault:
        raise UsageError(f"--sites {sites}: {fault}", "use another name")
    return names
