"""The commands about a study that users are told to type next.

Owns their wording, so that each finds the study's storage and store. Must not know what they do. Read next:
`rnatracker/tracking/hints.py`.
"""

from __future__ import annotations

import re

from optuna.trial import FrozenTrial

from rnatracker import config, plain_yaml
from rnatracker.search.space import apply
from rnatracker.search.study import Search
from rnatracker.tracking import hints
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


def rerun_command(search: Search, trial: FrozenTrial) -> str:
    """Return what to type to train with a trial's settings once more."""
    words = ["train", "--data", str(search.request.config.data.path)]
    default = config.build(config.starting(), "default.yaml").flat()
    for key, value in apply(search.request.config, trial.params).flat().items():
        if key != "data.path" and value != default[key]:
            words += ["--set", f"{key}={plain_yaml.on_one_line(value)}"]
    return command(words, search.request.tracking, None)
