"""Columns of a table that look as if they said which records belong together, and are not used for it.

Owns what such a column is: words, some of them in records that may be divided. Must not know what a site is.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rnatracker.data.formats.header import Columns
from rnatracker.data.formats.record import is_missing


@dataclass
class _Value:
    """A value of a column.

    Attributes:
        group: the group of the first record that has it.
        records: how many have it.
        parted: True where they are not all of one group.
    """

    group: str
    records: int = 0
    parted: bool = False


class Repeats:
    """Looks at a table's rows as they are read.

    Args:
        columns: what the header says; the columns of id, sequence and group are left alone.
    """

    def __init__(self, columns: Columns) -> None:
        used = {columns.id, columns.sequence, columns.group}
        self._names = columns.names
        self._values: dict[int, dict[str, _Value]] = {i: {} for i in columns.names if i not in used}

    def add(self, row: Sequence[str], group: str) -> None:
        """Take in a row, and the group that its record is of: its id where it has none."""
        for index, values in list(self._values.items()):
            word = row[index].strip()
            if is_missing(word):
                continue
            if _is_number(word):
                del self._values[index]  # not a column of words
                continue
            value = values.setdefault(word, _Value(group))
            value.records += 1
            value.parted |= value.group != group

    def notes(self) -> Iterator[str]:
        """Yield a sentence for each column of words that repeat in records that may be divided."""
        for index, values in self._values.items():
            parted = [value.records for value in values.values() if value.parted]
            if parted and len(values) > 1:  # one word for all says nothing
                name = self._names[index]
                yield (
                    f"column {name}: {sum(parted):,} records share {len(parted):,} of its values and may be divided; "
                    f"where records of one {name} belong together, add --group-column {shlex.quote(name)}"
                )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
