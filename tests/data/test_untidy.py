"""Files as other programs and people leave them: read and noted where it is plain what is meant, else refused."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest

from rnatracker.config import DEFAULT_SITES
from rnatracker.data import read_unlabelled
from rnatracker.data.readers import read, survey
from rnatracker.data.split import default_names, split_file
from rnatracker.data.stream import stream
from rnatracker.errors import DataError
from tests.support.texts import FASTA, LABELLED, ORIGINAL, PORT3, PORT6, TABLE, read_four, write

PLAIN = "id,sequence,a,b\nt,ACGT,1,3\nu,ACGA,1,1\n"
NOTED = {
    "index of pandas": (",id,sequence,a,b\n0,t,ACGT,1,3\n1,u,ACGA,1,1\n", "columns in front without a name"),
    "named index": ("Unnamed: 0,id,sequence,a,b\n0,t,ACGT,1,3\n1,u,ACGA,1,1\n", "columns in front without a name"),
    "two of them": (",Unnamed: 0,id,sequence,a,b\n0,0,t,ACGT,1,3\n1,1,u,ACGA,1,1\n", "left out: 2"),
    "blank rows": (PLAIN + ",,,\n , ,,\n", "blank rows, left out: 2"),
    "quoted blank row": (PLAIN + '"","",,\n', "blank rows, left out: 1"),
    "sep": ("sep=,\n" + PLAIN, "lines of comments above the records, left out: 1"),
    "sep of Windows": (("sep=,\n" + PLAIN).replace("\n", "\r\n"), "lines of comments above the records, left out: 1"),
    "comments": ("# by hand\n\n; old\n" + PLAIN, "lines of comments above the records, left out: 2"),
    "header with #": ("#" + PLAIN, "its header begins with #, left out"),
    "CR": (PLAIN.replace("\n", "\r"), "lines end with CR alone"),
    "CR and comment": ("# x\r" + PLAIN.replace("\n", "\r"), "lines of comments above the records, left out: 1"),
    "stops": (PLAIN.replace("ACGT", "ACGT*"), "sequences that end in *, left out: 1"),
    "no line end": (PLAIN.rstrip("\n"), "doesn't end with a line end: its last record, u (4 nt), may be cut off"),
}


def refused(path: Path, **options: object) -> DataError:
    with pytest.raises(DataError) as caught:
        read_four(path, **options)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", NOTED)
def test_plain_meaning_is_read_and_noted_by_every_reader(tmp_path: Path, name: str, packed: bool) -> None:
    content, note = NOTED[name]
    plain = read_four(write(tmp_path, PLAIN))
    path = write(tmp_path, gzip.compress(content.encode()) if packed else content, "y.csv")
    for got in (read_four(path), read_unlabelled(path), survey(path)[0]):
        assert got.digest() == plain.digest()
        assert len(got.notes) >= 1
        assert any(note in each for each in got.notes)
        assert all(each.startswith("y.csv: ") for each in got.notes)
    with stream(path) as source:
        assert [piece.ids for piece in source] == [("t", "u")]
        assert any(note in each for each in source.notes())
    parts = split_file(path, *default_names(path), share=0.5)
    assert any(note in each for each in parts.notes)
    assert sorted(read_four(parts.train).ids + read_four(parts.test).ids) == ["t", "u"]


@pytest.mark.parametrize("content", [PORT3, PORT6, ORIGINAL, TABLE, FASTA])
def test_tidy_files_have_no_notes_and_untidy_ones_of_every_format_do(tmp_path: Path, content: str) -> None:
    plain = read_unlabelled(write(tmp_path, content))
    assert plain.notes == ()
    for untidy in ("# made by hand\n" + content, content.replace("\n", "\r"), content.rstrip("\n")):
        got = read_unlabelled(write(tmp_path, untidy))
        assert got.digest() == plain.digest()
        assert len(got.notes) == 1


def test_comments_alone_are_no_records(tmp_path: Path) -> None:
    for content in ("# a\n; b\n", "# a"):
        assert refused(write(tmp_path, content)).problem == "x.fa: expected at least one record, got comments only"


@pytest.mark.parametrize(("sign", "name"), [(";", "semicolons"), ("|", "bars"), (" ", "blanks")])
def test_other_delimiters_are_named_and_the_advice_makes_a_table_of_it(tmp_path: Path, sign: str, name: str) -> None:
    path = write(tmp_path, "id;sequence;a;b\nt;ACGT;0,5;1,5\nu;ACGA;1;1\n".replace(";", sign), "x.csv")
    error = refused(path)
    assert error.problem == f"x.csv, header: expected tabs or commas between columns, got {name}"
    command = error.remedy.partition("as in: ")[2]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert read_four(tmp_path / "x.tsv").measured().tolist() == [[0.25, 0.75], [0.5, 0.5]]


@pytest.mark.parametrize(("name", "written"), [("x.csv", "x.tsv"), ("x.tsv", "x_tabs.tsv"), ("x y.txt", "x y.tsv")])
def test_advice_never_writes_over_the_file_that_it_reads(tmp_path: Path, name: str, written: str) -> None:
    content = "id;sequence;a;b\nt;ACGT;0,5;1,5\n"
    command = refused(write(tmp_path, content, name)).remedy.partition("as in: ")[2]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert (tmp_path / name).read_text() == content
    assert read(tmp_path / written).measured().tolist() == [[0.25, 0.75]]


def test_advice_is_in_words_when_the_file_is_packed(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"id;sequence;a;b\nt;ACGT;1;1\n"))
    assert refused(path).remedy == "convert them, and decimal commas to points"


def test_semicolons_before_an_index_are_no_comment(tmp_path: Path) -> None:
    assert "got semicolons" in refused(write(tmp_path, ";id;sequence;a;b\n0;t;ACGT;1;1\n")).problem


@pytest.mark.parametrize(
    ("content", "problem", "remedy"),
    [
        (
            "id\tsequence\ta\tb\nt\tACGT\t0,5\t0,5\n",
            "record 1 (t): expected a number for a, got '0,5'",
            "write a decimal",
        ),
        ("id,sequence,a,b\nt,ACGT,0,5,0,5\n", "expected 4 columns as in the header, got 6", "write decimal points"),
        ("id,sequence,a,,b\nt,ACGT,1,2,3\n", "a name for each column, column 4 has none", "name it, or remove it"),
        (",id,sequence,a,\n0,t,ACGT,1,2\n", "a name for each column, column 5 has none", "name it, or remove it"),
        ("transcript,sequence,a,b\nt,A,1,1\n", "(or transcript_id, name), got transcript, seq", "say which column"),
        (
            "id,sequence,symbol,a,b\nt,ACGT,BRCA1,1,1\nu,ACGA,53,1,1\n",
            "record 1 (t): expected a number for symbol, got 'BRCA1'",
            "correct it, or where symbol is no site, name those that are: --sites a,b",
        ),
        (">a\nAC-GT\n", "got '-' at position 3", "a gap of an alignment? remove the gaps"),
        (">a\nAC*GT\n", "got '*' at position 3", "a stop in a protein?"),
        (">a\nACGT ACGT\n", "got ' ' at position 5", "remove the blanks within sequences"),
        (">a\n1 ACGT\n5 ACGT\n", "got '1' at position 1", "remove the numbers of lines or positions"),
        (">a\nMKLV\n", "got 'L' at position 3", "an amino acid? give the mRNA's sequence"),
    ],
)
def test_cause_is_named_with_what_helps(tmp_path: Path, content: str, problem: str, remedy: str) -> None:
    path = write(tmp_path, content)
    _, problems, _ = survey(path) if content.startswith(">") else (None, [], "")
    error = problems[0].error if problems else refused(path)
    assert problem in error.problem
    assert error.remedy.startswith(remedy)
    assert len(problems) < 2


def test_column_of_words_is_no_site_and_no_problem_of_each_row(tmp_path: Path) -> None:
    rows = "".join(f"t{i},ACGT,GENE{i},1,1\n" for i in range(60))
    path = write(tmp_path, f"id,sequence,symbol,a,b\n{rows}")
    found, problems, _ = survey(path)
    assert (found.sites, problems) == (("a", "b"), [])
    path = write(tmp_path, f"id,sequence,symbol,a,b\n{rows}t60,ACGT,7,1,1\n")
    found, (problem,), _ = survey(path)
    said = "--sites a,b; where records that share it belong together, add --group-column symbol"
    assert problem.error.remedy.endswith(said)


@pytest.mark.parametrize("word", ["NA", "-", ".", "nan", "NaN", "#N/A", "n/a", "NULL", "", " "])
def test_missing_groups_are_no_family(tmp_path: Path, word: str) -> None:
    rows = "".join(f"t{i},ACGT{'A' * i},{word if i < 3 else 'g'},1,1\n" for i in range(5))
    got = read_four(write(tmp_path, f"id,sequence,gene,a,b\n{rows}"))
    assert got.groups == ("t0", "t1", "t2", "g", "g")
    assert got.notes == ("x.fa: records without a group, each one of its own: 3",)


@pytest.mark.parametrize("word", ["NA", "nan", "-", "None"])
def test_missing_sequences_are_no_short_ones(tmp_path: Path, word: str) -> None:
    path = write(tmp_path, f"id,sequence,a,b\nt,{word},1,1\n")
    assert "record 1 (t): expected a sequence, got nothing" in refused(path).problem
    with pytest.raises(DataError, match="expected a sequence, got nothing"), stream(path) as source:
        list(source)


NUMBERED = {
    "third line": "> a\nACGTACGTAC\n11 TTTTTTTTTT\n> b\nACGTACGTAC\n11 TTTTTTTTTT\n",
    "every line": ">a\n1 ACGTACGTAC\n11 TTTTTTTTTT\n>b\n1 ACGTACGTAC\n11 TTTTTTTTTT\n",
    "behind it": "> a\nACGTACGTAC\nTTTTTTTTTT 20\n> b\nACGTACGTAC\nTTTTTTTTTT 20\n",
    "one of many": PORT3 + "> c\nACGT\n5 ACGT\n",
    "labels": "> a\nACGTACGTAC\nNuc\n> b\nACGTACGTAC\nCyt\n",
    "labels again and again": "".join(f"> t{i}\nACGT{'A' * i}\n{'NUC' if i % 2 else 'CYT'}\n" for i in range(4)),
    "one label": PORT3 + "> c\nACGT\nNuc\n",
    "labels of six lines": PORT6 + "> c\nMK\nAC\nATG\nGT\nNuc\n",
}


@pytest.mark.parametrize("name", NUMBERED)
def test_numbers_and_labels_are_neither_values_nor_sequence(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, NUMBERED[name])
    for reader in (read, read_unlabelled):
        with pytest.raises(DataError) as caught:
            reader(path)
        assert caught.value.remedy
    with pytest.raises(DataError, match="record"), stream(path) as source:
        list(source)


def test_wrapped_sequences_are_still_sequences(tmp_path: Path) -> None:
    wrapped = "".join(f">t{i}\n{'ACGT' * 15}\nACG{'T' * i}\n" for i in range(5))
    masked = ">t0\nACGTACGTAC\nacg\n>t1\nACGTACGTAC\nGTC\n"
    for content in (wrapped, masked, ">t0\nACGT\nNuc\n"):
        assert len(read_unlabelled(write(tmp_path, content))) == content.count(">")


CUT = {
    "port3": "".join(f"> t{i}\nACGT\n0.25 0.25 0.25 0.25\n" for i in range(4)),
    "port6": "".join(f"> t{i}\nM\nA\nATG\nT\n0.10 0.40 0.25 0.25\n" for i in range(4)),
    "original": "".join(f">t{i} dist:0.30_0.20_0.25_0.25\nACGT\n" for i in range(4)),
    "table": "id,sequence,a,b\n" + "".join(f"t{i},ACGT,0.75,0.25\n" for i in range(4)),
}


@pytest.mark.parametrize("name", CUT)
def test_last_record_that_sums_otherwise_is_refused(tmp_path: Path, name: str) -> None:
    whole = CUT[name]
    assert len(read_four(write(tmp_path, whole))) == 4
    place = whole.rindex("0.25") + 3
    error = refused(write(tmp_path, whole[:place] + whole[place + 1 :]))  # 0.25 to 0.2
    assert "record 4 (t3): expected values that sum to 1 as all others do, got 0.95; it is the last" in error.problem
    assert error.remedy.startswith("fetch it again")
    _, problems, _ = survey(tmp_path / "x.fa", sites=None if name == "table" else DEFAULT_SITES)
    assert [problem.kind for problem in problems] == ["bad_fractions"]
    assert len(read_unlabelled(tmp_path / "x.fa")) == 4, "a prediction asks for no values"


def test_other_replicate_may_be_cut_off_where_one_is_asked_for(tmp_path: Path) -> None:
    values = "distA:0.25_0.25_0.25_0.25 distB:0.25_0.25_0.25_0.25"
    records = [f">t{i} {values if i < 3 else values[:-1]}\nACGT\n" for i in range(4)]
    path = write(tmp_path, "".join(records))
    assert len(read_four(path, labels="A")) == 4
    for labels in ("B", "mean"):
        assert "got 0.95" in refused(path, labels=labels).problem


def test_sums_say_nothing_where_they_differ_or_are_rounded(tmp_path: Path) -> None:
    for last in ("0.33 0.33 0.33 0.00", "0.251 0.249 0.25 0.2499"):
        head = "".join(f"> t{i}\nACGT\n0.25 0.25 0.25 0.25\n" for i in range(4))
        assert len(read_four(write(tmp_path, f"{head}> u\nACGT\n{last}\n"))) == 5
    for content in ("> a\nA\n1 2 3 4\n> b\nA\n1 1 1 1\n> c\nA\n0 0 1 1\n", "> a\nA\n1 1 1 1\n> b\nA\n1 1 1 0\n"):
        assert read_four(write(tmp_path, content)).notes == ()


@pytest.mark.parametrize("name", LABELLED)
def test_cut_off_end_is_pointed_out_with_the_last_record(tmp_path: Path, name: str) -> None:
    got = read_four(write(tmp_path, LABELLED[name].rstrip("\n")))
    length = int(got.lengths[-1])
    problem = f"the file doesn't end with a line end: its last record, {got.ids[-1]} ({length} nt), may be cut off"
    assert got.notes == (f"x.fa: {problem}",)
