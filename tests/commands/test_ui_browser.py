"""MLflow's UI as a user sees it: the command, a browser, our run and its figures on the page."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support import paths
from tests.support.toys import SMALL, toy_transcripts, write_table

_CLI = paths.CLI
_BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_VIRTUAL_MILLISECONDS = 30_000
pytestmark = [pytest.mark.slow, pytest.mark.skipif(_BROWSER is None, reason="there is no Chromium")]


@contextmanager
def _ui(store: Path) -> Iterator[str]:
    """Run `rnatracker ui` and give the address that it says."""
    command = [sys.executable, str(_CLI), "ui", "--store", str(store), "--port", "5310"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith("Open http://127.0.0.1:"), said
            yield said.split()[1]
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0


def _page(address: str, profile: Path) -> str:
    """Return a page's text once it has loaded what it shows, as headless Chromium makes it."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1900,1100"]
    options += ["--no-first-run", "--disable-sync", "--disable-component-update", "--disable-background-networking"]
    options += [f"--user-data-dir={profile}", f"--virtual-time-budget={_VIRTUAL_MILLISECONDS}", "--dump-dom"]
    environment = {**os.environ, "HOME": str(profile)}
    command = [str(_BROWSER), *options, address]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    return re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", dumped.stdout, flags=re.DOTALL)


def _page_with(text: str, address: str, profile: Path) -> str:
    """Return the page, loaded again where the machine was too busy for it to come up in its time."""
    for _ in range(6):
        page = _page(address, profile)
        if text in page:
            return page
    return page


def test_experiment_page_shows_our_run_and_its_figures(mlflow_store: Path, tmp_path: Path) -> None:
    data = write_table(toy_transcripts(60), tmp_path / "toy.tsv")
    sets = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    train = [sys.executable, str(_CLI), "train", "--data", str(data), "--log-name", "seen", *sets]
    subprocess.run([*train, "--store", str(mlflow_store), "--json"], capture_output=True, check=True)
    run = open_tracker(TrackingSettings(mlflow_store)).find("exp1_seen")
    value = f"{run.metrics()['best/pcc_mean']:.5f}"[:-1]
    with _ui(mlflow_store) as address:
        page = _page_with(value, address, tmp_path / "profile")
        assert "exp1_seen" in page
        assert "best/pcc_mean" in page
        assert value in page
        experiment = address.partition("/runs?")[0]
        detail = _page_with("val/pcc_mean", f"{experiment}/runs/{run.id}?workflowType=machine_learning", tmp_path / "p")
        for text in ("exp1_seen", "val/pcc_mean", "Best validation PCC"):
            assert text in detail
