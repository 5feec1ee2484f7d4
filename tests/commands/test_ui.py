"""`rnatracker ui`: how long its server stays."""

from __future__ import annotations

import sys
from pathlib import Path

from rnatracker.commands import ui

_SERVER = """
import pathlib, signal, socket, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
server.accept()
was_ended = signal.sigtimedwait([signal.SIGTERM], 1.0) is not None
pathlib.Path(sys.argv[2]).write_text("was ended" if was_ended else "ended by itself")
"""


def test_server_stays_after_it_has_answered(tmp_path: Path) -> None:
    port = ui._free_port(5600)
    ui._serve([sys.executable, "-c", _SERVER, str(port), str(tmp_path / "end")], port, "http://here")
    assert (tmp_path / "end").read_text() == "ended by itself"
