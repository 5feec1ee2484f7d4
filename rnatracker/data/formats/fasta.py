"""Plain FASTA, read with dnaio.

Owns nothing but the way from its entries to records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import dnaio

from rnatracker.data.formats.record import Record, Refusal, checked_id, words_of
from rnatracker.data.source import Source, without_bad_bytes
from rnatracker.errors import DataError


def fasta_records(source: Source, bad: Refusal) -> Iterator[Record]:
    """Yield the records of a FASTA file.

    Raises:
        DataError: if it is none, while iterating.
    """
    number = 0
    entries = iter(dnaio.FastaReader(without_bad_bytes(source.stream), sequence_class=_entry))
    try:
        for number, (header, sequence) in enumerate(cast(Iterable[tuple[str, str]], entries), start=1):
            try:
                id_ = checked_id(source.name, number, words_of(source.name, number, header.encode())[0])
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
