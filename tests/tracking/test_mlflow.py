"""What is true of one tracker only: the limits of MLflow, and what a kill leaves of a plain folder."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from rnatracker.errors import TrackingError
from rnatracker.tracking.contract import DatasetInput
from rnatracker.tracking.mlflow_tracker import MlflowTracker
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support.trackers import begin


@pytest.fixture
def mlflow_tracker(mlflow_store: Path) -> MlflowTracker:
    tracker = open_tracker(TrackingSettings(mlflow_store))
    assert isinstance(tracker, MlflowTracker)
    return tracker


class TestMlflow:
    def test_long_values_are_cut_and_say_so(self, mlflow_tracker: MlflowTracker) -> None:
        run = begin(mlflow_tracker, params={"long": "x" * 7000}, tags={"long": "y" * 9000})
        assert len(run.params()["long"]) == 6000
        assert run.params()["long"].endswith("x ... [cut, 7000 characters]")
        assert len(run.tags()["long"]) == 8000
        assert run.tags()["long"].endswith("y ... [cut, 9000 characters]")

    def test_more_than_a_hundred_parameters_are_recorded(self, mlflow_tracker: MlflowTracker) -> None:
        params = {f"p{i}": i for i in range(250)}
        assert len(begin(mlflow_tracker, params=params).params()) == 250

    def test_dataset_is_an_input(self, mlflow_tracker: MlflowTracker) -> None:
        run = begin(mlflow_tracker, dataset=DatasetInput("apex.fa", "0" * 32, "/data/apex.fa", 1629))
        [found] = mlflow_tracker._backend.client.get_run(run.id).inputs.dataset_inputs
        assert (found.dataset.name, found.dataset.digest, found.dataset.profile) == (
            "apex.fa",
            "0" * 32,
            '{"num_rows": 1629}',
        )
        assert [(tag.key, tag.value) for tag in found.tags] == [("mlflow.data.context", "training")]

    def test_newer_figures_count_when_the_clock_was_set_back(
        self, mlflow_tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = begin(mlflow_tracker)
        run.log_metrics({"trials/complete": 3.0, "val/loss": 0.5}, 0)
        run.flush()
        clock = time.time() - 3600
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: clock)
            for value in (2.0, 1.0):  # in one millisecond, and less than before
                run.log_metrics({"trials/complete": value}, 0)
            assert run.metrics() == {"trials/complete": 1.0, "val/loss": 0.5}
            other = mlflow_tracker.find(run.id)  # as another process, or a resumed one
            other.log_metrics({"trials/complete": 0.5}, 0)
            assert other.metrics()["trials/complete"] == 0.5
            assert other.history("trials/complete") == {0: 0.5}
            assert mlflow_tracker.list_runs().runs[0].run_id == run.id

    def test_reopen_takes_the_end_time_away(self, mlflow_tracker: MlflowTracker) -> None:
        run = begin(mlflow_tracker)
        run.finish("KILLED")
        client = mlflow_tracker._backend.client
        assert client.get_run(run.id).info.end_time > 0
        run.reopen()
        assert client.get_run(run.id).info.end_time is None

    def test_start_leaves_no_run_running_when_its_parameters_fail(self, mlflow_tracker: MlflowTracker) -> None:
        with pytest.raises(TrackingError, match="recording the parameters of exp1 failed"):
            begin(mlflow_tracker, params={"not'admitted": 1})
        assert mlflow_tracker.find("exp1").status() == "FAILED"

    @pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (ZeroDivisionError, "FAILED")])
    def test_start_leaves_no_run_running_when_anything_stops_it(
        self, mlflow_tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], status: str
    ) -> None:
        def stop(*_: object) -> None:
            raise error

        monkeypatch.setattr(MlflowTracker, "_record", stop)
        with pytest.raises(error):
            begin(mlflow_tracker)
        assert mlflow_tracker.find("exp1").status() == status

    def test_describe_warns_when_the_store_fails(
        self, mlflow_tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        from mlflow.exceptions import MlflowException

        def fail(*_: object, **__: object) -> None:
            raise MlflowException("no")

        run = begin(mlflow_tracker)
        monkeypatch.setattr(mlflow_tracker._backend.client, "log_batch", fail)
        with caplog.at_level(logging.WARNING, "rnatracker"):
            run.describe("note")
        assert "tagging exp1 failed: no" in caplog.text

    def test_description_shows_the_pictures_where_the_ui_serves_them(self, mlflow_tracker: MlflowTracker) -> None:
        run = begin(mlflow_tracker, "seen")
        (run.folder / "plots").mkdir()
        (run.folder / "plots" / "curve.png").write_bytes(b"picture")
        run.describe("Best of all.")
        note = run.tags()["mlflow.note.content"]
        assert note == f"Best of all.\n\n![curve.png](get-artifact?path=plots%2Fcurve.png&run_uuid={run.id})"

    def test_ui_command_names_store_and_port(self, mlflow_tracker: MlflowTracker, mlflow_store: Path) -> None:
        command = mlflow_tracker.ui_command(5001)
        assert command is not None
        assert command.startswith("MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true ")
        assert f"server -w 1 --backend-store-uri sqlite:///{mlflow_store}/mlflow.db" in command
        assert command.endswith("--host 127.0.0.1 --port 5001")
        assert mlflow_tracker.ui_url(5001) == (
            "http://127.0.0.1:5001/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=rnatracker"
        )


class TestFolders:
    def test_untracked_run_is_refused_when_its_record_is_damaged(self, tmp_path: Path) -> None:
        tracker = open_tracker(TrackingSettings(tmp_path, enabled=False))
        run = begin(tracker)
        (run.folder / "run.json").write_text('{"id": ')
        with pytest.raises(TrackingError, match=r"run.json: not the record of a run"):
            tracker.find(str(run.folder))

    def test_untracked_metrics_are_read_when_a_kill_has_torn_the_last_line(self, tmp_path: Path) -> None:
        tracker = open_tracker(TrackingSettings(tmp_path, enabled=False))
        run = begin(tracker)
        run.log_metrics({"a": 1.0}, 1)
        with (run.folder / "metrics.jsonl").open("a") as file:
            file.write('{"step": 2, "met')
        again = tracker.find("exp1")
        assert again.logged_steps("a") == {1}
        again.log_metrics({"a": 3.0}, 3)
        assert tracker.find("exp1").logged_steps("a") == {1, 3}
