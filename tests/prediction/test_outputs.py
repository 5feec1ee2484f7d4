"""Outputs of predictions: formats that give the figures back, and files that are whole or not there."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnatracker import files
from rnatracker.choices import OutFormat
from rnatracker.errors import ConfigError
from rnatracker.model.attention import Spans
from rnatracker.prediction.outputs import OutputClosed, attention_writer, format_of, prediction_writer, sink
from rnatracker.prediction.table import Prediction, summarise

IDS = ("plain", 'quo"ted', "two words", "a,b", "é")
SITES = ("in", "out, side")


def made(models: int = 2) -> Prediction:
    first = np.random.default_rng(0).dirichlet([1, 1], size=(models, len(IDS)))
    return summarise(IDS, SITES, first)


def written(form: OutFormat, path: Path, prediction: Prediction) -> Path:
    with (
        sink(path, "--out") as file,
        prediction_writer(file, form, prediction.sites, prediction.spread is not None) as write,
    ):
        write(prediction)
        write(prediction)
    return path


def reads(form: OutFormat, path: Path) -> pd.DataFrame:
    if form == "parquet":
        return pd.read_parquet(path)
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        if form == "jsonl":
            return pd.DataFrame([json.loads(line) for line in file])
        rows = list(csv.reader(file, delimiter="," if form == "csv" else "\t"))
    frame = pd.DataFrame(rows[1:], columns=rows[0])
    numbers = frame.columns[1:-1]
    return frame.astype(dict.fromkeys(numbers, float))


@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize(
    ("form", "name"),
    [("tsv", "x.tsv"), ("csv", "x.csv.gz"), ("tsv", "x"), ("jsonl", "x.jsonl"), ("jsonl", "x.jsonl.gz"),
     ("parquet", "x.parquet")],
)  # fmt: skip
def test_every_format_gives_the_figures_back_to_the_last_digit(
    form: OutFormat, name: str, models: int, tmp_path: Path
) -> None:
    prediction = made(models)
    got = reads(form, written(form, tmp_path / name, prediction))
    spreads = [f"{site}_sd" for site in SITES] if models > 1 else []
    assert list(got.columns) == ["id", *SITES, *spreads, "most_likely"]
    assert got["id"].tolist() == [*IDS, *IDS]
    assert (got[list(SITES)].to_numpy() == np.vstack([prediction.fractions] * 2)).all()
    if prediction.spread is not None:
        assert (got[spreads].to_numpy() == np.vstack([prediction.spread] * 2)).all()
    assert got["most_likely"].tolist() == prediction.likely * 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_parquet_has_few_groups_of_rows_when_pieces_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    monkeypatch.setattr("rnatracker.prediction.outputs._ROW_GROUP", 8)
    metadata = parquet.ParquetFile(written("parquet", tmp_path / "x.parquet", made())).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [8, 2]


def test_json_lines_are_one_object_for_each_transcript(tmp_path: Path) -> None:
    lines = written("jsonl", tmp_path / "x.jsonl", made()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 10
    assert list(json.loads(lines[4])) == ["id", "in", "out, side", "in_sd", "out, side_sd", "most_likely"]
    assert json.loads(lines[4])["id"] == "é"


@pytest.mark.parametrize(
    ("name", "wanted", "form"),
    [("a.tsv", None, "tsv"), ("a.csv.gz", None, "csv"), ("a.txt", None, "tsv"), ("a.JSONL", None, "jsonl"),
     ("a.json", None, "jsonl"), ("a.parquet", None, "parquet"), ("a.tsv", "csv", "csv"), (None, None, "tsv"),
     (None, "jsonl", "jsonl")],
)  # fmt: skip
def test_format_is_the_wanted_one_or_that_of_the_name(name: str | None, wanted: OutFormat | None, form: str) -> None:
    assert format_of(None if name is None else Path(name), wanted) == form


def test_parquet_is_refused_when_it_can_not_be() -> None:
    with pytest.raises(ConfigError) as no_text:
        format_of(None, "parquet")
    assert no_text.value.problem.startswith("--out-format parquet: ")
    assert no_text.value.remedy == "name a file with --out FILE"
    with pytest.raises(ConfigError) as packed_twice:
        format_of(Path("x.parquet.gz"), None)
    assert packed_twice.value.problem.startswith("--out x.parquet.gz: ")
    assert packed_twice.value.remedy == "leave out .gz"


def test_name_of_a_format_that_is_not_known_is_refused_unless_one_is_given() -> None:
    with pytest.raises(ConfigError) as caught:
        format_of(Path("x.xlsx"), None)
    assert caught.value.problem == "--out x.xlsx: .xlsx names no format known here"
    assert all(known in caught.value.remedy for known in (".csv", ".jsonl", ".parquet", "--out-format"))
    assert format_of(Path("x.xlsx"), "csv") == "csv"


def test_attention_is_a_row_for_each_stretch(tmp_path: Path) -> None:
    with sink(tmp_path / "a.tsv.gz", "--attention") as file:
        write = attention_writer(file)
        write('quo"ted', Spans(np.array([0, 9]), np.array([9, 20]), np.array([0.25, 1 / 3])))
    with gzip.open(tmp_path / "a.tsv.gz", "rt") as text:
        rows = list(csv.reader(text, delimiter="\t"))
    assert rows == [
        ["id", "start", "end", "weight"], ['quo"ted', "0", "9", "0.25"], ['quo"ted', "9", "20", "0.333333333"]
    ]  # fmt: skip


def write_half(path: Path, error: Exception | type[BaseException]) -> None:
    with sink(path, "--out") as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize("name", ["x.tsv", "x.tsv.gz"])
def test_file_is_as_it_was_when_writing_ends_early(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("before")
    for error in (KeyboardInterrupt, ConfigError("of another file"), OSError("not of this file")):
        with pytest.raises(type(error) if isinstance(error, Exception) else error):
            write_half(path, error)
    assert path.read_text() == "before"
    assert [left.name for left in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("form", ["tsv", "jsonl", "parquet"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_full_disk_is_said_when_a_device_is_full(form: OutFormat) -> None:
    with pytest.raises(ConfigError) as caught:
        written(form, Path("/dev/full"), made())
    assert caught.value.problem == "--out /dev/full: can't be written (No space left on device)"
    assert "disk" in caught.value.remedy
    assert Path("/dev/full").is_char_device(), "a device is not replaced by a file"


def test_missing_folder_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "no" / "x.tsv"
    with pytest.raises(ConfigError) as caught, sink(path, "--out"):
        raise AssertionError
    assert caught.value.problem == f"--out {path}: can't be written (No such file or directory)"
    assert "folder" in caught.value.remedy


def test_pipe_is_written_as_it_comes_and_its_end_noticed(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    path = Path(f"/dev/fd/{writing}")
    if not path.exists():
        pytest.skip("there is no /dev/fd here")
    with sink(path, "--out") as file:
        file.write(b"line\n")
        file.flush()
        assert os.read(reading, 10) == b"line\n"
    os.close(reading)
    with pytest.raises(OutputClosed):
        write_half(path, AssertionError)
    os.close(writing)


def test_standard_output_is_refused_when_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(ConfigError) as caught, sink(None, ""):
        raise AssertionError
    assert caught.value.problem == "standard output: can't be written, since it is closed"
    assert caught.value.remedy == "name a file with --out FILE"


def test_lines_stand_on_standard_output_when_a_piece_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BufferedWriter(io.BytesIO()))  # type: ignore[arg-type]
    monkeypatch.setattr("sys.stdout", out)
    with sink(None, "") as file, prediction_writer(file, "tsv", SITES, True) as write:
        assert out.buffer.raw.getvalue().count(b"\n") == 1  # type: ignore[attr-defined]
        write(made())
        assert out.buffer.raw.getvalue().count(b"\n") == 6  # type: ignore[attr-defined]


def test_replacing_follows_a_link_and_refuses_a_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    with files.replacing(tmp_path / "link") as file:
        file.write(b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"x"
    with pytest.raises(IsADirectoryError), files.replacing(tmp_path / "there"):
        raise AssertionError
