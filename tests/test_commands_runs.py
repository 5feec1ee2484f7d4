"""`rnatracker runs`, as a user sees it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rnatracker.app import app
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings

_RUNNER = CliRunner(env={"COLUMNS": "200"})


def _run(*arguments: str) -> Result:
    return _RUNNER.invoke(app, ["runs", *arguments])


@pytest.fixture
def folder(mlflow_store: Path) -> str:
    tracker = open_tracker(TrackingSettings(mlflow_store))
    for lr in (0.001, 0.002, 0.004):
        run = tracker.start(
            log_name=None,
            params={"train.lr": lr, "train.epochs": 3, "data.path": "/somewhere/a.tsv"},
            tags={"rnatracker.kind": "train", "rnatracker.split_digest": "abc"},
            dataset=None,
        )
        run.log_metrics({"best/pcc_mean": 100 * lr}, 0)
        run.finish("FINISHED")
    return str(mlflow_store)


def test_runs_prints_what_differs_and_what_to_try_next(folder: str) -> None:
    result = _run("--store", folder)
    assert result.exit_code == 0
    title, header, _, *rows = [line for line in result.stdout.splitlines() if line.strip()]
    assert title == "Runs of rnatracker, data a.tsv"
    assert header.split() == ["run", "when", "state", "lr", "PCC", "measured", "on"]
    assert [row.split()[0] for row in rows[:3]] == ["exp3", "exp2", "exp1"]
    assert rows[0].split()[3:] == ["finished", "0.004", "0.400", "validation"]
    assert rows[-1] == f"Next: rnatracker compare exp3 exp2 --store {folder}"


def test_runs_says_how_many_it_leaves_out(folder: str) -> None:
    result = _run("--store", folder, "--limit", "1", "--sort", "pcc", "--reverse")
    assert "exp1" in result.stdout and "exp3" not in result.stdout
    assert "1 of 3 runs; --limit 0 shows all." in result.stderr


def test_runs_gives_json(folder: str) -> None:
    content = json.loads(_run("--store", folder, "--json", "--where", "params.train.lr = 0.002").stdout)
    (run,) = content["runs"]
    assert (content["total"], run["name"], run["pcc_mean"], run["measured_on"]) == (1, "exp2", 0.2, "validation")
    assert run["params"]["train.epochs"] == "3"
    assert content["differing"] == []


def test_runs_writes_a_table_with_everything(folder: str, tmp_path: Path) -> None:
    result = _run("--store", folder, "--csv", str(tmp_path / "runs.csv"))
    assert result.exit_code == 0
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["exp3", "exp2", "exp1"]
    assert rows[0]["params.train.lr"] == "0.004"
    assert float(rows[0]["metrics.best/pcc_mean"]) == 0.4
    assert list(rows[0])[-1].startswith("metrics.")


def test_runs_says_so_when_there_is_no_store_and_makes_none(tmp_path: Path) -> None:
    result = _run("--store", str(tmp_path / "none"))
    assert result.exit_code == 0
    assert result.stdout == f"Next: rnatracker train --data FILE --store {tmp_path / 'none'}\n"
    assert "No runs yet" in result.stderr
    assert not (tmp_path / "none").exists()


def test_runs_says_so_when_nothing_matches(folder: str) -> None:
    result = _run("--store", folder, "--where", "metrics.best/pcc_mean > 2")
    expected = "No runs match, nor do folds or trials of one; --json lists the names of figures and settings.\n"
    assert (result.exit_code, result.stderr) == (0, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", "nonsense"], "Error: --where 'nonsense': "),
        (["--where", "pcc > 0.1"], "Error: --where 'pcc > 0.1': runs have no 'pcc'; figures are metrics.NAME"),
        (["--sort", "nonsense"], "Error: --sort nonsense: unknown"),
        (["--csv", "/nowhere/runs.csv"], "Error: --csv /nowhere/runs.csv: can't be written"),
        (["--experiment", "x"], "no experiment 'x'; there are: Default, rnatracker"),
    ],
)
def test_runs_gives_one_line_and_exit_code_1_when_asked_for_what_cant_be(
    folder: str, arguments: list[str], message: str
) -> None:
    result = _run("--store", folder, *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
