"""`rnatracker ui`.

Owns starting MLflow's UI on the store and stopping it. Which command that is, the tracker says.
"""

from __future__ import annotations

import shlex
import signal
import socket
import subprocess
import time
from dataclasses import replace
from typing import Annotated

import typer

from rnatracker.errors import TrackingError
from rnatracker.processes import tethered
from rnatracker.terminal import options, output

_BLOCKED = (5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6697, 10080)
"""Ports that browsers refuse to open, since other protocols use them."""
_READY_SECONDS = 60


def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; the next free one is taken.", min=1, max=65535)] = 5000,
    study: Annotated[
        str | None, typer.Option(help="Open on the trials of a study, the best first.", metavar="NAME")
    ] = None,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
) -> None:
    """Open MLflow's UI on this project's runs, on this machine only; Ctrl-C ends it.

    rnatracker ui
    """
    from rnatracker.processes.stop import StopSignal
    from rnatracker.tracking import ui_views
    from rnatracker.tracking.hints import command
    from rnatracker.tracking.open import open_tracker
    from rnatracker.tracking.settings import settings_from

    # A server has a UI of its own: this one is for the store, whatever the environment names.
    settings = replace(settings_from(store, None, experiment, False), tracking_uri=None)
    tracker = open_tracker(settings)
    free = _free_port(port)
    if study is None:
        view = ui_views.RUNS
        tracker.keep_view(view, ui_views.of_runs())  # the store may be older than this view
    else:
        view = ui_views.study_key(study)
        if not tracker.has_view(view):
            raise TrackingError(
                f"--study {study}: {tracker.location} has no such study in the experiment {experiment}",
                f"see which there are with: {command(['study', '--list'], settings)}",
            )
    server, address = tracker.ui_command(free), tracker.ui_url(free, view)
    output.say("starting MLflow's UI, a few seconds ...")
    with StopSignal():  # SIGTERM and a closed terminal end the server too, as Ctrl-C does
        _serve(shlex.split(str(server)), free, address)


def _serve(command: list[str], port: int, address: str | None) -> None:
    server = subprocess.Popen(  # noqa: S603
        tethered.words(["/usr/bin/env", *command]),  # killed outright, this command leaves no server behind
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # it is ended from here, not by a Ctrl-C that this program was started to ignore
    )
    try:
        _wait_until_ready(server, port)
        output.tell(f"Open {address}\nEnd with Ctrl-C")
        _wait_until_ended(server)
    except KeyboardInterrupt:
        output.say("ended")
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=20)


def _wait_until_ended(server: subprocess.Popen[str]) -> None:
    """Wait until the server ends; `communicate` would close the pipe by which it knows that this process lives."""
    for _ in server.stderr or ():
        pass
    server.wait()


def _free_port(first: int) -> int:
    for port in range(first, min(first + 50, 65536)):
        if port in _BLOCKED:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise TrackingError(f"--port {first}: it and the 49 ports after it are in use", "give another")


def _wait_until_ready(server: subprocess.Popen[str], port: int) -> None:
    """Wait until the server answers.

    Raises:
        TrackingError: if it ends, or doesn't answer in a minute.
    """
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            lines = (server.communicate()[1] or "").strip().splitlines()
            raise TrackingError(f"MLflow's UI ended at once: {lines[-1] if lines else 'it said nothing'}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TrackingError(f"MLflow's UI does not answer on port {port} after {_READY_SECONDS} s", "try another --port")
