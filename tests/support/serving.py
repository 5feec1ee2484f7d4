"""Models over HTTP: `rnatracker serve` as a process, and what it is asked."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import paths


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def post(address: str, body: str, content_type: str = "application/json") -> tuple[int, Any]:
    """Ask for predictions; return the status and the answer."""
    request = urllib.request.Request(f"{address}/invocations", body.encode(), {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def environment() -> dict[str, str]:
    """Return the environment of a process that imports this checkout and computes with one thread."""
    return {**os.environ, "PYTHONPATH": str(paths.ROOT), "OMP_NUM_THREADS": "1"}


@contextmanager
def serving(store: Path, port: int, variables: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Serve the champion of a store, ready; give the process and the two lines that it says first."""
    command = [sys.executable, str(paths.CLI), "serve", "--port", str(port), "--store", str(store)]
    others = {key: value for key, value in variables.items() if key != "MLFLOW_TRACKING_URI"}
    process = subprocess.Popen(command, env=others, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, [process.stdout.readline().strip() for _ in range(2)]
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
