"""A PostgreSQL server of a test's own, from the system's package."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_PASSWORD = "secret"
_USER = "postgres"
"""As root PostgreSQL doesn't run: Debian's package has made this user."""


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the latest version's; None if it isn't installed."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else list(Path("/usr/lib/postgresql").glob("*/bin"))
    return max((each for each in places if (each / "initdb").exists()), default=None)


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        folder: its files.
        port: its port.
    """

    folder: Path
    port: int

    def new_database(self, name: str) -> str:
        """Make a database; return its address."""
        _run("psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", _USER, "-c", f'create database "{name}"', _USER)
        return f"postgresql://{_USER}:{_PASSWORD}@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        """Stop it, as a restart of its machine would."""
        _run("pg_ctl", "-D", str(self.folder / "data"), "-m", "fast", "-w", "stop")

    def start(self) -> None:
        """Start it."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        _run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-o", options, "-l", f"{self.folder}/log", "start")

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        shutil.rmtree(self.folder)


def new_server() -> Server:
    """Make a server, and start it."""
    folder = Path(tempfile.mkdtemp(prefix="postgresql."))
    if os.geteuid() == 0:
        shutil.chown(folder, _USER)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    secret = folder / "secret"
    secret.write_text(_PASSWORD, encoding="utf-8")
    kinds = ["-A", "scram-sha-256", f"--pwfile={secret}"]
    _run("initdb", "-D", str(folder / "data"), "-U", _USER, *kinds, "--no-sync")
    server = Server(folder, port)
    server.start()
    return server


def _run(program: str, *arguments: str) -> None:
    as_user = ["runuser", "-u", _USER, "--"] if os.geteuid() == 0 else []
    command = [*as_user, str((programs() or Path()) / program), *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # a pipe would be the server's too
    subprocess.run(command, check=True, cwd="/", env=os.environ | {"PGPASSWORD": _PASSWORD}, **quiet)
