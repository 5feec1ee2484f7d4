"""The formats of files of transcripts, but for tables: telling them apart, and cutting them into records.

Owns which lines make a record in the formats of the port and the original and in plain FASTA. Must not know what a
sequence or a fraction may be: `readers.py` checks that, and is to be read next, with `table.py`.

| name        | record                                                                     |
|-------------|----------------------------------------------------------------------------|
| `port3` | `> id` (the id is the last word); the sequence; the values                  |
| `port6` | `> id`; protein; 5'UTR; CDS; 3'UTR; values; the sequence is the three parts |
| `original`  | `>id gene_biotype:.. transcript_biotype:.. dist:a_b_c_d`; the sequence      |
| `table`     | TSV or CSV: `id`, `sequence`, a column per site, perhaps `gene` or `group`  |
| `fasta`     | plain FASTA, wrapped or not; no fractions                                   |

Source: `load_cefra` of the PyTorch port and `split_train_test.py` beside it for the first two (values are
normalised here in float64; the port rounds them to 4 digits); `Gene_Wrapper.seq_data_loader` of the
original (Yan et al. 2019) for the third. The original drops every record whose `gene_biotype` isn't
`protein_coding`, and reads one replicate; all records and both replicates are kept here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import dnaio

from rnatracker.config import FORMER_FORMATS
from rnatracker.data.source import Source, without_bad_bytes
from rnatracker.errors import DataError

DESCRIPTIONS = {
    "port3": "records of 3 lines: > id, sequence, values",
    "port6": "records of 6 lines: > id, protein, 5'UTR, CDS, 3'UTR, values",
    "original": "records of 2 lines: a header with dist: or distA: and distB:, sequence",
    "table": "a TSV or CSV with columns id, sequence and one per site",
    "fasta": "plain FASTA, without fractions",
}
"""What each format looks like, for messages."""

_PARTS = {
    "port3": ("header", "sequence", "values"),
    "port6": ("header", "protein", "5'UTR", "CDS", "3'UTR", "values"),
    "original": ("header", "sequence"),
}
_DISTRIBUTION = re.compile(r"\bdist([AB]?):(\S*)")


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


def sniff(source: Source) -> str | None:
    """Recognise a file's format by its beginning; None where it looks like none of them."""
    lines = source.head.splitlines()
    if not source.whole:
        lines = lines[:-1] or lines
    lines = [line.strip() for line in lines]
    first = next((line for line in lines if line), b"")
    if not first.startswith(b">"):
        return "table" if b"\t" in first or b"," in first else None
    if _DISTRIBUTION.search(first.decode("utf-8", "replace")):
        return "original"
    counts = _lines_before_values(lines)
    # One plain FASTA record may have digits in it by mistake; where values belong, nearly every record has them.
    if 4 * len(counts) < sum(line.startswith(b">") for line in lines) or not counts:
        return "fasta"
    return "port6" if max(set(counts), key=counts.count) > 3 else "port3"


def _lines_before_values(lines: list[bytes]) -> list[int]:
    """Count, for each record that ends in a line with digits, the lines from its header to there.

    No sequence and no protein has a digit in it.
    """
    counts, since_header = [], 0
    for line in lines:
        if line.startswith(b">"):
            since_header = 0
        elif any(digit in line for digit in b"0123456789"):
            counts.append(since_header)
        since_header += 1
    return counts


def settle(source: Source, wanted: str) -> str:
    """Return a file's format: as it looks, which must be the wanted one unless that is `auto`.

    Raises:
        DataError: if it looks like none, or like another.
    """
    sniffed, wanted = sniff(source), FORMER_FORMATS.get(wanted, wanted)
    if wanted == "auto":
        if sniffed is None:
            first = source.head.split(maxsplit=1)[0][:30].decode("utf-8", "replace")
            known = "; ".join(f"{name}: {text}" for name, text in DESCRIPTIONS.items())
            raise DataError(f"{source.name}: looks like no known format, begins with {first!r}", f"known: {known}")
        return sniffed
    if wanted not in DESCRIPTIONS:
        raise DataError(f"--format {wanted}: no such format", f"use one of auto, {', '.join(DESCRIPTIONS)}")
    # Of a large file's first record the head may hold only the beginning, which looks like plain FASTA.
    if sniffed not in (None, wanted) and (source.whole or sniffed != "fasta"):
        raise DataError(
            f"{source.name}: expected {wanted} ({DESCRIPTIONS[wanted]}) as --format says, but it looks like "
            f"{sniffed} ({DESCRIPTIONS[str(sniffed)]})",
            "leave --format out",
        )
    return wanted


def records(source: Source, format: str, bad: Refusal = refuse) -> Iterator[Record]:  # noqa: A002 - the users' word
    """Cut a file into records.

    Args:
        source: the open file.
        format: any name of the table above but `table`.
        bad: called with the error of a record whose lines don't make one; where it returns, reading continues at the
            next header.

    Raises:
        DataError: where lines don't make a record, while iterating.
    """
    if format == "fasta":
        yield from _fasta(source, bad)
        return
    parse = {"port3": _ported, "port6": _ported, "original": _original}[format]
    for number, lines in _blocks(source, _PARTS[format], bad):
        try:
            record = parse(source.name, number, lines)
        except DataError as error:
            bad(error)
            continue
        yield record


def _blocks(source: Source, parts: tuple[str, ...], bad: Refusal) -> Iterator[tuple[int, list[bytes]]]:
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
            bad(DataError.in_record(source.name, number, _header(lines[0]) if lines else "", problem))
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
        bad(DataError.in_record(source.name, number, _header(lines[0]), problem, remedy))


def _misplaced(before: list[bytes], parts: tuple[str, ...], line: bytes) -> str:
    """Say what is wrong where a header stands and none belongs, or something else where a header belongs."""
    shape = f"each record has {len(parts)} lines ({', '.join(parts)}), and no sequence is wrapped"
    if len(before) == len(parts):
        return f"expected the next record's header (> id) after it, got {_shown(line)}; {shape}"
    expected = parts[len(before)]
    if line.startswith(b">") is (expected == "header"):
        return ""
    return f"expected the line of its {expected}{' (> id)' if not before else ''}, got {_shown(line)}; {shape}"


def _ported(name: str, number: int, lines: list[bytes]) -> Record:
    words = _words(name, number, lines[0][1:])
    # Between header and values stand the sequence alone, or protein and the three parts of the sequence.
    parts = lines[1:-1] if len(lines) == 3 else lines[2:-1]
    sequence = parts[0].strip() if len(parts) == 1 else b"".join(part.strip() for part in parts)
    values = tuple(text(name, number, lines[-1]).split())
    return Record(number, checked_id(name, number, words[-1]), sequence, b"".join(lines), (values,))


def _original(name: str, number: int, lines: list[bytes]) -> Record:
    words = _words(name, number, lines[0][1:])
    measurements = dict(_DISTRIBUTION.findall(" ".join(words[1:])))
    if not measurements:
        raise DataError.in_record(
            name, number, words[0], "expected dist: or distA: and distB: in its header, got neither", "add it"
        )
    labels = ("A", "B") if measurements.keys() >= {"A", "B"} else (next(iter(measurements)),)
    values = tuple(tuple(measurements[label].split("_")) for label in labels)
    return Record(number, checked_id(name, number, words[0]), lines[1].strip(), b"".join(lines), values)


def _fasta(source: Source, bad: Refusal) -> Iterator[Record]:
    number = 0
    entries = iter(dnaio.FastaReader(without_bad_bytes(source.stream), sequence_class=_entry))
    try:
        for number, (header, sequence) in enumerate(cast(Iterable[tuple[str, str]], entries), start=1):
            try:
                id_ = checked_id(source.name, number, _words(source.name, number, header.encode())[0])
            except DataError as error:
                bad(error)
                continue
            lines = f">{header}\n{sequence}\n".encode()
            yield Record(number, id_, sequence.encode(), lines)
    except (dnaio.FileFormatError, UnicodeDecodeError) as error:
        raise DataError.in_record(source.name, number + 1, "", f"expected plain FASTA, got: {error}") from None


def _entry(name: str, sequence: str, _qualities: None) -> tuple[str, str]:
    """Return what dnaio has read without dnaio's own checks, which would end the reading."""
    return name, sequence


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
        raise DataError.in_record(name, number, "", f"expected text in UTF-8, got {_shown(line)}; is it binary?")
    return decoded


def _words(name: str, number: int, header: bytes) -> list[str]:
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


def _header(line: bytes) -> str:
    """Return a header's text for a message, however damaged it is."""
    words = line[1:].decode("utf-8", "replace").split()
    return words[0] if words else ""


def _shown(line: bytes) -> str:
    """Return the beginning of a line for a message."""
    start = line.strip()[:30].decode("utf-8", "replace")
    return repr(start + ("..." if len(line.strip()) > 30 else "")) if start else "an empty line"
