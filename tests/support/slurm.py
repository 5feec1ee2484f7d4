"""A SLURM cluster of two nodes on this machine, from the system's packages; as root only."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
_KEY = Path("/etc/munge/munge.key")
_CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldPort={port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=10
OverTimeLimit=0
JobRequeue=1
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs={cpus} RealMemory=4000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs={cpus} RealMemory=4000
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Return why there can't be a cluster here; None if there can."""
    missing = [each for each in _PROGRAMS if shutil.which(each) is None and not Path(f"/usr/sbin/{each}").exists()]
    if missing:
        return f"SLURM is not installed: no {missing[0]}"
    return None if os.geteuid() == 0 else "SLURM is started by root only"


class Cluster:
    """A running cluster.

    Args:
        folder: where its files are to be.
        cpus: of each node.

    Attributes:
        environment: what its commands need.
    """

    def __init__(self, folder: Path, cpus: int = 2) -> None:
        self._folder = folder
        host = socket.gethostname()
        if host not in Path("/etc/hosts").read_text(encoding="utf-8"):
            with Path("/etc/hosts").open("a", encoding="utf-8") as file:
                file.write(f"\n127.0.0.1 {host}\n")
        port, first, second = _free_ports(3)
        places = {"host": host, "folder": folder, "port": port, "first": first, "second": second, "cpus": cpus}
        (folder / "state").mkdir(parents=True)
        (folder / "slurm.conf").write_text(_CONFIG.format(**places), encoding="utf-8")
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n", encoding="utf-8")
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        _start_munge()
        self._processes = [self._start("slurmctld", "-D"), self._start("slurmd", "-D", "-N", "n1")]
        self._processes.append(self._start("slurmd", "-D", "-N", "n2"))
        self._wait()

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        path = shutil.which(command[0]) or f"/usr/sbin/{command[0]}"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(
            [path, *command[1:]], env=os.environ | self.environment, start_new_session=True, **quiet
        )

    def _wait(self) -> None:
        for _ in range(120):
            if self.run("sinfo", "-h", "-o", "%T %D", check=False).strip() == "idle 2":
                return
            time.sleep(0.25)
        raise RuntimeError(self.run("sinfo", check=False))

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of SLURM's commands; return what it printed."""
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=check, timeout=60
        )
        return done.stdout

    def close(self) -> None:
        """End all jobs, and the cluster."""
        self.run("scancel", "--state=PENDING", check=False)
        self.run("scancel", "--state=RUNNING", check=False)
        for process in reversed(self._processes):
            process.terminate()
            process.wait()


def _start_munge() -> None:
    """Start the service by which SLURM's programs know each other, unless it runs."""
    if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
        return
    if not _KEY.exists() or _KEY.stat().st_size < 32:
        _KEY.write_bytes(os.urandom(1024))
    shutil.chown(_KEY, "munge", "munge")
    _KEY.chmod(0o400)
    Path("/run/munge").mkdir(exist_ok=True)
    shutil.chown("/run/munge", "munge", "munge")
    subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged"], check=True, capture_output=True)


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
