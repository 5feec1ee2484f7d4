"""`rnatracker predict` as its users meet it: pipes, stops, full disks and bad records."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner, Result

from rnatracker.app import app
from rnatracker.data import read_unlabelled
from rnatracker.model import checkpoint
from rnatracker.prediction.predictor import Predictor
from tests.support import paths
from tests.support.texts import fasta, names
from tests.support.toys import SITES, SMALL, toy_checkpoint, toy_transcripts, write_table

_CLI = str(paths.CLI)
_SETS = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
_SEED = paths.SEED
_REAL = paths.REAL


def _run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["predict", *arguments], input=stdin, env={"COLUMNS": "200"})


def _start(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, _CLI, "predict", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def weights(tmp_path: Path) -> str:
    folder = tmp_path / "weights"
    folder.mkdir()
    checkpoint.save(toy_checkpoint(), folder / "toy.pt")
    return str(folder / "toy.pt")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_predict_writes_a_table_on_stdout_and_counts_on_stderr(weights: str, data: Path) -> None:
    result = _run(str(fasta(data)), "--model", weights)
    assert result.exit_code == 0, result.stderr
    got = pd.read_csv(io.StringIO(result.stdout), sep="\t")
    assert list(got.columns) == ["id", *SITES, "most_likely"]
    whole = read_unlabelled(data / "x.fa")
    assert got["id"].tolist() == list(whole.ids)
    expected = Predictor([toy_checkpoint()], torch.device("cpu")).predict(whole)
    assert got[list(SITES)].to_numpy() == pytest.approx(expected, abs=1e-6)
    note, last = result.stderr.splitlines()
    assert note.endswith("transcripts longer than 60 nt cut to their 5' end, as in training")
    assert last.startswith("Predicted 50 transcripts with toy.pt (weights after epoch 1) in ")
    assert last.endswith(f"Next: rnatracker predict {data / 'x.fa'} --model {weights} --attention FILE")


def test_predict_reads_standard_input_when_the_input_is_a_dash(weights: str, data: Path) -> None:
    path = fasta(data)
    expected = _run(str(path), "--model", weights).stdout
    assert _run("-", "--model", weights, stdin=path.read_bytes()).stdout == expected
    result = _run("-", "--model", weights, stdin=b"")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: standard input: expected at least one record, got an empty file\n"


def test_json_has_the_counts_when_the_predictions_go_to_a_file(weights: str, data: Path) -> None:
    result = _run(
        str(fasta(data, bad=3)), "--model", weights, "--out", str(data / "out.csv"), "--skip-bad", "--json",
        "--attention", str(data / "a.tsv"),
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    assert {key: content[key] for key in content if key not in ("seconds", "cut")} == {
        "model": "toy.pt", "out": str(data / "out.csv"), "transcripts": 49, "skipped": 1, "attention_on_padding": 0
    }  # fmt: skip
    assert len(pd.read_csv(data / "out.csv")) == 49
    assert result.stderr.splitlines()[0].startswith("Skipped: x.fa, record 3 (t3): expected letters of")
    assert "Note: 1 bad record skipped; the" in result.stderr
    assert result.stderr.splitlines()[-1].endswith(f"Next: rnatracker evaluate {weights} --data FILE")


def test_skipped_records_are_named_until_there_are_many(weights: str, data: Path) -> None:
    path = data / "x.fa"
    path.write_text("".join(f">t{i}\nACGT{'!' if i % 2 else ''}\n" for i in range(1, 21)))
    result = _run(str(path), "--model", weights, "--skip-bad")
    assert result.exit_code == 0
    assert result.stderr.count("Skipped: x.fa, record ") == 5
    assert "Skipped: 5 more bad records\nNote: 10 bad records skipped;" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Missing argument"),
        (["no.fa", "--model", "toy.pt"], 1, "no.fa: no such file; check the path"),
        (["x.fa"], 1, "Model 'rnatracker' has no champion; choose one with: rnatracker promote RUN_ID"),
        (["x.fa", "--model", "none.pt"], 1, "none.pt: no such file of weights"),
        (["x.fa", "--model", "toy.pt", "--json"], 2, "--json: standard output is for the predictions"),
        (["x.fa", "--model", "toy.pt", "--attention", "-"], 2, "--attention -: standard output is for the"),
        (["x.fa", "--model", "toy.pt", "--out-format", "parquet"], 2, "--out-format parquet: is no text"),
        (["x.fa", "--model", "toy.pt", "--out-format", "xlsx"], 2, "xlsx"),
        (["x.fa", "--model", "toy.pt", "--out", "x.fa"], 2, "--out x.fa: is the input x.fa too"),
        (["x.fa", "--model", "toy.pt", "--sites", "a,b,c"], 1, "--sites a,b,c: toy.pt predicts Nucleus, Cytosol, ERM"),
        (["x.fa", "--model", "toy.pt", "--format", "table"], 1, "expected table"),
    ],
)
def test_wrong_input_is_one_clear_error(
    arguments: list[str],
    code: int,
    message: str,
    data: Path,
    weights: str,
    mlflow_store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data)
    monkeypatch.setenv("RNATRACKER_STORE", str(mlflow_store))
    fasta(data)
    Path(weights).rename(data / "toy.pt")
    before = (data / "x.fa").read_bytes()
    result = _run(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert (data / "x.fa").read_bytes() == before
    assert names(data) == ["toy.pt", "x.fa"]


def test_predictions_of_a_cross_validation_have_a_spread(data: Path, mlflow_store: Path) -> None:
    table = write_table(toy_transcripts(40), data / "toy.tsv")
    arguments = ["train", "--data", str(table), *_SETS, "--store", str(mlflow_store), "--fold", "2"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    result = _run(str(table), "--model", "exp1", "--store", str(mlflow_store), "--out", str(data / "out.parquet"))
    assert result.exit_code == 0, result.stderr
    got = pd.read_parquet(data / "out.parquet")
    assert list(got.columns) == ["id", *SITES, *(f"{site}_sd" for site in SITES), "most_likely"]
    assert (got[[f"{site}_sd" for site in SITES]] > 0).all(axis=None)
    assert got[list(SITES)].sum(axis=1).to_numpy() == pytest.approx(1)
    assert "with exp1 (mean of 2 folds' models)" in result.stderr


def test_nothing_is_said_when_whoever_reads_goes_away(weights: str, data: Path) -> None:
    path = fasta(data, 20_000)
    process = _start(
        str(path), "--model", weights, "--attention", str(data / "a.tsv"), "--threads", "1", stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"id\t")
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait() == 0
    process.stderr.close()
    assert names(data) == ["x.fa"]


def test_missing_input_is_said_before_a_model_is_looked_for(data: Path) -> None:
    result = _run(str(data / "nosuch.fa"), "--model", "nosuch.pt")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith(f"Error: {data / 'nosuch.fa'}: no such file")


@pytest.mark.parametrize(
    "name", ["out.tsv", *(pytest.param(name, marks=pytest.mark.slow) for name in ("out.parquet", "out.csv.gz"))]
)
def test_full_disk_is_said_and_nothing_left(name: str, weights: str, data: Path) -> None:
    path = fasta(data, 20_000)
    limit = 20_000

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = _start(
        str(path), "--model", weights, "--out", str(data / name), stdout=subprocess.PIPE, preexec_fn=limited
    )
    out, err = process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert err.decode().splitlines() == [
        f"Error: --out {data / name}: can't be written (File too large); check the folder and the space on its disk"
    ]
    assert names(data) == ["x.fa"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_full_disk_is_said_when_standard_output_is_on_it(weights: str, data: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = _start(str(fasta(data)), "--model", weights, stdout=full)
        _, err = process.communicate()
    assert process.returncode == 1
    assert err.decode().startswith("Error: standard output: can't be written (No space left on device)")
    assert len(err.decode().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_stopped_while_it_reads(stop: signal.Signals, weights: str, data: Path) -> None:
    content = fasta(data, 60_000).read_bytes()
    process = _start(
        "-", "--model", weights, "--out", str(data / "out.tsv"), "--threads", "1",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(content)
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while names(data) == ["x.fa"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(names(data)) == 2, "a part of the output is there under another name"
    process.send_signal(stop)
    assert process.wait(30) == 130
    assert process.stderr.read().decode().endswith("transcripts; no file was written\n")
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
    assert names(data) == ["x.fa"]


def test_closed_standard_input_is_said(weights: str, data: Path) -> None:
    process = _start("-", "--model", weights, stdout=subprocess.PIPE, preexec_fn=lambda: os.close(0))
    out, err = process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert err.decode().startswith("Error: standard input: expected records, but it is closed; name a file")


def test_standard_input_that_ends_in_a_record_is_said_when_the_format_shows_it(weights: str, data: Path) -> None:
    whole = "".join(f"> t{i}\nACGTACGT\n1 1 1\n" for i in range(2000))
    result = _run("-", "--model", weights, "--out", str(data / "out.tsv"), stdin=whole[:-8])
    assert result.exit_code == 1
    assert "standard input, record 2000 (t1999): expected 3 lines" in result.stderr
    assert names(data) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(weights: str, data: Path) -> None:
    peaks = []
    for records in (30_000, 300_000):
        sequence = "ACGTTGCA" * 75
        with (data / "x.fa").open("w") as file:
            file.writelines(f">t{i}\n{sequence}\n" for i in range(records))
        process = _start(
            str(data / "x.fa"), "--model", weights, "--out", str(data / "o.tsv"), "--attention", str(data / "a.tsv.gz"),
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.stderr is not None
        assert f"Predicted {records:,} transcripts" in process.stderr.read().decode()
        process.stderr.close()
        peaks.append(usage.ru_maxrss)  # KiB
    assert (data / "x.fa").stat().st_size > 180e6
    assert peaks[1] - peaks[0] < 20_000


@pytest.mark.shared
@pytest.mark.skipif(not _SEED.is_dir(), reason="../shared is not there")
def test_the_ports_weights_give_its_published_predictions(data: Path) -> None:
    path = str(_SEED / "logs" / "exp0" / "weights" / "epoch50.pt")
    result = _run(str(_REAL), "--model", path, "--out", str(data / "out.tsv"))
    assert result.exit_code == 0, result.stderr
    got = pd.read_csv(data / "out.tsv", sep="\t").set_index("id")
    expected = pd.read_csv(_SEED / "expected_epoch50.tsv", sep="\t").set_index("id")
    assert got.loc[expected.index, expected.columns].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-6)
    assert "Note: 811 transcripts longer than 4,000 nt cut to their 5' end, as" in result.stderr
