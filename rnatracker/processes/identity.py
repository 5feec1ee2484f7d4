"""Which process runs a run: tags that name it, and whether it still lives.

Owns the five tags. A process id alone is used again by the system, so the machine's boot and the process's start are
kept with it; and a container counts its processes by itself, even where it has its host's name. Must not know MLflow.
Read next: `rnatracker/tracking/contract.py`, which refuses to reopen a run by it, and `rnatracker/tracking/store.py`,
which ends dead runs by it.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

HOST = "rnatracker.host"
PID = "rnatracker.pid"
BOOT_ID = "rnatracker.boot_id"
PROCESS_START = "rnatracker.process_start"
PID_NAMESPACE = "rnatracker.pid_namespace"

UNKNOWN = "unknown"
_POLL_SECONDS = 0.1


def tags_of(pid: int) -> dict[str, str]:
    """Return the tags that name a process of this machine."""
    return {
        HOST: socket.gethostname(),
        PID: str(pid),
        BOOT_ID: _boot_id(),
        PROCESS_START: _start(pid),
        PID_NAMESPACE: _pid_namespace(),
    }


def own_tags() -> dict[str, str]:
    """Return the tags that name this process."""
    return tags_of(os.getpid())


def starter_tags() -> dict[str, str]:
    """Return the tags that name the process which started this one as its worker; this one's own if none did."""
    starter = multiprocessing.parent_process()
    return own_tags() if starter is None else tags_of(starter.pid or 0)


def is_alive_elsewhere(tags: Mapping[str, str]) -> bool:
    """Tell whether the process that these tags name lives, on this machine, and is not this one.

    Of a process on another machine nothing can be known: it counts as gone.
    """
    pid = tags.get(PID, "")
    if tags.get(HOST) != socket.gethostname() or tags.get(BOOT_ID) != _boot_id() or not pid.isdigit():
        return False
    started = _start(int(pid))
    return int(pid) != os.getpid() and started not in ("", UNKNOWN) and started == tags.get(PROCESS_START)


def is_dead(tags: Mapping[str, str]) -> bool:
    """Tell whether the process that these tags name was one of this machine and surely lives no more.

    Where that can't be known (another host, a container, tags that are missing) it counts as alive.
    """
    pid, started = tags.get(PID, ""), tags.get(PROCESS_START, "")
    if tags.get(HOST) != socket.gethostname() or tags.get(PID_NAMESPACE) != _pid_namespace():
        return False
    if not pid.isdigit() or not tags.get(BOOT_ID) or started in ("", UNKNOWN):
        return False
    return tags[BOOT_ID] != _boot_id() or _start(int(pid)) not in (started, UNKNOWN)


def wait_until_gone(processes: Iterable[Mapping[str, str]], seconds: float) -> bool:
    """Wait until the processes that these tags name live no more, for so long at most; tell whether they don't."""
    until, left = time.monotonic() + seconds, list(processes)
    while left := [tags for tags in left if is_alive_elsewhere(tags)]:
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return UNKNOWN


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return UNKNOWN


def _start(pid: int) -> str:
    """Return when a process started, in hundredths of a second since the machine did; an empty string if it is gone.

    Counted from the boot, it stays the same when the clock is set.
    """
    import psutil

    try:
        booted = psutil.boot_time()
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):  # ended, and only waits to be collected
            return ""
        return str(round((process.create_time() - booted) * 100))
    except psutil.NoSuchProcess:
        return ""
    except (psutil.Error, OSError):
        return UNKNOWN
