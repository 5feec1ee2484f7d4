"""The model as MLflow loads and serves it: the same figures everywhere, and nothing that isn't what was registered."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.data.transcripts import Transcripts
from rnatracker.evaluation.weights import checksums_of
from rnatracker.prediction.predictor import Predictor
from rnatracker.prediction.table import prediction_frame
from rnatracker.registry.comparison import PromotionRequest
from rnatracker.registry.promotion import promote
from rnatracker.registry.registry import Registry
from rnatracker.registry.resolve import resolve
from rnatracker.tracking import store
from rnatracker.tracking.settings import TrackingSettings
from tests.support.candidates import finished_run, training_data
from tests.support.serving import environment, free_port, post, serving
from tests.support.toys import SITES, toy_transcripts

_COLUMNS = [*SITES, *(f"{site}_sd" for site in SITES), "most_likely"]


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute with one thread, and with pickle switched off."""
    store.quiet_mlflow()
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tracking(mlflow_store: Path, tmp_path: Path) -> TrackingSettings:
    """A store with a champion: the mean of three folds' models."""
    tracking = TrackingSettings(mlflow_store)
    promote(PromotionRequest(finished_run(tracking, training_data(tmp_path), 1, 2, 3).id, tracking))
    return tracking


@pytest.fixture
def address(tracking: TrackingSettings) -> Iterator[str]:
    """The champion's address for MLflow, whose functions look for it in a global store."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(f"sqlite:///{tracking.store}/mlflow.db")
    yield "models:/rnatracker@champion"
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    assert os.environ.get("MLFLOW_TRACKING_URI") == before


def _folder(tracking: TrackingSettings) -> Path:
    registry = Registry(tracking)
    return registry.folder(registry.named("champion"))


def _letters(transcripts: Transcripts) -> list[str]:
    return [transcripts.sequence(i) for i in range(len(transcripts))]


def _expected(tracking: TrackingSettings, transcripts: Transcripts) -> pd.DataFrame:
    return prediction_frame(Predictor(resolve("champion", tracking).members, torch.device("cpu")), transcripts)


def _same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(found.columns) == _COLUMNS == list(expected.columns)
    figures = _COLUMNS[:-1]
    assert found[figures].to_numpy(float) == pytest.approx(expected[figures].to_numpy(float), abs=1e-6)
    assert list(found["most_likely"]) == list(expected["most_likely"])
    assert np.ptp(expected["Nucleus"]) > 0.01  # figures that say something


def test_pyfunc_gives_our_figures_without_pickle(tracking: TrackingSettings, address: str) -> None:
    import mlflow

    transcripts = toy_transcripts(30, seed=3)
    model = mlflow.pyfunc.load_model(address)
    frame = pd.DataFrame({"id": transcripts.ids, "sequence": [each.lower() for each in _letters(transcripts)]})
    _same(model.predict(frame), _expected(tracking, transcripts))
    assert not list(_folder(tracking).rglob("*.pkl"))


def test_model_states_its_signature_example_requirements_and_checksums(tracking: TrackingSettings) -> None:
    from mlflow.models import Model

    folder = _folder(tracking)
    about = Model.load(str(folder))
    assert about.signature is not None
    assert about.signature.inputs.input_names() == ["sequence"]
    assert about.signature.outputs.input_names() == _COLUMNS
    example = json.loads((folder / "serving_input_example.json").read_text())
    assert example["dataframe_split"]["columns"] == ["sequence"]
    assert "rnatracker==" in (folder / "requirements.txt").read_text()
    weights = checksums_of(folder / "artifacts" / "weights")
    assert about.metadata is not None and about.metadata["rnatracker"]["weights_sha256"] == weights
    assert Registry(tracking).version(1).checksums == weights


def test_pyfunc_refuses_weights_that_are_not_what_was_registered(tracking: TrackingSettings, address: str) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    file = _folder(tracking) / "artifacts" / "weights" / "model2.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(MlflowException, match=r"model2.pt are not what was registered \(SHA-256"):
        mlflow.pyfunc.load_model(address)


def _ask(folder: Path, body: str, content_type: str = "application/json") -> Any:
    """Ask as MLflow's server does, without the server."""
    import mlflow
    from mlflow.pyfunc import scoring_server

    model = mlflow.pyfunc.load_model(str(folder))
    return scoring_server.invocations(body, content_type, model, model.metadata.get_input_schema())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"dataframe_records": [{"sequence": "ACGU"}, {"sequence": "ACXT"}]}', "record 2: .* got 'X' at position 3"),
        ('{"dataframe_records": [{"sequence": ""}]}', "record 1: expected a sequence, got nothing"),
        ('{"dataframe_records": [{"sequence": null}]}', "record 1: expected a sequence as text, got None"),
        ('{"dataframe_records": [{"sequence": 7}]}', "expected a sequence as text, got 7"),
        ('{"dataframe_records": [{"seq": "ACGU"}]}', "Model is missing inputs .'sequence'."),
        ('{"dataframe_records": []}', "Model is missing inputs"),
        ('{"records": []}', "must be provided|must be a JSON|one of"),
        ("rubbish", "valid JSON"),
    ],
)
def test_bad_request_is_400_and_says_what_is_wrong(body: str, words: str, tracking: TrackingSettings) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=words) as raised:
        _ask(_folder(tracking), body)
    assert raised.value.get_http_status_code() == 400


def test_serve_says_that_its_port_is_taken_before_it_starts_anything(tracking: TrackingSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["serve", "--port", str(port), "--store", str(tracking.store)])
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: --port {port}: can't be used on 127.0.0.1 (Address already in use); end the program that uses it, or "
        f"use another, as in --port {port + 1}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "challenger"), "has no challenger"),
        (("--model", "9"), "has no version 9"),
        (("--model", "exp1"), "only registered models are served"),
        (("--host", "nowhere.invalid"), "--host nowhere.invalid: no such address"),
        (
            ("--name", "other"),
            "Model 'other' has no champion; choose one with: rnatracker promote RUN_ID --name other --store {store}",
        ),
    ],
)
def test_serve_refuses_what_it_cannot_serve(arguments: tuple[str, ...], words: str, tracking: TrackingSettings) -> None:
    result = CliRunner().invoke(app, ["serve", "--port", str(free_port()), "--store", str(tracking.store), *arguments])
    assert result.exit_code == (2 if "exp1" in arguments else 1)
    assert words.format(store=tracking.store) in result.stderr


def test_serve_refuses_weights_that_are_not_what_was_registered(tracking: TrackingSettings) -> None:
    (_folder(tracking) / "artifacts" / "weights" / "model3.pt").write_bytes(b"")
    result = CliRunner().invoke(app, ["serve", "--port", str(free_port()), "--store", str(tracking.store)])
    assert result.exit_code == 1
    assert "model3.pt are not what was registered" in result.stderr
    assert "Serving" not in result.stdout


def _served(tracking: TrackingSettings, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Any, Any]:
    """Return how `serve` ended and what it would have served with."""
    found: list[Any] = []
    monkeypatch.setattr("rnatracker.registry.server.serve", lambda predictor, *_, **__: found.append(predictor))
    command = ["serve", "--port", str(free_port()), "--store", str(tracking.store), *arguments]
    return CliRunner().invoke(app, command), found[0] if found else None


def test_serve_runs_no_code_of_the_models_folder(
    tracking: TrackingSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever can write that folder can write what MLflow would run or unpickle; the weights alone are ours."""
    folder, mark = _folder(tracking), tmp_path / "mark"
    transcripts = toy_transcripts(10, seed=3)
    expected = _expected(tracking, transcripts)
    code = f"open({str(mark)!r}, 'w')\nraise SystemExit('foreign code')\n"
    (folder / "served.py").write_text(code)
    (folder / "MLmodel").write_text("flavors: {python_function: {loader_module: served, python_version: 3.11}}\n")
    (folder / "python_model.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    result, predictor = _served(tracking, monkeypatch)
    assert result.exit_code == 0, result.output
    _same(prediction_frame(predictor, transcripts), expected)
    _same(_expected(tracking, transcripts), expected)  # as predict and evaluate load it
    assert not mark.exists()


def test_model_that_is_not_ours_is_refused_with_nothing_of_it_loaded(
    tracking: TrackingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Registry(tracking).set_tags(1, {"rnatracker.weights_sha256": ""})
    result, predictor = _served(tracking, monkeypatch)
    assert (result.exit_code, predictor) == (1, None)
    assert "no checksums of its weights are recorded, so nothing of it is loaded" in result.stderr


def test_limit_of_a_body_is_given_in_megabytes(tracking: TrackingSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr("rnatracker.registry.server.serve", lambda *_, **options: told.update(options))
    command = ["serve", "--port", str(free_port()), "--store", str(tracking.store), "--max-body", "0.5"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert told == {"host": "127.0.0.1", "max_body": 500_000}


@pytest.mark.parametrize("given", ["true", ""])
def test_no_process_of_ours_unpickles_whatever_its_user_has_set(given: str) -> None:
    script = (
        "import os, subprocess, sys; import rnatracker.app; "
        "print(subprocess.run([sys.executable, '-c', "
        "'from mlflow.environment_variables import MLFLOW_ALLOW_PICKLE_DESERIALIZATION as v; print(v.get())'], "
        "capture_output=True, text=True).stdout)"
    )
    variables = environment() | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": given}
    result = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.slow
def test_command_line_http_pyfunc_and_mlflow_give_the_same_figures(
    tracking: TrackingSettings, address: str, tmp_path: Path
) -> None:
    import mlflow

    transcripts = toy_transcripts(30, seed=3)
    expected = _expected(tracking, transcripts)
    letters = pd.DataFrame({"sequence": _letters(transcripts)})
    _same(mlflow.pyfunc.load_model(address).predict(letters), expected)

    fasta = tmp_path / "some.fa"
    fasta.write_text(
        "".join(f">{i}\n{sequence}\n" for i, sequence in zip(transcripts.ids, letters["sequence"], strict=True))
    )
    arguments = ["predict", str(fasta), "--out", str(tmp_path / "out.tsv"), "--store", str(tracking.store)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    table = pd.read_csv(tmp_path / "out.tsv", sep="\t")
    assert list(table["id"]) == list(transcripts.ids)
    _same(table.drop(columns="id"), expected)

    letters.to_csv(tmp_path / "in.csv", index=False)
    variables = environment()
    command = [
        sys.executable, "-m", "mlflow", "models", "predict", "-m", address, "-i", str(tmp_path / "in.csv"), "-t", "csv",
        "--env-manager", "local", "-o", str(tmp_path / "out.json"),
    ]  # fmt: skip
    subprocess.run(command, env=variables, check=True, capture_output=True, timeout=120)
    _same(pd.DataFrame(json.loads((tmp_path / "out.json").read_text())["predictions"]), expected)

    port = free_port()
    with serving(tracking.store, port, variables) as (server, lines):
        base = f"http://127.0.0.1:{port}"
        assert lines[0] == f"Serving rnatracker version 1 (run exp1) at {base}; end with Ctrl-C"
        status, answer = post(base, json.dumps({"dataframe_records": letters.to_dict("records")}))
        assert status == 200
        _same(pd.DataFrame(answer["predictions"]), expected)
        status, answer = post(base, '{"dataframe_records": [{"sequence": "ACXT"}]}')
        assert status == 400 and "got 'X' at position 3" in answer["message"]
        with urllib.request.urlopen(f"{base}/ping", timeout=10) as alive:
            assert alive.status == 200
        server.send_signal(signal.SIGINT)
        _, err = server.communicate(timeout=30)
        assert server.returncode == 0
        assert lines[1].startswith(f"Try: curl {base}/invocations -H 'Content-Type: application/json' -d '")
        assert err == "loading rnatracker version 1, a few seconds ...\nstopped\n"


@pytest.mark.slow
def test_mlflow_serves_the_champion(tracking: TrackingSettings, address: str) -> None:
    """With MLflow's own command, as its users start it."""
    port = free_port()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow looks for uvicorn there
    variables = environment() | {"PATH": path}
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "-m", address, "-p", str(port), "--env-manager", "local"
    ]  # fmt: skip
    server = subprocess.Popen(
        command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        transcripts = toy_transcripts(5, seed=3)
        body = json.dumps({"dataframe_records": [{"sequence": each} for each in _letters(transcripts)]})
        status, answer = _when_ready(server, f"http://127.0.0.1:{port}", body)
        assert status == 200
        _same(pd.DataFrame(answer["predictions"]), _expected(tracking, transcripts))
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def _when_ready(server: subprocess.Popen[bytes], base: str, body: str) -> tuple[int, Any]:
    until = time.monotonic() + 90
    while True:
        try:
            return post(base, body)
        except urllib.error.URLError:
            if time.monotonic() > until or server.poll() is not None:
                raise
            time.sleep(0.3)
