"""Models over HTTP: `rnatracker serve` as a process, and what it is asked."""

from __future__ import annotations

import asyncio
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

from rnatracker.registry.http_app import App
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


def ask(application: App, sequences: list[str]) -> list[dict[str, Any]]:
    """Ask an application for predictions, in this process; return a row for each sequence."""
    body = json.dumps({"dataframe_records": [{"sequence": sequence} for sequence in sequences]}).encode()
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"host", b"127.0.0.1:5001")]
    scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": headers, "query_string": b""}
    asyncio.run(application(scope, receive, send))
    assert sent[0]["status"] == 200, sent
    found: list[dict[str, Any]] = json.loads(b"".join(each.get("body", b"") for each in sent[1:]))["predictions"]
    return found
