"""A full disk: every command says which file it was, and leaves nothing half done."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rnatracker import files
from rnatracker.data import shared
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import TrainingError, room_for
from rnatracker.search import tune
from rnatracker.terminal import output
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.session import resource_error
from tests.support.studies import small_study
from tests.support.toys import small_config, toy_transcripts, write_table

_FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not _FULL.exists(), reason="this system has no /dev/full")


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@needs_full
@pytest.mark.parametrize("name", ["codes.npy", "fractions.npy", "texts.json"])
def test_shared_transcripts_say_which_file_found_no_room(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to(_FULL)
    with pytest.raises(OSError, match="No space left") as caught:
        shared.dump(toy_transcripts(), tmp_path)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / name))


def test_file_that_is_replaced_is_named_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(OSError, match="No space left") as caught:
        files.write_text(tmp_path / "config.yaml", "x")
    assert caught.value.filename == str(tmp_path / "config.yaml")
    assert list(tmp_path.iterdir()) == []


def test_error_that_names_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="output error") as caught, files.replacing(tmp_path / "out.tsv"):
        raise OSError(errno.EIO, os.strerror(errno.EIO), "in.fa")
    assert caught.value.filename == "in.fa"


def test_command_says_which_file_and_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer(cls=output.Group)

    @app.command()
    def fill() -> None:
        files.write_text(tmp_path / "x", "x")

    @app.command()
    def other() -> None: ...

    monkeypatch.setattr(os, "fsync", _full)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path.parent))
    result = CliRunner().invoke(app, ["fill"])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {tmp_path / 'x'}: the disk is full; free some space, or name another")
    assert "TMPDIR" not in room_for("/somewhere/else/x")


def test_study_whose_transcripts_find_no_room_is_not_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dump(_transcripts: Transcripts, folder: Path) -> None:
        with files.naming(folder / "codes.npy"):
            _full()

    monkeypatch.setattr(shared, "dump", dump)
    tracking = TrackingSettings(tmp_path / "mlruns", enabled=False)
    data = write_table(toy_transcripts(60), tmp_path / "toy.tsv")
    with pytest.raises(OSError, match="No space left") as caught:
        tune.tune(small_study(data, tracking, trials=1), lambda _line: None, lambda _search, _left: None)
    assert Path(str(caught.value.filename)).name == "codes.npy"
    assert open_tracker(tracking).find("exp1_toy").status() == "KILLED"
    worded = resource_error(caught.value, small_config(), "resume with: x", tmp_path)
    assert isinstance(worded, TrainingError)
    assert worded.problem == f"{caught.value.filename}: the disk is full"
    assert worded.remedy.endswith(", then resume with: x")
