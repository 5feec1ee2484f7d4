"""A command that ends when whoever started it is gone, however that ended: `python -m rnatracker.processes.tethered`.

Owns that tie: a pipe to this process's standard input, which closes when the other end's process does, killed outright
too. Must not know what the command is. Must not import anything heavy.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import FrameType

_SECONDS = 15.0


def words(command: Sequence[str]) -> list[str]:
    """Return a command that runs this one; it is to be started with a pipe as its standard input, kept open."""
    return [sys.executable, "-m", __name__, *command]


def run(command: Sequence[str]) -> int:
    """Run a command until it ends, or standard input does; SIGTERM is passed on.

    Returns:
        Its exit code; 128 and the signal's number where one has ended it.
    """
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603

    def pass_on(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    def watch() -> None:
        while os.read(0, 1024):  # not through sys.stdin: a thread that holds its lock can't be left behind
            pass
        child.terminate()
        try:
            child.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()

    signal.signal(signal.SIGTERM, pass_on)
    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
