"""Which transcripts had a part in a run's weights, as far as that can be told.

Owns the search for them: the run's own data, and those behind weights that it continued from. Read next:
`rnatracker/data/fingerprints.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rnatracker import config
from rnatracker.config import DataConfig
from rnatracker.data.fingerprints import Fingerprints, fingerprints
from rnatracker.data.readers import read_for, read_unlabelled
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import DataError
from rnatracker.tracking.contract import TrackedRun, Tracker
from rnatracker.tracking.open import run_of_file
from rnatracker.tracking.tags import Tag


class UnknownTrainingDataError(DataError):
    """What a run was trained on can't be told.

    Attributes:
        reason: why.
    """

    def __init__(self, run: str, reason: str) -> None:
        super().__init__(
            f"run {run}: what it was trained on can't be told: {reason}",
            "give the file that it was trained on with --trained-on FILE",
        )
        self.reason = reason


def of_run(run: TrackedRun, tracker: Tracker, files: Sequence[str] = ()) -> Fingerprints:
    """Return the fingerprints of all transcripts that have had a part in a run's weights.

    These are all of its data: also validation transcripts have, by choosing the epoch. Where it went on from other
    weights, those of the run that these are of are among them.

    Args:
        run: the run.
        tracker: finds the run that its weights are of.
        files: data files, for what isn't found where it was.

    Raises:
        DataError: if it can't be known, saying what is missing.
    """
    return np.unique(np.concatenate(list(parts_of_run(run, tracker, files))))


def parts_of_run(run: TrackedRun, tracker: Tracker, files: Sequence[str] = ()) -> Iterator[Fingerprints]:
    """Yield what `of_run` returns as far as it is known: first the run's own data, then those behind its weights.

    Raises:
        DataError: as `of_run` does, where the first that is missing would have come.
    """
    return map(fingerprints, sources_of_run(run, tracker, files))


def sources_of_run(run: TrackedRun, tracker: Tracker, files: Sequence[str] = ()) -> Iterator[Transcripts]:
    """Yield the transcripts that `parts_of_run` yields the fingerprints of.

    Raises:
        DataError: as `parts_of_run`.
    """
    yield from _of_data(run, files)
    weights = run.tags().get(Tag.WEIGHTS)
    if weights:
        yield from _of_weights(run, weights, tracker, files)


def transcripts_of_run(run: TrackedRun, files: Sequence[str] = ()) -> Transcripts | None:
    """Return a run's own data, which must have the digest that it recorded; None where they aren't found.

    Args:
        run: the run.
        files: data files, where they aren't where they were.
    """
    path = settings_of(run).path
    found = (transcripts_of_file(run, place) for place in [*([path] if path else []), *files])
    return next((transcripts for transcripts in found if transcripts is not None), None)


def transcripts_of_file(run: TrackedRun, file: str) -> Transcripts | None:
    """Return a run's own data as a file has them; None where it holds others."""
    tags = run.tags()
    transcripts = _read(file, settings_of(run), tuple(filter(None, tags.get(Tag.SITES, "").split(","))))
    return transcripts if transcripts is not None and transcripts.digest() == tags.get(Tag.DATA_DIGEST, "") else None


def settings_of(run: TrackedRun) -> DataConfig:
    """Return a run's settings of its data, as its config says; those of the default where it has none."""
    path = run.files.config
    return config.build(config.read(path), path.name).data if path.is_file() else DataConfig()


def _of_data(run: TrackedRun, files: Sequence[str]) -> list[Transcripts]:
    """Return a run's own data."""
    found = transcripts_of_run(run, files)
    if found is not None:
        return [found]
    digest, data = run.tags().get(Tag.DATA_DIGEST, ""), settings_of(run)
    if files and not digest:
        return [read_unlabelled(file) for file in files]
    where = f"its data, {data.path}, are gone or have changed" if data.path else "it has recorded no data"
    if data.path and not digest:
        where = f"it has recorded no digest of its data, {data.path}"
    raise UnknownTrainingDataError(run.name, f"{where}{f' (digest {digest})' if digest else ''}")


def _read(place: str, data: DataConfig, sites: tuple[str, ...]) -> Transcripts | None:
    try:
        return read_for(data, place, sites)
    except DataError:
        return None


def _of_weights(run: TrackedRun, weights: str, tracker: Tracker, files: Sequence[str]) -> Iterator[Transcripts]:
    """Yield those of the run whose weights this one began with."""
    origin = run_of_file(Path(weights), tracker)
    if origin is not None:
        yield from sources_of_run(origin, tracker, files)
    elif files:
        yield from map(read_unlabelled, files)
    else:
        raise UnknownTrainingDataError(
            run.name, f"it continued from {weights}, and what those weights were trained on is not known"
        )
