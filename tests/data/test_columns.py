"""Which column of a table is taken for what, and columns that can't be sites. Answers are known by hand."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.data.folds import default_groups
from rnatracker.data.formats.column_names import ColumnNames
from rnatracker.data.readers import read, read_unlabelled, survey
from rnatracker.data.split import split_file
from rnatracker.data.stream import stream
from rnatracker.errors import DataError
from tests.support.texts import FASTA, PORT3, write

N = 40
RNG = np.random.default_rng(0)
FRACTIONS = RNG.dirichlet(np.ones(3), N)
LENGTHS = RNG.integers(300, 9000, N)


def table(folder: Path, **extra: list[object]) -> Path:
    """Write a table of three sites with further columns behind them."""
    rows = ["\t".join(["id", "sequence", "A", "B", "C", *extra])]
    for i, row in enumerate(FRACTIONS):
        sequence = "ACGT" * 5 + "".join("ACGT"[int(x)] for x in np.base_repr(i, 4))
        rows.append("\t".join([f"t{i}", sequence, *(f"{x:.4f}" for x in row), *(str(v[i]) for v in extra.values())]))
    return write(folder, "\n".join(rows) + "\n", "x.tsv")


def refused(path: Path, **options: object) -> DataError:
    with pytest.raises(DataError) as caught:
        read(path, **options)  # type: ignore[arg-type]
    return caught.value


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, result.output
    return " ".join((result.stdout + result.stderr).split())


@pytest.mark.parametrize("id_", ["id", "transcript_id", "Name"])
@pytest.mark.parametrize("sequence", ["sequence", "seq", "cDNA"])
@pytest.mark.parametrize("group", ["group", "gene", "gene_id", "Gene_Name"])
def test_columns_are_found_under_any_of_their_names(tmp_path: Path, id_: str, sequence: str, group: str) -> None:
    path = write(tmp_path, f"{group},{id_},x,{sequence},y\ng,t1,1,ACGT,3\ng,t2,1,AC,1\n", "x.csv")
    got = read(path)
    assert (got.ids, got.sequence(0), got.groups, got.sites) == (("t1", "t2"), "ACGT", ("g", "g"), ("x", "y"))
    assert got.columns == f"id from {id_}, sequence from {sequence}, group from {group}; sites x, y"
    with stream(path) as pieces:
        assert [piece.ids for piece in pieces] == [("t1", "t2")]


def test_first_of_several_names_counts_and_the_others_are_no_sites(tmp_path: Path) -> None:
    header = "name,transcript_id,gene_name,gene_id,cdna,seq,x,y"
    got = read(write(tmp_path, f"{header}\nn,t1,BRCA1,g,A,ACGT,1,3\nm,t2,BRCA1,h,A,AC,1,1\n"))
    assert (got.ids, got.sequence(0), got.groups) == (("t1", "t2"), "ACGT", ("g", "h"))
    assert got.columns.endswith("sites x, y; left out: name, gene_name, cdna")


def test_columns_are_those_that_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "id,tx,mrna,family,x,y\n1,t1,ACGT,f,1,3\n2,t2,AC,f,1,1\n")
    asked = ColumnNames("tx", "mrna", "family")
    got = read(path, columns=asked, sites=["x", "y"])
    assert (got.ids, got.sequence(0), got.groups) == (("t1", "t2"), "ACGT", ("f", "f"))
    assert read_unlabelled(path, columns=asked).groups == ("f", "f")
    assert survey(path, columns=asked, sites=["x", "y"])[0].ids == ("t1", "t2")


@pytest.mark.parametrize(
    ("content", "asked", "problem", "remedy"),
    [
        ("id,sequence,a,b\n", ColumnNames("tx"), "no column 'tx' as --id-column wants", "its columns are id, sequence"),
        ("id,sequence,genes,b\n", ColumnNames(group="gene"), "no column 'gene' as --group-column", "did you mean 'gen"),
        ("id,sequence,a,b\n", ColumnNames("a", "a"), "column 'a' can't be both id and sequence", "give another --id-c"),
        ("id,sequence,a,b\n", ColumnNames(group="id"), "can't be both id and group", "give another --id-column"),
        (PORT3, ColumnNames(group="gene"), "--group-column gene is for tables, and it looks like port3", "leave --gr"),
        (FASTA, ColumnNames(id="x"), "--id-column x is for tables, and it looks like fasta", "leave --id-column out"),
    ],
)
def test_column_that_is_not_there_is_one_error(
    tmp_path: Path, content: str, asked: ColumnNames, problem: str, remedy: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_unlabelled(path, columns=asked)
    assert problem in caught.value.problem
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (LENGTHS, "without it the values of every record sum to 1, with it to between"),
        (RNG.uniform(0, 0.05, N).round(5), "without it the values of every record sum to 1"),
        (RNG.uniform(size=N).round(3), "without it the values of every record sum to 1"),
    ],
    ids=["length", "p value", "score"],
)
def test_numbers_that_are_no_fractions_are_no_site(tmp_path: Path, values: np.ndarray, why: str) -> None:
    """A length became the site with 99.97 % of everything, and an overall PCC of .911 without a word."""
    path = table(tmp_path, other=list(values))
    error = refused(path)
    assert error.problem.startswith(f"x.tsv: column 'other' doesn't look like a site's fractions: {why}")
    assert (
        error.remedy
        == "if it is no site, name those that are: --sites A,B,C; if it is one, name them all: --sites A,B,C,other"
    )
    assert read(path, sites=["A", "B", "C"]).sites == ("A", "B", "C")
    assert read(path, sites=["A", "B", "C", "other"]).sites == ("A", "B", "C", "other")
    assert [problem.kind for problem in survey(path)[1]] == ["no_fraction"]
    assert len(read_unlabelled(path)) == N, "a prediction asks for no fractions"


def rows(folder: Path, values: np.ndarray) -> Path:
    names = "ABCD"[: values.shape[1]]
    lines = [f"t{i},ACGT,{','.join(f'{value:.6g}' for value in row)}" for i, row in enumerate(values)]
    return write(folder, "\n".join([f"id,sequence,{','.join(names)}", *lines]) + "\n")


def test_column_that_holds_nearly_all_is_no_site(tmp_path: Path) -> None:
    values = np.column_stack([RNG.uniform(0, 0.05, (N, 2)), np.full(N, 1.0)])
    error = refused(rows(tmp_path, values))
    assert error.problem.endswith("it holds more than 90% of the sum in 40 of 40 records")
    two = refused(rows(tmp_path, values[:, 1:]))
    assert "column 'B'" in two.problem
    assert two.remedy == "if it is one, name them all: --sites A,B", "one site alone can't be named"


def test_columns_without_a_common_whole_are_refused(tmp_path: Path) -> None:
    values = RNG.dirichlet(np.ones(3), N) * np.exp(RNG.normal(size=(N, 1)))
    assert "the values of a record sum to anything between" in refused(rows(tmp_path, values)).problem


@pytest.mark.parametrize("whole", [1.0, 100.0, 7.5])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_fractions_and_abundances_as_noisy_as_replicates_are_read(tmp_path: Path, whole: float, noise: float) -> None:
    values = RNG.dirichlet(np.ones(4), N) * whole * (1 + noise * RNG.normal(size=(N, 4))).clip(0.1)
    assert len(read(rows(tmp_path, values))) == N


def test_words_that_repeat_are_pointed_out_where_they_may_be_divided(tmp_path: Path) -> None:
    symbols = [f"S{i // 2}" for i in range(N)]
    path = table(tmp_path, symbol=symbols, kind=["mRNA"] * N, alone=[f"x{i}" for i in range(N)], length=list(LENGTHS))
    note = f"x.tsv: column symbol: {N} records share {N // 2} of its values and may be divided; where records of one "
    note += "symbol belong together, add --group-column symbol"
    assert read(path, sites=["A", "B", "C"]).notes == (note,)
    assert read_unlabelled(path).notes == (note,)
    grouped = read(path, sites=["A", "B", "C"], columns=ColumnNames(group="symbol"))
    assert grouped.notes == ()
    assert len(set(default_groups(grouped))) == N // 2
    path = table(tmp_path, symbol=symbols, kind=["mRNA"] * N)  # left out, without being told so
    found = read(path)
    assert (found.sites, found.notes) == (("A", "B", "C"), (note,))


def test_a_word_in_front_of_numbers_is_a_mistake_in_a_site(tmp_path: Path) -> None:
    path = table(tmp_path, D=["o.2", *["0.2"] * (N - 1)])
    found, problems, _ = survey(path)
    assert [problem.kind for problem in problems] == ["no_fraction"] and len(found) == N
    assert str(problems[0].error) == str(refused(path))
    assert "record 1 (t0): expected a number for D, got 'o.2'" in refused(path).problem
    assert refused(path).remedy.startswith("correct it, or where D is no site, name those that are: --sites A,B,C")
    assert refused(path).remedy.endswith("where records that share it belong together, add --group-column D")


def test_words_are_left_out_and_the_rest_is_read(tmp_path: Path) -> None:
    path = table(tmp_path, symbol=[f"S{i // 2}" for i in range(N)], kind=["mRNA"] * N)
    found, problems, _ = survey(path)
    named = read(path, sites=["A", "B", "C"])
    for other in (found, read(path)):
        assert (other.sites, other.columns, other.notes) == (named.sites, named.columns, named.notes)
        assert other.measured().tolist() == named.measured().tolist()
    assert not problems
    said = run("data", "inspect", str(path))
    assert "left out: symbol, kind" in said
    assert "add --group-column symbol" in said


def test_gene_names_are_never_divided(tmp_path: Path) -> None:
    """Of a table with a gene_name column, 62 of 150 genes stood on both sides of a split."""
    path = table(tmp_path, gene_name=[f"G{i // 2}" for i in range(N)])
    parts = split_file(path, tmp_path / "a.tsv", tmp_path / "b.tsv", share=0.4)
    train, test = (set(read(part).groups or ()) for part in (parts.train, parts.test))
    assert parts.n_groups == N // 2 == len(train) + len(test)


def test_commands_say_which_columns_they_took(tmp_path: Path) -> None:
    path = table(tmp_path, symbol=[f"S{i // 2}" for i in range(N)], gene_id=[f"g{i}" for i in range(N)])
    taken = "id from id, sequence from sequence, group from gene_id; sites A, B, C; left out: symbol"
    inspected = run("data", "inspect", str(path), "--sites", "A,B,C")
    assert taken in inspected
    assert "add --group-column symbol" in inspected
    split = run("data", "split", str(path))
    assert "add --group-column symbol" in split
    words = ["--data", str(path), "--sites", "A,B,C", "--epochs", "1", "--max-length", "60", "--no-track"]
    trained = run("train", *words, "--store", str(tmp_path / "store"))
    assert f"columns: {taken}" in trained
    assert "add --group-column symbol" in trained


def test_next_command_has_the_columns_that_were_given(tmp_path: Path) -> None:
    path = table(tmp_path, symbol=[f"S{i // 2}" for i in range(N)])
    said = run("data", "inspect", str(path), "--group-column", "symbol")
    assert shlex.join(["train", "--data", str(path), "--group-column", "symbol"]) in said


def test_length_column_ends_inspect_and_train(tmp_path: Path) -> None:
    path = str(table(tmp_path, length=list(LENGTHS)))
    for words in (["data", "inspect", path], ["train", "--data", path, "--no-track", "--store", str(tmp_path / "s")]):
        said = run(*words, code=1)
        assert "column 'length' doesn't look like a site's fractions" in said
        assert "--sites A,B,C;" in said
    assert not (tmp_path / "s").exists()
