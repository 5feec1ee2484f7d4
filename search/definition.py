"""A study's definition, and opening a study by it: to create, resume, join or read it.

A study is tied to its space, its starting config and its transcripts, since trials under others can't be compared. Must
not know torch. Read next: `study.py`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import TrialState

from rnatracker import config
from rnatracker.config import FORMER_FORMATS
from rnatracker.errors import StudyError, TrackingError, UsageError
from rnatracker.search import hints, space, storage
from rnatracker.search.front import cost
from rnatracker.search.pruning import START, TwoLevelPruner
from rnatracker.search.records.options import DATA_PATH, kept, kept_settings, kept_space
from rnatracker.search.remote import surroundings
from rnatracker.search.scheduling.fresh import not_fresh
from rnatracker.search.study import OUTSIDE, Search, StudyRequest
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings

DEFINITION = "definition"
"""Attribute of a study with what its trials have in common."""

_PLACE_KEYS = ("data.path", "train.device", "train.threads", "train.save_every")
"""Settings in which workers of one study may differ."""
_DIGEST_KEYS = ("data.sites", "data.id_column", "data.sequence_column", "data.group_column")
"""Settings that say how the transcripts are read: where these are the same, they may be written otherwise."""
_REFIT_KEY = "train.seeds"
"""A setting of the refit only, since trials train one network whatever it is."""
_WARM_TRIALS = 3
"""Trials that are taken over from each study that a new one starts from."""


def open_search(request: StudyRequest, data_digest: str, *, limit: float | None = storage.OPENING_SECONDS) -> Search:
    """Create a study, or resume the one of that name.

    Args:
        request: what is searched.
        data_digest: what identifies the transcripts.
        limit: seconds to wait for a server that is away; None: as the environment says.

    Raises:
        StudyError: if there is one of that name that searches something else.
    """
    folder = request.tracking.store
    place = storage.open_storage(request.storage, folder, limit=limit)
    pruner = TwoLevelPruner(request.scheduler, request.config.train.epochs, request.folds)
    with storage.lock(request.storage, folder, request.name, storage=place):
        study = optuna.create_study(
            storage=place,
            study_name=request.name,
            direction="maximize" if request.maximize else "minimize",
            pruner=pruner,
            load_if_exists=True,
        )
        found, wanted = study.user_attrs.get(DEFINITION), definition(request, data_digest)
        if found is None:
            _begin(study, request)
            study.set_user_attr(DEFINITION, wanted)  # last: a study without it has only half begun
        else:
            _check_same(request, found, wanted)
    return Search(request, study, place, folder)


def definition(request: StudyRequest, data_digest: str) -> dict[str, Any]:
    """Return what all trials of a study have in common, as plain values."""
    common = {key: value for key, value in request.config.flat().items() if key not in _PLACE_KEYS}
    found = {"space": request.space.as_dict(), "config": common, "data": data_digest}
    return dict(json.loads(json.dumps(found | ({"cost": request.cost} if request.cost else {}))))


def _begin(study: Study, request: StudyRequest) -> None:
    """Enqueue the starting config as the first trial."""
    if study.get_trials(deepcopy=False):
        return
    study.set_user_attr(DATA_PATH, request.config.data.path)
    study.set_user_attr(surroundings.VERSIONS, surroundings.versions())
    inside, outside = request.space.params_of(request.config.flat())
    study.enqueue_trial(inside, user_attrs={START: True, OUTSIDE: outside})


def _check_same(request: StudyRequest, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Check that a study is resumed as it began.

    Raises:
        StudyError: naming what differs.
    """
    config_before = dict(found.get("config", {}))
    form = str(config_before.get("data.format"))
    config_before["data.format"] = FORMER_FORMATS.get(form, form)
    # A study of an earlier version has no later settings: they are what they were without a choice.
    without = {key: value for key, value in config.Config().flat().items() if key in wanted["config"]}
    found = {**found, "config": without | config_before}
    same_data = found.get("data") == wanted["data"]
    changed = [
        (part, key)
        for part in ("config", "space")
        for before, now in [(found.get(part, {}), wanted[part])]
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key != _REFIT_KEY and not (same_data and key in _DIGEST_KEYS)
    ]
    differing = [
        f"{'config' if part == 'config' else 'the space of'} {key}: {found.get(part, {}).get(key)} before, "
        f"{wanted[part].get(key)} now"
        for part, key in changed
    ]
    if found.get("cost") != wanted.get("cost"):
        both = [cost.named(each["config"]["train.objective"], each.get("cost")) for each in (found, wanted)]
        differing = [each for each in differing if not each.startswith("config train.objective:")]
        differing.insert(0, f"--objective {both[0]} before, {both[1]} now")
    if not same_data:
        differing.insert(0, "other transcripts (their digest differs)")
    if differing:
        more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise StudyError(
            f"study {request.name} was begun with {'; '.join(differing[:3])}{more}: its trials can't be compared with "
            "such",
            "choose another name with --study, or give what it was begun with" + _as_v1(found, changed),
        )


def _as_v1(before: Mapping[str, Any], changed: Sequence[tuple[str, str]]) -> str:
    """Point out where a study was begun without `--config` or without `--space`, when that meant `v1`."""
    settings = [key for part, key in changed if part == "config"]
    v1, v1_space = config.Config().flat(), json.loads(json.dumps(space.load("v1").as_dict()))
    given = ["--config v1"] if settings and all(before["config"].get(key) == v1[key] for key in settings) else []
    if len(settings) < len(changed) and before.get("space") == v1_space:
        given.append("--space v1")
    return f", such as {' '.join(given)}" if given else ""


def names(url: str | None, tracking: TrackingSettings) -> list[str]:
    """Return the names of all studies of a storage, by the alphabet."""
    return sorted(optuna.get_all_study_names(storage.open_storage(url, tracking.store)))


def load_search(name: str, url: str | None, tracking: TrackingSettings) -> Search:
    """Open a study that there is, with what it began with.

    Raises:
        StudyError: if there is none of that name.
    """
    place = storage.open_storage(url, tracking.store)
    known = optuna.get_all_study_names(place)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known)) or 'none yet'}"
        raise StudyError(f"study {name}: not in {url or tracking.store / storage.JOURNAL}", hint)
    study = optuna.load_study(study_name=name, storage=place)
    if DEFINITION not in study.user_attrs:
        raise StudyError(
            f"study {name}: not one of rnatracker tune's, or it was killed as it began", "give its tune command again"
        )
    return _as_begun(study, place, url, tracking)


def find_search(name: str, url: str | None, tracking: TrackingSettings) -> Search | None:
    """Open a study, with what it began with; None if there is none of that name, or it has only half begun.

    Nothing is made where there is no storage yet.
    """
    if not has_storage(url, tracking):
        return None
    place = storage.open_storage(url, tracking.store)
    if name not in optuna.get_all_study_names(place):
        return None
    study = optuna.load_study(study_name=name, storage=place)
    return _as_begun(study, place, url, tracking) if DEFINITION in study.user_attrs else None


def has_storage(url: str | None, tracking: TrackingSettings) -> bool:
    """Tell whether there is a file of studies; of a database that can't be told, and it is taken to be there."""
    if url is not None and "://" in url:
        return True
    return (tracking.store / storage.JOURNAL if url is None else Path(url).expanduser()).exists()


def _as_begun(study: Study, place: BaseStorage, url: str | None, tracking: TrackingSettings) -> Search:
    """Return a study with what it has kept. One of an earlier version is to have the trials that it has."""
    found, name = study.user_attrs[DEFINITION], study.study_name
    settings = found["config"] | {"data.path": study.user_attrs.get(DATA_PATH)} | kept_settings(study)
    request = StudyRequest(
        name,
        config.build(config.nest(settings), f"study {name}"),
        kept_space(study, found["space"]),
        tracking,
        url,
        cost=found.get("cost"),
    )
    search = Search(request, study, place, tracking.store)
    fields = {"trials": max(search.counts().all, 1)} | kept(study)
    return replace(search, request=replace(request, **fields))


def warm_start(search: Search, sources: tuple[str, ...]) -> list[str]:
    """Enqueue what other studies and runs have found, as far as it lies in this study's space; return what was done.

    Args:
        search: the study.
        sources: names of studies in the same storage, of which the best trials are taken, or of runs.

    Raises:
        StudyError: if something is neither.
    """
    lines = []
    known = optuna.get_all_study_names(search.storage)
    with search.lock():
        for source in sources:
            found = _of_study(search, source) if source in known else _of_run(search, source)
            for params in found:
                search.study.enqueue_trial(params, skip_if_exists=True)
            lines.append(f"{source}: {len(found)} {'setting' if len(found) == 1 else 'settings'} to begin with")
    return lines


def _of_study(search: Search, name: str) -> list[dict[str, Any]]:
    other = optuna.load_study(study_name=name, storage=search.storage)
    completed = not_fresh(other.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    sign = 1 if other.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    completed.sort(key=lambda trial: sign * (trial.value or 0.0), reverse=True)
    # A study of an earlier version has no later settings: they are what they were without a choice.
    base = config.Config().flat() | other.user_attrs.get(DEFINITION, {}).get("config", {})
    return [search.request.space.params_of({**base, **trial.params})[0] for trial in completed[:_WARM_TRIALS]]


def _of_run(search: Search, name: str) -> list[dict[str, Any]]:
    try:
        run = open_tracker(search.request.tracking).find(name)
    except TrackingError as error:
        known = hints.command(["study", "--list"], search.request.tracking, search.request.storage)
        raise StudyError(
            f"--warm-start {name}: neither a study of this storage nor a run ({error.problem})",
            f"see its studies with: {known}",
        ) from None
    path = run.files.config
    if not path.is_file():
        raise StudyError(f"--warm-start {name}: that run has kept no {path.name}", "name another")
    flat = config.build(config.read(path), path.name).flat()
    return [search.request.space.params_of(flat)[0]]


def check_name(name: str) -> None:
    """Check that a study's name can stand in a run's name and in a file's.

    Raises:
        ConfigError: if it can't.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.+-]{1,80}", name) or name in (".", ".."):
        raise UsageError(f"--study {name!r}: can't be the name of a run", "use up to 80 letters, digits and _ . + -")
