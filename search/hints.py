"""The commands about a study that users are told to type next.

Owns their wording, so that each finds the study's storage and store. Must not know what they do. Read next:
`rnatracker/tracking/hints.py`.
"""

from __future__ import annotations

import re

from optuna.trial import FrozenTrial

from rnatracker import config, plain_yaml
from rnatracker.errors import TrackingError
from rnatracker.search import summary
from rnatracker.search.pruning import START
from rnatracker.search.records.verdict import Verdict
from rnatracker.search.space import apply
from rnatracker.search.study import Search
from rnatracker.tracking import hints
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings


def command(words: list[str], tracking: TrackingSettings, storage: str | None) -> str:
    """Return what to type: these words after `rnatracker`, with the options that lead to this storage and store."""
    options = ["--storage", re.sub(r"//[^/@]*@", "//USER:PASSWORD@", storage)] if storage else []
    return hints.command([*words, *options], tracking)


def study_command(search: Search) -> str:
    """Return what to type to see a study."""
    return command(["study", search.request.name], search.request.tracking, search.request.storage)


def tune_command(search: Search, *words: str) -> str:
    """Return what to type to continue a study, with further options after its name."""
    request = search.request
    return command(["tune", "--study", request.name, *words], request.tracking, request.storage)


def next_command(search: Search, verdict: Verdict | None, *, is_used_up: bool = False) -> str | None:
    """Return what to type next: to watch, resume or refit a study, or to promote what its refit has found.

    None where it has come to nothing.

    Args:
        search: the study.
        verdict: what fresh seeds say, if anything.
        is_used_up: whether it can have no more trials.
    """
    if search.running():
        return study_command(search)
    if not is_used_up and not search.is_over():
        return tune_command(search)
    completed = summary.best(search)
    if not any(not trial.user_attrs.get(START) for trial in completed):
        return None
    best = completed[0]
    if verdict is None or verdict.of(best.number) is None:
        return tune_command(search, "--refit")
    return promote_command(search, verdict)


def promote_command(search: Search, verdict: Verdict) -> str:
    """Return what to type to make the refit's winner champion; to measure it where there is no registry."""
    tracking, winner = search.request.tracking, verdict.winner
    called = next(iter(winner.run_names), winner.run_ids[0])
    if tracking.enabled:
        return command(["promote", called], tracking, None)
    try:
        folder = open_tracker(tracking).find(winner.run_ids[0]).folder
    except TrackingError:
        return study_command(search)
    return hints.evaluate_command(called, folder, tracking)


def rerun_command(search: Search, trial: FrozenTrial) -> str:
    """Return what to type to train with a trial's settings once more."""
    words = ["train", "--data", str(search.request.config.data.path)]
    default = config.build(config.starting(), "default.yaml").flat()
    for key, value in apply(search.request.config, trial.params).flat().items():
        if key != "data.path" and value != default[key]:
            words += ["--set", f"{key}={plain_yaml.on_one_line(value)}"]
    return command(words, search.request.tracking, None)
