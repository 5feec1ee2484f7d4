"""The command line: parse, import lazily, call one function, print.

Owns the list of commands. Everything heavy is imported when a command runs, so that `--help` answers at once. Read
next: `rnatracker/commands/`, one module for each group of commands.
"""

from __future__ import annotations

import os
from typing import Annotated

# Before anything loads OpenMP: a waiting thread should sleep, not spin on the core that the other thread needs.
# Spinning longer costs up to half of the speed when other programs need the cores, and gains nothing when they don't.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# Nothing is ever unpickled, neither here nor by MLflow in the processes that are started from here: not even where a
# user's own settings allow it, since whoever can write a model's folder could run code then.
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"

import typer

from rnatracker import __version__
from rnatracker.commands import (
    baseline,
    blend,
    compare,
    data,
    doctor,
    evaluate,
    imports,
    models,
    predict,
    promote,
    replay,
    runs,
    serve,
    study,
    train,
    tune,
    ui,
)
from rnatracker.terminal import output

app = typer.Typer(
    name="rnatracker",
    cls=output.Group,
    context_settings=output.CONTEXT,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Predict where mRNAs go in the cell from their sequence, with every run tracked in MLflow.",
)
app.add_typer(data.app, name="data", rich_help_panel="Data")
app.command("import", rich_help_panel="Data")(imports.import_)
app.command("train", rich_help_panel="Train and measure")(train.train)
app.command("baseline", rich_help_panel="Train and measure")(baseline.baseline)
app.command("blend", rich_help_panel="Train and measure")(blend.blend)
app.command("evaluate", rich_help_panel="Train and measure")(evaluate.evaluate)
app.command("tune", rich_help_panel="Search")(tune.tune)
app.command("study", rich_help_panel="Search")(study.study)
app.command("runs", rich_help_panel="Runs")(runs.runs)
app.command("compare", rich_help_panel="Runs")(compare.compare)
app.command("replay", rich_help_panel="Runs")(replay.replay)
app.command("ui", rich_help_panel="Runs")(ui.ui)
app.command("doctor", rich_help_panel="Runs")(doctor.doctor)
app.command("promote", rich_help_panel="Models and predictions")(promote.promote)
app.command("models", rich_help_panel="Models and predictions")(models.models)
app.command("predict", rich_help_panel="Models and predictions")(predict.predict)
app.command("serve", rich_help_panel="Models and predictions")(serve.serve)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rnatracker {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before a command."""


if __name__ == "__main__":
    app()
