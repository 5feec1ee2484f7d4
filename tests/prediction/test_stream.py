"""Predicting files piece by piece: the same figures as all at once, bad records, and what is left when it fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from rnatracker.data import read_unlabelled
from rnatracker.data import stream as data_stream
from rnatracker.errors import CheckpointError, ConfigError, DataError
from rnatracker.prediction.predictor import Predictor
from rnatracker.prediction.stream import Counts, Job, check, predict_file
from rnatracker.prediction.table import prediction_frame
from tests.support.texts import fasta, names
from tests.support.toys import toy_checkpoint

CPU = torch.device("cpu")


def ensemble() -> Predictor:
    return Predictor([toy_checkpoint(seed) for seed in range(2)], CPU)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_stream, "PIECE_NUCLEOTIDES", 300)


@pytest.mark.usefixtures("small_pieces")
def test_figures_and_order_are_the_same_when_read_in_pieces(tmp_path: Path) -> None:
    path = fasta(tmp_path)
    counts, reported = Counts(), []
    job = Job(str(path), tmp_path / "out.tsv", attention=tmp_path / "attention.tsv")
    predict_file(ensemble(), job, counts, on_progress=lambda done, share: reported.append((done, share)))
    got = pd.read_csv(tmp_path / "out.tsv", sep="\t")
    whole = read_unlabelled(path)
    expected = prediction_frame(ensemble(), whole)
    assert got["id"].tolist() == list(whole.ids)
    figures = [column for column in expected.columns if column != "most_likely"]
    assert got[figures].to_numpy() == pytest.approx(expected[figures].to_numpy(), abs=1e-6)
    assert (got["most_likely"] == expected["most_likely"]).all()
    assert (counts.transcripts, counts.skipped, counts.cut) == (50, 0, int((whole.lengths > 60).sum()))
    assert 0 < counts.cut < 50
    assert [done for done, _ in reported] == sorted(done for done, _ in reported)
    assert reported[-1] == (50, 1.0)
    attention = pd.read_csv(tmp_path / "attention.tsv", sep="\t")
    assert attention["id"].unique().tolist() == list(whole.ids)
    assert attention.groupby("id")["weight"].sum().to_numpy() == pytest.approx(1)
    assert attention.groupby("id", sort=False)["end"].max().tolist() == np.minimum(whole.lengths, 60).tolist()


def test_batches_are_no_larger_than_asked_for(tmp_path: Path) -> None:
    reported: list[int] = []
    predictor = Predictor([toy_checkpoint()], CPU, batch_size=7)
    expected = Predictor([toy_checkpoint()], CPU).predict(read_unlabelled(fasta(tmp_path)))
    got = predictor.predict_each(read_unlabelled(fasta(tmp_path)), on_batch=reported.append)
    assert reported == [7, 14, 21, 28, 35, 42, 49, 50]
    assert got[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["out.tsv", "out.parquet", "out.jsonl.gz"])
def test_nothing_is_left_when_a_record_in_the_middle_of_ten_thousand_is_bad(name: str, tmp_path: Path) -> None:
    path = fasta(tmp_path, 10_000, bad=5000)
    (tmp_path / name).write_text("before")
    job = Job(str(path), tmp_path / name, attention=tmp_path / "attention.tsv")
    with pytest.raises(DataError) as caught:
        predict_file(Predictor([toy_checkpoint()], CPU), job, Counts())
    assert caught.value.problem.startswith("x.fa, record 5000 (t5000): expected letters of ")
    assert caught.value.problem.endswith("got '!' at position 5")
    assert names(tmp_path) == sorted([name, "x.fa"])
    assert (tmp_path / name).read_text() == "before"


def test_one_record_is_missing_when_a_bad_one_is_skipped(tmp_path: Path) -> None:
    said: list[str] = []
    counts = Counts()
    job = Job(str(fasta(tmp_path, 10_000, bad=5000)), tmp_path / "out.tsv")
    predict_file(Predictor([toy_checkpoint()], CPU), job, counts, on_bad=said.append)
    ids = pd.read_csv(tmp_path / "out.tsv", sep="\t")["id"].tolist()
    assert ids == [f"t{i}" for i in range(1, 10_001) if i != 5000]
    assert (counts.transcripts, counts.skipped) == (9999, 1)
    assert said[0].startswith("x.fa, record 5000 (t5000)")


@pytest.mark.usefixtures("small_pieces")
def test_nothing_is_left_when_stopped_in_the_middle(tmp_path: Path) -> None:
    def stop(done: int, _: float | None) -> None:
        if done > 20:
            raise KeyboardInterrupt

    counts = Counts()
    job = Job(str(fasta(tmp_path)), tmp_path / "out.tsv", attention=tmp_path / "attention.tsv")
    with pytest.raises(KeyboardInterrupt):
        predict_file(Predictor([toy_checkpoint()], CPU), job, counts, on_progress=stop)
    assert names(tmp_path) == ["x.fa"]
    assert 0 < counts.transcripts < 50


@pytest.mark.parametrize(
    ("out", "attention", "problem", "remedy"),
    [
        ("x.fa", None, "--out {folder}/x.fa: is the input {folder}/x.fa too", "name another file"),
        ("a.tsv", "a.tsv", "--attention {folder}/a.tsv: is --out too", "name another file"),
        (".", None, "--out {folder}: expected a file, got a folder", "name a file in it"),
        ("no/a.tsv", None, "--out {folder}/no/a.tsv: there is no folder {folder}/no", "make it first"),
        ("a.parquet.gz", None, "--out {folder}/a.parquet.gz: Parquet is compressed already", "leave out .gz"),
    ],
)
def test_outputs_are_refused_before_anything_is_loaded(
    out: str, attention: str | None, problem: str, remedy: str, tmp_path: Path
) -> None:
    job = Job(str(fasta(tmp_path)), tmp_path / out, attention=tmp_path / attention if attention else None)
    with pytest.raises(ConfigError) as caught:
        check(job)
    assert (caught.value.problem, caught.value.remedy) == (problem.format(folder=tmp_path), remedy)
    assert names(tmp_path) == ["x.fa"]


def test_models_are_refused_before_an_output_is_opened(tmp_path: Path) -> None:
    job = Job(str(fasta(tmp_path)), tmp_path / "a.tsv", attention=tmp_path / "b.tsv")
    with pytest.raises(CheckpointError) as caught:
        predict_file(Predictor([toy_checkpoint(model__attention=False)], CPU), job, Counts())
    assert "model.attention: false" in caught.value.problem
    assert "--attention" in caught.value.remedy
    assert names(tmp_path) == ["x.fa"]
