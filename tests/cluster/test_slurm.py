"""A study whose workers are jobs of a real SLURM: submitted, requeued at their time limit, left, cancelled."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from rnatracker.errors import RNATrackerError
from rnatracker.search.definition import load_search
from rnatracker.search.launchers.task import STORAGE
from rnatracker.search.remote import heartbeat
from rnatracker.search.study import RUN_ID, Search
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support import slurm
from tests.support.servers import start_server
from tests.support.toys import toy_transcripts, write_table
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

_OFTEN = {heartbeat.VARIABLE: "3"}
_SMALL = ["--set", "encoding.max_length=60", "--set", "train.batch_size=8", "--set", "model.rnn_hidden=4"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.Cluster]:
    reason = slurm.why_not()
    if reason is not None:
        pytest.skip(reason)
    made = slurm.Cluster(tmp_path_factory.mktemp("slurm"))
    yield made
    made.close()


class Site:
    """A site with a cluster and servers, and a user on its login node."""

    def __init__(self, folder: Path, cluster: slurm.Cluster, database: str, uri: str) -> None:
        self.folder, self.cluster, self.database, self.uri = folder, cluster, database, uri
        self.data = write_table(toy_transcripts(60), folder / "toy.tsv")
        self._begun: list[subprocess.Popen[str]] = []

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Begin a `tune` command."""
        return self.run("tune", "--study", "toy", "--launcher", "slurm", *words)

    def run(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command."""
        environment = os.environ | self.cluster.environment | {STORAGE: self.database, "OMP_NUM_THREADS": "1"} | _OFTEN
        command = [sys.executable, "-m", "rnatracker", *words, "--tracking-uri", self.uri]
        command += ["--store", str(self.folder / "store")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        begun = subprocess.Popen(command, env=environment, text=True, cwd=self.folder, **pipes)  # type: ignore[call-overload]
        self._begun.append(begun)
        return begun  # type: ignore[no-any-return]

    def close(self) -> None:
        """End what a test has left."""
        for each in self._begun:
            if each.poll() is None:
                each.kill()
                each.communicate()

    def search(self) -> Search:
        return load_search("toy", self.database, TrackingSettings(self.folder / "elsewhere", self.uri))

    def queue(self) -> list[str]:
        return self.cluster.run("squeue", "-h", "--array", "-o", "%i %T").splitlines()


@pytest.fixture
def site(tmp_path: Path, cluster: slurm.Cluster, database: str, mlflow_store: Path) -> Iterator[Site]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with start_server(mlflow_store, tmp_path / "served", port) as server:
        made = Site(tmp_path, cluster, database, f"http://127.0.0.1:{port}")
        yield made
        made.close()
        os.killpg(server.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, said = process.communicate(timeout=900)
    assert process.returncode == 0, said
    return dict(json.loads(out))


def test_study_of_jobs_ends_as_one_on_this_host_does(site: Site) -> None:
    """The transcripts come from the study's run: their file is gone before the jobs begin."""
    search_for = ["--trials", "5", "--epochs", "3", "--space", "smoke", *_SMALL, "--sampler", "random"]
    begun = site.begin("--data", str(site.data), *search_for, "--workers", "2", "--slurm", "time=20", "--json")
    wait_until(lambda: site.queue(), "jobs were submitted")
    site.data.rename(site.folder / "moved.tsv")
    told = _end(begun)
    assert (told["state"], told["trials"]["running"]) == ("FINISHED", 0)
    search = site.search()
    assert len(search.trials()) == 5
    assert {trial.state for trial in search.trials()} <= {TrialState.COMPLETE, TrialState.WAITING}
    said = "".join(path.read_text() for path in (site.folder / "store" / "slurm" / "toy").glob("*log.*"))
    assert "secret" not in said


def test_study_is_left_watched_again_and_cancelled(site: Site) -> None:
    long = ["--trials", "4", "--epochs", "2000", "--space", "smoke", *_SMALL, "--scheduler", "none"]
    begun = site.begin("--data", str(site.data), *long, "--workers", "2", "--slurm", "time=20")
    wait_until(lambda: _training(site) == 2, "both jobs train")
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=60)
    assert begun.returncode == 0
    assert "--workers 0" in said and "--cancel" in said and "secret" not in said
    assert len(site.queue()) == 2
    cancelled = site.begin("--cancel")
    _, said = cancelled.communicate(timeout=60)
    assert "told 2 jobs to save and end" in said
    wait_until(lambda: not site.queue(), "the jobs have ended")
    states = [trial.state for trial in site.search().trials()]
    assert TrialState.RUNNING not in states
    assert all(trial.intermediate_values for trial in site.search().trials()[:2])


def _training(site: Site) -> int:
    """Return how many trials have reported something."""
    with suppress(RNATrackerError):  # there is no study yet
        return sum(bool(trial.intermediate_values) for trial in site.search().trials())
    return 0


def test_jobs_at_their_time_limit_save_and_are_requeued_and_lose_no_epoch(site: Site) -> None:
    """SLURM's signal ahead of the limit is sent by hand."""
    search_for = ["--trials", "3", "--epochs", "150", "--space", "smoke", *_SMALL, "--sampler", "random"]
    submit = ["--scheduler", "none", "--workers", "2", "--slurm", "time=20", "--json"]
    begun = site.begin("--data", str(site.data), *search_for, *submit)
    wait_until(lambda: _training(site) == 2, "both jobs train")
    jobs = [line.split()[0] for line in site.queue()]
    site.cluster.run("scancel", "--signal=USR2", *jobs)
    wait_until(lambda: not any("RUNNING" in line for line in site.queue()), "both have saved and are requeued")
    assert sorted(line.split()[0] for line in site.queue()) == sorted(jobs)
    stopped = [len(trial.intermediate_values) for trial in site.search().trials()]
    assert 0 < sum(stopped) < 300
    told = _end(begun)
    assert (told["state"], told["trials"]["complete"]) == ("FINISHED", 3)
    search = site.search()
    tracker = open_tracker(search.request.tracking)
    for trial in search.trials():
        log = tracker.find(trial.user_attrs[RUN_ID]).files.log.read_text()
        epochs = Counter(int(number) for number in re.findall(r"^\S+  epoch +(\d+)/", log, re.MULTILINE))
        assert epochs == Counter(range(1, 151))


def test_study_outlives_time_limits_and_a_node_that_is_lost_and_finds_what_one_worker_does(site: Site) -> None:
    """Each trial goes on where it was, whichever job takes it over: each epoch is trained once."""
    epochs, trials = 90, 12
    search_for = ["--trials", str(trials), "--epochs", str(epochs), "--space", "smoke", *_SMALL]
    search_for += ["--data", str(site.data), "--sampler", "random", "--scheduler", "none", "--no-baseline"]
    begun = site.begin(*search_for, "--workers", "4", "--slurm", "time=2", "--json")
    wait_until(lambda: _training(site) >= 4, "four jobs have trained")
    site.cluster.run("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    wait_until(lambda: any("PENDING" in line for line in site.queue()), "the jobs of that node are requeued")
    # Where its slurmd has answered since, the node is up again by itself, and this is refused.
    site.cluster.run("scontrol", "update", "nodename=n2", "state=resume", check=False)
    told = _end(begun)
    assert (told["state"], told["trials"]["complete"]) == ("FINISHED", trials)
    search = site.search()
    assert [trial.number for trial in search.trials()] == list(range(trials))
    tracker, starts = open_tracker(search.request.tracking), 0
    for trial in search.trials():
        log = tracker.find(trial.user_attrs[RUN_ID]).files.log.read_text()
        trained = Counter(int(number) for number in re.findall(r"  epoch +(\d+)/", log))
        assert trained == Counter(range(1, epochs + 1))
        starts += len(re.findall("transcripts of toy.tsv", log))
    assert starts >= trials + 2
    alone = ["--store", str(site.folder / "alone"), "--no-track", "--json", "--threads", "1"]
    command = [sys.executable, "-m", "rnatracker", "tune", "--study", "toy", *search_for, *alone]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    best = json.loads(done.stdout)["best"]
    assert best["trial"] == told["best"]["trial"]
    assert best["value"] == pytest.approx(told["best"]["value"], abs=1e-6)  # jobs may have other numbers of threads


def test_folds_that_are_jobs_come_to_what_they_do_on_this_host(site: Site) -> None:
    """The command is left, the run isn't resumed beside its jobs, and one that watches them again sums them up."""
    small = ["--data", str(site.data), "--fold", "3", "--epochs", "60", *_SMALL, "--threads", "1", "--no-baseline"]
    begun = site.run("train", *small, "--launcher", "slurm", "--slurm", "time=20")
    wait_until(lambda: any("RUNNING" in line for line in site.queue()), "a fold is trained")
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=60)
    assert begun.returncode == 130
    assert "the jobs go on" in said and "train --resume exp1 --launcher slurm" in said
    beside = site.run("train", "--resume", "exp1")
    _, said = beside.communicate(timeout=60)
    assert beside.returncode == 1 and "its folds are jobs of SLURM that have not ended" in said
    told = _end(site.run("train", "--resume", "exp1", "--launcher", "slurm", "--json", "--no-baseline"))
    alone = _end(site.run("train", *small, "--json"))
    assert told["state"] == "FINISHED"
    assert told["metrics"] == alone["metrics"]
    assert not site.queue()


@pytest.mark.parametrize(
    ("option", "reason"), [("partition=nosuch", "invalid partition"), ("nosuchoption=1", "unrecognized option")]
)
def test_what_sbatch_refuses_is_one_error(site: Site, option: str, reason: str) -> None:
    small = ["--data", str(site.data), "--trials", "2", "--epochs", "2", "--space", "smoke", *_SMALL]
    refused = site.begin(*small, "--workers", "2", "--slurm", option)
    _, said = refused.communicate(timeout=120)
    assert refused.returncode == 1
    assert reason in said and "Traceback" not in said
