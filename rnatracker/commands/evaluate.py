"""`rnatracker evaluate`.

Owns its options and what it prints. The work is done by `rnatracker.evaluation.evaluate`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnatracker.errors import ConfigError, UsageError
from rnatracker.terminal import options, output, progress

if TYPE_CHECKING:
    from rnatracker.evaluation.evaluate import Evaluation


def evaluate(
    run: Annotated[
        str | None,
        typer.Argument(
            help="A run (id, name or folder), champion, challenger, previous, a version number, or a file of weights.",
            metavar="MODEL",
            parser=options.expanded,
            show_default=False,
        ),
    ] = None,
    data: options.Data = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="A file of weights instead of a run, ours or the PyTorch port's.",
            **options.FILE,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Write a TSV: id, predicted fractions, measured fractions.", **options.FILE),
    ] = None,
    file_format: options.FileFormat = "auto",
    sites: options.Sites = None,
    labels: options.Labels = "mean",
    id_column: options.IdColumn = None,
    sequence_column: options.SequenceColumn = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap samples of the 95 % intervals.", min=0)] = 1000,
    device: options.Device = "auto",
    threads: options.Threads = 0,
    name: options.ModelName = "rnatracker",
    json_: options.Json = False,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
) -> None:
    """Measure a model on labelled data: PCC, Spearman correlation and MSE, with 95 % intervals.

    The model is a run, a registered model or a file of weights.

    rnatracker evaluate exp3 --data test.tsv

    rnatracker evaluate champion --data test.tsv
    """
    if data is None:
        raise UsageError("--data: no data to measure on", "give a file of transcripts with measured fractions")
    if (run is None) == (weights is None):
        raise UsageError("rnatracker evaluate: give either a run or --weights FILE")

    from rnatracker.data.formats.column_names import ColumnNames
    from rnatracker.data.source import check_readable

    check_readable(data)

    from rnatracker.config import TrainConfig
    from rnatracker.evaluation import evaluate as evaluation
    from rnatracker.evaluation import models
    from rnatracker.model.threads import use_threads
    from rnatracker.registry import resolve

    use_threads(threads)
    if weights is not None:
        model = models.model_of_file(weights)
    else:
        model = resolve.resolve(str(run), options.tracking_settings(store, tracking_uri, experiment), name)
    with progress.progress("predicting") as on_batch:
        result = evaluation.evaluate(
            model,
            data,
            train=TrainConfig(device=device),
            file_format=file_format,
            sites=options.site_names(sites),
            labels=labels,
            columns=ColumnNames(id_column, sequence_column),
            resamples=resamples,
            on_batch=on_batch,
        )
    if out is not None:
        _write(result, Path(out))
    for warning in result.warnings:
        output.say(f"Note: {warning.text}")
    _print(result, json_, out)


def _write(result: Evaluation, path: Path) -> None:
    from rnatracker.prediction.run_table import write_predictions

    transcripts = result.transcripts
    try:
        write_predictions(path, transcripts.ids, transcripts.sites, result.predicted, transcripts.measured())
    except OSError as error:
        raise ConfigError(f"--out {path}: can't be written: {error.strerror}") from None


def _print(result: Evaluation, json_: bool, out: str | None) -> None:
    if json_:
        output.print_json(
            {
                "model": result.model.name,
                "transcripts": len(result.transcripts),
                "scores": [vars(score) for score in result.scores],
                "warnings": [warning.text for warning in result.warnings],
            }
        )
        return
    from rnatracker.terminal.tables import print_scores

    title = f"{result.model.name} ({result.model.description}) on {len(result.transcripts)} transcripts"
    print_scores(result.scores, title)
    if out is not None:
        output.tell(f"\nPredicted and measured fractions: {out}")
    else:
        output.tell("\nNext: add --out FILE for every transcript's predicted and measured fractions")
