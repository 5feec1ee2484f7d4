"""The rows of a table of transcripts: TSV or CSV.

Owns quoting, and what makes a row a record. Must not know what a sequence or a fraction may be. Read next: `header.py`
for which column is what; `rnatracker/data/readers.py`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator

from rnatracker.data.formats.header import Columns, cells
from rnatracker.data.formats.record import Record, Refusal, checked_id, is_missing, refuse, text
from rnatracker.data.formats.repeats import Repeats
from rnatracker.data.source import Source
from rnatracker.errors import DataError

_LONGEST_ROW = 1 << 26
"""Bytes of a row, more than any transcript has: a quote that nobody closes must not swallow a large file."""


def rows(source: Source, columns: Columns, bad: Refusal = refuse, repeats: Repeats | None = None) -> Iterator[Record]:
    """Yield the records below the header; blank lines are skipped.

    Args:
        source: the open file, after its header.
        columns: what the header says.
        bad: called with the error of a row that is no record; where it returns, reading continues in the next line.
        repeats: shown each row that is a record.

    Raises:
        DataError: if a row has another number of columns, no id, or broken quotes, while iterating.
    """
    consumed: list[bytes] = []
    number = 0
    reader = cells(_decoded(source, consumed), columns.delimiter)
    while True:
        consumed.clear()
        try:
            row = next(reader, None)
            if row is None:
                return
            lines = b"".join(consumed)
            if not any(map(str.strip, row)):
                if lines.strip():
                    source.remarks["blank rows, left out"] += 1
                continue
            number += 1
            text(source.name, number, lines)
            record = _record(source.name, number, row, columns, lines)
            if repeats is not None:
                repeats.add(row, record.group or record.id)
        except csv.Error as error:
            number += 1
            problem = f"expected a row of a table, got {error}"
            refused = DataError.in_record(source.name, number, "", problem, "check its quotes")
            # After a row that is too long for any transcript, nobody knows where a row begins.
            (refuse if sum(map(len, consumed)) > _LONGEST_ROW else bad)(refused)
        except DataError as error:
            bad(error)
        else:
            yield record


def _record(name: str, number: int, row: list[str], columns: Columns, lines: bytes) -> Record:
    id_ = row[columns.id].strip() if len(row) > columns.id else ""
    if len(row) != columns.count:
        problem = f"expected {columns.count} columns as in the header, got {len(row)}"
        why, remedy = "; the row is cut off, or its separator isn't that of the header", ""
        if len(row) > columns.count:
            why, remedy = "", "write decimal points, not commas; where R has written names of rows, row.names=FALSE"
        raise DataError.in_record(name, number, id_ if id_.isprintable() else "", problem + why, remedy)
    values = (tuple(row[i].strip() for i in columns.values),) if columns.values else ()
    group = row[columns.group].strip() if columns.group is not None else ""
    sequence = row[columns.sequence].strip()
    return Record(
        number,
        checked_id(name, number, id_),
        b"" if is_missing(sequence) else sequence.encode(),
        lines,
        values,
        "" if is_missing(group) else group,
    )


def _decoded(source: Source, consumed: list[bytes]) -> Iterator[str]:
    """Decode the lines and keep each until its row is whole: a quoted cell may go over several lines.

    What is no UTF-8 is refused when the row is whole, so that reading can continue after it.
    """
    size = 0
    for line in source.stream:
        size = len(line) + (size if consumed else 0)
        consumed.append(line)
        if size > _LONGEST_ROW:
            raise csv.Error(f"more than {_LONGEST_ROW >> 20} MiB in one row")
        yield line.decode("utf-8", "replace")
