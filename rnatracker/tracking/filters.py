"""MLflow's filters of runs, as a user types them and as SQL.

Owns the small liberties over MLflow's syntax, what is said of a bad filter, and the translation for SQLite. Must not
know how runs are listed. Read next: `listing_sources.py`, which uses it.

The syntax is MLflow's (`metrics.loss < 0.3 and params.optimizer = 'adam'`), but a name may hold slashes and dots
without backticks, and a parameter's or a tag's value may stand without quotes: `metrics.val/pcc_mean > 0.4`,
`params.train.lr = 0.001`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rnatracker.errors import TrackingError

_EXAMPLE = "metrics.val/pcc_mean > 0.4 and params.train.lr = 0.001"
_TABLES = {"metric": "latest_metrics", "parameter": "params", "tag": "tags"}
_COLUMNS = {"run_id": "run_uuid", "run_name": "name"}
_DATASET = (
    "SELECT 1 FROM inputs AS i JOIN datasets AS d ON i.source_id = d.dataset_uuid {join} "
    "WHERE i.destination_id = r.run_uuid AND {condition}"
)
_CONTEXT = "JOIN input_tags AS c ON c.input_uuid = i.input_uuid AND c.name = 'mlflow.data.context'"
_KEY = r"\b(metrics?|params?|parameters?|tags?)\.([A-Za-z_][\w./:-]*)"
_TEXT = re.compile(rf"('[^']*'|\"[^\"]*\"|`[^`]*`)|{_KEY}")
_BARE_VALUE = re.compile(r"((?:params?|parameters?|tags?)\.`[^`]*`\s*!?=\s*)([^\s'\"`=]+)")


def parse(text: str) -> list[dict[str, Any]]:
    """Read a filter.

    Returns:
        Its conditions, which all must hold: `type`, `key`, `comparator` and `value`, as MLflow's parser gives them.

    Raises:
        TrackingError: if it can't be read, with what MLflow says of it.
    """
    from mlflow.exceptions import MlflowException

    parser = _mlflow_parser()
    try:
        conditions: list[dict[str, Any]] = parser.parse_search_filter(quoted(text))
        for each in conditions:
            each["key"] = parser.translate_key_alias(each["key"])
            each["comparator"] = each["comparator"].upper()
            _check(parser, each)
    except (MlflowException, ValueError) as error:
        reason = _reworded(str(error).splitlines()[0].rstrip("."))
        raise TrackingError(
            f"--where {text!r}: {reason}", f"conditions are joined by 'and', as in: --where {_EXAMPLE!r}"
        ) from None
    return conditions


def _reworded(reason: str) -> str:
    """Word what MLflow says of a name that is no attribute of a run, which lists dozens, as a user can go on from."""
    bare = re.match(r"Invalid attribute key '([^']*)' specified", reason)
    if not bare:
        return reason
    return f"runs have no '{bare[1]}'; figures are metrics.NAME, as metrics.best/pcc_mean, and settings params.NAME"


def quoted(text: str) -> str:
    """Return a filter as MLflow wants it: names in backticks, values of parameters and tags in quotes."""

    def quote(match: re.Match[str]) -> str:
        return match[1] or f"{match[2]}.`{match[3]}`"

    return _BARE_VALUE.sub(r"\1'\2'", _TEXT.sub(quote, text))


def _mlflow_parser() -> Any:
    from mlflow.utils.search_utils import SearchUtils

    return SearchUtils


def _check(parser: Any, condition: Mapping[str, Any]) -> None:
    """Hold that a condition's comparator suits what it compares."""
    kind, comparator = condition["type"], condition["comparator"]
    parser.is_attribute(kind, condition["key"], comparator)
    for check in (parser.is_metric, parser.is_param, parser.is_tag, parser.is_dataset):
        check(kind, comparator)
    if kind == "metric":
        float(condition["value"])


def sql(conditions: list[dict[str, Any]]) -> tuple[str, list[Any]]:
    """Return conditions as SQL on the table of runs, named `r`, and the values of its question marks.

    `LIKE` tells capitals from small letters only with `PRAGMA case_sensitive_like = true`.
    """
    texts, values = ["1"], []
    for each in conditions:
        text, own = _one(each)
        texts.append(text)
        values += own
    return " AND ".join(texts), values


def _one(condition: Mapping[str, Any]) -> tuple[str, list[Any]]:
    kind, key, comparator = condition["type"], condition["key"], condition["comparator"]
    value = float(condition["value"]) if kind == "metric" else condition["value"]
    if kind == "attribute":
        return _compare(f"r.{_COLUMNS.get(key, key)}", comparator, value)
    if kind == "dataset":
        test, values = _compare("c.value" if key == "context" else f"d.{key}", comparator, value)
        return f"EXISTS ({_DATASET.format(join=_CONTEXT if key == 'context' else '', condition=test)})", values
    found = f"SELECT 1 FROM {_TABLES[kind]} AS t WHERE t.run_uuid = r.run_uuid AND t.key = ?"  # noqa: S608 (our own)
    if comparator in ("IS NULL", "IS NOT NULL"):
        return f"{'NOT ' if comparator == 'IS NULL' else ''}EXISTS ({found})", [key]
    test, values = _compare("t.value", comparator, value)
    is_number = " AND t.is_nan = 0" if kind == "metric" else ""
    return f"EXISTS ({found} AND {test}{is_number})", [key, *values]


def _compare(column: str, comparator: str, value: Any) -> tuple[str, list[Any]]:
    if comparator in ("IN", "NOT IN"):
        values = list(value)
        return f"{column} {comparator} ({', '.join('?' * len(values))})", values
    if comparator == "ILIKE":
        return f"lower({column}) LIKE lower(?)", [value]
    return f"{column} {comparator} ?", [value]
