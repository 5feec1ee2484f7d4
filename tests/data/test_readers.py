"""Reading every format, and what is said of what can't be read. Answers are worked out by hand."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from rnatracker.config import DEFAULT_SITES
from rnatracker.data import Transcripts, read_unlabelled
from rnatracker.data.readers import read, survey
from rnatracker.errors import DataError, UsageError
from tests.support.paths import REAL
from tests.support.texts import APEX, FASTA, LABELLED, ORIGINAL, PORT3, PORT6, TABLE, read_four, write


def refused(path: Path, **options: object) -> DataError:
    with pytest.raises(DataError) as caught:
        read_four(path, **options)  # type: ignore[arg-type]
    return caught.value


def same(one: Transcripts, other: Transcripts) -> bool:
    return one.digest() == other.digest() and one.ids == other.ids


def test_read_gives_codes_and_fractions_when_records_have_three_lines(tmp_path: Path) -> None:
    got = read_four(write(tmp_path, PORT3))
    assert got.ids == ("ENSG1", "ENSG2")
    assert got.codes.tolist() == [1, 2, 3, 4, 1, 2, 3, 4, 5]
    assert got.offsets.tolist() == [0, 4, 9]
    assert (got.sites, got.sites_named) == (DEFAULT_SITES, False)
    assert got.measured().dtype == np.float64
    assert got.measured().tolist() == [[0.25] * 4, [0.5, 0, 0.25, 0.25]]
    assert got.groups is None
    assert got.replicates is None
    assert got.source == "x.fa"


def test_read_adds_values_one_after_the_other_whatever_python_does(tmp_path: Path) -> None:
    """Since Python 3.12 `sum` gives 1e16 + 2 here: digests of one file would depend on the version of Python."""
    got = read_four(write(tmp_path, "> a\nACGU\n1 1e16 1 0\n"))
    assert got.measured().tolist() == [[1e-16, 1.0, 1e-16, 0.0]]


def test_read_joins_the_three_parts_when_records_have_six_lines(tmp_path: Path) -> None:
    got = read_four(write(tmp_path, PORT6))
    assert [got.sequence(0), got.sequence(1)] == ["ACATGGT", "ATGTAAC"]
    assert got.measured().tolist() == [[0.25] * 4, [0.5, 0, 0.25, 0.25]]


@pytest.mark.parametrize(
    ("labels", "row"), [("A", [0.25] * 4), ("B", [0.75, 0.25, 0, 0]), ("mean", [0.5, 0.25, 0.125, 0.125])]
)
def test_read_takes_the_wanted_replicate_when_the_original_has_two(
    tmp_path: Path, labels: str, row: list[float]
) -> None:
    got = read_four(write(tmp_path, ORIGINAL), labels=labels)
    assert got.measured()[0].tolist() == row
    assert got.replicates is not None
    assert got.replicates[0].tolist() == [[0.25] * 4, [0.5, 0, 0.25, 0.25]]
    assert got.replicates[1].tolist() == [[0.75, 0.25, 0, 0], [0.25] * 4]
    assert got.ids == ("ENSG1", "ENSG2"), "records that don't code for a protein are kept"


def test_read_has_no_replicates_when_the_original_has_one(tmp_path: Path) -> None:
    got = read_four(write(tmp_path, APEX))
    assert got.replicates is None
    assert got.measured().tolist() == [[0.25] * 4]
    assert "expected two replicates for --labels A, got one" in refused(write(tmp_path, APEX), labels="A").problem


def test_read_ignores_the_other_replicate_when_only_that_one_is_all_zero(tmp_path: Path) -> None:
    path = write(tmp_path, ORIGINAL.replace("distB:1_1_1_1", "distB:0_0_0_0"))
    got = read_four(path, labels="A")
    assert got.replicates is None
    assert got.measured()[1].tolist() == [0.5, 0, 0.25, 0.25]
    assert "record 2 (ENSG2): replicate B: expected a fraction above 0" in refused(path).problem


def test_read_names_sites_and_groups_when_a_table_does(tmp_path: Path) -> None:
    got = read_four(write(tmp_path, TABLE))
    assert (got.sites, got.sites_named, got.groups) == (("ER", "Nucleus"), True, ("g1", "g1"))
    assert got.measured().tolist() == [[0.25, 0.75], [0.5, 0.5]]


def test_read_selects_and_orders_columns_when_sites_are_given(tmp_path: Path) -> None:
    path = write(tmp_path, 'ID,Sequence,note,a,b,c\nt1,ACGT,"x, y",1,2,3\n', "x.csv")
    got = read_four(path, sites=["c", "a"])
    assert (got.sites, got.measured().tolist()) == (("c", "a"), [[0.75, 0.25]])
    error = refused(path, sites=["nots", "a"])
    assert "no site 'nots' as --sites wants" in error.problem
    assert error.remedy == "did you mean 'note'?"
    assert read_four(path).sites == ("a", "b", "c"), "a note is no site"


def test_read_prefers_group_to_gene_when_a_table_has_both(tmp_path: Path) -> None:
    got = read_four(write(tmp_path, "gene,group,id,sequence,a,b\ng,f,t1,A,1,1\ng,,t2,C,1,1\n"))
    assert got.groups == ("f", "t2"), "a record without a group is on its own"


def test_read_names_sites_when_they_are_given(tmp_path: Path) -> None:
    got = read_four(write(tmp_path, "> a\nACGT\n1 3\n"), sites=["in", "out"])
    assert (got.sites, got.sites_named, got.measured().tolist()) == (("in", "out"), True, [[0.25, 0.75]])


@pytest.mark.parametrize("name", ["port3", "port6", "original"])
def test_sites_that_the_file_does_not_name_are_asked_for(tmp_path: Path, name: str) -> None:
    """Two of four names that were invented once were those of other columns."""
    path = write(tmp_path, LABELLED[name])
    for reader in (read, survey):
        with pytest.raises(DataError) as caught:
            reader(path)
        problem = "x.fa, record 1 (ENSG1): expected sites with names, but the file has none for its 4 values (1 1 1 1)"
        assert caught.value.problem == problem
        assert caught.value.remedy == "name them in the order of the values, as in --sites site1,site2,site3,site4"
    assert read(path, sites=["a", "b", "c", "d"]).sites_named
    assert not read(path, assumed=["a", "b", "c", "d"]).sites_named


@pytest.mark.parametrize("name", LABELLED)
def test_read_is_the_same_when_only_the_wrapping_differs(tmp_path: Path, name: str) -> None:
    content = LABELLED[name]
    plain = read_four(write(tmp_path, content))
    variants = {
        "windows": content.replace("\n", "\r\n").encode(),
        "bom": b"\xef\xbb\xbf" + content.encode(),
        "blank lines": (content + "\n \n\n").encode(),
        "no last line end": content.rstrip("\n").encode(),
        "gzip": gzip.compress(content.encode()),
        "forced": content.encode(),
    }
    for variant, data in variants.items():
        got = read_four(write(tmp_path, data), format=name if variant == "forced" else "auto")
        assert same(got, plain), variant


def test_read_accepts_tabs_when_they_stand_between_values(tmp_path: Path) -> None:
    assert same(read_four(write(tmp_path, PORT3.replace("1 1 1 1", "1\t1 \t1  1"))), read_four(write(tmp_path, PORT3)))


def test_read_admits_a_cell_longer_than_the_csv_module_does(tmp_path: Path) -> None:
    got = read_four(write(tmp_path, f"id,sequence,a,b\nlong,{'ACGT' * 50_000},1,1\n"))
    assert got.lengths.tolist() == [200_000]


def test_read_unlabelled_joins_lines_when_fasta_is_wrapped(tmp_path: Path) -> None:
    for data in (FASTA.encode(), gzip.compress(FASTA.replace("\n", "\r\n").encode())):
        got = read_unlabelled(write(tmp_path, data))
        assert got.ids == ("t1", "t2")
        assert [got.sequence(i) for i in range(2)] == ["ACGT", "ACGTN"]
        assert (got.fractions, got.sites) == (None, ())


@pytest.mark.parametrize("name", LABELLED)
def test_read_unlabelled_keeps_fractions_when_the_file_has_them(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, LABELLED[name])
    assert same(read_unlabelled(path), read_four(path))


@pytest.mark.parametrize("content", ["> a\nACGT\n0 0 0 0\n", "> a\nACGT\n1 2 3\n", "id,sequence,name\na,ACGT,x\n"])
def test_read_unlabelled_drops_fractions_when_they_are_unusable(tmp_path: Path, content: str) -> None:
    got = read_unlabelled(write(tmp_path, content))
    assert (got.ids, got.sequence(0), got.fractions, got.sites) == (("a",), "ACGT", None, ())


@pytest.mark.parametrize(
    ("content", "problem", "remedy"),
    [
        ("", "x.fa: expected at least one record, got an empty file", ""),
        (" \n\r\n", "x.fa: expected at least one record, got an empty file", ""),
        (
            b"\x89PNG\r\n\x1a\n\0\0",
            "x.fa: expected text in UTF-8, got byte 0x89 at position 0: a binary file",
            "only gzip is unpacked, so unpack or save it as UTF-8 first",
        ),
        (
            "> a\nAC\0GT\n1 1 1 1\n",
            "x.fa: expected text in UTF-8, got byte 0x00 at position 6: a binary file",
            "only gzip is unpacked, so unpack or save it as UTF-8 first",
        ),
        (
            "hello\nworld\n",
            "x.fa: looks like no known format, begins with 'hello'",
            "known: port3: records of 3 lines: > id, sequence, values",
        ),
        (
            gzip.compress(PORT3.encode() * 99, mtime=0)[:-9],
            "x.fa: can't be unpacked as gzip (Compressed file ended",
            "it is damaged or cut off: fetch it again",
        ),
        (
            b"\x1f\x8bnonsense",
            "x.fa: can't be unpacked as gzip (Unknown compression method)",
            "it is damaged or cut off: fetch it again",
        ),
        (
            FASTA,
            "x.fa: there are no fractions in it, it looks like fasta (plain FASTA, without fractions)",
            "give a file with measured fractions",
        ),
        (
            "> a\nAC\n1 1 1 1\n> b\nAC\n",
            "x.fa, record 2 (b): expected 3 lines (header, sequence, values), got 2: the",
            "fetch it again or remove the record",
        ),
        (
            "> a\nAC\n1 1 1 1\n> b\n",
            "x.fa, record 2 (b): expected 3 lines (header, sequence, values), got 1: the",
            "fetch it again or remove the record",
        ),
        (
            "> a\nAC\n1 1 1 1\n> b\n> c\nA\n",
            "x.fa, record 2 (b): expected the line of its sequence, got '> c'; each",
            "",
        ),
        ("> a\nAC\n1 1 1 1\nACC\n", "record 1 (a): expected the next record's header (> id) after it, got 'ACC'", ""),
        ("> a\nAC\n1 1 1 1\n>  \nA\n1 1 1 1\n", "x.fa, record 2: expected an id after '>', got nothing", "give it one"),
        ("> a\n\n1 1 1 1\n", "x.fa, record 1 (a): expected a sequence, got nothing", "remove the record"),
        (
            "> a\nACXT\n1 1 1 1\n",
            "x.fa, record 1 (a): expected letters of ACGTURYSWKMBDHVN in its sequence, got 'X' at",
            "correct it, or write N",
        ),
        ("> a\nAC T\n1 1 1 1\n", "got ' ' at position 3", "remove the blanks within sequences"),
        (
            "> a\nAC\n1 1 1 1\n> a\nA\n1 1 1 1\n",
            "x.fa, record 2 (a): expected different ids, but record 1 has it too",
            "rename one",
        ),
        (
            "> a\nAC\n1 1 1 1\n> b\nA\n1 1 1\n",
            f"record 2 (b): expected 4 fractions ({', '.join(DEFAULT_SITES)}), got 3",
            "give a value for each site, and name with --sites as many as there are",
        ),
        (
            "> a\nAC\n1 1 -1 1\n",
            "record 1 (a): expected a finite number of 0 or more for Membrane, got '-1'",
            "correct it or remove the record",
        ),
        (
            "> a\nAC\n1 1 nan 1\n",
            "record 1 (a): expected a number for Membrane, got 'nan'",
            "correct it or remove the record",
        ),
        (
            "> a\nAC\n1 inf 1 1\n",
            "record 1 (a): expected a finite number of 0 or more for Insoluble, got 'inf'",
            "correct it or remove the record",
        ),
        (
            "> a\nAC\n1 1_0 1 1\n",
            "record 1 (a): expected a number for Insoluble, got '1_0'",
            "correct it or remove the record",
        ),
        (
            "> a\nAC\n1 one 1 1\n",
            "record 1 (a): expected a number for Insoluble, got 'one'",
            "correct it or remove the record",
        ),
        ("> a\nAC\n0 0 0 0.0\n", "record 1 (a): expected a fraction above 0, got 0 0 0 0.0", "remove the record"),
        ("> a\nAC\n1e308 1e308 1e308 0\n", "record 1 (a): expected a finite sum, got 1e308", "scale them down"),
        (
            APEX + ">b x:y\nAC\n",
            "record 2 (b): expected dist: or distA: and distB: in its header, got neither",
            "add it",
        ),
        (ORIGINAL + APEX.replace("ENSG1", "b"), "record 3 (b): expected 2 measurement(s) as in record 1, got 1", ""),
        (
            "id,sequence,a,b\nt,A,1\n",
            "x.fa, record 1 (t): expected 4 columns as in the header, got 3; the row is cut",
            "",
        ),
        (
            "id,sequence,a,b\n,A,1,1\n",
            "x.fa, record 1: expected an id of printable letters, got nothing",
            "give it one",
        ),
        (
            'id,sequence,a,b\n"t\nu",A,1,1\n',
            r"x.fa, record 1: expected an id of printable letters, got 't\nu'",
            "give it one",
        ),
        (
            'id,sequence,a,b\nt,"A,1,1\n',
            "x.fa, record 1: expected a row of a table, got unexpected end of data",
            "check its quotes",
        ),
        ('id,sequence,a,b\n"t\nu"\n', "x.fa, record 1: expected 4 columns as in the header, got 1", ""),
        (
            "id,sequence,a,a\nt,A,1,1\n",
            "x.fa, header: expected different names without line ends, got 'a'",
            "rename it",
        ),
        ("tx,sequence,a,b\n", "x.fa, header: expected a column 'id' (or transcript_id, name), got tx, s", "say which"),
        ("id,sequence,a\nt,A,1\n", "x.fa: expected 2 sites or more, got a", "add a column for each"),
        ("id,sequence,a,b\n", "x.fa: expected at least one record, got none", ""),
    ],
)
def test_read_says_what_is_wrong_when_the_file_is_bad(
    tmp_path: Path, content: str | bytes, problem: str, remedy: str
) -> None:
    error = refused(write(tmp_path, content))
    assert problem in error.problem
    assert error.remedy.startswith(remedy)
    assert bool(error.remedy) is bool(remedy)


def test_read_says_so_when_there_is_no_file_or_a_folder(tmp_path: Path) -> None:
    missing, folder = refused(tmp_path / "no.fa"), refused(tmp_path)
    assert (missing.problem, missing.remedy) == (f"{tmp_path / 'no.fa'}: no such file", "check the path")
    assert (folder.problem, folder.remedy) == (f"{tmp_path}: expected a file, got a folder", "name a file in it")


@pytest.mark.parametrize("wanted", [*LABELLED, "fasta"])
@pytest.mark.parametrize("actual", LABELLED)
def test_read_says_which_format_it_looks_like_when_another_is_forced(tmp_path: Path, wanted: str, actual: str) -> None:
    path = write(tmp_path, LABELLED[actual])
    if wanted != actual:
        error = refused(path, format=wanted)
        assert f"expected {wanted} (" in error.problem
        assert f"but it looks like {actual} (" in error.problem
        assert error.remedy == "leave --format out"
    else:
        assert len(read_four(path, format=wanted)) == 2


def test_read_refuses_words_it_does_not_know(tmp_path: Path) -> None:
    path = write(tmp_path, PORT3)
    error = refused(path, format="fastq")
    assert error.problem == "--format fastq: no such format"
    assert error.remedy.startswith("use one of auto, port3")
    assert refused(path, labels="C").problem == "--labels C: expected one of A, B, mean"
    with pytest.raises(UsageError) as caught:
        read_four(path, sites=["a", "a"])
    assert caught.value.problem == "--sites: a site can't be called 'a': two sites are"


def test_read_tells_the_format_when_the_first_record_is_longer_than_the_head(tmp_path: Path) -> None:
    path = write(tmp_path, f"> a\n{'ACGT' * 400_000}\n1 1 1 1\n")
    assert read_four(path, format="port3").lengths.tolist() == [1_600_000]
    assert read_four(path, format="ancestor3").lengths.tolist() == [1_600_000], "as the format was called once"


def test_survey_counts_every_problem_when_read_would_stop_at_the_first(tmp_path: Path) -> None:
    content = "> a\nAC\n1 1 1 1\n> a\nAX\n0 0 0 0\n> b\nAC\n1 1 1\n> c\n\n1 1 1 1\n"
    got, problems, file_format = survey(write(tmp_path, content), sites=DEFAULT_SITES)
    assert file_format == "port3"
    assert [p.kind for p in problems] == [
        "duplicate_id",
        "unknown_letter",
        "all_zero",
        "bad_fractions",
        "empty_sequence",
    ]
    assert got.ids == ("a", "a", "b", "c")
    assert got.codes.tolist() == [1, 2, 1, 5, 1, 2]
    assert np.isnan(got.measured()[1:3]).all()
    first = refused(write(tmp_path, content))
    assert (first.problem, first.remedy) == (problems[0].error.problem, problems[0].error.remedy)


@pytest.mark.shared
@pytest.mark.skipif(not REAL.is_file(), reason="needs the real data in ../shared")
def test_read_agrees_with_the_file_when_it_is_real() -> None:
    got = read_four(REAL, sites=["Nucleus", "Cytosol", "ERM", "OMM"])
    assert (len(got), int(got.lengths.min()), int(got.lengths.max())) == (1629, 227, 21103)
    assert got.ids[0] == "ENSG00000154727"
    assert np.allclose(got.measured()[0], [0.302960, 0.214328, 0.310104, 0.172608], atol=2e-6)
    assert np.allclose(got.measured().sum(axis=1), 1, atol=1e-15)
