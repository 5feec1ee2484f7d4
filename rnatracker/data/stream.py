"""Reading files for prediction in pieces, so that memory does not grow with the file.

Owns the size of a piece and what happens to a bad record. Must not know the network. Read next: `readers.py`, which
reads files for training whole; the modules of `rnatracker/data/formats/`, which cut both into records.

Measured fractions are not looked at. Ids may be doubled: to notice it, all would have to be remembered. What is kept in
memory at a time is one piece, or one record where a record is longer than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rnatracker.data.formats import known, table
from rnatracker.data.formats.column_names import ANY_NAMES, ColumnNames
from rnatracker.data.formats.header import header
from rnatracker.data.formats.record import Record, without_stops
from rnatracker.data.sequences import encode_all
from rnatracker.data.source import Source, opened, standard_input
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import DataError

STANDARD_INPUT = "-"
PIECE_NUCLEOTIDES = 1 << 22
"""Enough for several batches of like length, little enough that a piece takes a few MiB."""
PIECE_RECORDS = 8192
_TEXT_BYTES = 1 << 12
"""How much of a file must be text for it to be read at all; after that, a record that isn't is a bad record."""


class Stream:
    """The transcripts of a file, in its order, piece by piece; to be iterated over once.

    Args:
        source: the open file.
        format: its format, which must be known already.
        on_bad: called with what is wrong with each bad record, which is then skipped; None: the first one is raised.
        columns: which columns of a table hold what.

    Attributes:
        name: the file's name, for messages.
        format: its format.
        transcripts: how many have been given out so far.
        skipped: how many bad records have been skipped so far.
    """

    def __init__(
        self,
        source: Source,
        format: str,  # noqa: A002
        on_bad: Callable[[str], None] | None,
        columns: ColumnNames,
    ) -> None:
        self.name = source.name
        self.format = format
        self.transcripts = 0
        self.skipped = 0
        self.share_read = source.share_read
        self._on_bad = on_bad
        self._waiting: list[tuple[int, DataError]] = []
        self._end: DataError | None = None
        self._last = 0
        self._source = source
        self._last_id, self._last_length = "", 0
        if format == "table":
            records = table.rows(source, header(source, (), columns), self._refuse)
        else:
            records = known.records(source, format, self._refuse)
        self._records = without_stops(records, source.remarks)

    def __iter__(self) -> Iterator[Transcripts]:
        """Yield pieces.

        Raises:
            DataError: at the first bad record, unless they are to be skipped; or if there is no good one.
        """
        piece: list[Record] = []
        size = 0
        for record in self._until_the_end():
            piece.append(record)
            self._last = record.number
            self._last_id, self._last_length = record.id, len(record.sequence)
            size += len(record.sequence)
            if size >= PIECE_NUCLEOTIDES or len(piece) >= PIECE_RECORDS:
                yield from self._checked(piece)
                piece, size = [], 0
        yield from self._checked(piece)
        if self._end is not None:
            raise self._end
        if not self.transcripts:
            bad = f" but {self.skipped} bad ones, the reasons stand above" if self.skipped else ""
            raise DataError(f"{self.name}: expected at least one record, got none{bad}", "check the file")

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know of how the file was read, once it has been read to its end."""
        return self._source.notes(self._last_id, self._last_length)

    def _until_the_end(self) -> Iterator[Record]:
        """Yield records; an error that ends them waits until those before it have been looked at."""
        try:
            yield from self._records
        except DataError as error:
            self._end = error

    def _refuse(self, error: DataError) -> None:
        """Take a record whose lines are none: after those before it have been looked at, it is their turn."""
        if self._on_bad is None:
            raise error
        if len(self._waiting) < PIECE_RECORDS:
            self._waiting.append((self._last + 1, error))
        else:
            self._skip(error)

    def _skip(self, error: DataError) -> None:
        if self._on_bad is None:
            raise error
        self.skipped += 1
        self._on_bad(str(error))

    def _checked(self, piece: list[Record]) -> Iterator[Transcripts]:
        """Yield a piece's good transcripts, and deal with the bad ones in the file's order."""
        codes, offsets, faults = encode_all([record.sequence for record in piece])
        bad = self._waiting
        self._waiting = []
        for index, fault in faults.items():
            record = piece[index]
            bad.append((record.number, fault.in_record(self.name, record.number, record.id)))
        for _, error in sorted(bad, key=lambda pair: pair[0]):
            self._skip(error)
        if faults:
            piece = [record for index, record in enumerate(piece) if index not in faults]
            codes, offsets, _ = encode_all([record.sequence for record in piece])
        if piece:
            self.transcripts += len(piece)
            yield Transcripts(tuple(record.id for record in piece), codes, offsets, source=self.name)


@contextmanager
def stream(
    path: str | Path,
    *,
    format: str = "auto",  # noqa: A002 - the users' word
    on_bad: Callable[[str], None] | None = None,
    columns: ColumnNames = ANY_NAMES,
) -> Iterator[Stream]:
    """Open a file for prediction: FASTA, a table, or any labelled format, gzipped or not.

    Args:
        path: the file; `-` is standard input.
        format: any format's name; `auto` recognises it by the content.
        on_bad: called with what is wrong with each bad record, in the file's order, which is then skipped; None: the
            first one is raised.
        columns: which columns of a table hold what, where their names don't say it.

    Raises:
        DataError: naming the file, the record, the rule, the value and the remedy; also while it is iterated over.
    """
    from_stdin = str(path) == STANDARD_INPUT
    with standard_input(check_bytes=_TEXT_BYTES) if from_stdin else opened(path, check_bytes=_TEXT_BYTES) as source:
        yield Stream(source, _format(source, format), on_bad, columns)


def _format(source: Source, wanted: str) -> str:
    """Return how to read a file; what its headers measure doesn't matter, so the original's files are plain FASTA."""
    if wanted == "fasta" and known.sniff(source) == "original":
        return "fasta"
    settled = known.settle(source, wanted)
    return "fasta" if settled == "original" else settled
