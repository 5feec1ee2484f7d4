"""Predicting a file of any length: read a piece, predict it, write it, forget it.

Owns that loop and its counts. Must not know mlflow or the command line. Read next: `rnatracker/data/stream.py` for the
pieces, `table.py` for the figures, `outputs.py` for the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rnatracker.choices import OutFormat
from rnatracker.data.formats.column_names import ANY_NAMES, ColumnNames
from rnatracker.data.source import check_readable
from rnatracker.data.stream import STANDARD_INPUT, Stream, stream
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.errors import ConfigError, UsageError
from rnatracker.model.attention import Attention, Spans
from rnatracker.model.threads import Threads
from rnatracker.prediction.outputs import attention_writer, format_of, prediction_writer, sink
from rnatracker.prediction.predictor import Predictor
from rnatracker.prediction.table import Prediction, summarise

Progress = Callable[[int, float | None], None]


@dataclass(frozen=True)
class Job:
    """What to predict, and where to.

    Attributes:
        source: a file of transcripts, or `-` for standard input.
        out: file of predictions; None: standard output.
        form: its format; None: that of its name.
        attention: file of where the attention lies; None: it isn't looked at.
        file_format: format of `source`.
        half_widths: (S,) how far the intervals reach to either side of a prediction; None: there are to be none.
        columns: which columns of a table hold what, where their names don't say it.
    """

    source: str
    out: Path | None = None
    form: OutFormat | None = None
    attention: Path | None = None
    file_format: str = "auto"
    half_widths: Fractions | None = None
    columns: ColumnNames = ANY_NAMES


@dataclass
class Counts:
    """What has been done.

    Attributes:
        transcripts: predicted.
        skipped: bad records left out.
        cut: transcripts longer than the model's `max_length`.
        on_padding: sum over transcripts of the share of their attention that lies on padding.
        notes: what a user should know of how the file was read, once all of it is.
    """

    transcripts: int = 0
    skipped: int = 0
    cut: int = 0
    on_padding: float = 0.0
    notes: tuple[str, ...] = ()


def check(job: Job) -> None:
    """Check that the input is there and no output is the input or another output, before anything is loaded.

    Raises:
        DataError: if the input can't be read.
        ConfigError: if one is, or its format can't be.
    """
    named = {"--out": job.out, "--attention": job.attention}
    taken = {} if job.source == STANDARD_INPUT else {_real(Path(job.source)): f"the input {job.source}"}
    for option, path in named.items():
        if path is None:
            continue
        if path.is_dir():
            raise ConfigError(f"{option} {path}: expected a file, got a folder", "name a file in it")
        if not path.exists() and not path.parent.is_dir():
            raise ConfigError(f"{option} {path}: there is no folder {path.parent}", "make it first")
        if path.is_file() or not path.exists():
            if _real(path) in taken:
                raise UsageError(f"{option} {path}: is {taken[_real(path)]} too", "name another file")
            taken[_real(path)] = option
    format_of(job.out, job.form)
    if job.source != STANDARD_INPUT:
        check_readable(job.source)


def _real(path: Path) -> Path:
    return path.resolve()


def predict_file(
    predictor: Predictor,
    job: Job,
    counts: Counts,
    *,
    on_bad: Callable[[str], None] | None = None,
    on_progress: Progress | None = None,
    threads: Threads | None = None,
) -> None:
    """Predict a file's transcripts in its order; the outputs appear when they are whole, or not at all.

    Args:
        predictor: the model.
        job: what and where.
        counts: kept up to date, also where this ends early.
        on_bad: called with what is wrong with each bad record, which is then skipped; None: the first one is raised.
        on_progress: called with the number of transcripts done and the share of the file, None where that is unknown.
        threads: chooses the number of CPU threads between batches; None: it stays.

    Raises:
        DataError: if the file can't be read, or has a bad record.
        ConfigError: if an output can't be written.
        CheckpointError: if there is no attention to show, or a site has the name of another column.
        OutputClosed: if whoever reads the output has gone.
    """
    check(job)
    if job.attention is not None:
        predictor.check_attention()
    with ExitStack() as stack:
        pieces = stack.enter_context(stream(job.source, format=job.file_format, on_bad=on_bad, columns=job.columns))
        attend = None if job.attention is None else attention_writer(_open(stack, job.attention, "--attention"))
        out = _open(stack, job.out, "--out")
        form = format_of(job.out, job.form)
        has_ends = job.half_widths is not None
        write = stack.enter_context(prediction_writer(out, form, predictor.sites, len(predictor) > 1, has_ends))
        for piece in pieces:
            counts.cut += _cut(predictor, piece)
            on_batch = _after_batches(predictor, counts.transcripts, pieces, on_progress, threads)
            write(_predict(predictor, piece, counts, attend, on_batch, job.half_widths))
            counts.transcripts += len(piece)
            counts.skipped = pieces.skipped
        counts.skipped, counts.notes = pieces.skipped, pieces.notes()


def _open(stack: ExitStack, path: Path | None, option: str) -> IO[bytes]:
    return stack.enter_context(sink(path, option))


def _cut(predictor: Predictor, piece: Transcripts) -> int:
    encoding = predictor.encoding
    return 0 if encoding.full_length else int((piece.lengths > encoding.max_length).sum())


def _predict(
    predictor: Predictor,
    piece: Transcripts,
    counts: Counts,
    attend: Callable[[str, Spans], None] | None,
    on_batch: Callable[[int], None],
    half_widths: Fractions | None,
) -> Prediction:
    """Predict a piece; where its attention lies is written at once."""
    if attend is None:
        each = predictor.predict_each(piece, on_batch=on_batch)
        return summarise(piece.ids, predictor.sites, each, predictor.weights, half_widths)
    each, attention = predictor.with_attention(piece, on_batch=on_batch)
    _write_attention(piece, attention, attend)
    counts.on_padding += float(attention.on_padding.sum())
    return summarise(piece.ids, predictor.sites, each, predictor.weights, half_widths)


def _write_attention(piece: Transcripts, attention: Attention, attend: Callable[[str, Spans], None]) -> None:
    for index, id_ in enumerate(piece.ids):
        attend(id_, attention.spans(index))


def _after_batches(
    predictor: Predictor, before: int, pieces: Stream, on_progress: Progress | None, threads: Threads | None
) -> Callable[[int], None]:
    """Return what is called after each batch of a piece, where each transcript counts once per network."""

    def on_batch(done: int) -> None:
        if threads is not None:
            threads.review()
        if on_progress is not None:
            on_progress(before + done // len(predictor), pieces.share_read())

    on_batch(0)
    return on_batch
