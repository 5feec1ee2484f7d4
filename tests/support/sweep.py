"""A command with a fault at each of its operations in turn, and what is right afterwards.

Run as `python -m tests.support.sweep COMMAND PART PARTS [EVERY]`, in a process of its own: it forks, which one that has
computed with several threads must not. Prints a line of JSON: how many points there were, and what went wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.faults import KINDS, Ended, Faults, fork_workers, in_fork

_TINY = (
    "--epochs", "1", "--max-length", "60", "--batch-size", "8", "--set", "model.conv1_channels=2",
    "--set", "model.conv2_channels=2", "--set", "model.rnn_hidden=2", "--set", "model.attention_size=2",
    "--set", "train.threads=1",
)  # fmt: skip
_SEARCHED = ("--epochs", "1", "--set", "train.batch_size=8", *_TINY[6:])
_FINE = ("disk.low", "kernels.no-compiler", "kernels.unusable")
"""Findings of the doctor's that say nothing of what happened."""
_LISTED = 20


@dataclass(frozen=True)
class Swept:
    """A command that is swept.

    Attributes:
        before: commands that are run once before it.
        command: the command.
        result: returns what it has made, which must be the same whatever happened before.
        every: only every so many of its operations fail, where most are those of other commands too.
    """

    before: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]
    result: Callable[[Path], Any]
    every: int = 1


def _trained(_: Path) -> Any:
    import torch

    runs = json.loads(_do("runs", "--json").out)["runs"]
    latest = next(run for run in runs if run["state"] == "finished")
    (folder,) = Path("mlruns/artifacts/rnatracker").glob(f"{latest['run_id']}/artifacts")
    weights = torch.load(folder / "checkpoints" / "best.pt", weights_only=True)["weights"]
    return [latest["pcc_mean"], {name: value.tolist() for name, value in weights.items()}]


def _promoted(_: Path) -> Any:
    versions = json.loads(_do("models", "--json").out)["versions"]
    champion = next(each for each in versions if "champion" in each["aliases"])
    return [champion["run"], champion["weights_sha256"]]


def _blended(_: Path) -> Any:
    runs = json.loads(_do("runs", "--json").out)["runs"]
    latest = next(run for run in runs if run["state"] == "finished" and run["kind"] == "blend")
    (folder,) = Path("mlruns/artifacts/rnatracker").glob(f"{latest['run_id']}/artifacts")
    predicted = _do("predict", "x.tsv", "--model", latest["run_id"]).out
    return [latest["pcc_mean"], json.loads((folder / "checkpoints" / "blend" / "blend.json").read_text()), predicted]


def _searched(_: Path) -> Any:
    found = json.loads(_do("study", "s", "--json").out)
    values = {json.dumps(each["params"], sort_keys=True): each["value"] for each in found["best"]}
    return [found["trials"], sorted([params, value] for params, value in values.items())]


def _predicted(folder: Path) -> Any:
    return (folder / "out.tsv").read_text()


_DATA = ("data", "simulate", "x.tsv", "--records", "24", "--median-length", "200")
_TRAIN = ("train", "--data", "x.tsv", *_TINY)
_BASELINE = ("baseline", "--data", "x.tsv", "--kind", "length", "--fold", "2")
_BLEND = ("blend", "exp1", "exp2")
SWEPT = {
    "train": Swept((_DATA, ("runs",), _TRAIN), _TRAIN, _trained, every=3),
    "promote": Swept((_DATA, _TRAIN), ("promote", "exp1"), _promoted, every=4),
    "predict": Swept((_DATA, _TRAIN, ("promote", "exp1")), ("predict", "x.tsv", "--out", "out.tsv"), _predicted),
    "blend": Swept((_DATA, _BASELINE, (*_TRAIN, "--fold", "2")), _BLEND, _blended, every=6),
    "tune": Swept(
        (_DATA, _TRAIN),
        ("tune", "--data", "x.tsv", "--study", "s", "--space", "smoke", "--trials", "2", *_SEARCHED),
        _searched,
        every=10,
    ),
}


def _do(*command: str) -> Ended:
    """Run a command in this process."""
    import traceback

    from typer.testing import CliRunner

    from rnatracker.app import app

    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(command))
    err = done.stderr
    if done.exception and not isinstance(done.exception, SystemExit):
        err += "Traceback " + "".join(traceback.format_exception(done.exception))
    return Ended(done.exit_code, done.stdout, err)


def _wrong_with(ended: Ended) -> str:
    """Return what is wrong with how the command ended in which something failed; empty: nothing."""
    if ended.code in (0, -9):
        return ""
    errors = [line for line in ended.err.splitlines() if line.startswith("Error: ")]
    if ended.code != 1 or "Traceback" in ended.err or len(errors) != 1:
        return f"code {ended.code}: {ended.err[-1500:]}"
    return ""


def _wrong_afterwards(swept: Swept, folder: Path, expected: Any, was_killed: bool) -> str:
    """Type the same command again, and look around; return what is wrong, or nothing. In a fork."""
    again = _do(*swept.command)
    if again.code != 0:
        return f"again: code {again.code}: {again.err[-1500:]}"
    result = swept.result(folder)
    if result != expected:
        return f"another result: {str(result)[:300]} instead of {str(expected)[:300]}"
    examined = _do("doctor", "--json")
    findings = json.loads(examined.out)["findings"]
    found = [each for each in findings if each["level"] != "ok" and each["id"] not in _FINE]
    parts = [] if was_killed else [str(path) for path in folder.rglob("*.part")]
    return f"left: {found} {parts}" if found or parts else ""


def _draw_nothing() -> None:
    """Let pictures be files of a few letters: they take most of the time, and are not what is tried here."""
    from matplotlib.figure import Figure
    from optuna import visualization
    from optuna.visualization import matplotlib as drawing

    Figure.savefig = lambda self, file, **options: file.write(b"a picture")  # type: ignore[method-assign,assignment,misc]
    page = SimpleNamespace(to_html=lambda **options: "a page")
    for name in [name for name in dir(visualization) if name.startswith("plot_")]:
        setattr(visualization, name, lambda *given, **options: page)
        setattr(drawing, name, lambda *given, **options: Figure().subplots())


def _warm_up(swept: Swept, folder: Path) -> None:
    """Do all of it once in this process, so that a fork has imported everything; in a folder that isn't used again."""
    import torch

    import rnatracker.search.worker  # noqa: F401 (its workers are forks here, and would import it each)

    torch.set_num_threads(1)
    _draw_nothing()
    folder.mkdir()
    os.chdir(folder)
    fork_workers()
    for command in (*swept.before, swept.command, ("doctor", "--json")):
        done = _do(*command)
        assert done.code == 0, (command, done)
    swept.result(folder)


def sweep(name: str, part: int, parts: int, every: int = 0) -> dict[str, Any]:
    """Let each of a command's operations fail in turn, of every so many; return how many, and what went wrong."""
    every = every or SWEPT[name].every
    swept, base = SWEPT[name], Path(tempfile.mkdtemp(prefix="sweep-")).resolve()
    work, template = base / "work", base / "template"
    (work / "tmp").mkdir(parents=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(work / "tmp")
    _warm_up(swept, base / "warm")
    os.chdir(work)
    for command in swept.before:
        made = in_fork(partial(_do, *command))
        assert made.code == 0, (command, made)
    shutil.copytree(work, template, symlinks=True)

    def afresh() -> None:
        os.chdir(base)
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(template, work, symlinks=True)
        os.chdir(work)

    counting = Faults(work)
    whole = in_fork(partial(_do, *swept.command), counting)
    assert whole.code == 0, whole
    reference = in_fork(partial(_json, partial(swept.result, work)))
    assert reference.code == 0, reference
    expected = json.loads(reference.out)
    failures, n_points, target = [], 0, part * every
    while True:
        target += parts * every
        kind = KINDS[(target + target // len(KINDS)) % len(KINDS)]
        afresh()
        faults = Faults(work, target, kind)
        ended = in_fork(partial(_do, *swept.command), faults)
        if faults.count < target:
            break
        n_points += 1
        wrong = _wrong_with(ended)
        if not wrong:
            looking = partial(_wrong_afterwards, swept, work, expected, kind == "killed")
            check = in_fork(partial(_json, looking))
            wrong = json.loads(check.out) if check.code == 0 else f"afterwards: {check.code} {check.err}"
        if wrong:
            failures.append(f"{name} {target} {kind} at {faults.last()}: {wrong}")
            if len(failures) >= _LISTED:
                break
    os.chdir("/")
    shutil.rmtree(base, ignore_errors=True)
    return {"points": n_points, "operations": counting.count // every, "failures": failures}


def _json(function: Callable[[], Any]) -> Ended:
    return Ended(0, json.dumps(function()))


if __name__ == "__main__":
    print(json.dumps(sweep(sys.argv[1], *map(int, sys.argv[2:]))))
