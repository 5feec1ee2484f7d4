"""The table of a prediction: its columns, its figures, and which sequences are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rnatracker.data import read_unlabelled
from rnatracker.data.sequences import encode_all, from_sequences
from rnatracker.errors import CheckpointError, DataError
from rnatracker.prediction.predictor import Predictor
from rnatracker.prediction.table import columns, predict, prediction_frame, summarise
from tests.support.toys import SITES, toy_checkpoint, toy_transcripts

CPU = torch.device("cpu")


def predictor_of(n: int = 1, **changes: object) -> Predictor:
    return Predictor([toy_checkpoint(seed, **changes) for seed in range(n)], CPU)


def test_predict_each_gives_every_models_fractions_when_there_are_several() -> None:
    transcripts = toy_transcripts(10)
    each = predictor_of(3).predict_each(transcripts)
    assert each.shape == (3, 10, 3)
    for seed in range(3):
        assert (each[seed] == Predictor([toy_checkpoint(seed)], CPU).predict(transcripts)).all()
    assert np.allclose(each.sum(axis=2), 1)
    assert (predictor_of(3).predict(transcripts) == each.mean(axis=0)).all()


def test_predict_each_reports_how_many_are_done_when_asked() -> None:
    reported: list[int] = []
    predictor_of(2).predict_each(toy_transcripts(10), on_batch=reported.append)
    assert reported == [10, 20]


def test_summary_has_mean_spread_and_site_when_figures_are_known() -> None:
    each = np.array([[[0.2, 0.8], [0.5, 0.5]], [[0.4, 0.6], [0.5, 0.5]]])
    summary = summarise(("a", "b"), ("x", "y"), each)
    assert summary.fractions == pytest.approx(np.array([[0.3, 0.7], [0.5, 0.5]]))
    assert summary.spread == pytest.approx(np.array([[0.02**0.5] * 2, [0, 0]]))  # ddof 1: (0.1**2 + 0.1**2) / 1
    assert summary.likely == ["y", "x"]
    assert summarise(("a", "b"), ("x", "y"), each[:1]).spread is None


def test_frame_has_the_promised_columns_when_the_model_is_an_ensemble() -> None:
    transcripts = toy_transcripts(5)
    frame = prediction_frame(predictor_of(2), transcripts)
    assert list(frame.columns) == [*SITES, *(f"{site}_sd" for site in SITES), "most_likely"]
    assert frame[list(SITES)].to_numpy() == pytest.approx(predictor_of(2).predict(transcripts), abs=0)
    assert (frame["most_likely"] == frame[list(SITES)].idxmax(axis=1)).all()
    assert list(prediction_frame(predictor_of(1), transcripts).columns) == [*SITES, "most_likely"]


def test_frame_is_the_same_when_given_sequences_or_transcripts() -> None:
    transcripts = toy_transcripts(5)
    letters = [transcripts.sequence(i) for i in range(5)]
    expected = prediction_frame(predictor_of(2), transcripts)
    assert prediction_frame(predictor_of(2), letters).equals(expected)
    untidy = [f" {letter.lower().replace('t', 'u')}\n" for letter in letters]
    assert prediction_frame(predictor_of(2), untidy).equals(expected)


@pytest.mark.parametrize("sequence", ["", "ACG-T", "ACé", "AC GT"])
def test_sequences_are_refused_in_the_readers_words_when_bad(sequence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        from_sequences(["ACGT", sequence])
    path = tmp_path / "x.tsv"
    path.write_text(f"id\tsequence\na\tACGT\nb\t{sequence}\n")
    with pytest.raises(DataError) as from_file:
        read_unlabelled(path)
    problem = refused.value.problem.removeprefix("sequences, record 2: ")
    assert problem == from_file.value.problem.removeprefix("x.tsv, record 2 (b): ")
    assert refused.value.remedy == from_file.value.remedy != ""


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([], "sequences: expected at least one sequence, got none"),
        (["ACGT", float("nan")], "sequences, record 2: expected a sequence as text, got nan (float)"),
        ([None], "sequences, record 1: expected a sequence as text, got None (NoneType)"),
    ],
)
def test_sequences_are_refused_when_they_are_no_text(given: list[str], problem: str) -> None:
    with pytest.raises(DataError) as refused:
        from_sequences(given)
    assert refused.value.problem == problem


def test_encoding_at_once_finds_every_fault_when_neighbours_are_empty() -> None:
    codes, offsets, faults = encode_all([b"", b"AC", b"", b"!A", b"A?!", b""])
    assert offsets.tolist() == [0, 0, 2, 2, 4, 7, 7]
    assert codes.tolist() == [1, 2, 255, 1, 1, 255, 255]
    assert [(index, fault.kind) for index, fault in faults.items()] == [
        (0, "empty_sequence"), (2, "empty_sequence"), (3, "unknown_letter"), (4, "unknown_letter"),
        (5, "empty_sequence"),
    ]  # fmt: skip
    assert "got '?' at position 2" in faults[4].problem


@pytest.mark.parametrize(("sites", "ensemble"), [(("a", "most_likely"), False), (("a", "id"), False)])
def test_columns_are_refused_when_a_site_has_the_name_of_another(sites: tuple[str, ...], ensemble: bool) -> None:
    with pytest.raises(CheckpointError) as caught:
        columns(sites, ensemble)
    assert f"site {sites[1]!r}" in caught.value.problem
    assert "--sites" in caught.value.remedy


def test_columns_may_end_in_sd_when_the_model_is_no_ensemble() -> None:
    assert columns(("a", "a_sd"), False) == ["a", "a_sd", "most_likely"]
    with pytest.raises(CheckpointError) as caught:
        columns(("a", "a_sd"), True)
    assert "site 'a_sd'" in caught.value.problem


def test_prediction_is_the_same_when_a_transcript_is_alone_or_among_others() -> None:
    transcripts = toy_transcripts(30)
    together = predict(predictor_of(2), transcripts)
    alone = [predict(predictor_of(2), transcripts.take(np.array([i]))).fractions[0] for i in range(30)]
    assert np.array(alone) == pytest.approx(together.fractions, abs=1e-6)


@pytest.mark.parametrize("masked", [True, False])
def test_rehearsing_changes_nothing(masked: bool) -> None:
    predictor = predictor_of(2, model__masked=masked)
    expected = predictor.predict(toy_transcripts(5))
    predictor.rehearse()
    assert (predictor.predict(toy_transcripts(5)) == expected).all()
