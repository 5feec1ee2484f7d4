"""What the columns of a table of transcripts may be called, and which a user asks for.

Owns the names that are understood without being told. Must not know files.
"""

from __future__ import annotations

from dataclasses import dataclass

ID_NAMES = ("id", "transcript_id", "name")
SEQUENCE_NAMES = ("sequence", "seq", "cdna")
GROUP_NAMES = ("group", "gene", "gene_id", "gene_name")
"""In any case; where a table has several, the first of these counts."""


@dataclass(frozen=True)
class ColumnNames:
    """Which columns of a table hold what, as a user names them; None: found by the names above.

    Attributes:
        id: column of the id.
        sequence: column of the sequence.
        group: column of what is never divided.
    """

    id: str | None = None
    sequence: str | None = None
    group: str | None = None

    def given(self) -> dict[str, str]:
        """Return the options that were given, and their values."""
        asked = {"--id-column": self.id, "--sequence-column": self.sequence, "--group-column": self.group}
        return {option: name for option, name in asked.items() if name is not None}


ANY_NAMES = ColumnNames()
"""Nothing is asked for: columns are found by the names that are known."""
