"""`rnatracker predict`.

Owns its options and what it says on stderr. The work is `rnatracker.streaming`.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnatracker.choices import AnyFormat, Device, OutFormat
from rnatracker.commands import common
from rnatracker.errors import ConfigError

if TYPE_CHECKING:
    from rnatracker.evaluation import Model
    from rnatracker.predictor import Predictor
    from rnatracker.streaming import Counts, Job, Progress

_SHOWN = 5
"""Bad records that are told of one by one; the others are counted."""


def predict(
    source: Annotated[
        str,
        typer.Argument(
            help="FASTA, or a TSV or CSV with id and sequence; gzipped or not; - for standard input.", metavar="INPUT"
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="champion, challenger, previous, a version's number, a run (id, name, folder), a file of weights."
        ),
    ] = "champion",
    out: Annotated[
        str | None, typer.Option(help="File of predictions.", metavar="FILE", show_default="standard output")
    ] = None,
    out_format: Annotated[
        OutFormat | None, typer.Option(help="Format of the predictions.", show_default="by the name of --out, else tsv")
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(
            help="Write where along each transcript the attention lies: id, start, end, weight.", metavar="FILE"
        ),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Pass over bad records, and count them.")] = False,
    file_format: Annotated[AnyFormat, typer.Option("--format", help="Format of the input.")] = "auto",
    sites: Annotated[
        str | None,
        typer.Option(help="Names of the sites, for the ancestor's weights, which name none.", metavar="A,B,..."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Most transcripts in a batch; 0: as many as memory should bear.", min=0)
    ] = 0,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all.", min=0)] = 0,
    name: common.ModelName = "rnatracker",
    json_: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object; needs --out.")] = False,
    experiment: common.Experiment = "rnatracker",
    store: common.Store = None,
    tracking_uri: common.TrackingUri = None,
) -> None:
    """Predict site fractions of any number of transcripts, with the champion or another model.

    rnatracker predict mine.fa --out mine.tsv

    gunzip -c big.fa.gz | rnatracker predict - --model exp3 | head
    """
    if json_ and out in (None, "-"):
        raise ConfigError("--json: standard output is for the predictions; name a file for them with --out FILE")

    from rnatracker.streaming import Counts, Job, check

    paths = [None if path in (None, "-") else Path(str(path)) for path in (out, attention)]
    if attention == "-":
        raise ConfigError("--attention -: standard output is for the predictions; name a file")
    job = Job(source, paths[0], out_format, paths[1], file_format)
    check(job)

    from rnatracker import registry

    found = registry.resolve(model, common.tracking_settings(store, tracking_uri, experiment, False), name)
    counts = Counts()
    began = time.perf_counter()
    predictor = _predictor(found, sites, batch_size, device, threads)
    _run(predictor, job, counts, skip_bad)
    seconds = time.perf_counter() - began
    if json_:
        common.print_json({"model": found.name, "out": out, "seconds": seconds, **vars(counts)})
    _notes(predictor, job, counts)
    speed = f"{counts.transcripts / seconds:,.0f}/s" if seconds else ""
    common.say(
        f"Predicted {counts.transcripts:,} transcripts with {found.name} ({found.description}) in {seconds:.1f} s "
        f"({speed}). Next: {_next(predictor, job, model)}"
    )


def _predictor(found: Model, sites: str | None, batch_size: int, device: Device, threads: int) -> Predictor:
    from rnatracker.config import TrainConfig
    from rnatracker.device import pick_device, use_threads
    from rnatracker.predictor import Predictor

    use_threads(threads)
    checkpoints = found.checkpoints
    if sites is not None:
        names = tuple(site.strip() for site in sites.split(","))
        checkpoints = [checkpoint.named(names) for checkpoint in checkpoints]
        if checkpoints[0].sites != names:
            raise ConfigError(
                f"--sites {sites}: {found.name} predicts {', '.join(checkpoints[0].sites)}; leave --sites out"
            )
    return Predictor(checkpoints, pick_device(TrainConfig(device=device)), batch_size=batch_size)


def _run(predictor: Predictor, job: Job, counts: Counts, skip_bad: bool) -> None:
    """Predict under a progress bar; a stop and a reader that has gone end it without a trace."""
    from rnatracker.prediction_files import OutputClosed
    from rnatracker.stop import StopSignal
    from rnatracker.streaming import predict_file

    if job.source == "-" and sys.stdin is not None and sys.stdin.isatty():
        common.say("Reading records from the terminal; end them with Ctrl-D")
    shown = 0

    def on_bad(message: str) -> None:
        nonlocal shown
        shown += 1
        if shown <= _SHOWN:
            common.say(f"Skipped: {message}")

    try:
        with StopSignal() as stop, _bar(job) as show:

            def on_progress(done: int, share: float | None) -> None:
                if stop():  # Python drops an exception that a signal raises while an object is being deleted
                    raise KeyboardInterrupt
                if show is not None:
                    show(done, share)

            predict_file(predictor, job, counts, on_bad=on_bad if skip_bad else None, on_progress=on_progress)
    except KeyboardInterrupt:
        written = "the lines so far stand on standard output" if job.out is None else "no file was written"
        common.say(f"Stopped after {counts.transcripts:,} transcripts; {written}")
        raise typer.Exit(130) from None
    except OutputClosed:
        raise typer.Exit(1) from None


@contextmanager
def _bar(job: Job) -> Iterator[Progress | None]:
    """Show how many transcripts are done and how fast, where stderr is a terminal that nothing else is written to."""
    if not sys.stderr.isatty() or (job.out is None and sys.stdout is not None and sys.stdout.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("predicting"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[figures]}"))
    began = time.perf_counter()
    with Progress(*columns, TimeRemainingColumn(compact=True), console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None, figures="")

        def tell(done: int, share: float | None) -> None:
            figures = f"{done:,} transcripts  {done / (time.perf_counter() - began):,.0f}/s"
            bars.update(task, completed=share or 0, total=None if share is None else 1, figures=figures)

        yield tell


def _notes(predictor: Predictor, job: Job, counts: Counts) -> None:
    say: Callable[[str], None] = common.say
    if counts.skipped > _SHOWN:
        say(f"Skipped: {counts.skipped - _SHOWN:,} more bad records")
    if counts.skipped:
        say(f"Note: {counts.skipped:,} bad records were skipped; the predictions are without them")
    if counts.cut:
        encoding = predictor.encoding
        kept = {"5p": "their 5' end was", "3p": "their 3' end was", "both": "both their ends were"}[encoding.keep]
        say(f"Note: {counts.cut:,} transcripts are longer than {encoding.max_length:,} nt; {kept} kept, as in training")
    share = counts.on_padding / counts.transcripts if counts.transcripts else 0
    if job.attention is not None and share > 0:
        say(
            f"Note: {share:.0%} of the attention lies on the padding in front of the transcripts, which this network "
            "was trained to see; the weights are shares of the rest"
        )


def _next(predictor: Predictor, job: Job, model: str) -> str:
    """Return what to type next: the attention, where there is any to see, else how good the model is."""
    if job.attention is None and job.source != "-" and predictor.has_attention:
        words = ["rnatracker", "predict", job.source, *([] if model == "champion" else ["--model", model])]
        out = ["--out", str(job.out)] if job.out else []
        return f"{shlex.join([*words, *out])} --attention FILE"
    return f"rnatracker evaluate {shlex.quote(model)} --data FILE"
