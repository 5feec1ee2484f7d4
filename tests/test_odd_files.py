"""A thousand odd files through every command that reads transcripts: a right answer or one clear error, each."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import typer.main
import typer.testing
from typer.testing import CliRunner, Result

from rnatracker.app import app
from rnatracker.config import DEFAULT_SITES
from rnatracker.data import read_unlabelled
from rnatracker.model import checkpoint
from tests.support.odd_files import OddFile, odd_files
from tests.support.toys import toy_checkpoint, toy_transcripts, write_table

_FILES = 1200
_SEED = 7
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal acts on, but for line ends."""
_TINY = (
    "--epochs", "1", "--batch-size", "4", "--max-length", "60", "--set", "model.conv1_channels=2",
    "--set", "model.conv2_channels=2", "--set", "model.rnn_hidden=2", "--set", "train.threads=1",
)  # fmt: skip


class _Trial:
    """Runs commands on files and notes what is wrong with how they end."""

    def __init__(self, folder: Path, tracked: Path) -> None:
        self.out = folder / "out"
        self.out.mkdir()
        self.weights = folder / "model.pt"
        checkpoint.save(toy_checkpoint(1), self.weights)
        self.store = ["--store", str(folder / "untracked"), "--no-track"]
        self.tracked = ["--store", str(tracked)]
        self.runner = CliRunner(env={"COLUMNS": "100"})
        self.runs: Counter[str] = Counter()
        self.accepted = 0
        self.faults: list[str] = []
        good = write_table(toy_transcripts(), folder / "good.tsv")
        for store in (self.store, self.store, self.tracked):
            assert self._invoke(["train", "--data", str(good), *_TINY, *store]).exit_code == 0

    def run(self, number: int, odd: OddFile) -> None:
        """Run the cheap commands on a file, and now and then one of the dear ones."""
        predictions = self.out / f"p{number}.tsv"
        parts = [self.out / f"{part}{number}.{odd.path.name}" for part in ("train", "test")]
        report = self._check(odd, ["data", "inspect", str(odd.path), *_sites_of(odd.path), "--json"])
        self._compare(odd, report)
        predicted = self._check(
            odd, ["predict", str(odd.path), "--model", str(self.weights), "--out", str(predictions), "--threads", "1"]
        )
        self._whole(odd, predicted, [predictions])
        split = [
            "data",
            "split",
            str(odd.path),
            *_sites_of(odd.path),
            "--train-out",
            str(parts[0]),
            "--test-out",
            str(parts[1]),
        ]
        self._whole(odd, self._check(odd, split), parts)
        for command in self._dear(number, odd.path):
            self._check(odd, command)

    def _dear(self, number: int, path: Path) -> Iterator[list[str]]:
        if number % 2 == 0:
            yield ["data", "inspect", str(path), *_sites_of(path)]
        if number % 5 == 1:
            yield ["evaluate", str(self.weights), "--data", str(path), "--resamples", "0", *self.store[:2]]
        if number % 11 == 2:
            yield ["train", "--data", str(path), *_sites_of(path), *_TINY, *self.store]
        if number % 25 == 3:
            yield ["compare", "exp1", "exp2", "--data", str(path), *self.store[:2]]
        if number % 97 == 4:
            study = ["--study", f"s{number}", "--space", "smoke", "--trials", "1"]
            yield ["tune", "--data", str(path), *_sites_of(path), *study, *_TINY[:2], *self.store]
        if number % 97 == 5:
            yield ["promote", "exp1", "--data", str(path), *self.tracked]

    def _invoke(self, command: list[str]) -> Result:
        return self.runner.invoke(app, command, color=True)

    def _check(self, odd: OddFile, command: list[str]) -> Result:
        result = self._invoke(command)
        name = " ".join(command[:2] if command[0] == "data" else command[:1])
        self.runs[name] += 1
        self.accepted += result.exit_code == 0
        problem = _problem(result, self.out)
        if problem:
            self.faults.append(f"{name} {odd.path.name} ({odd.what}): {problem}")
        return result

    def _compare(self, odd: OddFile, report: Result) -> None:
        """Note where a file is read otherwise than as it is meant."""
        plain = self.out / "plain"
        plain.write_text(odd.plain)
        expected = read_unlabelled(plain).digest()
        plain.unlink()
        if odd.is_harmless and (report.exit_code or json.loads(report.stdout)["digest"] != expected):
            self.faults.append(f"{odd.path.name} ({odd.what}): is not read as it is meant: {report.stderr!r}")

    def _whole(self, odd: OddFile, result: Result, files: list[Path]) -> None:
        """Note where files are there though the command failed, or not there or empty though it didn't."""
        there = [path.exists() and path.stat().st_size > 0 for path in files]
        if there != [result.exit_code == 0] * len(files):
            self.faults.append(f"{odd.path.name} ({odd.what}): exit code {result.exit_code}, but files {there}")
        for path in files:
            path.unlink(missing_ok=True)


def _sites_of(path: Path) -> tuple[str, ...]:
    """Return the option that names a file's sites, where the file doesn't."""
    return ("--sites", ",".join(DEFAULT_SITES)) if path.name.split(".")[1] in ("port3", "port6", "original") else ()


def _problem(result: Result, folder: Path) -> str:
    """Return what is wrong with how a command ended; empty: nothing."""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return f"traceback: {result.exception!r}"
    if result.exit_code not in (0, 1, 2, 3):
        return f"exit code {result.exit_code}"
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    if len(errors) != (result.exit_code == 1):
        return f"exit code {result.exit_code} and {len(errors)} errors: {result.stderr[-300:]!r}"
    if "Traceback" in result.stderr:
        return "traceback on stderr"
    control = _CONTROL.search(result.stdout + result.stderr)
    if control:
        return f"control character {control[0]!r} on the terminal"
    left = [path.name for path in folder.rglob("*") if path.name.endswith((".part", ".tmp"))]
    return f"left behind: {left}" if left else ""


@pytest.mark.slow
def test_odd_files_are_read_rightly_or_refused_in_one_line(
    tmp_path: Path, mlflow_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Typer would make all commands anew for each call, which takes longer than the call itself.
    monkeypatch.setattr(typer.testing, "_get_command", functools.cache(typer.main.get_command))
    files = tmp_path / "files"
    files.mkdir()
    trial = _Trial(tmp_path, mlflow_store)
    for number, odd in enumerate(odd_files(files, _FILES, _SEED)):
        trial.run(number, odd)
        odd.path.unlink()
    each = ", ".join(f"{name} {count}" for name, count in trial.runs.items())
    commands = f"{trial.runs.total()} commands ({each}), {trial.accepted} of them accepted"
    with capsys.disabled():
        print(f"\nodd files: {_FILES} files, {commands}, {len(trial.faults)} faults")
    assert not trial.faults, "\n".join([f"{len(trial.faults)} faults", *trial.faults[:200]])
