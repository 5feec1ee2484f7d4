"""A command that ends with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rnatracker.processes import tethered
from tests.support import paths

_SAYS_AND_WAITS = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
_STARTER = (
    "import subprocess, sys, time; from rnatracker.processes import tethered; "
    f"subprocess.Popen(tethered.words([sys.executable, '-c', {_SAYS_AND_WAITS!r}]), stdin=subprocess.PIPE); "
    "time.sleep(60)"
)


@pytest.fixture
def started() -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
    process = subprocess.Popen([sys.executable, "-c", _STARTER], stdout=subprocess.PIPE, env=environment)
    yield process
    process.kill()
    process.communicate()


def test_command_ends_when_its_starter_is_killed_outright(started: subprocess.Popen[bytes]) -> None:
    assert started.stdout is not None
    assert int(started.stdout.readline()) > 0
    started.kill()
    # The command and what watches it hold the pipe open until they have ended.
    assert started.stdout.read() == b""


@pytest.mark.parametrize(("code", "expected"), [("raise SystemExit(3)", 3), ("import os; os.abort()", 134)])
def test_exit_code_is_the_commands(code: str, expected: int) -> None:
    command = tethered.words([sys.executable, "-c", code])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=paths.ROOT) as process:
        assert process.wait(30) == expected


def test_signal_is_passed_on() -> None:
    command = tethered.words([sys.executable, "-c", _SAYS_AND_WAITS])
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=paths.ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
