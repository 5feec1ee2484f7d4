"""Sites that a file doesn't name: asked for in a new run, as recorded in an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rnatracker import files
from rnatracker.app import app
from rnatracker.data.writers import write
from rnatracker.errors import DataError
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from rnatracker.training import replay
from rnatracker.training.request import RunRequest, prepare
from rnatracker.training.run import train
from tests.support.toys import SITES, SilentReporter, small_config, toy_transcripts


@pytest.fixture
def data(tmp_path: Path) -> str:
    write(toy_transcripts(24), tmp_path / "x.fa")
    return str(tmp_path / "x.fa")


@pytest.mark.parametrize("command", ["train", "tune --study s", "baseline"])
def test_new_run_asks_for_them_before_there_is_a_store(data: str, tmp_path: Path, command: str) -> None:
    store = tmp_path / "mlruns"
    result = CliRunner().invoke(app, [*command.split(), "--data", data, "--store", str(store), "--no-track"])
    assert result.exit_code == 1
    assert "expected sites with names, but the file has none for its 3 values" in result.stderr
    assert "as in --sites site1,site2,site3" in result.stderr
    assert not list(store.rglob("*"))


def test_earlier_run_is_prepared_again_with_those_that_it_recorded(data: str, tmp_path: Path) -> None:
    """Runs of before had a config without sites, whose names were taken for granted."""
    tracking = TrackingSettings(tmp_path / "mlruns", enabled=False)
    named = small_config(data__path=data, data__sites=list(SITES), train__epochs=1)
    outcome = train(RunRequest(named, tracking), SilentReporter())
    run = open_tracker(tracking).find(outcome.run_id)
    unnamed = small_config(data__path=data, train__epochs=1)
    files.write_text(run.files.config, unnamed.to_yaml())
    prepared = replay.plan(run.name, tracking).prepared
    assert prepared.transcripts.sites == SITES
    assert not prepared.transcripts.sites_named
    assert prepared.transcripts.digest() == run.tags()[Tag.DATA_DIGEST]
    with pytest.raises(DataError, match="expected sites with names"):
        prepare(RunRequest(unnamed, tracking))
