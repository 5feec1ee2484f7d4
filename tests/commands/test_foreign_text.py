"""Names that others gave, where commands print them: no markup, no escape sequences, nothing cut, in any encoding."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from rnatracker.app import app
from rnatracker.terminal import layout, progress
from tests.support import paths
from tests.support.toys import SMALL, toy_transcripts, write_table

_SITES = ("[/red]", "[nuc] :cat:", r"$\frac$ | β")
_SETS = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]


def _run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", **environment})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = write_table(toy_transcripts(40), tmp_path / "toy[final].tsv")
    _, _, rest = path.read_text().partition("\n")
    path.write_text("\t".join(["id", "sequence", *_SITES]) + "\n" + rest)
    return path


def test_names_with_brackets_are_printed_as_they_are(data: Path, mlflow_store: Path, tmp_path: Path) -> None:
    where = ["--store", str(mlflow_store)]
    split = tmp_path / "split[1]"
    split.mkdir()
    for command in (
        ["data", "inspect", str(data)],
        ["data", "split", str(data), "--out-dir", str(split)],
        ["train", "--data", str(data), *_SETS, *where],
        ["promote", "exp1", *where],
        ["models", "show", "1", *where],
        ["evaluate", "exp1", "--data", str(data), "--resamples", "0", *where],
    ):
        result = _run(*command)
        assert result.exit_code == 0, (command, result.output)
        others: dict[str, tuple[str, ...]] = {"data split": ("split[1]", "toy[final]_train.tsv"), "promote exp1": ()}
        expected = others.get(" ".join(command[:2]), _SITES)
        assert all(name in result.stdout for name in expected), (command, result.output)


def test_control_characters_never_reach_the_terminal(data: Path, mlflow_store: Path, tmp_path: Path) -> None:
    evil = tmp_path / "e\x1b]0;title\x07.tsv"
    evil.write_text(data.read_text().replace("[/red]", "a\x1b[2Jb"))
    for command in (
        ["data", "inspect", str(evil)],
        ["train", "--data", str(evil), "--store", str(mlflow_store)],
        ["runs", "--store", str(mlflow_store), "--where", "metrics.\x1b[31m > 1"],
        ["predict", str(evil), "--model", "\x1b[31m", "--store", str(mlflow_store)],
        ["models", "show", "\x9b31m", "--store", str(mlflow_store)],
    ):
        result = _run(*command)
        assert result.exit_code != 0
        assert not {"\x1b", "\x07", "\x9b"} & set(result.output), (command, result.output)
        assert "Error" in result.stderr


def test_warnings_of_the_package_are_escaped_too() -> None:
    result = _run("data", "--help")
    assert result.exit_code == 0
    handler = next(each for each in logging.getLogger("rnatracker").handlers if type(each).__name__ == "_Warnings")
    stream, sys.stderr = sys.stderr, io.StringIO()
    try:
        handler.emit(logging.LogRecord("rnatracker", logging.WARNING, "", 1, "run %s", ("\x1b[31m",), None))
        assert sys.stderr.getvalue() == "run \\x1b[31m\n"
    finally:
        sys.stderr = stream


def test_bars_show_names_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = io.StringIO()
    monkeypatch.setattr(progress, "console", lambda: Console(file=drawn, force_terminal=True, width=100))
    with progress.LiveReporter() as reporter:
        reporter.batch("[/red]\x07", 1, 3, 1, 2)
        reporter.line("[/red] \x1b]0;t\x07")
    assert "[/red] \\x1b]0;t\\x07" in drawn.getvalue()
    assert "[/red]\\x07 epoch 1/3" in drawn.getvalue()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_names_that_the_terminal_cannot_write_are_escaped(encoding: str, data: Path) -> None:
    command = [sys.executable, "-m", "rnatracker", "data", "inspect", str(data)]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    result = subprocess.run(command, capture_output=True, env=environment, cwd=paths.ROOT, check=False)
    assert result.returncode == 0, result.stderr
    assert rb"$\frac$ | \u03b2" in result.stdout


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_terminal_that_cannot_draw_gets_lines(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert progress.is_live()
    monkeypatch.setenv("TERM", term)
    assert not progress.is_live()
    assert isinstance(progress.reporter(), progress.PlainReporter)


@pytest.mark.parametrize(("width", "shown"), [(100, "a 1 bc 2 d 3"), (6, "a 1"), (8, "a 1 bc 2"), (2, "")])
def test_figures_beside_a_bar_are_whole_or_left_out(width: int, shown: str) -> None:
    assert progress._fitting(["a 1", "bc 2", "d 3"], width) == shown


def _shown(table: layout.PlainTable, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    drawn = io.StringIO()
    monkeypatch.setattr(layout, "_console", lambda _table: Console(file=drawn, width=width))
    layout.show(table, "Title")
    return drawn.getvalue().splitlines()


_CELLS = ("1234567", "previous, champion", "0.000123456", "out-of-fold transcripts", "forced: looks_better")


@pytest.mark.parametrize("width", [200, 80, 60, 40, 30])
def test_tables_of_any_width_keep_names_and_numbers_whole(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = layout.PlainTable()
    for header in ("version", "aliases", "learning_rate", "measured on", "verdict"):
        table.add_column(header)
    table.add_row(*_CELLS)
    lines = _shown(table, width, monkeypatch)
    text = "\n".join(lines)
    for cell in _CELLS:
        assert all(word in text for word in cell.split()), text
    assert "…" not in text
    assert max(map(len, lines)) <= width


def test_long_value_in_a_list_of_facts_is_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    table = layout.PlainTable()
    table.add_column("")
    table.add_column("")
    table.show_header = False
    table.add_row("SHA-256 model1.pt", "0123456789abcdef" * 4)
    lines = _shown(table, 40, monkeypatch)
    assert max(map(len, lines)) <= 40
    words = "\n".join(lines).split()
    assert {"SHA-256", "model1.pt"} <= set(words)
    assert "".join(word for word in words if word.isalnum() and word != "Title") == "0123456789abcdef" * 4
