"""Reading in pieces: the same transcripts as reading whole; bad records passed over or raised."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import pytest
from hypothesis import given

from rnatracker.data import read_unlabelled
from rnatracker.data import stream as streaming
from rnatracker.data.stream import stream
from rnatracker.errors import DataError
from tests.support.paths import REAL
from tests.support.texts import (
    FASTA,
    FORMATS,
    LABELLED,
    ON_ONE_FOLDER,
    ORIGINAL,
    PORT3,
    PORT6,
    TABLE,
    any_bytes,
    write,
)

CONTENTS = {**LABELLED, "fasta": FASTA}


def everything(path: Path | str, **options: object) -> tuple[list[str], list[str]]:
    """Return all ids and sequences."""
    with stream(path, **options) as source:  # type: ignore[arg-type]
        pieces = list(source)
    ids = [id_ for piece in pieces for id_ in piece.ids]
    return ids, [piece.sequence(i) for piece in pieces for i in range(len(piece))]


def skipping(path: Path) -> tuple[list[str], list[str]]:
    """Return the ids of the good records, and what was said of the bad ones."""
    said: list[str] = []
    with stream(path, on_bad=said.append) as source:
        ids = [id_ for piece in source for id_ in piece.ids]
        assert (source.transcripts, source.skipped) == (len(ids), len(said))
    return ids, said


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", CONTENTS)
def test_stream_gives_what_read_gives_when_all_is_well(tmp_path: Path, name: str, packed: bool) -> None:
    content = CONTENTS[name].encode()
    path = write(tmp_path, gzip.compress(content) if packed else content)
    whole = read_unlabelled(path)
    expected = (list(whole.ids), [whole.sequence(i) for i in range(len(whole))])
    assert everything(path) == expected
    assert everything(path, format=name) == expected


@pytest.mark.parametrize("name", CONTENTS)
def test_stream_reads_standard_input_when_asked_to(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = everything(write(tmp_path, CONTENTS[name]))
    for content in (CONTENTS[name].encode(), gzip.compress(CONTENTS[name].encode())):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert everything("-") == expected


def test_stream_says_so_when_standard_input_is_closed_or_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError) as closed:
        everything("-")
    assert closed.value.problem == "standard input: expected records, but it is closed"
    assert closed.value.remedy == "name a file, or pipe one in"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(DataError) as empty:
        everything("-")
    assert empty.value.problem == "standard input: expected at least one record, got an empty file"


def test_stream_reads_on_when_a_pipe_gives_a_byte_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dripping(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self.content = content

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            part, self.content = self.content[:1], self.content[1:]
            buffer[: len(part)] = part
            return len(part)

    for content in (FASTA.encode(), gzip.compress(FASTA.encode()), ">é x\nACGT\n".encode()):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Dripping(content))))
        assert everything("-")[0] in (["t1", "t2"], ["é"])


def test_stream_ignores_doubled_ids_and_measurements_when_predicting(tmp_path: Path) -> None:
    assert everything(write(tmp_path, ">a\nAC\n>a\nGT\n")) == (["a", "a"], ["AC", "GT"])
    assert everything(write(tmp_path, "> a\nAC\n0 0\n> b\nGT\nnan 1 2\n")) == (["a", "b"], ["AC", "GT"])
    assert everything(write(tmp_path, "id,sequence,x\na,AC,much\nb,GT,\n")) == (["a", "b"], ["AC", "GT"])
    mixed = ORIGINAL + ">b without\nAC\nGT\n"
    assert everything(write(tmp_path, mixed))[0] == ["ENSG1", "ENSG2", "b"]
    assert everything(write(tmp_path, mixed), format="fasta")[1][-1] == "ACGT"


def test_stream_cuts_pieces_when_they_are_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "PIECE_NUCLEOTIDES", 5)
    monkeypatch.setattr(streaming, "PIECE_RECORDS", 3)
    path = write(tmp_path, ">a\nACGTACGT\n>b\nA\n>c\nC\n>d\nG\n>e\nACG\n>f\nTT\n>g\nA\n")
    with stream(path) as source:
        assert [piece.ids for piece in source] == [("a",), ("b", "c", "d"), ("e", "f"), ("g",)]
        assert source.transcripts == 7
        assert source.share_read() == 1


BAD = {
    "letter": (">a\nAC\n>b\nAXC\n>c\nGT\n", "record 2 (b): expected letters of ACGTURYSWKMBDHVN in its sequence"),
    "digit": (">a\nAC\n>b\nA1C\n>c\nGT\n>d\nA\n>e\nA\n", "record 2 (b): expected letters of ACGTURYSWKMBDHVN"),
    "no sequence": (">a\nAC\n>b\n>c\nGT\n", "record 2 (b): expected a sequence, got nothing"),
    "no id": (">a\nAC\n>\nACG\n>c\nGT\n", "record 2: expected an id after '>', got nothing"),
    "control": (">a\nAC\n>b\x07\nACG\n>c\nGT\n", "record 2: expected an id of printable letters"),
    "accent": (">a\nAC\n>b\nACéG\n>c\nGT\n", "record 2 (b): expected letters of ACGTURYSWKMBDHVN"),
    "row": ("id,sequence\na,AC\nb\nc,GT\n", "record 2 (b): expected 2 columns as in the header, got 1"),
    "quote": ('id,sequence\na,AC\nb,"A"C\nc,GT\n', "record 2: expected a row of a table, got"),
    "row without id": ("id,sequence\na,AC\n,A\nc,GT\n", "record 2: expected an id of printable letters, got nothing"),
    "lines": (
        "> a\nAC\n1 1\n> b\nA\n> c\nGT\n1 1\n",
        "record 2 (b): expected the line of its values, got '> c'",
    ),
    "wrapped": (
        "> a\nAC\n1 1\n> b\nA\nC\nG\n1 1\n> c\nGT\n1 1\n> d\nA\n1 1\n",
        "record 2 (b): expected the next record's header (> id) after it, got 'G'",
    ),
    "six lines": (PORT6 + "> b\nM\nA\n" + "> c\nM\n\nA\n\n1 1 1 1\n", "record 3 (b): expected the line of its"),
}


@pytest.mark.parametrize("name", BAD)
def test_stream_raises_or_skips_when_a_record_is_bad(tmp_path: Path, name: str) -> None:
    content, problem = BAD[name]
    path = write(tmp_path, content)
    with pytest.raises(DataError) as error:
        everything(path)
    assert error.value.problem.startswith(f"x.fa, {problem}")
    ids, said = skipping(path)
    assert said == [str(error.value)]
    assert "b" not in ids
    assert {"a", "c"} <= {id_.replace("ENSG1", "a") for id_ in ids}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b">a\nAC\n" * 5000 + b">prot\xe9ine\nAC\n>c\nGT\n", "record 5001: expected text in UTF-8, got 'prot"),
        (b">a\nAC\n" * 5000 + b">b\nA\xe9C\n>c\nGT\n", "record 5001 (b): expected letters of"),
        (b"id,sequence\n" + b"a,AC\n" * 5000 + b"b,A\xe9\nc,GT\n", "record 5001: expected text in UTF-8, got 'b,A"),
    ],
)
def test_stream_skips_one_record_when_only_that_is_no_text(tmp_path: Path, content: bytes, problem: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        everything(path)
    assert caught.value.problem.startswith(f"x.fa, {problem}")
    ids, said = skipping(path)
    assert (len(ids), ids[-1], len(said)) == (5001, "c", 1)
    assert said == [str(caught.value)]


def test_stream_reports_bad_records_in_order_when_they_are_bad_in_different_ways(tmp_path: Path) -> None:
    ids, said = skipping(write(tmp_path, ">1\nA\n>2\nX\n>\nA\n>4\n\n>5\nA\n>6\nX\n>7\x07\nA\n>8\nX\n"))
    assert ids == ["1", "5"]
    assert [int(text.split("record ")[1].split(" ")[0].rstrip(":")) for text in said] == [2, 3, 4, 6, 7, 8]


def test_stream_raises_the_first_bad_record_when_a_later_one_is_noticed_earlier(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        everything(write(tmp_path, ">a\nA\n>b\nX\n>\nA\n"))
    assert caught.value.problem.startswith("x.fa, record 2 (b): ")


def test_stream_says_so_when_every_record_is_bad(tmp_path: Path) -> None:
    with pytest.raises(DataError) as all_bad:
        skipping(write(tmp_path, ">a\nX\n>b\nX\n"))
    assert "got none but 2 bad ones" in all_bad.value.problem
    with pytest.raises(DataError) as empty:
        everything(write(tmp_path, "id,sequence\n"))
    assert empty.value.problem == "x.fa: expected at least one record, got none"
    assert all_bad.value.remedy == empty.value.remedy == "check the file"


@pytest.mark.parametrize("content", [gzip.compress(PORT3.encode() * 9000)[:-9], b"\x1f\x8b\x08rubbish"])
def test_stream_raises_even_when_skipping_where_a_gzip_is_cut_off(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError) as caught:
        skipping(write(tmp_path, content))
    assert caught.value.problem.startswith("x.fa: can't be unpacked as gzip")
    assert caught.value.remedy == "it is damaged or cut off: fetch it again"


def test_stream_stops_when_a_quote_is_never_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnatracker.data.formats.table._LONGEST_ROW", 1000)
    path = write(tmp_path, 'id,sequence\na,AC\nb,"A\n' + "c,GT\n" * 300)
    with pytest.raises(DataError) as caught:
        skipping(path)
    assert caught.value.problem.startswith("x.fa, record 2: expected a row of a table, got more than")
    assert caught.value.remedy == "check its quotes"


def test_stream_leaves_other_errors_alone_when_a_caller_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk") as error, stream(write(tmp_path, FASTA)):
        raise OSError(28, "disk is full")
    assert not isinstance(error.value, DataError)


def test_stream_knows_no_share_when_it_reads_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.write(writing, TABLE.encode())
    os.close(writing)
    with open(reading) as pipe:  # noqa: PTH123 - there is no path
        monkeypatch.setattr("sys.stdin", pipe)
        with stream("-") as source:
            assert len(list(source)) == 1
            assert source.share_read() is None


@pytest.mark.parametrize("form", FORMATS)
@ON_ONE_FOLDER
@given(content=any_bytes)
def test_stream_parses_or_raises_data_error_when_given_anything(tmp_path: Path, form: str, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    for on_bad in (None, lambda _: None):
        try:
            with stream(path, format=form, on_bad=on_bad) as source:
                pieces = list(source)
        except DataError:
            continue
        for piece in pieces:
            assert (piece.lengths > 0).all()
            assert ((piece.codes >= 1) & (piece.codes <= 5)).all()


@pytest.mark.shared
@pytest.mark.skipif(not REAL.is_file(), reason="needs the real data in ../shared")
def test_stream_agrees_with_read_when_the_file_is_real() -> None:
    whole = read_unlabelled(REAL)
    with stream(REAL) as source:
        pieces = list(source)
    assert len(pieces) > 1
    assert b"".join(piece.codes.tobytes() for piece in pieces) == whole.codes.tobytes()
    assert tuple(id_ for piece in pieces for id_ in piece.ids) == whole.ids
