"""What is used of MLflow that it doesn't promise to keep.

Owns every name of MLflow's that is no public interface, and what is said when one is gone. The tables that
`database/` reads are MLflow's own too. Must not be imported for its own sake: where a public interface does the same,
that is used. `tests/tracking/test_mlflow_private.py` tries each.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnatracker.errors import TrackingError

if TYPE_CHECKING:
    from mlflow.entities import Run

PARSER = ("mlflow.utils.search_utils", "SearchUtils")
STORE = ("mlflow.store.tracking.sqlalchemy_store", "SqlAlchemyStore")
MIGRATIONS = "store/db_migrations/versions"
"""Folder, within MLflow's own, of a file `<version>_<name>.py` for each version of its schema."""
CHATTY_LOGGERS = ("mlflow.store.db.utils", "mlflow.store.model_registry.abstract_store", "alembic")
"""Loggers that log what is raised as well, and each migration."""
_PARSER_METHODS = (
    "parse_search_filter", "translate_key_alias", "is_attribute", "is_metric", "is_param", "is_tag", "is_dataset",
)  # fmt: skip


def parse_filter(text: str) -> list[dict[str, Any]]:
    """Read a filter of runs as MLflow does.

    Returns:
        Its conditions: `type` (`metric`, `parameter`, `tag`, `attribute` or `dataset`), `key`, `comparator` in capitals
        and `value`.

    Raises:
        TrackingError: if this MLflow can't be asked.
        MlflowException: if it is no filter.
        ValueError: if a metric is compared with no number.
    """
    parser = _private(*PARSER, methods=_PARSER_METHODS)
    conditions: list[dict[str, Any]] = parser.parse_search_filter(text)
    for each in conditions:
        each["key"] = parser.translate_key_alias(each["key"])
        each["comparator"] = each["comparator"].upper()
        _check(parser, each)
    return conditions


def _check(parser: Any, condition: Mapping[str, Any]) -> None:
    """Check that a condition's comparator suits what it compares."""
    kind, comparator = condition["type"], condition["comparator"]
    parser.is_attribute(kind, condition["key"], comparator)
    for check in (parser.is_metric, parser.is_param, parser.is_tag, parser.is_dataset):
        check(kind, comparator)
    if kind == "metric":
        float(condition["value"])


def last_recorded(run: Run) -> int:
    """Return when the latest of a run's metrics was recorded, in ms since 1970; 0 where that isn't known."""
    return max((int(metric.timestamp) for metric in getattr(run.data, "_metric_objs", ())), default=0)


def create_database(uri: str, artifacts: Path) -> None:
    """Make MLflow's tables in an SQLite file; MLflow's client would put the artifacts of its default elsewhere.

    Args:
        uri: the file's address.
        artifacts: where the files of its default experiment are to be.

    Raises:
        TrackingError: if this MLflow can't be asked.
        Exception: what MLflow and SQLAlchemy raise.
    """
    made = _private(*STORE)(uri, str(artifacts))
    made.engine.dispose()


def knows_schema(version: str) -> bool:
    """Tell whether the installed MLflow knows a version of the schema of its database. Doesn't import MLflow."""
    return any(list(folder.glob(f"{version}_*.py")) for folder in _migrations())


def _migrations() -> list[Path]:
    """Return the folder of MLflow's migrations.

    Raises:
        TrackingError: if this MLflow has none.
    """
    spec = importlib.util.find_spec("mlflow")
    places = spec.submodule_search_locations or () if spec else ()
    folders = [folder for place in places if (folder := Path(place) / MIGRATIONS).is_dir()]
    if not folders:
        raise _gone(f"folder {MIGRATIONS}")
    return folders


@cache
def _private(module: str, name: str, *, methods: tuple[str, ...] = ()) -> Any:
    """Return a private class of MLflow's.

    Raises:
        TrackingError: if this MLflow doesn't have it, or not with these methods.
    """
    try:
        private = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise _gone(f"{module}.{name}") from None
    missing = [method for method in methods if not hasattr(private, method)]
    if missing:
        raise _gone(", ".join(f"{module}.{name}.{method}" for method in missing))
    return private


def _gone(what: str) -> TrackingError:
    return TrackingError(
        f"MLflow {metadata.version('mlflow')} has no {what}, which rnatracker uses",
        "install the version that it is tested with: pip install 'mlflow==3.17.*'",
    )
