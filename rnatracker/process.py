"""Which process runs a run: tags that name it, and whether it still lives.

Owns the four tags. A process id alone is used again by the system, so the machine's boot and the process's
start are kept with it. Must not know MLflow. Read next: `tracked.py`, which refuses to reopen a run by it.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

HOST = "rnatracker.host"
PID = "rnatracker.pid"
BOOT_ID = "rnatracker.boot_id"
PROCESS_START = "rnatracker.process_start"

UNKNOWN = "unknown"


def tags_of(pid: int) -> dict[str, str]:
    """Return the tags that name a process of this machine."""
    return {HOST: socket.gethostname(), PID: str(pid), BOOT_ID: _boot_id(), PROCESS_START: _start(pid)}


def own_tags() -> dict[str, str]:
    """Return the tags that name this process."""
    return tags_of(os.getpid())


def is_alive_elsewhere(tags: Mapping[str, str]) -> bool:
    """Tell whether the process that these tags name lives, on this machine, and is not this one.

    Of a process on another machine nothing can be known: it counts as gone.
    """
    pid = tags.get(PID, "")
    if tags.get(HOST) != socket.gethostname() or tags.get(BOOT_ID) != _boot_id() or not pid.isdigit():
        return False
    started = _start(int(pid))
    return int(pid) != os.getpid() and started not in ("", UNKNOWN) and started == tags.get(PROCESS_START)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return UNKNOWN


def _start(pid: int) -> str:
    """Return when a process started, in whatever unit the system has; an empty string if it is gone."""
    if Path("/proc/self/stat").exists():
        try:
            # The second field, the command, may hold spaces and brackets: count from behind its last bracket.
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else fields[19]  # Z, X: ended, and only waits to be collected
    try:
        listed = subprocess.run(  # noqa: S603 (a fixed command with a number)
            ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
    except OSError:
        return UNKNOWN
    return listed.stdout.strip()
