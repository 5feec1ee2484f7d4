"""What we use of our dependencies that they may change: each is tried, so that an upgrade says what is gone."""

from __future__ import annotations

import inspect
import logging
import sqlite3
from contextlib import closing
from importlib import metadata
from pathlib import Path

import pytest

from rnatracker.errors import TrackingError
from rnatracker.tracking import mlflow_private, places
from rnatracker.tracking.database import connection as connections
from rnatracker.tracking.database import places as places_of_files
from rnatracker.tracking.database import runs as runs_of_database
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings

_COLUMNS = {
    "alembic_version": {"version_num"},
    "experiments": {"experiment_id", "name", "artifact_location"},
    "experiment_tags": {"experiment_id", "key", "value"},
    "runs": {
        "run_uuid", "name", "status", "start_time", "end_time", "lifecycle_stage", "artifact_uri", "experiment_id",
    },
    "params": {"run_uuid", "key", "value"},
    "tags": {"run_uuid", "key", "value"},
    "metrics": {"run_uuid", "key", "value", "is_nan", "step"},
    "latest_metrics": {"run_uuid", "key", "value", "is_nan"},
    "inputs": {"input_uuid", "source_id", "destination_id"},
    "datasets": {"dataset_uuid", "name", "digest"},
    "input_tags": {"input_uuid", "name", "value"},
    "logged_models": {"artifact_location"},
    "model_versions": {"storage_location", "source"},
}  # fmt: skip
"""What `rnatracker/tracking/database/` reads or writes of MLflow's tables."""


class TestMlflow:
    def test_a_run_says_when_its_latest_metric_was_recorded(self, mlflow_store: Path) -> None:
        client = open_tracker(TrackingSettings(mlflow_store)).backend.client  # type: ignore[attr-defined]
        made = client.create_run("0")
        assert mlflow_private.last_recorded(made) == 0
        client.log_metric(made.info.run_id, "a", 1.0, timestamp=1234)
        client.log_metric(made.info.run_id, "b", 1.0, timestamp=1233)
        assert mlflow_private.last_recorded(client.get_run(made.info.run_id)) == 1234

    def test_the_parser_of_filters_gives_conditions_by_kind(self) -> None:
        text = "metrics.`a` > 1 and params.`b` = 'x' and tags.`c` LIKE 'y%' and run_id in ('z') and dataset.name = 'd'"
        conditions = mlflow_private.parse_filter(text)
        assert [(each["type"], each["key"], each["comparator"]) for each in conditions] == [
            ("metric", "a", ">"),
            ("parameter", "b", "="),
            ("tag", "c", "LIKE"),
            ("attribute", "run_id", "IN"),
            ("dataset", "name", "="),
        ]
        assert [each["value"] for each in conditions][1:3] == ["x", "y%"]
        assert list(conditions[3]["value"]) == ["z"]

    @pytest.mark.parametrize("text", ["params.`a` > '3'", "metrics.`a` LIKE 'b'", "dataset.name > 'a'", "run_id > 'a'"])
    def test_the_parser_checks_that_a_comparator_suits_what_it_compares(self, text: str) -> None:
        from mlflow.exceptions import MlflowException

        with pytest.raises(MlflowException):
            mlflow_private.parse_filter(text)

    def test_a_database_is_created_with_its_artifacts_where_we_want_them(self, tmp_path: Path) -> None:
        path = tmp_path / "new.db"
        mlflow_private.create_database(f"sqlite:///{path}", tmp_path / "artifacts")
        with closing(sqlite3.connect(path)) as connection:
            (place,) = connection.execute("SELECT artifact_location FROM experiments").fetchone()
        assert place == f"{tmp_path}/artifacts/0"
        assert mlflow_private.knows_schema(connections.schema_version(path))

    def test_the_folder_of_migrations_knows_its_own_schemas_only(self) -> None:
        assert mlflow_private.knows_schema("451aebb31d03")  # the first that MLflow ever had
        assert not mlflow_private.knows_schema("ffffffffffff")

    def test_the_loggers_that_are_silenced_are_mlflows(self) -> None:
        import importlib

        for name in mlflow_private.CHATTY_LOGGERS:
            assert importlib.import_module(name) is not None
            assert name in logging.Logger.manager.loggerDict

    def test_tables_have_the_columns_that_our_sql_names(self, empty_mlflow_store: Path) -> None:
        with closing(sqlite3.connect(empty_mlflow_store / places.DATABASE)) as connection:
            for table, columns in _COLUMNS.items():
                present = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                missing = columns - present
                assert not missing, f"MLflow {metadata.version('mlflow')} has no {', '.join(missing)} in table {table}"

    def test_every_table_that_our_sql_names_is_looked_at(self) -> None:
        source = "".join(inspect.getsource(each) for each in (connections, runs_of_database, places_of_files))
        assert {table for table in _COLUMNS if table in source} == _COLUMNS.keys()

    def test_views_are_kept_in_a_tag_that_the_ui_reads(self, mlflow_store: Path) -> None:
        import mlflow

        scripts = Path(mlflow.__file__).parent / "server" / "js" / "build" / "static" / "js"
        names = ("mlflow.sharedViewState", "viewStateShareKey")
        texts = (path.read_text(encoding="utf-8", errors="replace") for path in scripts.rglob("*.js"))
        unseen = set(names)
        for text in texts:
            unseen -= {name for name in unseen if name in text}
            if not unseen:
                break
        assert not unseen, f"the UI of MLflow {metadata.version('mlflow')} knows no {', '.join(unseen)}"
        tags = open_tracker(TrackingSettings(mlflow_store))
        assert "viewStateShareKey" in str(tags.ui_url())

    @pytest.mark.parametrize(
        ("name", "value"),
        [("PARSER", ("mlflow.utils.search_utils", "Gone")), ("PARSER", ("mlflow.gone", "SearchUtils"))],
    )
    def test_a_private_class_that_is_gone_is_named_with_mlflows_version(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: tuple[str, str]
    ) -> None:
        monkeypatch.setattr(mlflow_private, name, value)
        with pytest.raises(TrackingError) as caught:
            mlflow_private.parse_filter("metrics.a > 1")
        assert f"MLflow {metadata.version('mlflow')} has no {'.'.join(value)}" in caught.value.problem
        assert "pip install" in caught.value.remedy

    def test_a_private_method_or_folder_that_is_gone_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mlflow_private, "_PARSER_METHODS", ("parse_search_filter", "is_gone"))
        with pytest.raises(TrackingError) as caught:
            mlflow_private.parse_filter("metrics.a > 1")
        assert "has no mlflow.utils.search_utils.SearchUtils.is_gone," in caught.value.problem
        monkeypatch.setattr(mlflow_private, "MIGRATIONS", "store/gone")
        with pytest.raises(TrackingError) as caught:
            mlflow_private.knows_schema("451aebb31d03")
        assert "has no the folder" not in caught.value.problem
        assert "store/gone" in caught.value.problem
