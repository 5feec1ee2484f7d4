"""`rnatracker evaluate`.

Owns its options and what it prints. The work is `rnatracker.evaluation`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnatracker.choices import Device, Format, Labels
from rnatracker.commands import common
from rnatracker.errors import ConfigError

if TYPE_CHECKING:
    from rnatracker.evaluation import Evaluation


def evaluate(
    run: Annotated[
        str | None,
        typer.Argument(
            help="A run (id, name, folder), champion, challenger, previous, a version's number, a file of weights.",
            metavar="MODEL",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="File of transcripts with measured fractions.", metavar="FILE")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="A file of weights in place of a run, ours or the ancestor's.", metavar="FILE")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Write a TSV: id, predicted fractions, measured fractions.", metavar="FILE"),
    ] = None,
    file_format: Annotated[Format, typer.Option("--format", help="Format of the data.")] = "auto",
    sites: Annotated[
        str | None,
        typer.Option(help="Names of the sites, in the order of the file's values.", metavar="A,B,..."),
    ] = None,
    labels: Annotated[Labels, typer.Option(help="Which replicate, where there are two.")] = "mean",
    resamples: Annotated[int, typer.Option(help="Bootstrap samples of the 95 % intervals.", min=0)] = 1000,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all.", min=0)] = 0,
    name: common.ModelName = "rnatracker",
    json_: common.Json = False,
    experiment: common.Experiment = "rnatracker",
    store: common.Store = None,
    tracking_uri: common.TrackingUri = None,
) -> None:
    """Measure a run, a registered model or a file of weights on labelled data: PCC, Spearman, MSE, 95 % intervals.

    rnatracker evaluate exp3 --data test.tsv

    rnatracker evaluate champion --data test.tsv
    """
    if data is None:
        raise ConfigError("--data: no data to measure on; give a file of transcripts with measured fractions")
    if (run is None) == (weights is None):
        raise ConfigError("rnatracker evaluate: give either a run or --weights FILE")

    from rnatracker import evaluation, registry
    from rnatracker.config import TrainConfig
    from rnatracker.device import use_threads

    use_threads(threads)
    if weights is not None:
        model = evaluation.model_of_file(weights)
    else:
        model = registry.resolve(str(run), common.tracking_settings(store, tracking_uri, experiment, False), name)
    with common.progress("predicting") as on_batch:
        result = evaluation.evaluate(
            model,
            data,
            train=TrainConfig(device=device),
            file_format=file_format,
            sites=None if sites is None else [site.strip() for site in sites.split(",")],
            labels=labels,
            resamples=resamples,
            on_batch=on_batch,
        )
    if out is not None:
        _write(result, Path(out))
    for warning in result.warnings:
        common.say(f"Note: {warning}")
    _print(result, json_, out)


def _write(result: Evaluation, path: Path) -> None:
    from rnatracker.artifacts import write_predictions

    transcripts = result.transcripts
    try:
        write_predictions(path, transcripts.ids, transcripts.sites, result.predicted, transcripts.measured())
    except OSError as error:
        raise ConfigError(f"--out {path}: can't be written: {error.strerror}") from None


def _print(result: Evaluation, json_: bool, out: str | None) -> None:
    if json_:
        common.print_json(
            {
                "model": result.model.name,
                "transcripts": len(result.transcripts),
                "scores": [vars(score) for score in result.scores],
                "warnings": result.warnings,
            }
        )
        return
    from rnatracker.commands.tables import print_scores

    title = f"{result.model.name} ({result.model.description}) on {len(result.transcripts)} transcripts"
    print_scores(result.scores, title)
    if out is not None:
        typer.echo(f"\nPredicted and measured fractions: {out}")
    else:
        typer.echo("\nNext: add --out FILE for every transcript's predicted and measured fractions")
