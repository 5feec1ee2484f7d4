"""What all commands share: options of the store, and how an error becomes an exit code.

Owns nothing that computes. Must not import anything heavy.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from rnatracker.errors import RNATrackerError, is_disk_full, is_out_of_memory

if TYPE_CHECKING:
    from rnatracker.tracking import TrackingSettings

CONTEXT = {"help_option_names": ["-h", "--help"]}

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


class Group(TyperGroup):
    """A group of commands whose expected errors are one clear line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error of ours is printed and exits with 1."""
        try:
            return super().invoke(ctx)
        except RNATrackerError as error:
            say(f"Error: {error}")
        except (MemoryError, RuntimeError, OSError) as error:
            if is_out_of_memory(error):
                say("Error: out of memory; close other programs, or use smaller data or a larger machine")
            elif is_disk_full(error):
                say(f"Error: {getattr(error, 'filename', None) or 'a file'}: the disk is full; free some space")
            else:
                raise
        raise typer.Exit(1)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read `--max_length` as `--max-length`: the ancestor's users type the first."""
        return super().parse_args(ctx, [_dashed(token) for token in args])


def _dashed(token: str) -> str:
    name, sign, value = token.partition("=")
    return name.replace("_", "-") + sign + value if token.startswith("--") else token


def say(text: str) -> None:
    """Print a line for people, on stderr."""
    typer.echo(text, err=True)


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object on stdout; what is not a number is null, as JSON has no NaN."""
    typer.echo(json.dumps(_finite(content)))


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on stderr, where that is a terminal; gives what to tell it: how many of how many are done."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def tracking_settings(store: str | None, tracking_uri: str | None, experiment: str, no_track: bool) -> TrackingSettings:
    """Return where runs are kept, from a command's options."""
    from rnatracker.tracking import settings_from

    return settings_from(store, tracking_uri, experiment, no_track)
