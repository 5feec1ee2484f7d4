"""What several processes share of transcripts is what was read, but for replicates."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from rnatracker.data.shared import dump, open_shared
from tests.support.toys import toy_transcripts


def test_what_is_shared_is_whole(tmp_path: Path) -> None:
    transcripts = replace(
        toy_transcripts(3),
        groups=("g", "g", "h"),
        families=("t0", "t1", "t0"),
        sites_named=False,
        columns="id from id",
        notes=("a note",),
    )
    dump(transcripts, tmp_path)
    found = open_shared(tmp_path)
    for name in (field.name for field in fields(transcripts)):
        one, other = getattr(transcripts, name), getattr(found, name)
        assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other, name
