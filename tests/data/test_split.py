"""Dividing a file: records to the byte, groups whole, nothing overwritten."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from rnatracker.config import DEFAULT_SITES
from rnatracker.data import read_unlabelled
from rnatracker.data.split import default_names, split_file
from rnatracker.errors import DataError
from tests.support.texts import read_four


def lines_of(n: int) -> list[str]:
    return [f"> chr1 t{i}\r\n{'ACGT' * (i + 1)}n\r\n0.10 0.20  0.30\t0.40\r\n" for i in range(n)]


def test_split_copies_records_to_the_byte_when_they_are_the_port(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_bytes("".join(lines_of(10)).removesuffix("\r\n").encode())
    parts = split_file(path, *default_names(path), sites=DEFAULT_SITES, share=0.3, seed=1)
    assert (parts.n_train, parts.n_test, parts.n_groups) == (7, 3, 10)
    assert (parts.train.name, parts.test.name) == ("x_train.fa", "x_test.fa")
    content = [parts.train.read_bytes().decode(), parts.test.read_bytes().decode()]
    copied = [record for part in content for record in part.split("> ") if record]
    assert sorted(record.strip() for record in copied) == sorted(line[2:].strip() for line in lines_of(10))
    train_ids = read_four(parts.train).ids
    assert list(train_ids) == sorted(train_ids)
    assert not set(train_ids) & set(read_four(parts.test).ids)


def test_split_keeps_groups_whole_and_the_header_when_the_file_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    rows = "".join(f't{i},ACGT{"A" * i},"g{i % 4}, x",1,2\n' for i in range(20))
    path.write_bytes(gzip.compress(f"id,sequence,gene,a,b\n{rows}".encode()))
    parts = split_file(path, *default_names(path, tmp_path), share=0.25)
    assert (parts.train.name, parts.test.name) == ("x_train.csv.gz", "x_test.csv.gz")
    train, test = read_four(parts.train), read_four(parts.test)
    assert (len(train), len(test), parts.n_groups) == (15, 5, 4)
    assert not set(train.groups or ()) & set(test.groups or ())
    text = gzip.decompress(parts.test.read_bytes()).decode()
    assert text.startswith("id,sequence,gene,a,b\n")
    assert all(line in rows for line in text.splitlines()[1:])


def test_split_keeps_same_sequences_together_when_there_are_no_groups(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text("".join(f">t{i}\n{'ACGT'[: 1 + i % 3]}\n" for i in range(9)))
    parts = split_file(path, tmp_path / "a", tmp_path / "b", share=0.3)
    train, test = read_unlabelled(parts.train), read_unlabelled(parts.test)
    assert (len(train), len(test)) == (6, 3)
    assert not {train.sequence(i) for i in range(6)} & {test.sequence(i) for i in range(3)}


def test_split_overwrites_nothing_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text("".join(lines_of(4)))
    train, test = default_names(path)
    test.write_text("mine")
    with pytest.raises(DataError) as caught:
        split_file(path, train, test, sites=DEFAULT_SITES, share=0.5)
    assert caught.value.problem == f"{test}: exists already"
    assert "--force" in caught.value.remedy
    assert test.read_text() == "mine"
    assert not train.exists()
    split_file(path, train, test, sites=DEFAULT_SITES, share=0.5, force=True)
    assert len(read_four(test)) == 2


def test_split_refuses_when_a_part_would_replace_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text("".join(lines_of(4)))
    other = tmp_path / "y.fa"
    for train, force in ((path, True), (other, False)):
        with pytest.raises(DataError) as caught:
            split_file(path, train, other, sites=DEFAULT_SITES, share=0.5, force=force)
        assert caught.value.problem.startswith(f"{path}: ")
        assert caught.value.problem.endswith(f"two files of their own, got {train} and {other}")
    assert path.read_bytes() == "".join(lines_of(4)).encode()
    assert not other.exists()


def test_split_leaves_nothing_when_the_file_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text("> a\nACGT\n1 1 1 1\n> b\nACX\n1 1 1 1\n")
    with pytest.raises(DataError) as caught:
        split_file(path, *default_names(path), sites=DEFAULT_SITES, share=0.5)
    assert caught.value.problem.startswith("x.fa, record 2 (b): ")
    assert list(tmp_path.iterdir()) == [path]


def test_split_works_when_a_table_has_one_site_or_none(tmp_path: Path) -> None:
    for columns, values in (("a", "1"), ("symbol", "BRCA1"), ("", "")):
        rows = "".join(f"t{i},ACGT{'A' * i}{',' if values else ''}{values}\n" for i in range(4))
        path = tmp_path / f"{columns or 'x'}.csv"
        path.write_text(f"id,sequence{',' if columns else ''}{columns}\n{rows}")
        parts = split_file(path, *default_names(path), share=0.5)
        assert (parts.n_train, parts.n_test) == (2, 2)
        assert len(read_unlabelled(parts.test)) == 2


def test_split_makes_its_folder_or_says_why_not(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text("".join(lines_of(4)))
    parts = split_file(path, *default_names(path, tmp_path / "new" / "folder"), sites=DEFAULT_SITES, share=0.5)
    assert parts.train.parent == tmp_path / "new" / "folder"
    assert len(read_four(parts.train)) == 2
    with pytest.raises(DataError) as caught:
        split_file(path, *default_names(path, path / "folder"), sites=DEFAULT_SITES, share=0.5)
    assert caught.value.problem == f"{path / 'folder'}: can't be made (Not a directory)"


def test_split_asks_for_sites_that_the_file_does_not_name(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text("".join(lines_of(4)))
    for sites, problem, remedy in (
        (None, "the file has none for its 4 values (0.10 0.20 0.30 0.40)", "as in --sites site1,site2,site3,site4"),
        (["a", "b", "c"], "expected 3 values as --sites a,b,c names them, got 4", "name every value"),
    ):
        with pytest.raises(DataError) as caught:
            split_file(path, *default_names(path), share=0.5, sites=sites)
        assert problem in caught.value.problem
        assert remedy in caught.value.remedy
    assert list(tmp_path.iterdir()) == [path]


def test_split_names_the_file_when_it_has_too_few_records(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text("".join(lines_of(1)))
    with pytest.raises(DataError) as caught:
        split_file(path, *default_names(path, tmp_path / "new"), sites=DEFAULT_SITES, share=0.5)
    assert caught.value.problem.startswith("x.fa: expected 2 records or more")
    assert not (tmp_path / "new").exists()
