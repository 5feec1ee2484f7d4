"""`rnatracker runs`, as a user sees it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rnatracker.app import app
from rnatracker.commands.runs import _value
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support import paths
from tests.support.trackers import begin

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


@pytest.fixture
def mixed(folder: str) -> str:
    """Beside the tracked runs an untracked one with a fold, and one that is better than all."""
    tracker = open_tracker(TrackingSettings(Path(folder), enabled=False))
    tags = {"rnatracker.kind": "cross-validation", "rnatracker.study": "s"}
    parent = tracker.start(log_name="cv", params={"train.lr": 0.3, "data.path": "/b.tsv"}, tags=tags, dataset=None)
    child = tracker.start(
        log_name=None, params={}, tags={"rnatracker.kind": "fold"}, dataset=None, parent=parent, name="fold1"
    )
    child.log_metrics({"test/pcc_mean": 0.1}, 0)
    child.finish("FINISHED")
    parent.log_metrics({"oof/pcc_mean": 0.9}, 0)
    parent.finish("FINISHED")
    return folder


def _rows(*arguments: str) -> list[list[str]]:
    """Return the rows of a table, split into words."""
    lines = [line.split() for line in _run(*arguments).stdout.splitlines() if line.strip()]
    return [line for line in lines if line[0].startswith("exp")]


def test_runs_lists_untracked_runs_beside_the_others(mixed: str) -> None:
    assert [row[0] for row in _rows("--store", mixed)] == ["exp4_cv", "exp3", "exp2", "exp1"]
    untracked, tracked, *_ = _rows("--store", mixed)
    assert untracked[3:] == ["finished", "1", "fold", "no", "b.tsv", "0.3", "0.900", "out-of-fold"]
    assert tracked[3:] == ["finished", "yes", "a.tsv", "0.004", "0.400", "validation"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--sort", "pcc"], ["exp4_cv", "exp3", "exp2", "exp1"]),
        (["--sort", "params.train.lr"], ["exp1", "exp2", "exp3", "exp4_cv"]),
        (["--sort", "metrics.oof/pcc_mean", "--limit", "1"], ["exp4_cv"]),
        (["--where", "params.train.lr = 0.3"], ["exp4_cv"]),
        (["--where", "metrics.test/pcc_mean > 0", "--all"], ["exp4_cv/fold1"]),
        (["--where", "metrics.best/pcc_mean > 0.3"], ["exp3"]),
        (["--study", "s"], ["exp4_cv"]),
        (["--study", "s", "--all"], ["exp4_cv/fold1", "exp4_cv"]),
        (["--all", "--limit", "2"], ["exp4_cv/fold1", "exp4_cv"]),
    ],
)
def test_runs_sorts_and_filters_untracked_runs_too(mixed: str, arguments: list[str], expected: list[str]) -> None:
    assert [row[0] for row in _rows("--store", mixed, *arguments)] == expected


def test_runs_says_in_json_and_csv_which_are_untracked(mixed: str, tmp_path: Path) -> None:
    content = json.loads(_run("--store", mixed, "--json", "--all", "--csv", str(tmp_path / "runs.csv")).stdout)
    assert {run["name"]: run["tracked"] for run in content["runs"]} == {
        "exp1": True, "exp2": True, "exp3": True, "exp4_cv": False, "fold1": False
    }  # fmt: skip
    fold, parent = content["runs"][:2]
    assert fold["parent_id"] == parent["run_id"]
    assert (parent["metrics"], parent["params"]["train.lr"]) == ({"oof/pcc_mean": 0.9}, "0.3")
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert [row["tracked"] for row in rows] == ["False", "False", "True", "True", "True"]


def test_runs_lists_untracked_runs_where_there_is_no_database_and_makes_none(tmp_path: Path) -> None:
    settings = TrackingSettings(tmp_path, enabled=False)
    open_tracker(settings).start(log_name=None, params={}, tags={}, dataset=None)
    assert [row[0] for row in _rows("--store", str(tmp_path))] == ["exp1"]
    assert not (tmp_path / "mlflow.db").exists()


def test_runs_of_a_store_are_listed_without_importing_mlflow(mixed: str) -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from rnatracker.app import app; "
        f"result = CliRunner().invoke(app, ['runs', '--all', '--store', {mixed!r}]); "
        "print(result.exit_code, [name for name in ('mlflow', 'torch', 'pandas', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=paths.ROOT)
    assert done.stdout == "0 []\n"


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


def test_table_has_every_run_with_its_folds(tmp_path: Path, mlflow_store: Path) -> None:
    tracker = open_tracker(TrackingSettings(mlflow_store))
    parent = begin(tracker)
    for number in (1, 2, 3):
        begin(tracker, parent=parent, name=f"fold{number}")
    assert _run("--store", str(mlflow_store), "--csv", str(tmp_path / "runs.csv")).exit_code == 0
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert sorted(row["name"] for row in rows) == ["exp1", "fold1", "fold2", "fold3"]


@pytest.mark.parametrize(
    ("where", "problem", "remedy"),
    [
        ("metrics.best/pcc_men > 0.3", "no run has a metric best/pcc_men", "did you mean metrics.best/pcc_mean?"),
        ("params.train.rl = 1", "no run has a parameter train.rl", "did you mean params.train.lr?"),
        ("tags.rnatracker.knd = 'x'", "no run has a tag rnatracker.knd", "did you mean tags.rnatracker.kind?"),
        ("metrics.zzz > 1 and params.train.lr = 0.001", "no run has a metric zzz", "there are: best/pcc_mean"),
    ],
)
def test_unknown_name_in_a_filter_is_an_error_with_the_nearest(
    where: str, problem: str, remedy: str, folder: str
) -> None:
    result = _run("--store", folder, "--where", where)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: --where {where!r}: {problem}; {remedy}")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("metrics.best/pcc_men", "no run has a metric best/pcc_men; did you mean metrics.best/pcc_mean?"),
        ("params.train.rl", "no run has a parameter train.rl; did you mean params.train.lr?"),
        ("metricsx.best/loss", "unknown; sort by when"),
    ],
)
def test_unknown_name_to_sort_by_is_an_error_with_the_nearest(key: str, said: str, folder: str) -> None:
    result = _run("--store", folder, "--sort", key)
    assert (result.exit_code != 0, result.stdout) == (True, "")
    assert result.stderr.startswith(f"Error: --sort {key}: {said}")


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
    ("arguments", "code", "message"),
    [
        (["--where", "nonsense"], 2, "Error: --where 'nonsense': "),
        (["--where", "pcc > 0.1"], 2, "Error: --where 'pcc > 0.1': runs have no 'pcc'; figures are metrics.NAME"),
        (["--sort", "nonsense"], 2, "Error: --sort nonsense: unknown"),
        (["--csv", "/nowhere/runs.csv"], 1, "Error: --csv /nowhere/runs.csv: can't be written"),
        (["--experiment", "x"], 1, "no experiment 'x'; there are: Default, rnatracker"),
    ],
)
def test_runs_gives_one_line_when_asked_for_what_cant_be(
    folder: str, arguments: list[str], code: int, message: str
) -> None:
    result = _run("--store", folder, *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, "-"),
        ("0.00012345678", "0.0001235"),
        ('["[nuc]", "Insoluble", "a b", "[/red]"]', "[nuc],Insoluble,a b,[/red]"),
        ("[broken", "[broken"),
    ],
)
def test_a_parameter_is_shown_as_it_is(text: str | None, shown: str) -> None:
    assert _value(text) == shown
