"""Writing predictions as they come: whole files or none, or lines on standard output.

Owns the formats of predictions and of attention. Must not know networks. Read next: `table.py` for the columns,
`docs/predict.md` for the formats.

A file is written under another name and gets its own when it is whole. Standard output can't be taken back: lines
stand there as they come, and whoever reads them must look at the exit code.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from rnatracker import files
from rnatracker.choices import OutFormat
from rnatracker.errors import ConfigError, UsageError
from rnatracker.model.attention import Spans
from rnatracker.prediction.table import ID, Prediction, columns

_SUFFIXES: dict[str, OutFormat] = {
    ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet",
}  # fmt: skip
_NEUTRAL = ("", ".tsv", ".txt", ".tab", ".out")
"""Ends of names that say nothing against TSV."""
_ROW_GROUP = 1 << 16
"""Rows of a Parquet file that are compressed together."""
_STANDARD_OUTPUT = "standard output"
ATTENTION_COLUMNS = (ID, "start", "end", "weight")

Write = Callable[[Prediction], None]


class OutputClosed(Exception):  # noqa: N818 - not an error
    """Whoever read the output wants no more of it, as `head` does."""


def format_of(out: Path | None, wanted: OutFormat | None) -> OutFormat:
    """Return the format of an output: the wanted one, else that of its name, else `tsv`.

    Args:
        out: the file; None: standard output.
        wanted: what the user asks for.

    Raises:
        ConfigError: if the name is of another format, or Parquet is to go where it can't.
    """
    packed = out is not None and out.suffix == ".gz"
    suffix = "" if out is None else Path(out.name.removesuffix(".gz")).suffix.lower()
    if wanted is None and suffix not in _SUFFIXES and suffix not in _NEUTRAL:
        known = ", ".join(sorted(_SUFFIXES))
        raise UsageError(
            f"--out {out}: {suffix} names no format known here", f"use one of {known}, or give --out-format"
        )
    form = wanted or _SUFFIXES.get(suffix, "tsv")
    if form == "parquet" and out is None:
        raise UsageError("--out-format parquet: is no text for standard output", "name a file with --out FILE")
    if form == "parquet" and packed:
        raise UsageError(f"--out {out}: Parquet is compressed already", "leave out .gz")
    return form


@contextmanager
def sink(path: Path | None, option: str) -> Iterator[IO[bytes]]:
    """Open an output: a file that is there only when whole, gzipped where its name ends in `.gz`, or standard output.

    Args:
        path: the file; None: standard output.
        option: what the user named it with, for messages.

    Raises:
        ConfigError: if it can't be written.
        OutputClosed: if whoever reads it has gone.
    """
    if path is None:
        yield _Output.around(_standard_output(), _STANDARD_OUTPUT)
        return
    name = f"{option} {path}"
    with ExitStack() as stack:
        with _errors_of_writing(name):
            file = stack.enter_context(_replacing(path, name))
        raw = _Output.around(file, name)
        yield raw if path.suffix != ".gz" else stack.enter_context(files.gzipped(raw))


def _standard_output() -> IO[bytes]:
    if sys.stdout is None or sys.stdout.closed:
        raise ConfigError("standard output: can't be written, since it is closed", "name a file with --out FILE")
    return sys.stdout.buffer


@contextmanager
def _replacing(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Open a file; errors of opening and closing it become ours, those of a caller in between stay what they are."""
    manager = files.replacing(path)
    try:
        yield manager.__enter__()
    except BaseException as error:
        with _errors_of_writing(name):
            manager.__exit__(type(error), error, error.__traceback__)
        raise
    with _errors_of_writing(name):
        manager.__exit__(None, None, None)


class _Output:
    """Another file, whose errors become ours. It has what csv, gzip and Parquet need of a file."""

    closed = False

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name

    @classmethod
    def around(cls, file: IO[bytes], name: str) -> IO[bytes]:
        """Return it as the file that it is."""
        return cast(IO[bytes], cls(file, name))

    def write(self, data: bytes) -> int:
        """Write, or raise as `sink` says."""
        with _errors_of_writing(self._name):
            return self._file.write(data)

    def flush(self) -> None:
        """Write what is still in a buffer."""
        with _errors_of_writing(self._name):
            self._file.flush()

    def close(self) -> None:
        """Leave that to whoever has opened the file."""


@contextmanager
def _errors_of_writing(name: str) -> Iterator[None]:
    """Raise a ConfigError where an output can't be written, and OutputClosed where nobody reads it any more."""
    try:
        yield
    except BrokenPipeError:
        _silence(name)
        raise OutputClosed(name) from None
    except OSError as error:
        _silence(name)
        raise ConfigError(
            f"{name}: can't be written ({error.strerror or error})", "check the folder and the space on its disk"
        ) from None


def _silence(name: str) -> None:
    """Let what is left in standard output's buffer go nowhere, or Python would fail once more when it ends."""
    if name != _STANDARD_OUTPUT:
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, io.UnsupportedOperation):
        return


@contextmanager
def prediction_writer(
    file: IO[bytes], form: OutFormat, sites: Sequence[str], ensemble: bool, interval: bool = False
) -> Iterator[Write]:
    """Write predictions into an open output, piece by piece.

    Args:
        file: the output.
        form: its format.
        sites: names of the sites.
        ensemble: whether there is a spread.
        interval: whether there are intervals.

    Raises:
        CheckpointError: if a site has the name of another column.
    """
    names = [ID, *columns(sites, ensemble, interval)]
    if form == "parquet":
        with _parquet(file, names) as write:
            yield write
        return
    rows = _json_lines if form == "jsonl" else _table(file, names, "," if form == "csv" else "\t")

    def write_text(prediction: Prediction) -> None:
        file.write(rows(names, prediction).encode())
        file.flush()

    yield write_text


def _table(file: IO[bytes], names: list[str], delimiter: str) -> Callable[[list[str], Prediction], str]:
    """Return what makes text of a table's rows; its header is written at once."""
    file.write(_delimited([names], delimiter).encode())
    file.flush()
    return lambda _, prediction: _delimited(_rows(prediction), delimiter)


def _delimited(rows: Iterator[list[Any]] | list[list[str]], delimiter: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _rows(prediction: Prediction) -> Iterator[list[Any]]:
    """Yield rows of `columns`, with the id first; numbers are written with all the digits they have."""
    figures = np.hstack(prediction.blocks).tolist()
    for id_, values, site in zip(prediction.ids, figures, prediction.likely, strict=True):
        yield [id_, *values, site]


def _json_lines(names: list[str], prediction: Prediction) -> str:
    encode = json.JSONEncoder(ensure_ascii=False).encode
    return "".join(encode(dict(zip(names, row, strict=True))) + "\n" for row in _rows(prediction))


@contextmanager
def _parquet(file: IO[bytes], names: list[str]) -> Iterator[Write]:
    """Write a Parquet file, one group of rows at a time."""
    import pyarrow as pa
    from pyarrow import parquet

    texts = (names[0], names[-1])
    schema = pa.schema([(name, pa.string() if name in texts else pa.float64()) for name in names])
    waiting: list[Any] = []

    with parquet.ParquetWriter(pa.PythonFile(file, "w"), schema) as writer:

        def flush() -> None:
            if waiting:
                table = pa.Table.from_batches(waiting)
                waiting.clear()
                writer.write_table(table, row_group_size=_ROW_GROUP)

        def write(prediction: Prediction) -> None:
            values = [column for block in prediction.blocks for column in block.T]
            arrays = [pa.array(prediction.ids), *map(pa.array, values), pa.array(prediction.likely)]
            waiting.append(pa.record_batch(arrays, schema=schema))
            if sum(batch.num_rows for batch in waiting) >= _ROW_GROUP:
                flush()

        yield write
        flush()


def attention_writer(file: IO[bytes]) -> Callable[[str, Spans], None]:
    """Write where the attention lies into an open output: TSV, a row for each stretch of a transcript."""
    file.write(_delimited([list(ATTENTION_COLUMNS)], "\t").encode())

    def write(id_: str, spans: Spans) -> None:
        cell = _delimited([[id_]], "\t").rstrip("\n")
        rows = zip(spans.starts.tolist(), spans.ends.tolist(), spans.weights.tolist(), strict=True)
        file.write("".join([f"{cell}\t{start}\t{end}\t{weight:.9g}\n" for start, end, weight in rows]).encode())

    return write
