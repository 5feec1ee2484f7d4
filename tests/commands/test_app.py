"""The command line as its users meet it: what it prints, where, and how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner, Result

from rnatracker.app import app
from rnatracker.commands.ui import _free_port
from rnatracker.terminal import options, output, progress
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support import paths
from tests.support.toys import SMALL, toy_transcripts, write_table
from tests.support.waiting import wait_until

_SHARED = paths.SHARED
_SETS = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]


ROOT = paths.ROOT


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_table(toy_transcripts(40), tmp_path / "toy.tsv"))


def test_train_prints_the_table_on_stdout_and_progress_on_stderr(data: str, mlflow_store: Path) -> None:
    result = _run("train", "--data", data, *_SETS, "--store", str(mlflow_store))
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Validation PCC of exp1, epoch ")
    first_words = [line.split()[0] for line in lines if line.startswith("  ") and line.strip()]
    assert [word for word in first_words if word.isalpha()] == ["site", "Nucleus", "Cytosol", "ERM", "mean", "overall"]
    assert lines[-1] == f"Next: rnatracker evaluate exp1 --store {mlflow_store} --data FILE"
    assert "epoch 3/3  loss" in result.stderr
    assert "optimistic" in result.stderr


@pytest.mark.parametrize(
    ("long", "value"),
    [("max_length", "50"), ("batch_size", "5"), ("log_name", "x"), pytest.param("fold", "2", marks=pytest.mark.slow)],
)
def test_options_work_with_underscores_and_with_dashes(long: str, value: str, data: str, tmp_path: Path) -> None:
    for number, option in enumerate((f"--{long}", f"--{long.replace('_', '-')}")):
        store = tmp_path / f"store{number}"
        # --set comes last and wins, so what is tested is left out of it.
        sets = [part for key, v in SMALL.items() if key.split(".")[1] != long for part in ("--set", f"{key}={v}")]
        result = _run("train", "--data", data, *sets, option, value, "--no-track", "--store", str(store), "--json")
        assert result.exit_code == 0, result.stderr
        content = json.loads(result.stdout)
        settings = Path(content["folder"], "config.yaml").read_text()
        assert f"{long}: {value}" in settings or content["name"] == "exp1_x"


def test_json_is_one_object_with_the_promised_keys(data: str, mlflow_store: Path) -> None:
    result = _run("train", "--data", data, *_SETS, "--store", str(mlflow_store), "--json", "--fold", "2")
    content = json.loads(result.stdout)
    assert {"run_id", "state", "best_epoch", "metrics"} <= content.keys()
    assert content["state"] == "FINISHED"
    found = open_tracker(TrackingSettings(mlflow_store)).find(content["run_id"])
    assert found.metrics()["oof/pcc_mean"] == pytest.approx(content["metrics"]["oof/pcc_mean"])
    assert len(content["folds"]) == 2


def test_json_of_a_failed_run_says_so(data: str, mlflow_store: Path) -> None:
    result = _run("train", "--data", data, *_SETS, "--store", str(mlflow_store), "--json", "--set", "train.lr=1e36")
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert (content["state"], content["best_epoch"]) == ("FAILED", None)
    assert "loss is" in content["error"]
    assert open_tracker(TrackingSettings(mlflow_store)).find(content["run_id"]).status() == "FAILED"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 2, "Error: data.path: no data to train on; give a file with --data"),
        (["train", "--data", "x.fa", "--set", "train.learning_rate=1"], 2, "did you mean train."),
        (["train", "--data", "x.fa", "--config", "papre"], 1, "the shipped configs are default, paper, port, v1"),
        (["train", "--data", "x.fa", "--epochs", "0"], 2, "command line: train.epochs: input should be greater"),
        (["train", "--data", "x.fa", "--no-masked", "--full-length"], 2, "needs model.masked: true"),
        (["train", "--data", "x.fa", "--no-track"], 1, "x.fa"),
        (["train", "--epocs", "3"], 2, "No such option"),
        (["train", "--keep", "middle"], 2, "middle"),
        (["train", "--resume", "exp9", "--lr", "1"], 2, "so train.lr can't be given"),
        (["train", "--data", "x.fa", "--weights", "none.pt"], 1, "none.pt: no such file of weights"),
        (["evaluate", "exp1"], 2, "--data: no data to measure on"),
        (["evaluate", "--data", "x.fa"], 2, "give either a run or --weights FILE"),
        (["import", "nowhere"], 1, "nowhere"),
        (["trian"], 2, "No such command"),
    ],
)
def test_wrong_input_is_one_clear_error(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    result = _run(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "nosuch.fa"],
        ["evaluate", "exp1", "--data", "nosuch.fa"],
        ["compare", "exp1", "exp2", "--data", "nosuch.fa"],
        ["promote", "exp1", "--data", "nosuch.fa"],
    ],
)
def test_missing_file_is_said_before_models_and_runs_are_looked_for(arguments: list[str], mlflow_store: Path) -> None:
    result = _run(*arguments, "--store", str(mlflow_store))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: nosuch.fa: no such file")


@pytest.mark.parametrize("arguments", [["--help"], ["data", "inspect", "{data}"], ["models", "--store", "{store}"]])
def test_reader_that_leaves_ends_a_command_quietly(arguments: list[str], data: str, mlflow_store: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [word.format(data=data, store=mlflow_store) for word in arguments]
    command = [sys.executable, "-m", "rnatracker", *words]
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(writing)
    assert result.returncode == 0 or arguments == ["--help"]
    assert b"Traceback" not in result.stderr and b"Broken pipe" not in result.stderr


_SHARED_OPTIONS = (
    "--labels", "--device", "--config", "--set", "--epochs", "--fold", "--objective", "--jobs", "--store",
    "--tracking-uri", "--experiment", "--no-track", "--storage", "--name",
)  # fmt: skip


def _help_of(option: str) -> set[str]:
    """Return what the help of an option says, over all commands that have it."""
    said = set()
    for command in get_command(app).commands.values():  # type: ignore[attr-defined]
        for each in (command, *getattr(command, "commands", {}).values()):
            said |= {parameter.help for parameter in each.params if option in parameter.opts}
    return said


@pytest.mark.parametrize("option", _SHARED_OPTIONS)
def test_shared_option_says_the_same_in_every_command(option: str) -> None:
    assert len(_help_of(option)) == 1


def test_names_of_sites_are_stripped() -> None:
    assert options.site_names("a, b c ,d") == ["a", "b c", "d"]
    assert options.site_names(None) is None


def test_number_and_noun_agree() -> None:
    assert [output.amount(count, "seed") for count in (0, 1, 1200)] == ["0 seeds", "1 seed", "1,200 seeds"]


def test_bars_are_drawn_on_a_terminal_and_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = io.StringIO()
    monkeypatch.setattr(progress, "is_live", lambda: True)
    monkeypatch.setattr(progress, "console", lambda: Console(file=drawn, force_terminal=True, width=100))
    with progress.counted("predicting", "transcripts") as update:
        update(3, 1.0)
    with progress.progress("measuring") as on_batch:
        assert on_batch is not None
        on_batch(1, 2)
    with progress.download("a file") as on_bytes:
        assert on_bytes is not None
        on_bytes(1_000_000, None)
    text = drawn.getvalue()
    for fact in ("predicting", "100%", "3 transcripts", "measuring", "50%", "a file", "1.0"):
        assert fact in text
    assert text.count("\x1b[2K") >= 3, "each bar's line is cleared"


def test_nothing_is_drawn_where_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "is_live", lambda: False)
    with progress.progress("measuring") as on_batch, progress.download("a file") as on_bytes:
        assert (on_batch, on_bytes) == (None, None)


def test_unreachable_server_is_said_within_ten_seconds(data: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    started = time.monotonic()
    result = _run("train", "--data", data, *_SETS, "--tracking-uri", f"http://127.0.0.1:{port}")
    assert result.exit_code == 1
    assert str(port) in result.stderr
    assert time.monotonic() - started < 10


def test_evaluate_writes_predicted_then_measured_fractions(data: str, mlflow_store: Path, tmp_path: Path) -> None:
    _run("train", "--data", data, *_SETS, "--store", str(mlflow_store))
    out = tmp_path / "out.tsv"
    result = _run(
        "evaluate", "exp1", "--data", data, "--store", str(mlflow_store), "--out", str(out), "--resamples", "20"
    )
    assert result.exit_code == 0, result.stderr
    header, first, *rest = out.read_text().splitlines()
    sites = ["Nucleus", "Cytosol", "ERM"]
    assert header.split("\t") == ["id", *sites, *(f"measured_{site}" for site in sites)]
    assert first.split("\t")[0] == "t0"
    assert len(rest) == 39
    assert "remembers" in result.stderr
    assert "95 % interval" in result.stdout


def test_evaluate_json_holds_every_score(data: str, mlflow_store: Path) -> None:
    weights = _run("train", "--data", data, *_SETS, "--store", str(mlflow_store), "--json", "--no-track")
    best = Path(json.loads(weights.stdout)["folder"], "checkpoints", "best.pt")
    result = _run("evaluate", "--weights", str(best), "--data", data, "--json", "--resamples", "20")
    scores = json.loads(result.stdout)["scores"]
    assert {(s["measure"], s["site"]) for s in scores} == {
        (measure, site)
        for measure in ("pcc", "spearman", "mse")
        for site in ("Nucleus", "Cytosol", "ERM", "mean", "overall")
    }


def test_training_from_the_ports_weights_takes_its_settings(data: str, tmp_path: Path) -> None:
    from tests.support.toys import ports_file

    ports_file(tmp_path / "epoch7.pt")
    result = _run(
        "train", "--data", data, "--weights", str(tmp_path / "epoch7.pt"), "--no-track", "--store", str(tmp_path)
    )
    # It predicts four sites and the data have three: every other setting fitted.
    assert result.exit_code == 1
    assert "trained with sites Cytosol,Insoluble,Membrane,Nuclear, but Nucleus,Cytosol,ERM" in result.stderr


def test_ui_takes_no_port_that_browsers_refuse() -> None:
    assert _free_port(5060) > 5061


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ui_answers_and_ends_with_its_server_when_told_to(number: signal.Signals, mlflow_store: Path) -> None:
    open_tracker(TrackingSettings(mlflow_store))
    command = [sys.executable, str(ROOT / "cli.py"), "ui", "--store", str(mlflow_store), "--port", "5177"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().split()[1]
    base = address.split("/#")[0]
    with urllib.request.urlopen(f"{base}/health", timeout=20) as response:
        assert response.status == 200
    process.send_signal(number)
    process.communicate(timeout=60)  # until the server has closed the pipes that it shares with the command
    assert process.returncode == (-number if number == signal.SIGKILL else 0)
    port = int(base.rsplit(":", 1)[1])  # killed outright, its server sees that by itself, a moment later
    assert wait_until(lambda: not _answers(port), "the server has ended")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.shared
@pytest.mark.skipif(not _SHARED.exists(), reason="needs ../shared")
def test_ports_weights_predict_what_the_port_predicts(tmp_path: Path) -> None:
    weights = _SHARED / "seed" / "logs" / "exp0" / "weights" / "epoch50.pt"
    expected = [line.split("\t") for line in (_SHARED / "seed" / "expected_epoch50.tsv").read_text().splitlines()]
    some = tmp_path / "some.fa"
    with (_SHARED / "data" / "apexseq.fa").open() as file:
        some.write_text("".join(file.readline() for _ in range(3 * (len(expected) - 1))))
    out = tmp_path / "out.tsv"
    result = _run("evaluate", "--weights", str(weights), "--data", str(some), "--out", str(out), "--resamples", "0")
    assert result.exit_code == 0, result.stderr
    found = [line.split("\t") for line in out.read_text().splitlines()]
    assert found[0][:5] == expected[0]
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert ours[0] == theirs[0]
        assert [float(x) for x in ours[1:5]] == pytest.approx([float(x) for x in theirs[1:]], abs=1e-5)


def _environment() -> dict[str, Any]:
    return {name: value for name, value in os.environ.items() if not name.startswith("_")}


def test_completion_script_is_shown() -> None:
    environment = _environment() | {"_RNATRACKER_COMPLETE": "source_bash"}
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv = ['rnatracker']; from rnatracker.app import app; app(prog_name='rnatracker')",
    ]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert "complete" in result.stdout
    assert "rnatracker" in result.stdout
