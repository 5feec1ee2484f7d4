"""The README's tutorial: its commands, one after another, as a reader types them."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import paths

_ROOT = paths.ROOT
_CLI = [sys.executable, str(_ROOT / "cli.py")]
pytestmark = pytest.mark.slow


def _commands() -> list[list[str]]:
    """Return the tutorial's commands as words, without their comments."""
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^```sh tutorial\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    assert block is not None
    return [shlex.split(line, comments=True) for line in block[1].splitlines()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [*_CLI, *words[1:]] if words[0] == "rnatracker" else words
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@contextmanager
def _served(folder: Path, port: int) -> Iterator[None]:
    """Serve the champion until Ctrl-C."""
    command = [*_CLI, "serve", "--port", str(port)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        until = time.monotonic() + 120
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
        try:
            yield
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 0


def test_tutorial_commands_work_one_after_another(tmp_path: Path) -> None:
    said, port = {}, _free_port()
    commands = _commands()
    for words in commands:
        if words[1] == "serve":
            continue
        if words[0] == "curl":
            with _served(tmp_path, port):
                result = _run([word.replace(":5001/", f":{port}/") for word in words], tmp_path)
        else:
            result = _run(words, tmp_path)
        assert result.returncode == 0, (words, result.stdout, result.stderr)
        said[" ".join(words[:3])] = result.stdout
    assert "exp2_long is better than exp1_short" in said["rnatracker compare exp1"]
    assert "version 1 (run exp1_short) is now champion" in said["rnatracker promote exp1"]
    assert "version 2 (run exp2_long) is now champion in place of version 1" in said["rnatracker promote exp2"]
    assert len((tmp_path / "predicted.tsv").read_text().splitlines()) == 321
    curl = next(text for command, text in said.items() if command.startswith("curl"))
    row = json.loads(curl)["predictions"][0]
    assert sum(row[site] for site in ("Cytosol", "Insoluble", "Membrane", "Nuclear")) == pytest.approx(1)
    assert "version 1 (run exp1_short) is champion again" in said["rnatracker models --rollback"]
    assert "bit-identical" in said["rnatracker replay exp1"]
    assert "All is well" in said["rnatracker doctor"]
    refused = _run(["rnatracker", "promote", "exp1"], tmp_path)
    assert (refused.returncode, "--force" in refused.stdout + refused.stderr) == (0, False)
    loser = _run(["rnatracker", "promote", "exp3"], tmp_path)
    assert loser.returncode == 3
    assert "stays challenger" in loser.stdout
