"""Finding a run whose process was killed right after it was made, before its study noted which it is.

Owns the token by which it is found: the study keeps it before there is a run, and the run has it from the first moment
on. A name wouldn't do, since studies in several storages may be called alike. Must not know Optuna's storages or torch.
Read next: `rnatracker/search/tune.py` and `rnatracker/search/refit.py`, which make such runs.
"""

from __future__ import annotations

import uuid
from contextlib import suppress

from optuna.study import Study

from rnatracker.tracking.contract import NoExperimentError, TrackedRun, Tracker
from rnatracker.tracking.tags import Tag


def token_of(study: Study, key: str) -> tuple[str, bool]:
    """Return the token of a run that a study is about to make, and whether it was there before: made with it, perhaps.

    Args:
        study: the study.
        key: its attribute that keeps the token.
    """
    known = study.user_attrs.get(key)
    if known:
        return str(known), True
    token = uuid.uuid4().hex
    study.set_user_attr(key, token)
    return token, False


def find(tracker: Tracker, token: str) -> TrackedRun | None:
    """Return the run that was made with a token; None if there is none, or it was deleted.

    Raises:
        TrackingError: if the store can't be read.
    """
    with suppress(NoExperimentError):
        for run in tracker.list_runs(f"tags.`{Tag.BEGUN}` = '{token}'").runs:
            if run.matches:
                return tracker.find(run.run_id)
    return None
