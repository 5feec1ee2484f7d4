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

_LONGEST_LABEL = 20


def fasta_records(source: Source, bad: Refusal) -> Iterator[Record]:
    """Yield the records of a FASTA file.

    Raises:
        DataError: if it is none, while iterating.
    """
    number = 0
    _check_labels(source)
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


def _check_labels(source: Source) -> None:
    """Refuse a file whose records have a label below the sequence: `Nuc` and `Cyt` are letters of sequences too.

    They are told from wrapped sequences where every record has two lines, the last one short, and either written in
    another case or again and again the same.
    """
    lines = [line.strip() for line in source.head.splitlines() if line.strip()]
    starts = [i for i, line in enumerate(lines) if line.startswith(b">")]
    whole = starts if source.whole else starts[:-1]
    ends = [*starts[1:], len(lines)]
    if len(whole) < 2 or any(end - start != 3 for start, end in zip(whole, ends, strict=False)):
        return
    sequences, words = [lines[i + 1] for i in whole], [lines[i + 2] for i in whole]
    if max(map(len, words)) > _LONGEST_LABEL:
        return
    in_another_case = all(
        not word.isupper() and sequence.isupper() for sequence, word in zip(sequences, words, strict=True)
    )
    repeated = 2 * len(set(words)) <= len(words) and len(set(map(len, sequences))) > 1
    if in_another_case or repeated:
        problem = f"expected sequence in its third line, got {words[0].decode('utf-8', 'replace')!r}: a label?"
        raise DataError(
            f"{source.name}, record 1: {problem}", "give one number for each site there, or remove those lines"
        )
