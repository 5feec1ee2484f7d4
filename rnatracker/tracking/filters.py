"""MLflow's filters of runs, as a user types them, and what they say of a run that isn't in MLflow.

Owns the small liberties over MLflow's syntax, what is said of a bad filter, and a filter's meaning for plain values.
Must not know how runs are listed. Read next: `database/runs.py`, which says the same in SQL.

The syntax is MLflow's (`metrics.loss < 0.3 and params.optimizer = 'adam'`), but a name may hold slashes and dots
without backticks, and a parameter's or a tag's value may stand without quotes: `metrics.val/pcc_mean > 0.4`,
`params.train.lr = 0.001`.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from rnatracker.errors import TrackingError, UsageError
from rnatracker.tracking import mlflow_private

Kind = Literal["metric", "parameter", "tag", "attribute", "dataset"]

_EXAMPLE = "metrics.val/pcc_mean > 0.4 and params.train.lr = 0.001"
_KEY = r"\b(metrics?|params?|parameters?|tags?)\.([A-Za-z_][\w./:-]*)"
_TEXT = re.compile(rf"('[^']*'|\"[^\"]*\"|`[^`]*`)|{_KEY}")
_BARE_VALUE = re.compile(r"((?:params?|parameters?|tags?)\.`[^`]*`\s*!?=\s*)([^\s'\"`=]+)")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "IN": lambda value, among: value in among,
    "NOT IN": lambda value, among: value not in among,
    "LIKE": lambda value, pattern: _is_like(value, pattern),
    "ILIKE": lambda value, pattern: _is_like(value.lower(), pattern.lower()),
}


@dataclass(frozen=True)
class Condition:
    """What a run must meet.

    Attributes:
        kind: what is compared.
        key: its name; of an attribute as `run_id`, `run_name`, `status`, `start_time`.
        comparator: `=`, `!=`, `<`, `LIKE`, `IN`, `IS NULL` and the like, in capitals.
        value: what it is compared with: a number for a metric, a tuple for `IN`, else a text.
    """

    kind: Kind
    key: str
    comparator: str
    value: float | str | tuple[str, ...] | None


def parse(text: str) -> list[Condition]:
    """Read a filter; all its conditions must hold.

    Raises:
        UsageError: if it can't be read, with what MLflow says of it.
    """
    from mlflow.exceptions import MlflowException

    try:
        conditions = mlflow_private.parse_filter(quoted(text))
    except (MlflowException, ValueError) as error:
        reason = _reworded(str(error).splitlines()[0].rstrip("."))
        raise UsageError(
            f"--where {text!r}: {reason}", f"conditions are joined by 'and', as in: --where {_EXAMPLE!r}"
        ) from None
    return [
        Condition(cast(Kind, each["type"]), each["key"], each["comparator"], _value(each["type"], each["value"]))
        for each in conditions
    ]


def check_names(text: str, known: Mapping[Kind, Collection[str]]) -> None:
    """Check that some run has what a filter names: no run matches a name that is misspelt.

    Args:
        text: the filter.
        known: the names of all metrics, parameters and tags.

    Raises:
        TrackingError: for the first that none has, with the nearest that one has.
    """
    for each in parse(text):
        check_name(f"--where {text!r}", each.kind, each.key, known)


def check_name(option: str, kind: Kind, name: str, known: Mapping[Kind, Collection[str]]) -> None:
    """Check that some run has a metric, parameter or tag of this name.

    Args:
        option: where the name stands, as the user typed it.
        kind: what it is the name of.
        name: the name.
        known: the names of all metrics, parameters and tags.

    Raises:
        TrackingError: if none has, with the nearest that one has.
    """
    names = known.get(kind)
    if names is None or name in names:
        return
    near = difflib.get_close_matches(name, names, 1, cutoff=0.5)
    section = f"{kind if kind != 'parameter' else 'param'}s"
    some = f"{', '.join(sorted(names)[:10])}{', ...' if len(names) > 10 else ''}" if names else "none"
    raise TrackingError(
        f"{option}: no run has a {kind} {name}", f"did you mean {section}.{near[0]}?" if near else f"there are: {some}"
    )


def _value(kind: str, value: Any) -> float | str | tuple[str, ...] | None:
    if kind == "metric":
        return float(value)
    return tuple(value) if isinstance(value, list | tuple | set) else cast("float | str | None", value)


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


def admits(conditions: Sequence[Condition], values: Mapping[Kind, Mapping[str, Any]]) -> bool:
    """Tell whether a run meets all conditions.

    Args:
        conditions: what it must meet.
        values: what it has, by kind and name; a number for a metric, a start or an end. What is missing or None meets
            nothing but `IS NULL`, as in a database.
    """
    return all(_meets(each, values.get(each.kind, {}).get(each.key)) for each in conditions)


def _meets(condition: Condition, own: Any) -> bool:
    if condition.comparator in ("IS NULL", "IS NOT NULL"):
        return (own is None) == (condition.comparator == "IS NULL")
    if own is None or condition.value is None:
        return False
    other = condition.value
    if isinstance(own, int | float) and isinstance(other, str):
        other = float(other)
    return _COMPARE[condition.comparator](own, other)


def _is_like(value: str, pattern: str) -> bool:
    """Match as SQL does: `%` stands for any characters, `_` for one."""
    expression = "".join({"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in pattern)
    return re.fullmatch(expression, value, re.DOTALL) is not None
