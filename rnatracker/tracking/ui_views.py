"""Views of the runs in MLflow's UI: which columns, in which order.

Owns what MLflow's "shared views" say: an experiment's tag that its UI reads when a link names it, so that a link of
ours opens on the columns that matter. Must not import mlflow. Read next: `rnatracker/tracking/mlflow_tracker.py`,
which keeps them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rnatracker.tracking.tags import Tag

RUNS = "rnatracker"
"""Key of the view of all runs."""

_TAG = Tag.VIEW
_MEASURES = ("best/pcc_mean", "best/pcc_overall", "oof/pcc_mean", "oof/pcc_overall", "objective", "best/objective")
_SETTINGS = ("encoding.max_length", "train.lr", "train.batch_size", "train.epochs", "model.rnn_hidden")
_TAGS = (Tag.KIND, Tag.STUDY, Tag.DATA_DIGEST)


def tag_of(key: str) -> str:
    """Return the experiment's tag that holds a view."""
    return _TAG.format(key)


def study_key(study: str) -> str:
    """Return the key of a study's view."""
    return f"study-{study}"


def of_runs() -> str:
    """Return the view of all runs, the latest first, children under their parents, as the text of its tag."""
    return _state([*_metrics(_MEASURES), *_params(_SETTINGS), *_tags(_TAGS)], "attributes.start_time")


def of_study(study: str, keys: Sequence[str], *, maximize: bool) -> str:
    """Return the view of a study's trials, the best first, with what is searched, as the text of its tag.

    Args:
        study: its name.
        keys: the searched keys.
        maximize: whether more of the objective is better.
    """
    columns = [
        *_metrics(("objective", "best/pcc_overall", "best/epoch")),
        *_params(keys),
        *_tags((Tag.PRUNED, Tag.PAUSED)),
    ]
    only = f"tags.`rnatracker.study` = '{study}'"
    return _state(columns, "metrics.`objective`", ascending=not maximize, only=only)


def _state(columns: list[str], order: str, *, ascending: bool = False, only: str = "") -> str:
    state: dict[str, Any] = {"selectedColumns": columns, "orderByKey": order, "orderByAsc": ascending}
    if only:
        state["searchFilter"] = only
    return json.dumps(state)


def _metrics(names: Sequence[str]) -> list[str]:
    return [f"metrics.`{name}`" for name in names]


def _params(names: Sequence[str]) -> list[str]:
    return [f"params.`{name}`" for name in names]


def _tags(names: Sequence[str]) -> list[str]:
    return [f"tags.`{name}`" for name in names]
