"""`rnatracker predict`.

Owns its options and what it says on stderr. The work is done by `rnatracker.prediction.stream`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnatracker.choices import AnyFormat, Device, OutFormat
from rnatracker.errors import ConfigError, UsageError
from rnatracker.terminal import options, output, progress

if TYPE_CHECKING:
    from rnatracker.evaluation.models import Model
    from rnatracker.prediction.predictor import Predictor
    from rnatracker.prediction.stream import Counts, Job, Progress
    from rnatracker.tracking.settings import TrackingSettings

_SHOWN = 5
"""Bad records that are reported one by one; the others are only counted."""


def predict(
    source: Annotated[
        str,
        typer.Argument(
            help="FASTA, or TSV or CSV with id and sequence, gzipped or not; - for standard input.",
            metavar="INPUT",
            parser=options.expanded,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="champion, challenger, previous, a version number, a run (id, name or folder), or a file of weights.",
            metavar="MODEL",
            parser=options.expanded,
        ),
    ] = "champion",
    out: Annotated[
        str | None,
        typer.Option(
            help="File to write the predictions to.",
            **options.FILE,
            show_default="standard output",
        ),
    ] = None,
    out_format: Annotated[
        OutFormat | None,
        typer.Option(help="Format of the predictions.", show_default="from the name of --out, else tsv"),
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(
            help="Write the attention along each transcript as a TSV: id, start, end, weight.",
            **options.FILE,
        ),
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(
            help="Add <site>_low and <site>_high, between which so many percent of measured fractions lie; for "
            "cross-validated models.",
            metavar="PERCENT",
            min=1,
            max=99.9,
            show_default=False,
        ),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Skip bad records and count them, instead of stopping at the first.")
    ] = False,
    file_format: Annotated[
        AnyFormat,
        typer.Option(
            "--format",
            help="Format of the input: fasta, table, port3, port6 or original; auto: recognised by its content.",
            metavar="FORMAT",
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = "auto",
    id_column: options.IdColumn = None,
    sequence_column: options.SequenceColumn = None,
    sites: Annotated[
        str | None,
        typer.Option(
            help="Names of the sites, for weights of the PyTorch port, which don't name them.",
            metavar="A,B,...",
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(
            help="Maximum number of transcripts per batch; 0: chosen to fit in memory.",
            min=0,
            rich_help_panel=options.COMPUTING_PANEL,
        ),
    ] = 0,
    device: options.Device = "auto",
    threads: Annotated[
        int,
        typer.Option(
            help="CPU threads; 0: the fastest number, found by timing.",
            min=0,
            rich_help_panel=options.COMPUTING_PANEL,
        ),
    ] = 0,
    name: options.ModelName = "rnatracker",
    json_: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON object, for scripts; needs --out.")
    ] = False,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
) -> None:
    """Predict the site fractions of transcripts, with the champion or another model.

    rnatracker predict mine.fa --out mine.tsv

    gunzip -c big.fa.gz | rnatracker predict - --model exp3 | head
    """
    if json_ and out in (None, "-"):
        raise UsageError("--json: standard output is for the predictions", "name a file for them with --out FILE")

    from rnatracker.data.formats.column_names import ColumnNames
    from rnatracker.prediction.stream import Counts, Job, check

    paths = [None if path in (None, "-") else Path(str(path)) for path in (out, attention)]
    if attention == "-":
        raise UsageError("--attention -: standard output is for the predictions", "name a file")
    job = Job(source, paths[0], out_format, paths[1], file_format, columns=ColumnNames(id_column, sequence_column))
    check(job)

    from rnatracker.registry import resolve

    tracking = options.tracking_settings(store, tracking_uri, experiment)
    chosen = resolve.resolve(model, tracking, name)
    counts = Counts()
    began = time.perf_counter()
    predictor = _predictor(chosen, sites, batch_size, device, threads)
    if interval is not None:
        job = replace(job, half_widths=chosen.residuals().half_widths(interval, predictor.sites))
    _run(predictor, job, counts, skip_bad, threads)
    seconds = time.perf_counter() - began
    if json_:
        figures = {"transcripts": counts.transcripts, "skipped": counts.skipped, "cut": counts.cut}
        padding = None if job.attention is None else counts.on_padding / counts.transcripts
        output.print_json(
            {"model": chosen.name, "out": out, "seconds": seconds, **figures, "attention_on_padding": padding}
        )
    _notes(predictor, job, counts)
    output.say(
        f"Predicted {output.amount(counts.transcripts, 'transcript')} with {chosen.name} ({chosen.description}) in "
        f"{seconds:.1f} s ({counts.transcripts / seconds:,.0f}/s). Next: {_next(predictor, job, model, tracking)}"
    )


def _predictor(model: Model, sites: str | None, batch_size: int, device: Device, threads: int) -> Predictor:
    from rnatracker.config import TrainConfig
    from rnatracker.model.device import pick_device
    from rnatracker.model.threads import use_threads

    use_threads(threads)
    names = tuple(options.site_names(sites) or ())
    predictor = model.predictor(pick_device(TrainConfig(device=device)), sites=names, batch_size=batch_size)
    if names and predictor.sites != names:
        raise ConfigError(f"--sites {sites}: {model.name} predicts {', '.join(predictor.sites)}", "leave --sites out")
    return predictor


def _run(predictor: Predictor, job: Job, counts: Counts, skip_bad: bool, n_threads: int) -> None:
    """Predict under a progress bar; after a stop, or when the reader has gone, no file is left."""
    from rnatracker.model.threads import Threads
    from rnatracker.prediction.outputs import OutputClosed
    from rnatracker.prediction.stream import predict_file
    from rnatracker.processes.stop import StopSignal

    if job.source == "-" and sys.stdin is not None and sys.stdin.isatty():
        output.say("Reading records from the terminal; end them with Ctrl-D")
    shown = 0

    def on_bad(message: str) -> None:
        nonlocal shown
        shown += 1
        if shown <= _SHOWN:
            output.say(f"Skipped: {message}")

    try:
        free = n_threads == 0 and predictor.has_networks and predictor.device.type == "cpu"
        with StopSignal() as stop, _bar(job) as show, Threads(predictor.rehearse if free else None) as threads:

            def on_progress(done: int, share: float | None) -> None:
                if stop():  # Python drops an exception that a signal raises while an object is being deleted
                    raise KeyboardInterrupt
                if show is not None:
                    show(done, share)

            handler = on_bad if skip_bad else None
            predict_file(predictor, job, counts, on_bad=handler, on_progress=on_progress, threads=threads)
    except KeyboardInterrupt:
        written = "the rows so far are on standard output" if job.out is None else "no file was written"
        output.say(f"Stopped after {output.amount(counts.transcripts, 'transcript')}; {written}")
        raise typer.Exit(130) from None
    except OutputClosed:  # `predict | head` has what it wants
        raise typer.Exit(0) from None


@contextmanager
def _bar(job: Job) -> Iterator[Progress | None]:
    """Show how many transcripts are done and how fast, where stderr is a terminal that nothing else is written to."""
    if not progress.is_live() or (job.out is None and sys.stdout is not None and sys.stdout.isatty()):
        yield None
        return
    with progress.counted("predicting", "transcripts") as update:
        yield update


def _notes(predictor: Predictor, job: Job, counts: Counts) -> None:
    for note in counts.notes:
        output.say(f"Note: {note}")
    if counts.skipped > _SHOWN:
        output.say(f"Skipped: {output.amount(counts.skipped - _SHOWN, 'more bad record')}")
    if counts.skipped:
        output.say(f"Note: {output.amount(counts.skipped, 'bad record')} skipped; the predictions leave them out")
    if counts.cut:
        encoding = predictor.encoding
        kept = {"5p": "their 5' end", "3p": "their 3' end", "both": "both ends"}[encoding.keep]
        number = output.amount(counts.cut, "transcript")
        output.say(f"Note: {number} longer than {encoding.max_length:,} nt cut to {kept}, as in training")
    share = counts.on_padding / counts.transcripts if counts.transcripts else 0
    if job.attention is not None and share > 0:
        output.say(
            f"Note: {share:.0%} of the attention lies on the padding in front of the transcripts, which this network "
            "was trained to see; the weights are shares of the rest"
        )


def _next(predictor: Predictor, job: Job, model: str, tracking: TrackingSettings) -> str:
    """Return what to type next: the attention, where there is any to see, else how good the model is."""
    from rnatracker.tracking.hints import attention_command, evaluate_command

    if job.attention is None and job.source != "-" and predictor.has_attention:
        return attention_command(job.source, model, job.out, tracking)
    return evaluate_command(model, Path(model), tracking)
