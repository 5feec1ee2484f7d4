"""The options that a study keeps of its latest command, so that its name alone continues it.

Owns the attribute they are in. They change nothing about what trials are compared by, which the study's definition
keeps: each may be given anew. Must not know torch or typer. Read next: `command.py`, which lays them under what was
typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.study import Study

from rnatracker.search import space
from rnatracker.search.optuna_private import name_objective
from rnatracker.search.space import Space
from rnatracker.search.study import Search, StudyRequest

OPTIONS = "options"
"""Attribute of a study; studies of earlier versions have none."""
DATA_PATH = "data_path"
"""Attribute of a study: where its transcripts lay when it began, or where they were found since."""

_SETTINGS = ("train.device", "train.save_every", "train.seeds")
"""Settings in which a later command may differ. Not the threads: they go by the jobs and the machine."""

_FIELDS = ("trials", "sampler", "scheduler", "keep_weights", "fresh_seeds")
"""Fields of `StudyRequest`."""


def keep(search: Search) -> None:
    """Keep the options of a command that works on a study, and where its transcripts are if they were moved."""
    name_objective(search.study, search.request.config.train.objective)
    attributes, wanted = search.study.user_attrs, _of(search.request)
    if attributes.get(OPTIONS) != wanted:
        search.study.set_user_attr(OPTIONS, wanted)
    before, now = attributes.get(DATA_PATH), search.request.config.data.path
    if before != now and not (before and Path(before).is_file()):  # on another machine it may lie elsewhere
        search.study.set_user_attr(DATA_PATH, now)


def kept(study: Study) -> dict[str, Any]:
    """Return what a study has kept, as fields of `StudyRequest`; nothing of one of an earlier version."""
    found = study.user_attrs.get(OPTIONS, {})
    return {key: value for key, value in found.items() if key in _FIELDS}


def kept_settings(study: Study) -> dict[str, Any]:
    """Return settings, by their dotted key, that the study's definition leaves open."""
    return dict(study.user_attrs.get(OPTIONS, {}).get("settings", {}))


def kept_space(study: Study, content: Mapping[str, Any]) -> Space:
    """Return a study's space under its name and in its order: drawn in another one, random values would be others.

    Args:
        study: the study.
        content: its space as plain values, in any order.
    """
    found = study.user_attrs.get(OPTIONS, {})
    drawn = max((list(trial.params) for trial in study.get_trials(deepcopy=False)), key=len, default=[])
    keys = dict.fromkeys(key for key in (*found.get("keys", drawn), *content) if key in content)
    name = f"study {study.study_name}"
    return replace(space.parse({key: content[key] for key in keys}, name), name=found.get("space") or name)


def _of(request: StudyRequest) -> dict[str, Any]:
    flat = request.config.flat()
    return {
        **{field: getattr(request, field) for field in _FIELDS},
        "space": request.space.name,
        "keys": [each.key for each in request.space],
        "settings": {key: flat[key] for key in _SETTINGS},
    }
