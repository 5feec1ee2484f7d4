"""Signals: which are heeded, and by whom; what the program was started to ignore stays ignored in every command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from rnatracker.model import checkpoint
from rnatracker.processes.stop import StopOrOrphaned, StopSignal, ignoring_the_terminal
from rnatracker.registry.comparison import PromotionRequest
from rnatracker.registry.promotion import promote
from rnatracker.tracking.settings import TrackingSettings
from tests.support import paths
from tests.support.candidates import finished_run, training_data
from tests.support.processes import running
from tests.support.serving import environment, free_port
from tests.support.toys import SMALL, toy_checkpoint, toy_transcripts, write_table
from tests.support.waiting import wait_until

_AS_NOHUP_AND_SCRIPTS_DO = ["sh", "-c", 'trap "" HUP INT; exec "$0" "$@"', sys.executable, str(paths.CLI)]
_Handler = Callable[[int, FrameType | None], Any] | signal.Handlers
_IGNORED = (signal.SIGHUP, signal.SIGINT)


@contextmanager
def _with_handler(number: signal.Signals, handler: _Handler) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_signal_is_heeded_unless_it_was_ignored_before(number: signal.Signals) -> None:
    with _with_handler(number, signal.SIG_IGN), StopSignal() as stop, stop.polite():
        os.kill(os.getpid(), number)
        assert not stop()
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    with _with_handler(number, default), StopSignal() as stop, stop.polite():  # whoever runs this may ignore it
        os.kill(os.getpid(), number)
        assert stop()


def test_worker_heeds_what_passes_a_stop_on_to_it_also_where_that_is_ignored() -> None:
    with _with_handler(signal.SIGTERM, signal.SIG_IGN), StopOrOrphaned() as stop, stop.polite():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()


def test_process_that_is_started_ignores_what_its_terminal_sends_to_all() -> None:
    with _with_handler(signal.SIGHUP, signal.SIG_DFL):  # whoever runs this may ignore it
        with ignoring_the_terminal(), subprocess.Popen(["sleep", "60"]) as other:
            try:
                assert _ignores(other.pid, _IGNORED)
                assert not _ignores(other.pid, (signal.SIGTERM,))
            finally:
                other.kill()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def _ignores(pid: int, numbers: tuple[signal.Signals, ...]) -> bool:
    return _masks(pid, "SigIgn", numbers)


def _masks(pid: int, which: str, numbers: tuple[signal.Signals, ...]) -> bool:
    """Tell whether signals are all in one of a process's masks, as Linux lists them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = int(next(line.split()[1] for line in lines if line.startswith(f"{which}:")), 16)
    return all(mask >> (number - 1) & 1 for number in numbers)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["train"], ["train", "--fold", "2", "--jobs", "2"], ["tune", "--study", "toy", "--space", "smoke"]]
)
def test_training_goes_on_when_what_it_was_started_to_ignore_comes(
    words: list[str], mlflow_store: Path, tmp_path: Path
) -> None:
    data = write_table(toy_transcripts(40), tmp_path / "toy.tsv")
    sets = [part for key, value in SMALL.items() if key != "train.epochs" for part in ("--set", f"{key}={value}")]
    options = ["--data", str(data), *sets, "--epochs", "1000000", "--store", str(mlflow_store), "--json"]
    with running([*_AS_NOHUP_AND_SCRIPTS_DO, *words, *options]) as started:
        is_alone = words == ["train"]
        if is_alone:
            started.wait_for("epoch ")
        workers = [] if is_alone else wait_until(started.workers, "it has workers")
        for pid in (started.pid, *workers):
            assert _ignores(pid, _IGNORED)
            for number in _IGNORED:
                os.kill(pid, number)
        told = len(started.said)
        if words[0] == "train":
            wait_until(lambda: len(started.said) > told + 20, "more epochs are told")
        started.send(signal.SIGTERM)
        assert started.end()[0] == 130


@pytest.mark.slow
def test_predictions_are_written_when_what_they_were_started_to_ignore_comes(tmp_path: Path) -> None:
    checkpoint.save(toy_checkpoint(), tmp_path / "w.pt")
    command = [*_AS_NOHUP_AND_SCRIPTS_DO, "predict", "-", "--model", str(tmp_path / "w.pt"), "--threads", "1"]
    command += ["--out", str(tmp_path / "out.tsv"), "--store", str(tmp_path / "mlruns")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdin is not None
        wait_until(lambda: _masks(started.pid, "SigCgt", (signal.SIGTERM,)), "it listens to signals")
        assert _ignores(started.pid, _IGNORED)
        for number in _IGNORED:
            started.send_signal(number)
        _, said = started.communicate(">a\nACGTACGTAC\n", timeout=60)
    assert started.returncode == 0, said
    assert len((tmp_path / "out.tsv").read_text().splitlines()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("command", ["serve", "ui"])
def test_server_goes_on_when_what_it_was_started_to_ignore_comes(
    command: str, mlflow_store: Path, tmp_path: Path
) -> None:
    tracking = TrackingSettings(mlflow_store)
    promote(PromotionRequest(finished_run(tracking, training_data(tmp_path), 1).id, tracking))
    port = free_port()
    words = [*_AS_NOHUP_AND_SCRIPTS_DO, command, "--port", str(port), "--store", str(mlflow_store)]
    with subprocess.Popen(
        words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as started:
        try:
            assert started.stdout is not None
            address = started.stdout.readline()
            assert f"http://127.0.0.1:{port}" in address
            assert _ignores(started.pid, _IGNORED)
            for number in _IGNORED:  # to all of them, as a terminal does
                os.killpg(started.pid, number)
            place = "ping" if command == "serve" else "health"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{place}", timeout=60) as answer:
                assert answer.status == 200
            assert _ignores(started.pid, _IGNORED)
        finally:
            started.send_signal(signal.SIGTERM)
            started.wait(60)
