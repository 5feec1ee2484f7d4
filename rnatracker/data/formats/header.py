"""The header of a table of transcripts: which column is what.

Owns the choice of columns, and the delimiter. Must not know what a sequence or a fraction may be. Read next:
`table.py`, which reads the rows.

The header has, perhaps behind an index that pandas has written, an id and a sequence, perhaps a group, under the names
of `rnatracker/data/formats/column_names.py` or those that the user gives, and one column per site. Where the user names
sites, other columns are left alone.
"""

from __future__ import annotations

import csv
import difflib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rnatracker.data.formats.column_names import GROUP_NAMES, ID_NAMES, SEQUENCE_NAMES, ColumnNames
from rnatracker.data.formats.record import text
from rnatracker.data.source import Source
from rnatracker.errors import DataError

_LONGEST_FIELD = 2**31 - 1
_UNNAMED = re.compile(r"(Unnamed: \d+)?")
"""The name of a column in front that pandas has written without being asked to: the rows' numbers."""
_OTHER_DELIMITERS = {";": "semicolons", "|": "bars", " ": "blanks"}
_KNOWN = frozenset((*ID_NAMES, *SEQUENCE_NAMES, *GROUP_NAMES))
_SHOWN = 12
"""Names of a list that a sentence shows."""


@dataclass(frozen=True)
class Columns:
    """Where in a row each thing stands.

    Attributes:
        delimiter: a tab or a comma.
        names: all columns' names by their index, but for those in front without a name.
        count: how many columns there are.
        id: index of the id.
        sequence: index of the sequence.
        group: index of the group, or None.
        sites: names of the sites.
        values: index of each site's fraction.
        header: the header's line, to the byte.
    """

    delimiter: str
    names: Mapping[int, str]
    count: int
    id: int
    sequence: int
    group: int | None
    sites: tuple[str, ...]
    values: tuple[int, ...]
    header: bytes

    def said(self) -> str:
        """Say which column was taken for what."""
        used = {self.id, self.sequence, self.group, *self.values}
        unused = [name for i, name in self.names.items() if i not in used]
        group = "none" if self.group is None else self.names[self.group]
        parts = [
            f"id from {self.names[self.id]}, sequence from {self.names[self.sequence]}, group from {group}",
            f"sites {_listed(self.sites)}",
            *([f"left out: {_listed(unused)}"] if unused else []),
        ]
        return "; ".join(parts)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


def header(source: Source, sites: Sequence[str] | None, asked: ColumnNames) -> Columns:
    """Read a table's header, which must be its first line that isn't blank.

    Args:
        source: the open file, at its start.
        sites: the sites to take, in this order; None: all columns that are nothing else.
        asked: the columns that the user names.

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
    id_ = _needed(source.name, named, "id", asked.id, ID_NAMES)
    sequence = _needed(source.name, named, "sequence", asked.sequence, SEQUENCE_NAMES)
    group = _find(source.name, named, "group", asked.group, GROUP_NAMES)
    _check_names(source.name, named)
    _check_different(source.name, named, (id_, sequence, group))
    others = {name: i for i, name in named.items() if i not in (id_, sequence, group)}
    chosen = tuple(sites) if sites is not None else tuple(name for name in others if name.lower() not in _KNOWN)
    for site in chosen:
        if site not in others:
            raise DataError(f"{source.name}, header: no site {site!r} as --sites wants", _offer(site, list(others)))
    values = tuple(others[site] for site in chosen)
    return Columns(delimiter, named, len(names), id_, sequence, group, chosen, values, line)


def _find(source: str, named: Mapping[int, str], what: str, asked: str | None, known: Sequence[str]) -> int | None:
    """Return the index of the column that holds something: the one that is asked for, else the first known."""
    if asked is not None:
        found = next((i for i, name in named.items() if name == asked.strip()), None)
        if found is None:
            problem = f"{source}, header: no column {asked!r} as --{what}-column wants"
            raise DataError(problem, _offer(asked, list(named.values())))
        return found
    places = {name.lower(): i for i, name in reversed([*named.items()])}
    return next((places[name] for name in known if name in places), None)


def _needed(source: str, named: Mapping[int, str], what: str, asked: str | None, known: Sequence[str]) -> int:
    found = _find(source, named, what, asked, known)
    if found is None:
        got = _listed([*named.values()])
        raise DataError(
            f"{source}, header: expected a column {what!r} (or {', '.join(known[1:])}), got {got}",
            f"say which column holds it with --{what}-column NAME",
        )
    return found


def _check_different(source: str, named: Mapping[int, str], found: tuple[int, int, int | None]) -> None:
    wanted = dict(zip(("id", "sequence", "group"), found, strict=True))
    for what, index in wanted.items():
        twice = [other for other, place in wanted.items() if place == index and index is not None]
        if len(twice) > 1:
            raise DataError(
                f"{source}, header: column {named[index or 0]!r} can't be both {twice[0]} and {twice[1]}",
                f"give another --{what}-column",
            )


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


def _check_names(source: str, named: Mapping[int, str]) -> None:
    names = list(named.values())
    without = next((i for i, name in named.items() if not name), None)
    if without is not None:
        raise DataError(
            f"{source}, header: expected a name for each column, column {without + 1} has none",
            "name it, or remove it with the delimiter that makes it",
        )
    wrong = next((name for name in names if names.count(name) > 1 or not name.isprintable()), None)
    if wrong is not None:
        raise DataError(f"{source}, header: expected different names without line ends, got {wrong!r}", "rename it")


def _offer(name: str, columns: list[str]) -> str:
    near = difflib.get_close_matches(name, columns, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"its columns are {', '.join(columns) or 'none'}"


def _row(name: str, line: str, delimiter: str) -> list[str]:
    try:
        return next(cells([line], delimiter))
    except csv.Error as error:
        raise DataError(f"{name}, header: expected names of columns, got {error}", "check its quotes") from None


def cells(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """Yield the cells of each row, which may go over several lines."""
    # A transcript may well be longer than the 131,072 characters that the csv module admits.
    csv.field_size_limit(_LONGEST_FIELD)
    return csv.reader(lines, delimiter=delimiter, strict=True)
