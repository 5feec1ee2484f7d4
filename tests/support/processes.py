"""Commands that run in real processes: what they say, who works for them, and that nothing of them is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_PATIENCE_SECONDS = 240.0
"""Enough for a loaded machine: a test that hangs fails, and one that is slow doesn't."""


class Running:
    """A command that runs, and what it has said so far, line by line."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._out: list[str] = []
        self._threads = [threading.Thread(target=target) for target in (self._listen, self._read)]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._out.append(self.process.stdout.read())

    def wait_for(self, text: str) -> None:
        """Wait until it has said this."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while not any(text in line for line in self.said):
            assert time.monotonic() < until, self.said
            if self.process.poll() is not None:
                self._threads[0].join()
                assert any(text in line for line in self.said), f"it ended without saying {text!r}: {self.said}"
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def workers(self) -> list[int]:
        """Return its spawned workers, as Linux lists them."""
        children = map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())
        return [child for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]

    def end(self) -> tuple[int, dict[str, Any]]:
        """Wait for its end; return its exit code and the JSON it printed."""
        try:
            self.process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not over after {_PATIENCE_SECONDS:.0f} s; it said {self.said}") from None
        for thread in self._threads:
            thread.join()
        out = "".join(self._out)
        return self.process.returncode, json.loads(out) if out else {}

    def close(self) -> None:
        """Leave nothing of it."""
        if self.process.poll() is None:
            for pid in (*self.workers(), self.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.end()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def running(command: list[str]) -> Iterator[Running]:
    """Run a command beside the test, and end it with the block."""
    started = Running(command)
    try:
        yield started
    finally:
        started.close()


def is_alive(pid: int) -> bool:
    """Tell whether a process lives; one that only waits to be collected does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
