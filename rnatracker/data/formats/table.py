"""Tables of transcripts: TSV or CSV with a header.

Owns which column is what, and quoting. Must not know what a sequence or a fraction may be. Read next:
`rnatracker/data/readers.py`.

The header has, perhaps behind an index that pandas has written, `id` and `sequence` (in any case), perhaps `gene` or
`group` (`group` counts where both are there), and one column per site. Where the user names sites, other columns are
left alone.
"""

from __future__ import annotations

import csv
import difflib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rnatracker.data.formats.record import Record, Refusal, checked_id, is_missing, refuse, text
from rnatracker.data.source import Source
from rnatracker.errors import DataError

_LONGEST_FIELD = 2**31 - 1
_LONGEST_ROW = 1 << 26
"""Bytes of a row, more than any transcript has: a quote that nobody closes must not swallow a large file."""
_GROUPS = ("group", "gene")
_UNNAMED = re.compile(r"(Unnamed: \d+)?")
"""The name of a column in front that pandas has written without being asked to: the rows' numbers."""
_OTHER_DELIMITERS = {";": "semicolons", "|": "bars", " ": "blanks"}


@dataclass(frozen=True)
class Columns:
    """Where in a row each thing stands.

    Attributes:
        delimiter: a tab or a comma.
        count: how many columns there are.
        id: index of the id.
        sequence: index of the sequence.
        group: index of the group, or None.
        sites: names of the sites.
        values: index of each site's fraction.
        header: the header's line, to the byte.
    """

    delimiter: str
    count: int
    id: int
    sequence: int
    group: int | None
    sites: tuple[str, ...]
    values: tuple[int, ...]
    header: bytes


def header(source: Source, sites: Sequence[str] | None) -> Columns:
    """Read a table's header, which must be its first line that isn't blank.

    Args:
        source: the open file, at its start.
        sites: the sites to take, in this order; None: all.

    Raises:
        DataError: if a column is missing, named twice or without a name, or a site isn't there.
    """
    line = next((line for line in source.stream if line.strip()), b"")
    decoded = text(source.name, 0, line)
    delimiter = _delimiter(source.name, decoded)
    names = [name.strip() for name in _row(source.name, decoded, delimiter)]
    n_index = next((i for i, name in enumerate(names) if not _UNNAMED.fullmatch(name)), 0)
    if n_index:
        source.remarks["columns in front without a name, as pandas writes its index, left out"] += n_index
    named = {i: name for i, name in enumerate(names) if i >= n_index}
    known = {name.lower(): i for i, name in reversed(named.items())}
    _check_names(source.name, named, known)
    taken = {known["id"], known["sequence"], *(known[name] for name in _GROUPS if name in known)}
    others = {name: i for i, name in named.items() if i not in taken}
    chosen = tuple(sites) if sites is not None else tuple(others)
    for site in chosen:
        if site not in others:
            raise DataError(f"{source.name}, header: no site {site!r} as --sites wants", _offer(site, list(others)))
    group = next((known[name] for name in _GROUPS if name in known), None)
    values = tuple(others[site] for site in chosen)
    return Columns(delimiter, len(names), known["id"], known["sequence"], group, chosen, values, line)


def _delimiter(name: str, line: str) -> str:
    if "\t" in line or "," in line:
        return "\t" if "\t" in line else ","
    found = next((word for sign, word in _OTHER_DELIMITERS.items() if sign in line), "")
    if not found:
        return ","
    sign = next(sign for sign in _OTHER_DELIMITERS if sign in line)
    raise DataError(
        f"{name}, header: expected tabs or commas between columns, got {found}",
        f"convert them, and decimal commas to points{_converting(name, sign)}",
    )


def _converting(name: str, sign: str) -> str:
    """Return how to type that; the table is another file, since the shell empties the one that it writes first."""
    path = Path(name)
    if path.suffix in ("", ".gz"):  # standard input, or packed: nothing that can be typed without its address
        return ""
    table = f"{path.stem}.tsv" if path.suffix != ".tsv" else f"{path.stem}_tabs.tsv"
    return f", as in: tr {shlex.quote(sign + ',')} '\\t.' < {shlex.quote(name)} > {shlex.quote(table)}"


def _check_names(source: str, named: Mapping[int, str], known: Mapping[str, int]) -> None:
    names = list(named.values())
    for name in ("id", "sequence"):
        if name not in known:
            raise DataError(
                f"{source}, header: expected a column {name!r}, got {', '.join(names)}",
                f"name the column that holds it {name}",
            )
    without = next((i for i, name in named.items() if not name), None)
    if without is not None:
        raise DataError(
            f"{source}, header: expected a name for each column, column {without + 1} has none",
            "name it, or remove it with the delimiter that makes it",
        )
    wrong = next((name for name in names if names.count(name) > 1 or not name.isprintable()), None)
    if wrong is not None:
        raise DataError(f"{source}, header: expected different names without line ends, got {wrong!r}", "rename it")


def _offer(site: str, columns: list[str]) -> str:
    near = difflib.get_close_matches(site, columns, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"its columns are {', '.join(columns) or 'none'}"


def rows(source: Source, columns: Columns, bad: Refusal = refuse) -> Iterator[Record]:
    """Yield the records below the header; blank lines are skipped.

    Args:
        source: the open file, after its header.
        columns: what the header says.
        bad: called with the error of a row that is no record; where it returns, reading continues in the next line.

    Raises:
        DataError: if a row has another number of columns, no id, or broken quotes, while iterating.
    """
    consumed: list[bytes] = []
    number = 0
    reader = _reader(_decoded(source, consumed), columns.delimiter)
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


def _row(name: str, line: str, delimiter: str) -> list[str]:
    try:
        return next(_reader([line], delimiter))
    except csv.Error as error:
        raise DataError(f"{name}, header: expected names of columns, got {error}", "check its quotes") from None


def _reader(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    # A transcript may well be longer than the 131,072 characters that the csv module admits.
    csv.field_size_limit(_LONGEST_FIELD)
    return csv.reader(lines, delimiter=delimiter, strict=True)
