"""What a sequence may be, whoever gives it: a file's record, a row of a DataFrame, a line of a request.

Owns that rule and its wording. Must not know files. Read next: `encoding.py` for the letters; `readers.py` and
`stream.py` for files.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from rnatracker.data.encoding import LETTERS, UNKNOWN, Codes, Offsets, encode, first_unknown
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import DataError


class FaultKind(StrEnum):
    """What can be wrong with a record; the last, with a column."""

    EMPTY_SEQUENCE = "empty_sequence"
    UNKNOWN_LETTER = "unknown_letter"
    DUPLICATE_ID = "duplicate_id"
    ALL_ZERO = "all_zero"
    BAD_FRACTIONS = "bad_fractions"
    NO_FRACTION = "no_fraction"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a record.

    Attributes:
        kind: which rule it breaks.
        problem: the rule and the value.
        remedy: what to do; empty where the problem says it.
    """

    kind: FaultKind
    problem: str
    remedy: str = ""

    def in_record(self, source: str, number: int, identifier: str) -> DataError:
        """Return the error that names the record; the arguments are those of `DataError.in_record`."""
        return DataError.in_record(source, number, identifier, self.problem, self.remedy)


def checked(sequence: bytes) -> tuple[Codes, Fault | None]:
    """Return a sequence's codes, (L,) uint8, and what is wrong with it; a letter outside IUPAC is `UNKNOWN`."""
    codes = encode(sequence)
    if not len(codes):
        return codes, Fault(FaultKind.EMPTY_SEQUENCE, "expected a sequence, got nothing", "remove the record")
    position = first_unknown(codes)
    if position is None:
        return codes, None
    letter = sequence[position : position + 1].decode("latin-1")
    problem = f"expected letters of {LETTERS} in its sequence, got {letter!r} at position {position + 1}"
    return codes, Fault(FaultKind.UNKNOWN_LETTER, problem, _remedy(letter))


def _remedy(letter: str) -> str:
    """Return what to do about what is no letter of a sequence, by what it is."""
    if letter in "-.":
        return "a gap of an alignment? remove the gaps"
    if letter == "*":
        return "a stop in a protein? give the mRNA's sequence, or remove the *"
    if letter.isspace():
        return "remove the blanks within sequences"
    if letter.isdecimal():
        return "remove the numbers of lines or positions"
    if letter in "EFILPQefilpq":
        return "an amino acid? give the mRNA's sequence; else write N"
    return "correct it, or write N"


def encode_all(sequences: Sequence[bytes]) -> tuple[Codes, Offsets, dict[int, Fault]]:
    """Encode sequences at once, which is many times faster than one by one where they are short.

    Returns:
        All codes one after the other, (sum of lengths,) uint8; (N + 1,) int64 offsets; and what is wrong with
        which sequence, by its index from 0, in order.
    """
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    codes = encode(b"".join(sequences))
    suspects = set(np.flatnonzero(lengths == 0).tolist())
    unknown = np.flatnonzero(codes == UNKNOWN)
    suspects |= set((np.searchsorted(offsets, unknown, side="right") - 1).tolist())
    checks = {index: checked(sequences[index])[1] for index in sorted(suspects)}
    return codes, offsets, {index: fault for index, fault in checks.items() if fault is not None}


def from_sequences(sequences: Sequence[str], *, source: str = "sequences") -> Transcripts:
    """Make transcripts of plain sequences; their ids are their numbers, from 1.

    Args:
        sequences: letters, upper or lower case; blanks around them don't count.
        source: what to call them in messages.

    Raises:
        DataError: naming the first that is no text, empty, or has a letter outside IUPAC; or if there are none.
    """
    if not len(sequences):
        raise DataError(f"{source}: expected at least one sequence, got none")
    stripped = []
    for number, sequence in enumerate(sequences, start=1):
        if not isinstance(sequence, str):
            kind = type(sequence).__name__
            problem = f"expected a sequence as text, got {reprlib.repr(sequence)} ({kind})"
            raise DataError.in_record(source, number, "", problem, "remove the record")
        stripped.append(sequence.strip().encode("utf-8", "surrogatepass"))
    codes, offsets, faults = encode_all(stripped)
    for index, fault in faults.items():
        raise fault.in_record(source, index + 1, "")
    return Transcripts(tuple(map(str, range(1, len(sequences) + 1))), codes, offsets, source=source)
