"""Whatever fails wherever, the same command typed again does what it should have done."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support import paths
from tests.support.sweep import SWEPT

_PARTS = 2


@pytest.mark.slow
@pytest.mark.parametrize("command", SWEPT)
def test_a_command_is_repeated_with_success_whichever_operation_failed(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.sweep", command, str(part), str(_PARTS)],
            cwd=paths.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for part in range(_PARTS)
    ]
    ended = [part.communicate() for part in parts]
    assert [part.returncode for part in parts] == [0] * _PARTS, [err[-2000:] for _, err in ended]
    found = [json.loads(out.splitlines()[-1]) for out, _ in ended]
    n_points, failures = sum(each["points"] for each in found), [line for each in found for line in each["failures"]]
    with capsys.disabled():
        print(f"\nfault sweep, {command}: {n_points} points, {len(failures)} failures")
    operations = found[0]["operations"]  # in one run; a second more or less makes some more or fewer
    assert n_points > 0.9 * operations
    assert not failures, "\n".join(failures)
