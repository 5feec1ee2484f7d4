"""The formats whose records are a fixed number of lines: those of the PyTorch port and of the original.

Owns which lines make a record. Must not know what a sequence or a fraction may be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rnatracker.data.encoding import LETTERS
from rnatracker.data.formats.record import Record, Refusal, checked_id, is_missing, shown, shown_header, text, words_of
from rnatracker.data.source import Source
from rnatracker.errors import DataError

PARTS = {
    "port3": ("header", "sequence", "values"),
    "port6": ("header", "protein", "5'UTR", "CDS", "3'UTR", "values"),
    "original": ("header", "sequence"),
}


_SEQUENCE = re.compile(f"[0-9]*[{LETTERS}]{{2,}}[0-9]*", re.IGNORECASE)
"""A word that is sequence, perhaps with the number of its line or position."""
DISTRIBUTION = re.compile(r"\bdist([AB]?):(\S*)")


def blocks(source: Source, parts: tuple[str, ...], bad: Refusal) -> Iterator[tuple[int, list[bytes]]]:
    """Yield each record's number and lines; blank lines between records are skipped.

    A record is whole only when the next line is a header: a wrapped sequence must not pass for a short one.
    """
    number = 0
    lines: list[bytes] = []
    lost = False  # looking for the next header, after a bad record
    for line in source.stream:
        between = len(lines) in (0, len(parts))
        if (between and not line.strip()) or (lost and not line.startswith(b">")):
            continue
        lost = False
        if line.startswith(b">") and len(lines) == len(parts):
            yield number, lines
            lines = []
        if not lines:
            number += 1
        problem = _misplaced(lines, parts, line)
        if problem:
            bad(DataError.in_record(source.name, number, shown_header(lines[0]) if lines else "", problem))
            lost = not line.startswith(b">")
            number += not lost
            lines = []
            if lost:
                continue
        lines.append(line)
    if len(lines) == len(parts):
        yield number, lines
    elif lines:
        problem = f"expected {len(parts)} lines ({', '.join(parts)}), got {len(lines)}: the file is cut off"
        remedy = "fetch it again or remove the record"
        bad(DataError.in_record(source.name, number, shown_header(lines[0]), problem, remedy))


def _misplaced(before: list[bytes], parts: tuple[str, ...], line: bytes) -> str:
    """Say what is wrong where a header stands and none belongs, or something else where a header belongs."""
    shape = f"each record has {len(parts)} lines ({', '.join(parts)}), and no sequence is wrapped"
    if len(before) == len(parts):
        return f"expected the next record's header (> id) after it, got {shown(line)}; {shape}"
    expected = parts[len(before)]
    if line.startswith(b">") is (expected == "header"):
        return ""
    return f"expected the line of its {expected}{' (> id)' if not before else ''}, got {shown(line)}; {shape}"


def are_values(words: Sequence[str]) -> bool:
    """Tell whether a line's words can be measured values: some number or word for a missing one, and no sequence."""
    numbers = [word for word in words if any(digit in word for digit in "0123456789") or is_missing(word)]
    return bool(numbers) and not any(_SEQUENCE.fullmatch(word) and not is_missing(word) for word in words)


def ported(name: str, number: int, lines: list[bytes]) -> Record:
    """Return a record of the PyTorch port's: its id is the last word of its header."""
    words = words_of(name, number, lines[0][1:])
    # Between header and values stand the sequence alone, or protein and the three parts of the sequence.
    parts = lines[1:-1] if len(lines) == 3 else lines[2:-1]
    sequence = parts[0].strip() if len(parts) == 1 else b"".join(part.strip() for part in parts)
    values = tuple(text(name, number, lines[-1]).split())
    id_ = checked_id(name, number, words[-1])
    if not are_values(values):
        problem = f"expected the line of its values, numbers with blanks between, got {shown(lines[-1])}"
        remedy = "a sequence goes on one line, without numbers; values stand below it"
        raise DataError.in_record(name, number, id_, problem, remedy)
    return Record(number, id_, sequence, b"".join(lines), (values,))


def original(name: str, number: int, lines: list[bytes]) -> Record:
    """Return a record of the original's, with one replicate or two."""
    words = words_of(name, number, lines[0][1:])
    measurements = dict(DISTRIBUTION.findall(" ".join(words[1:])))
    if not measurements:
        raise DataError.in_record(
            name, number, words[0], "expected dist: or distA: and distB: in its header, got neither", "add it"
        )
    labels = ("A", "B") if measurements.keys() >= {"A", "B"} else (next(iter(measurements)),)
    values = tuple(tuple(measurements[label].split("_")) for label in labels)
    return Record(number, checked_id(name, number, words[0]), lines[1].strip(), b"".join(lines), values)
