"""A record as it stands in a file, and the text of its lines.

Owns what every format checks alike: that lines are text, and that there is an id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from rnatracker.errors import DataError

Refusal = Callable[[DataError], None]
"""What is done about a record whose lines are wrong: raise it, or note it, so that reading continues."""


def refuse(error: DataError) -> None:
    """Raise: the first bad record ends the reading."""
    raise error


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it stands in its file, nothing checked but its shape.

    Attributes:
        number: from 1.
        id: the transcript's id.
        sequence: its letters.
        text: the record's lines to the byte, for copying; in plain FASTA unwrapped.
        values: the written numbers of each measurement: none, one, or two replicates.
        group: what the transcript is grouped by, or an empty string.
    """

    number: int
    id: str
    sequence: bytes
    text: bytes
    values: tuple[tuple[str, ...], ...] = ()
    group: str = ""


_MISSING = frozenset(("", "-", ".", "na", "n/a", "#n/a", "nan", "none", "null"))


def is_missing(word: str) -> bool:
    """Tell whether a cell says that there is nothing: empty, or as R, pandas, Excel and databases write it."""
    return word.strip().lower() in _MISSING


def without_stops(records: Iterable[Record], remarks: Counter[str]) -> Iterator[Record]:
    """Yield records without the `*` that some programs write behind a sequence, and count them."""
    for record in records:
        if record.sequence.endswith(b"*"):
            remarks["sequences that end in *, left out"] += 1
            record = replace(record, sequence=record.sequence[:-1])
        yield record


def text(name: str, number: int, line: bytes) -> str:
    """Decode a line that must be text.

    Raises:
        DataError: if it isn't UTF-8, or has a NUL in it.
    """
    try:
        decoded = line.decode("utf-8")
    except UnicodeDecodeError:
        decoded = "\0"
    if "\0" in decoded:
        raise DataError.in_record(name, number, "", f"expected text in UTF-8, got {shown(line)}; is it binary?")
    return decoded


def words_of(name: str, number: int, header: bytes) -> list[str]:
    """Return the words of a header, at least one.

    Raises:
        DataError: if there is none, or it isn't text.
    """
    words = text(name, number, header).split()
    if not words:
        raise DataError.in_record(name, number, "", "expected an id after '>', got nothing", "give it one")
    return words


def checked_id(name: str, number: int, id_: str) -> str:
    """Return an id that will stand in tables and messages.

    Raises:
        DataError: if it is empty, or has a line end or another control character in it.
    """
    if not id_ or not id_.isprintable():
        got = repr(id_[:30]) if id_ else "nothing"
        raise DataError.in_record(name, number, "", f"expected an id of printable letters, got {got}", "give it one")
    return id_


def shown_header(line: bytes) -> str:
    """Return a header's text for a message, however damaged it is."""
    words = line[1:].decode("utf-8", "replace").split()
    return words[0] if words else ""


def shown(line: bytes) -> str:
    """Return the beginning of a line for a message."""
    start = line.strip()[:30].decode("utf-8", "replace")
    return repr(start + ("..." if len(line.strip()) > 30 else "")) if start else "an empty line"
