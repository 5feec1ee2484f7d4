"""Runs on a server: their files on several machines, and servers that fail."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import pytest

from rnatracker.errors import TrackingError
from rnatracker.processes import identity
from rnatracker.tracking import store
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.mlflow_run import MlflowRun
from rnatracker.tracking.mlflow_tracker import MlflowTracker
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support.servers import start_server
from tests.support.trackers import begin


@pytest.fixture
def mlflow_tracker(mlflow_store: Path) -> MlflowTracker:
    tracker = open_tracker(TrackingSettings(mlflow_store))
    assert isinstance(tracker, MlflowTracker)
    return tracker


@pytest.fixture
def machine(mlflow_tracker: MlflowTracker, tmp_path: Path) -> Callable[[str, TrackedRun], MlflowRun]:
    """Look at a run from a machine of that name, to which the store's artifacts are remote."""

    def look(name: str, run: TrackedRun) -> MlflowRun:
        backend = replace(mlflow_tracker._backend, folder=tmp_path / name, is_remote=True)
        return MlflowRun(backend, backend.client.get_run(run.id))

    return look


Machine = Callable[[str, TrackedRun], MlflowRun]


class TestRemoteFiles:
    def test_folder_is_downloaded_again_when_another_machine_has_gone_on(
        self, mlflow_tracker: MlflowTracker, machine: Machine
    ) -> None:
        run = machine("a", begin(mlflow_tracker))
        run.make_folder()
        for content in ("1", "22"):
            (run.folder / "log.txt").write_text(content)
            run.publish(now=True)
            run.set_tags({identity.PID: "1"})
            assert (machine("b", run).folder / "log.txt").read_text() == content
        assert {path.name for path in machine("b", run).folder.parent.iterdir()} == {run.id, f"{run.id}.revision"}

    def test_folder_stays_when_it_is_ahead_of_the_server(self, mlflow_tracker: MlflowTracker, machine: Machine) -> None:
        run = machine("a", begin(mlflow_tracker))
        run.make_folder()
        (run.folder / "log.txt").write_text("published")
        run.publish()
        (run.folder / "log.txt").write_text("not yet published")
        run.set_tags({identity.PID: "1"})
        assert (machine("a", run).folder / "log.txt").read_text() == "not yet published"

    def test_folder_stays_when_this_process_runs_the_run(self, mlflow_tracker: MlflowTracker, machine: Machine) -> None:
        run = machine("a", begin(mlflow_tracker))
        run.make_folder()
        (run.folder / "log.txt").write_text("mine")
        run.set_tags({"rnatracker.revision": "of another"})
        assert (machine("a", run).folder / "log.txt").read_text() == "mine"

    def test_folder_is_looked_for_again_when_there_were_no_files(
        self, mlflow_tracker: MlflowTracker, machine: Machine
    ) -> None:
        run = machine("a", begin(mlflow_tracker))
        run.make_folder()
        far = machine("b", run)
        assert list(far.folder.iterdir()) == []
        (run.folder / "log.txt").write_text("1")
        run.publish()
        assert [path.name for path in far.folder.iterdir()] == ["log.txt"]

    def test_publish_waits_a_minute_unless_told_and_finish_sends_all(
        self, mlflow_tracker: MlflowTracker, machine: Machine
    ) -> None:
        run = machine("a", begin(mlflow_tracker))
        run.make_folder()
        seen = []
        for name, publish in {
            "first": run.publish,
            "second": run.publish,
            "third": lambda: run.publish(now=True),
            "fourth": lambda: run.finish("FINISHED"),
        }.items():
            (run.folder / name).write_text(name)
            publish()
            seen.append(len(mlflow_tracker._backend.client.list_artifacts(run.id)))
        assert seen == [1, 1, 3, 4]

    def test_publish_sets_no_revision_when_nothing_has_changed(
        self, mlflow_tracker: MlflowTracker, machine: Machine
    ) -> None:
        run = machine("a", begin(mlflow_tracker))
        run.make_folder()
        run.publish(now=True)
        assert "rnatracker.revision" not in run.tags()
        (run.folder / "log.txt").write_text("1")
        run.publish(now=True)
        revision = run.tags()["rnatracker.revision"]
        run.publish(now=True)
        assert run.tags()["rnatracker.revision"] == revision


class TestServer:
    def test_finish_waits_once_when_the_server_hangs(
        self, mlflow_tracker: MlflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mlflow import MlflowClient

        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setattr(store, "_REACH_SECONDS", 1.0)
        near = begin(mlflow_tracker)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            uri = f"http://user:secret@127.0.0.1:{silent.getsockname()[1]}"
            client = MlflowClient(uri, uri)
            backend = replace(mlflow_tracker._backend, client=client, uri=uri, folder=tmp_path / "a", is_remote=True)
            run = MlflowRun(backend, mlflow_tracker._backend.client.get_run(near.id))
            run.make_folder()
            (run.folder / "log.txt").write_text("1")
            run.log_metrics({"a": 1.0}, 1)
            for expected in ("ending exp1 failed", "can't be reached"):
                begun = time.monotonic()
                with pytest.raises(TrackingError) as caught:
                    run.finish("FINISHED", "why")
                assert expected in caught.value.problem
                assert "; 1 metric value is not recorded; " in caught.value.problem
                assert time.monotonic() - begun < 2.5
                assert "secret" not in str(caught.value)
            run.describe("note")

    @pytest.mark.parametrize(
        ("uri", "package"),
        [("postgresql+pg8000://u:secret@127.0.0.1/x", "pg8000"), ("mysql://u:secret@127.0.0.1/x", "mysqlclient")],
    )
    def test_open_says_what_to_install_when_a_driver_is_missing(self, tmp_path: Path, uri: str, package: str) -> None:
        with pytest.raises(TrackingError) as caught:
            open_tracker(TrackingSettings(tmp_path, uri))
        assert "***@127.0.0.1/x: " in caught.value.problem
        assert caught.value.remedy == f"install it with: pip install {package}"
        assert "secret" not in str(caught.value)

    def test_no_message_has_the_password_when_an_address_has_one(self, tmp_path: Path) -> None:
        with pytest.raises(TrackingError) as caught:
            open_tracker(TrackingSettings(tmp_path, "http://user:sec@ret@127.0.0.1:9"))
        assert "http://***@127.0.0.1:9 can't be reached" in caught.value.problem
        assert "ret@" not in str(caught.value)

    def test_open_says_so_at_once_when_nothing_listens(self, tmp_path: Path) -> None:
        begun = time.monotonic()
        with pytest.raises(TrackingError) as caught:
            open_tracker(TrackingSettings(tmp_path, "http://127.0.0.1:9"))
        assert "http://127.0.0.1:9 can't be reached" in caught.value.problem
        assert "--no-track" in caught.value.remedy
        assert time.monotonic() - begun < 10

    @pytest.mark.parametrize(("version", "is_refused"), [("2.9.1", True), (metadata.version("mlflow"), False)])
    def test_open_says_so_when_a_server_has_another_mlflow(self, version: str, is_refused: bool) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(version.encode())

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            settings = TrackingSettings(Path("nowhere"), f"http://127.0.0.1:{server.server_port}")
            refusal = pytest.raises(TrackingError, match="has MLflow 2.9.1, and this host")
            with refusal if is_refused else nullcontext():
                assert store.reach(settings).database is None
            server.shutdown()

    @pytest.mark.slow
    def test_open_says_so_within_ten_seconds_when_a_server_never_answers(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            begun = time.monotonic()
            with pytest.raises(TrackingError, match="can't be reached"):
                open_tracker(TrackingSettings(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}"))
            assert time.monotonic() - begun < 10

    @pytest.mark.slow
    def test_run_outlives_its_server_when_that_dies(
        self, mlflow_store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        uri = f"http://127.0.0.1:{port}"
        with start_server(mlflow_store, tmp_path / "served", port) as server:
            try:
                tracker = open_tracker(TrackingSettings(tmp_path / "mine", uri))
                run = begin(tracker, "far", params={"a": 1})
                (run.folder / "checkpoints").mkdir()
                (run.folder / "checkpoints" / "last.pt").write_bytes(b"weights")
                run.log_metrics({"train/loss": 1.0}, 1)
                run.flush()
                run.publish()
                # From another machine, with nothing of it there.
                far = open_tracker(TrackingSettings(tmp_path / "other", uri)).find("exp1")
                assert (far.folder / "checkpoints" / "last.pt").read_bytes() == b"weights"
                assert far.metrics() == {"train/loss": 1.0}
                assert (tracker.ui_command(), tracker.ui_url()) == (
                    None,
                    f"{uri}/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=rnatracker",
                )
            finally:
                os.killpg(server.pid, signal.SIGKILL)
        with caplog.at_level(logging.WARNING, "rnatracker"):
            for step in range(2, 5):
                run.log_metrics({"train/loss": 1.0}, step)
                run.flush()
        assert len([each for each in caplog.records if each.name == "rnatracker"]) == 1
        with pytest.raises(TrackingError) as caught:
            run.finish("FINISHED")
        assert "; 3 metric values are not recorded; " in caught.value.problem
        assert caught.value.problem.endswith(f" lies in {run.folder}")
