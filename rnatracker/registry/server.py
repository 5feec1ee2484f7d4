"""A registered model over HTTP: MLflow's scoring server, in this process.

Owns starting and ending it. What it answers, MLflow and `python_model.py` decide: POST /invocations with JSON or CSV,
GET /ping. Must not know typer. Read next: `python_model.py`.
"""

from __future__ import annotations

import logging
import signal
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rnatracker.errors import ConfigError
from rnatracker.prediction.table import INPUT
from rnatracker.processes.stop import are_ignored
from rnatracker.registry.mlflow_model import example

_WAITING = 128
"""Connections that may wait to be taken."""


def reserve(host: str, port: int) -> socket.socket:
    """Take a port, before anything else is started.

    Raises:
        ConfigError: if it is in use, or there is no such address on this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(f"--host {host}: no such address ({error.strerror})", "use 127.0.0.1") from None
    taken = socket.socket(family, kind)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(address)
        taken.listen(_WAITING)
    except OSError as error:
        taken.close()
        if isinstance(error, PermissionError):
            remedy = "ports below 1024 are the system's; use another, as in --port 5001"
        else:
            remedy = f"end the program that uses it, or use another, as in --port {port + 1}"
        raise ConfigError(f"--port {port}: can't be used on {host} ({error.strerror})", remedy) from None
    return taken


def address_of(host: str, port: int) -> str:
    """Return the address at which this machine reaches the server."""
    here = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{here}:{port}"


def example_request(address: str) -> str:
    """Return a command that asks the server for the fractions of a short sequence."""
    sequence = example()[INPUT][0]
    body = f'{{"dataframe_records": [{{"{INPUT}": "{sequence}"}}]}}'
    return f"curl {address}/invocations -H 'Content-Type: application/json' -d '{body}'"


def serve(folder: Path, taken: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve the model in a folder until this process is told to stop, by Ctrl-C or SIGTERM.

    Args:
        folder: a version's files; MLflow loads them, and checks the weights again.
        taken: the port, as `reserve` gives it; closed at the end.
        on_ready: told when requests are answered.

    Raises:
        KeyboardInterrupt: when it was ended by Ctrl-C.
    """
    import uvicorn
    from mlflow import pyfunc
    from mlflow.pyfunc import scoring_server

    class Server(uvicorn.Server):
        """Says when it is ready, and goes on ignoring what this process was started to ignore."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            ignored = are_ignored()
            with super().capture_signals():
                for number in ignored:
                    signal.signal(number, signal.SIG_IGN)
                yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                on_ready()

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with taken, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        app = scoring_server.init(pyfunc.load_model(str(folder)))
        Server(uvicorn.Config(app, log_level="warning", lifespan="off")).run(sockets=[taken])
