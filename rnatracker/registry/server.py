"""A model over HTTP, with the requests and answers of MLflow's scoring server.

Owns starting and ending it. Only code that is installed runs: nothing in a model's folder but its checked weights is
loaded. Must not know typer. Read next: `http_app.py`, which answers.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rnatracker.errors import ConfigError
from rnatracker.prediction.table import INPUT
from rnatracker.processes.stop import are_ignored
from rnatracker.registry.mlflow_model import example

if TYPE_CHECKING:
    from rnatracker.prediction.predictor import Predictor

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


def serve(
    predictor: Predictor, taken: socket.socket, on_ready: Callable[[], None], *, host: str, max_body: int
) -> None:
    """Serve a model until this process is told to stop, by Ctrl-C or SIGTERM.

    Args:
        predictor: the model.
        taken: the port, as `reserve` gives it; closed at the end.
        on_ready: told when requests are answered.
        host: the address that `taken` listens on. On this machine's own only requests for it are answered.
        max_body: bytes of a request's body at most.

    Raises:
        KeyboardInterrupt: when it was ended by Ctrl-C.
    """
    import uvicorn

    from rnatracker.registry.http_app import IDLE_SECONDS, LOOPBACK, App
    from rnatracker.registry.http_protocol import protocol

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

    app = App(predictor, max_body=max_body, hosts=LOOPBACK if host in LOOPBACK else None)
    # Its own log tells of each bad request, with tracebacks; what is ours to tell, `App` does.
    config = uvicorn.Config(app, http=protocol(IDLE_SECONDS), ws="none", log_level="critical", lifespan="off")
    with taken:
        Server(config).run(sockets=[taken])
