"""Writing files of transcripts, whole or not at all.

Owns the replacing of a file in one step, and what our own files look like. Must not know what the numbers
mean. Read next: `rnatracker/data/formats/known.py`, for what the readers expect.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from rnatracker import files
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import DataError

_DELIMITERS = {".tsv": "\t", ".csv": ","}


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file under another name and give it its own only when it is whole.

    What is written is gzipped where the name ends in `.gz`.

    Raises:
        DataError: if it can't be written.
    """
    try:
        with ExitStack() as stack:
            file: IO[bytes] = stack.enter_context(files.replacing(path))
            if path.suffix == ".gz":
                file = stack.enter_context(files.gzipped(file))
            yield file
    except OSError as error:
        raise DataError(
            f"{path}: can't be written ({error.strerror or error})", "check the folder and the space on its disk"
        ) from None


def check_absent(paths: Sequence[Path], *, force: bool) -> None:
    """Refuse to overwrite files.

    Raises:
        DataError: naming the first that exists, unless `force`.
    """
    for path in paths:
        if path.exists() and not force:
            raise DataError(f"{path}: exists already", "choose another name, or give --force to replace it")


def delimiter_of(path: Path) -> str | None:
    """Return the delimiter of a table of that name; None where the name isn't a table's."""
    return _DELIMITERS.get(Path(path.name.lower().removesuffix(".gz")).suffix)


def write(transcripts: Transcripts, path: str | Path) -> None:
    """Write transcripts as a table where the name ends in `.tsv` or `.csv`, else as records.

    Records have the port's three lines, or two where nothing was measured; they have no place for the
    names of the sites, nor for groups. Fractions are written with 10 significant digits.

    Raises:
        DataError: if the file can't be written.
    """
    path = Path(path)
    delimiter = delimiter_of(path)
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        if delimiter:
            _write_table(transcripts, text, delimiter)
        else:
            _write_records(transcripts, text)
        text.flush()
        text.detach()


def _write_table(transcripts: Transcripts, file: io.TextIOWrapper, delimiter: str) -> None:
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    groups = transcripts.groups
    writer.writerow(["id", "sequence", *(["group"] if groups else []), *transcripts.sites])
    for i, id_ in enumerate(transcripts.ids):
        writer.writerow([id_, transcripts.sequence(i), *([groups[i]] if groups else []), *_values(transcripts, i)])


def _write_records(transcripts: Transcripts, file: io.TextIOWrapper) -> None:
    for i, id_ in enumerate(transcripts.ids):
        values = " ".join(_values(transcripts, i))
        file.write(
            f"> {id_}\n{transcripts.sequence(i)}\n{values}\n" if values else f">{id_}\n{transcripts.sequence(i)}\n"
        )


def _values(transcripts: Transcripts, i: int) -> list[str]:
    if transcripts.fractions is None:
        return []
    return [f"{value:.10g}" for value in transcripts.fractions[i]]
