"""One study on several hosts with nothing shared but servers: begun in the same second, killed, servers restarted."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from optuna.trial import TrialState

from rnatracker.errors import StudyError
from rnatracker.search.definition import load_search
from rnatracker.search.launchers.task import STORAGE
from rnatracker.search.remote import heartbeat
from rnatracker.search.study import RUN_ID, Search
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support import postgresql
from tests.support.servers import start_server
from tests.support.toys import toy_transcripts, write_table
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

_HOSTS, _TRIALS, _EPOCHS = 4, 8, 40
_KILLS, _EVERY_SECONDS = 3, 4.0


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

    def kill(self, rng: random.Random) -> None:
        """Kill all processes of a host at once, as a power cut would."""
        alive = [number for number, each in self._running.items() if each.poll() is None]
        if alive:
            killed = self._running.pop(rng.choice(alive))
            os.killpg(killed.pid, signal.SIGKILL)
            killed.wait()

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
        return self.search().counts().over == _TRIALS

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
    words = [*_small(tmp_path, 3, _TRIALS), "--scheduler", "none", "--threads", "1"]
    for _ in range(_HOSTS):
        hosts.begin(*words)
    hosts.wait(300)
    _check(hosts.search(), _TRIALS, 3)


def test_study_outlives_killed_hosts_and_restarted_servers(
    tmp_path: Path, hosts: Hosts, server: postgresql.Server, tracking: tuple[str, Restart]
) -> None:
    """Whoever comes next needs no file of transcripts: that is gone after the first host has begun."""
    rng, words = random.Random(1), [*_small(tmp_path, _EPOCHS, _TRIALS), "--scheduler", "none", "--threads", "1"]
    for _ in range(_HOSTS):
        hosts.begin(*words)
    wait_until(lambda: hosts.at_work() == _HOSTS, "each host has a trial")
    for i in range(_KILLS):
        time.sleep(_EVERY_SECONDS)
        wait_until(lambda: hosts.at_work() == _HOSTS or hosts.is_over(), "a host that has just begun has a trial too")
        if i == 1:
            server.stop()
            time.sleep(1)
            server.start()
        if i == 2:
            tracking[1]()
        hosts.kill(rng)
        hosts.begin(*(words if i == 0 else []))
    hosts.wait(400)
    _check(hosts.search(), _TRIALS, _EPOCHS)
