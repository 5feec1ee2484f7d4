"""Any text and any bytes either parse or raise DataError; what is written is read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnatracker.data import Transcripts, read, read_unlabelled
from rnatracker.data.encoding import LETTERS, decode, encode
from rnatracker.data.readers import survey
from rnatracker.data.writers import write
from rnatracker.errors import DataError
from tests.support.texts import FORMATS, ON_ONE_FOLDER, any_bytes


def outcome(reader: Callable[..., object], path: Path, form: str) -> object:
    """Return what a reader gives, or its error; anything but DataError fails the test."""
    try:
        return reader(path, format=form)
    except DataError as error:
        return error


def parses_or_says_why(path: Path, form: str) -> None:
    for reader in (read, read_unlabelled, survey):
        result = outcome(reader, path, form)
        if isinstance(result, DataError):
            assert str(result)
            assert "\n" not in str(result)
            continue
        assert isinstance(result, Transcripts | tuple)
        got = result if isinstance(result, Transcripts) else result[0]
        assert len(got.ids) == len(got.offsets) - 1 > 0
        assert got.offsets[-1] == len(got.codes)
        if reader is not survey:
            assert len(set(got.ids)) == len(got.ids)
            assert (got.lengths > 0).all()
            assert ((got.codes >= 1) & (got.codes <= 5)).all()
        if reader is read:
            assert np.allclose(got.measured().sum(axis=1), 1)
            assert got.measured().shape == (len(got), len(got.sites))


@pytest.mark.parametrize("form", FORMATS)
@ON_ONE_FOLDER
@given(content=any_bytes)
def test_readers_parse_or_raise_data_error_when_given_anything(tmp_path: Path, form: str, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    parses_or_says_why(path, form)


_ids = st.lists(st.from_regex(r"[A-Za-z0-9._|:-]{1,12}", fullmatch=True), min_size=1, max_size=6, unique=True)


@st.composite
def transcripts(draw: st.DrawFn) -> tuple[Transcripts, list[str]]:
    ids = draw(_ids)
    any_sequence = st.text(LETTERS + LETTERS.lower(), min_size=1, max_size=40)
    # `NA` in a table is no sequence.
    sequences = [draw(any_sequence.filter(lambda s: decode(encode(s.encode())) not in ("NA", "NAN"))) for _ in ids]
    rows = draw(st.lists(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3), min_size=len(ids), max_size=len(ids)))
    fractions = np.array(rows) / np.array(rows).sum(axis=1, keepdims=True)
    codes = np.concatenate([encode(sequence) for sequence in sequences])
    offsets = np.concatenate(([0], np.cumsum([len(sequence) for sequence in sequences]))).astype(np.int64)
    groups = tuple(draw(st.sampled_from(["g", "h", "i,j", 'k"'])) for _ in ids) if draw(st.booleans()) else None
    return Transcripts(tuple(ids), codes, offsets, ("a", "b", "c"), fractions, groups=groups), sequences


@pytest.mark.parametrize("name", ["x.fa", "x.fa.gz", "x.tsv", "x.csv", "x.csv.gz"])
@ON_ONE_FOLDER
@given(made=transcripts())
def test_read_gives_back_when_written(tmp_path: Path, name: str, made: tuple[Transcripts, list[str]]) -> None:
    written, _ = made
    write(written, tmp_path / name)
    got = read(tmp_path / name, sites=written.sites)
    assert got.ids == written.ids
    assert got.codes.tobytes() == written.codes.tobytes()
    assert got.offsets.tolist() == written.offsets.tolist()
    assert np.allclose(got.measured(), written.measured(), rtol=1e-9, atol=0)
    if "sv" in name:
        assert got.groups == written.groups
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_write_gives_plain_fasta_when_nothing_was_measured(tmp_path: Path) -> None:
    (tmp_path / "in.fa").write_text(">a\nACGT\n>b\nNN\n")
    write(read_unlabelled(tmp_path / "in.fa"), tmp_path / "out.fa")
    assert (tmp_path / "out.fa").read_text() == ">a\nACGT\n>b\nNN\n"


def test_write_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "in.fa").write_text(">a\nACGT\n")
    got = read_unlabelled(tmp_path / "in.fa")
    (tmp_path / "out.fa").mkdir()
    for out in (tmp_path / "no" / "out.fa", tmp_path / "out.fa"):
        with pytest.raises(DataError) as caught:
            write(got, out)
        assert caught.value.problem.startswith(f"{out}: can't be written")
        assert "disk" in caught.value.remedy
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.fa", "out.fa"]
