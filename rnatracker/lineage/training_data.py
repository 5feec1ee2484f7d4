"""Which transcripts had a part in a run's weights, as far as that can be told.

Owns the search for them: the run's own data, further data sets, and those behind weights that it began from; of both a
run also keeps the fingerprints. Read next: `rnatracker/data/fingerprints.py`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rnatracker import config
from rnatracker.config import DataConfig
from rnatracker.data.fingerprints import Fingerprints, fingerprints, load
from rnatracker.data.readers import read_for, read_unlabelled
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import DataError, TrackingError
from rnatracker.lineage import others
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

    These are all of its data: also validation transcripts have, by choosing the epoch. Where it began from other
    weights, whether it continued them or took over their trunk, those of the run that these are of are among them.

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

    What its parent has seen, and what its further data sets hold, is taken from what the run has kept of it, since they
    may be gone by now.

    Raises:
        DataError: as `of_run` does, where the first that is missing would have come.
    """
    run = _whole(run, tracker)
    yield from map(fingerprints, _of_data(run, files))
    yield from parts_beside(run, tracker, files)


def parts_beside(run: TrackedRun, tracker: Tracker, files: Sequence[str] = ()) -> Iterator[Fingerprints]:
    """Yield what `parts_of_run` yields besides the run's own data; of a blend, for its members, which have the same.

    A blend keeps it; of one that hasn't, a member that is gone is passed over: nothing else is known of it.

    Raises:
        DataError: as `parts_of_run`.
    """
    beside = load(run.files.seen_beside)
    if _is_blend(run):
        found = [beside] if beside is not None else []
        members = () if found else filter(None, _members(run, tracker))
        yield from itertools.chain(found, *(parts_beside(each, tracker, files) for each in members))
        return
    yield from map(fingerprints, _of_others(run)) if beside is None else [beside]
    inherited = load(run.files.seen_by_parent)
    if inherited is not None:
        yield inherited
        return
    for origin in _origins(run, tracker):
        if origin.run is not None:
            yield from parts_of_run(origin.run, tracker, files)
        else:
            yield from map(fingerprints, _of_files(run, origin, files))


def sources_of_run(run: TrackedRun, tracker: Tracker, files: Sequence[str] = ()) -> Iterator[Transcripts]:
    """Yield the transcripts that `parts_of_run` yields the fingerprints of.

    Raises:
        DataError: as `parts_of_run`.
    """
    run = _whole(run, tracker)
    yield from _of_data(run, files)
    yield from _sources_beside(run, tracker, files)


def _sources_beside(run: TrackedRun, tracker: Tracker, files: Sequence[str]) -> Iterator[Transcripts]:
    if _is_blend(run):
        for member in _members(run, tracker):
            if member is not None:
                yield from _sources_beside(member, tracker, files)
            elif load(run.files.seen_beside) is not None:
                reason = "a run is gone that it was blended of, and further data or another network's trunk with it"
                raise UnknownTrainingDataError(run.name, reason)
        return
    yield from _of_others(run)
    for origin in _origins(run, tracker):
        if origin.run is not None:
            yield from sources_of_run(origin.run, tracker, files)
        else:
            yield from _of_files(run, origin, files)


def _whole(run: TrackedRun, tracker: Tracker) -> TrackedRun:
    """Return a run, or of a fold its cross-validation: all of that counts, also what the fold was only measured on."""
    if run.tags().get(Tag.KIND) != "fold":
        return run
    return _found(run.tags().get(Tag.PARENT) or str(run.folder.parent), tracker) or run


def _is_blend(run: TrackedRun) -> bool:
    return run.tags().get(Tag.KIND) == "blend"


def _members(run: TrackedRun, tracker: Tracker) -> list[TrackedRun | None]:
    """Return the runs that a blend was made of, None for one that is gone."""
    return [_found(name, tracker) for name in json.loads(run.tags().get(Tag.MEMBERS, "[]"))]


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


def _of_others(run: TrackedRun) -> list[Transcripts]:
    """Return the further data sets that a run was trained on."""
    recorded = run.tags().get(Tag.ALSO_DIGESTS, "")
    if not recorded:
        return []
    data = settings_of(run)
    try:
        found = others.read_all(data)
    except DataError:
        found = []
    if ",".join(each.digest() for each in found) != recorded:
        named = ", ".join(data.also or ()) or "which it doesn't name"
        raise UnknownTrainingDataError(run.name, f"its further data sets, {named}, are gone or have changed")
    return found


def _read(place: str, data: DataConfig, sites: tuple[str, ...]) -> Transcripts | None:
    try:
        return read_for(data, place, sites)
    except DataError:
        return None


@dataclass(frozen=True)
class _Origin:
    """Weights that a run began from.

    Attributes:
        weights: the file, as it was recorded.
        how: what the run did with them.
        run: the run that they are of; None where that isn't found.
    """

    weights: str
    how: str
    run: TrackedRun | None


def _origins(run: TrackedRun, tracker: Tracker) -> list[_Origin]:
    """Return what a run began from: at most one, of either kind."""
    tags = run.tags()
    found = []
    if Tag.WEIGHTS in tags:
        path = tags[Tag.WEIGHTS]
        found.append(_Origin(path, "continued from", run_of_file(Path(path), tracker)))
    if Tag.TRANSFER in tags:
        path = tags[Tag.TRANSFER]
        of_id = _found(tags.get(Tag.TRANSFER_RUN, ""), tracker)
        found.append(_Origin(path, "took over the trunk of", of_id or run_of_file(Path(path), tracker)))
    return found


def _found(run_id: str, tracker: Tracker) -> TrackedRun | None:
    try:
        return tracker.find(run_id) if run_id else None
    except TrackingError:
        return None


def _of_files(run: TrackedRun, origin: _Origin, files: Sequence[str]) -> Iterator[Transcripts]:
    """Yield what a user says that weights of no known run were trained on."""
    if not files:
        raise UnknownTrainingDataError(
            run.name, f"it {origin.how} {origin.weights}, and what those weights were trained on is not known"
        )
    yield from map(read_unlabelled, files)
