"""A `tune` command made whole: what was typed, laid over what its study has kept.

Owns what an option means that was not given: of a new study its default, of one that there is what that has kept. Must
not know torch or typer. Read next: `rnatracker/search/definition.py`, which checks that a study goes on as it began.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from rnatracker import config
from rnatracker.config import Config
from rnatracker.errors import StudyError, TrackingError, UsageError
from rnatracker.search import definition, hints, space
from rnatracker.search.pruning import SchedulerName
from rnatracker.search.records import options
from rnatracker.search.remote.transcripts import KEPT
from rnatracker.search.sampling import SamplerName
from rnatracker.search.study import RUN_ID, Search, StudyRequest
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings

_SPACE = "default"


@dataclass(frozen=True)
class Typed:
    """What a command has been given; None: not given.

    Attributes:
        study: the study's name.
        tracking: where runs are kept.
        storage: where the study is kept; None for the store's own journal.
        config: name or path of a config file.
        settings: dotted keys with the values of options.
        sets: texts of `--set`.
        space: name or path of a search space.
        options: fields of `StudyRequest` that a study keeps: trials, sampler, scheduler, keep_weights, fresh_seeds.
        others: fields that it doesn't keep: timeout, jobs, warm_start; and cost, where objectives were named.
    """

    study: str
    tracking: TrackingSettings
    storage: str | None = None
    config: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    sets: Sequence[str] = ()
    space: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)


def completed(typed: Typed) -> StudyRequest:
    """Return what is to be searched.

    Raises:
        ConfigError: if a setting is wrong, or a new study has no data.
        StudyError: if the study's transcripts are not where they were.
    """
    definition.check_name(typed.study)
    search = definition.find_search(typed.study, typed.storage, typed.tracking)
    given = {key: value for key, value in typed.options.items() if value is not None}
    if search is None:
        settings = config.assemble(typed.config, {}, typed.settings, typed.sets)
        _check_begins(typed, settings)
        made = StudyRequest(typed.study, settings, space.load(typed.space or _SPACE), typed.tracking, typed.storage)
    else:
        before, settings = search.request, _continued(search, typed)
        wanted = before.space if typed.space is None else space.load(typed.space)
        made = replace(before, **_of_earlier_version(search), config=settings, space=wanted)
    return replace(made, **given, **typed.others, seed=settings.train.seed)


def _continued(search: Search, typed: Typed) -> Config:
    """Return a study's settings with those of a command laid over them; all of them where it names a config file."""
    before = search.request.config
    base = {} if typed.config is not None else before.model_dump(mode="json")
    base.get("data", {}).pop("path", None)  # looked at last: what was typed may name another
    settings = config.assemble(typed.config, base, typed.settings, typed.sets)
    if settings.data.path is not None:
        return settings
    path = before.data.path
    if path is None or not (Path(path).is_file() or search.study.user_attrs.get(KEPT)):
        again = hints.tune_command(search)
        raise StudyError(
            f"study {search.request.name}: its transcripts are not where they were: {path}: no such file",
            f"say where they are now with: {again} --data FILE",
        )
    return config.with_data(settings, path)


def _of_earlier_version(search: Search) -> dict[str, Any]:
    """Return the sampler and the scheduler of a study that has kept them in its run only, as far as they are known."""
    run_id = search.study.user_attrs.get(RUN_ID)
    if options.kept(search.study) or not run_id:
        return {}
    try:
        params = open_tracker(search.request.tracking).find(run_id).params()
    except TrackingError:
        return {}
    found = {
        "sampler": params.get("study.sampler"),
        "scheduler": params.get("study.scheduler", params.get("study.pruner")),  # which was its name
    }
    known = {"sampler": get_args(SamplerName), "scheduler": get_args(SchedulerName)}
    return {key: value for key, value in found.items() if value in known[key]}


def _check_begins(typed: Typed, settings: Config) -> None:
    """Check that a study that there is not yet has data: who names one by mistake gives none.

    Raises:
        UsageError: if it hasn't.
    """
    if settings.data.path is not None:
        return
    known = (
        definition.names(typed.storage, typed.tracking) if definition.has_storage(typed.storage, typed.tracking) else []
    )
    near = difflib.get_close_matches(typed.study, known, n=1)
    there = f"did you mean {near[0]}? Or " if near else f"there are {', '.join(known)}; " if known else ""
    raise UsageError(
        f"--study {typed.study}: there is no study of that name, and a new one has no data to train on",
        f"{there}give a file with --data, or make one with: rnatracker data simulate FILE",
    )
