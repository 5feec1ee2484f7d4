"""One study on several hosts with nothing shared but servers: begun in the same second, killed, servers restarted."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from rnatracker.errors import StudyError
from rnatracker.processes.identity import HOST
from rnatracker.search.definition import load_search
from rnatracker.search.launchers.task import STORAGE
from rnatracker.search.remote import heartbeat
from rnatracker.search.study import RUN_ID, WORKER, Search
from rnatracker.search.trial_runs import opened_tracker
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support import postgresql
from tests.support.servers import start_server
from tests.support.toys import toy_transcripts, write_table
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

_AT_ONCE = 16
_AN_EPOCH = 1.0
"""Seconds that an epoch takes, about."""
_LONG_TESTS = "RNATRACKER_LONG_TESTS"
"""Environment variable: the test with kills takes ten minutes or more."""


@dataclass(frozen=True)
class Size:
    """How large a test is: hosts at a time, trials, epochs, kills, and seconds before each."""

    hosts: int
    trials: int
    epochs: int
    kills: int
    seconds: float


_SHORT, _LONG = Size(4, 8, 40, 3, 4.0), Size(8, 32, 200, 60, 10.0)


class Hosts:
    """Hosts with a name and a store of their own each, of which each may run a worker."""

    def __init__(self, folder: Path, database: str, uri: str) -> None:
        self._folder, self._database, self._uri = folder, database, uri
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._begun = 0

    def begin(self, *words: str) -> None:
        """Begin a worker on a new host."""
        number, self._begun = self._begun, self._begun + 1
        folder = self._folder / f"host{number}"
        folder.mkdir()
        command = [sys.executable, "-m", "rnatracker", "tune", "--study", "toy", "--tracking-uri", self._uri]
        named = ["unshare", "-u", "sh", "-c", f'hostname host{number}; exec "$@"', "sh"]
        environment = os.environ | {STORAGE: self._database, heartbeat.VARIABLE: "2", "OMP_NUM_THREADS": "1"}
        with (folder / "said.txt").open("wb") as said:
            self._running[number] = subprocess.Popen(
                [*named, *command, "--store", str(folder / "store"), *words],
                env=environment,
                cwd=folder,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def kill(self, rng: random.Random) -> str:
        """Kill all processes of a host at once, as a power cut would; return the host's name."""
        number = rng.choice([number for number, each in self._running.items() if each.poll() is None])
        killed = self._running.pop(number)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        return f"host{number}"

    def wait(self, seconds: float) -> None:
        """Wait until all have ended.

        Raises:
            AssertionError: if one ends with an error.
        """
        for number, each in self._running.items():
            said = (self._folder / f"host{number}" / "said.txt").read_text
            assert each.wait(timeout=seconds) == 0, said()

    def close(self) -> None:
        for each in self._running.values():
            if each.poll() is None:
                os.killpg(each.pid, signal.SIGKILL)
            each.wait()

    def at_work(self) -> int:
        """Return how many trials somebody works on."""
        with suppress(StudyError):  # there is no study yet
            return len(self.search().running())
        return 0

    def is_over(self) -> bool:
        """Tell whether all trials have ended."""
        search = self.search()
        return search.counts().over == search.request.trials

    def search(self) -> Search:
        return load_search("toy", self._database, TrackingSettings(self._folder / "elsewhere", self._uri))


Restart = Callable[[], None]


@pytest.fixture
def tracking(tmp_path: Path, mlflow_store: Path) -> Iterator[tuple[str, Restart]]:
    """The address of a tracking server, and what restarts it."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    served = [start_server(mlflow_store, tmp_path / "served", port)]

    def stop() -> None:
        os.killpg(served[-1].pid, signal.SIGKILL)
        served[-1].wait()

    def restart() -> None:
        stop()
        served.append(start_server(mlflow_store, tmp_path / "served", port))

    yield f"http://127.0.0.1:{port}", restart
    stop()


@pytest.fixture
def hosts(tmp_path: Path, database: str, tracking: tuple[str, Restart]) -> Iterator[Hosts]:
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("hosts need unshare, as root")
    made = Hosts(tmp_path, database, tracking[0])
    yield made
    made.close()


def _small(folder: Path, epochs: int, trials: int) -> list[str]:
    data = write_table(toy_transcripts(60), folder / "toy.tsv")
    small = ["--set", "encoding.max_length=60", "--set", "model.rnn_hidden=4", "--space", "smoke", "--no-baseline"]
    return ["--data", str(data), *small, "--epochs", str(epochs), "--trials", str(trials), "--sampler", "random"]


def _check(search: Search, trials: int, epochs: int) -> None:
    """Check that each trial is there once with one run and each epoch once, and that nobody works any more."""
    assert [trial.number for trial in search.trials()] == list(range(trials))
    assert not search.running()
    tracker = open_tracker(search.request.tracking)
    (study,) = [run for run in tracker.list_runs().runs if run.kind == "study"]
    children = tracker.find(study.run_id).children()
    assert len(children) == trials
    for trial in search.trials():
        assert trial.state == TrialState.COMPLETE
        assert sorted(trial.intermediate_values) == list(range(1, epochs + 1))
        run = tracker.find(trial.user_attrs[RUN_ID])
        assert run.logged_steps("val/pcc_mean") == set(range(1, epochs + 1))
        assert run.status() == "FINISHED"


def test_hosts_that_begin_in_the_same_second_make_one_study(tmp_path: Path, hosts: Hosts) -> None:
    words = [*_small(tmp_path, 2, _AT_ONCE), "--scheduler", "none", "--threads", "1"]
    for _ in range(_AT_ONCE):
        hosts.begin(*words)
    hosts.wait(500)
    _check(hosts.search(), _AT_ONCE, 2)


@dataclass(frozen=True)
class Kill:
    """A host that was killed.

    Attributes:
        second: when, of the test.
        trial: which it worked on; None: it had none.
        epochs: how many of them had been reported,
        kept: and how many of these are where another host finds them.
        lost: seconds that the others took; `_AN_EPOCH` for each whose time isn't known.
    """

    second: float
    trial: int | None = None
    epochs: int = 0
    kept: int = 0
    lost: float = 0.0


def _killed(hosts: Hosts, rng: random.Random, begun: float) -> Kill:
    """Kill a host; tell what that cost."""
    host = hosts.kill(rng)
    search = hosts.search()
    trial = next((t for t in search.running() if (t.user_attrs.get(WORKER) or {}).get(HOST) == host), None)
    if trial is None or RUN_ID not in trial.user_attrs:
        return Kill(time.monotonic() - begun)
    run_id, reported = trial.user_attrs[RUN_ID], max(trial.intermediate_values, default=0)
    tracker = opened_tracker(search.request.tracking, limit=200)  # its server may have just been restarted
    log = tracker.find(run_id).files.log
    kept = len(re.findall(r"  epoch +\d+/", log.read_text())) if log.is_file() else 0
    took = MlflowClient(search.request.tracking.tracking_uri).get_metric_history(run_id, "time/epoch_seconds")
    lost = sum(each.value for each in took if each.step > kept) + (reported - len(took)) * _AN_EPOCH
    return Kill(time.monotonic() - begun, trial.number, reported, kept, lost)


def test_study_outlives_killed_hosts_and_restarted_servers(
    tmp_path: Path, hosts: Hosts, server: postgresql.Server, tracking: tuple[str, Restart]
) -> None:
    """Whoever comes next needs no file of transcripts: that is gone after the first host has begun."""
    size, rng = _LONG if os.environ.get(_LONG_TESTS) else _SHORT, random.Random(1)
    words = [*_small(tmp_path, size.epochs, size.trials), "--scheduler", "none", "--threads", "1"]
    kills: list[Kill] = []
    begun = time.monotonic()
    for _ in range(size.hosts):
        hosts.begin(*words)
    wait_until(lambda: hosts.at_work() == size.hosts, "each host has a trial")
    (tmp_path / "toy.tsv").unlink()
    while len(kills) < size.kills and not hosts.is_over():
        time.sleep(size.seconds)
        if len(kills) == size.kills // 3:
            server.stop()
            time.sleep(1)
            server.start()
        if len(kills) == 2 * size.kills // 3:
            tracking[1]()
        kills.append(_killed(hosts, rng, begun))
        hosts.begin()
    hosts.wait(900)
    for kill in kills:
        print(kill)
    print(f"{len(kills)} kills in {time.monotonic() - begun:.0f} s")
    _check(hosts.search(), size.trials, size.epochs)
    assert max(kill.lost for kill in kills) < 60
