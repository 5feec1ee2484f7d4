"""A study's transcripts among its run's files, so that a worker on any host has them.

Owns when they are kept there and fetched. A file of transcripts that lies where the study says is read instead. Must
not know torch. Read next: `search/tune.py`, which asks for them.
"""

from __future__ import annotations

from pathlib import Path

from rnatracker.data import shared
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import StudyError
from rnatracker.search.study import RUN_ID, Search
from rnatracker.tracking.contract import TrackedRun, Tracker

KEPT = "transcripts"
"""Attribute of a study whose run has its transcripts: their digest."""


def is_here(path: str | None) -> bool:
    """Tell whether a study's file of transcripts is on this host."""
    return path is not None and Path(path).is_file()


def keep(search: Search, run: TrackedRun, tracker: Tracker, transcripts: Transcripts) -> None:
    """Keep a study's transcripts among its run's files, if that is on a server and has none yet."""
    if not tracker.is_remote or KEPT in search.study.user_attrs:  # a study has one set of transcripts
        return
    digest = transcripts.digest()
    path = run.files.transcripts(digest)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        shared.pack(transcripts, path)
    if run.publish(now=True):  # else the next command on this study tries again
        search.study.set_user_attr(KEPT, digest)


def fetch(search: Search, tracker: Tracker) -> Transcripts:
    """Return a study's transcripts from its run's files.

    Raises:
        StudyError: if it has none, or they are damaged.
        TrackingError: if the server can't be reached.
    """
    name, digest = search.request.name, search.study.user_attrs.get(KEPT)
    path = search.request.config.data.path
    if not digest:
        raise StudyError(f"study {name}: its transcripts are not on this host ({path})", "give them with --data FILE")
    kept = tracker.find(search.study.user_attrs[RUN_ID]).files.transcripts(str(digest))
    try:
        found = shared.unpack(kept)
    except (OSError, ValueError) as error:
        raise StudyError(f"{kept}: the study's transcripts can't be read ({error})", "give them with --data") from None
    if found.digest() != digest:
        raise StudyError(f"{kept}: not the study's transcripts: their digest differs", "give them with --data FILE")
    return found
