"""Divisions: whole groups, sizes, seeds, fingerprints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnatracker.data import read
from rnatracker.data.folds import assignment_digest, default_groups, hold_out, k_folds
from rnatracker.errors import DataError

some_groups = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=60).filter(lambda g: len(set(g)) > 1)


@given(groups=some_groups, share=st.floats(0.01, 0.99), seed=st.integers(0, 2**32 - 1))
def test_hold_out_divides_no_group_when_there_are_two_or_more(groups: list[str], share: float, seed: int) -> None:
    train, held_out = hold_out(len(groups), groups, share, seed)
    assert len(train) > 0
    assert len(held_out) > 0
    assert sorted([*train, *held_out]) == list(range(len(groups)))
    assert list(train) == sorted(train)
    assert list(held_out) == sorted(held_out)
    assert not {groups[i] for i in train} & {groups[i] for i in held_out}


@given(n=st.integers(2, 300), share=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_hold_out_meets_the_share_when_there_are_no_groups(n: int, share: float, seed: int) -> None:
    _, held_out = hold_out(n, None, share, seed)
    assert len(held_out) == min(max(round(share * n), 1), n - 1)


@given(groups=some_groups, k=st.integers(2, 8), seed=st.integers(0, 99))
def test_k_folds_cover_all_once_when_groups_suffice(groups: list[str], k: int, seed: int) -> None:
    if len(set(groups)) < k:
        with pytest.raises(DataError) as caught:
            k_folds(len(groups), groups, k, seed)
        assert all(part in caught.value.problem for part in (f"{len(groups)} records", f"--fold {k}"))
        return
    folds = k_folds(len(groups), groups, k, seed)
    assert sorted(np.concatenate(folds)) == list(range(len(groups)))
    assert all(len(fold) for fold in folds)
    owners = [{groups[i] for i in fold} for fold in folds]
    assert sum(len(owner) for owner in owners) == len(set(groups))


def test_k_folds_differ_by_one_at_most_when_there_are_no_groups() -> None:
    assert sorted(len(fold) for fold in k_folds(23, None, 5, 0)) == [4, 4, 5, 5, 5]


def test_k_folds_are_balanced_when_groups_differ_in_size() -> None:
    groups = ["a"] * 6 + ["b"] * 3 + ["c"] * 3 + ["d"] * 2 + ["e", "f", "g", "h"]
    assert sorted(len(fold) for fold in k_folds(len(groups), groups, 3, 1)) == [6, 6, 6]


def test_divisions_depend_on_the_seed_alone() -> None:
    assert [f.tolist() for f in k_folds(50, None, 5, 7)] == [f.tolist() for f in k_folds(50, None, 5, 7)]
    assert [f.tolist() for f in k_folds(50, None, 5, 7)] != [f.tolist() for f in k_folds(50, None, 5, 8)]
    assert hold_out(50, None, 0.2, 7)[1].tolist() == hold_out(50, None, 0.2, 7)[1].tolist()
    assert hold_out(50, None, 0.2, 7)[1].tolist() != hold_out(50, None, 0.2, 8)[1].tolist()
    assert k_folds(50, None, 5, 7)[0].tolist() != list(range(10)), "folds are shuffled"


@pytest.mark.parametrize(
    ("n", "groups", "k", "problem"),
    [
        (2, None, 5, ["2 records only", "--fold 5"]),
        (4, list("aabb"), 3, ["4 records in 2 groups or different sequences only", "--fold 3"]),
        (4, None, 1, ["--fold 1: expected 2 folds or more"]),
    ],
)
def test_k_folds_say_why_when_they_cannot_be_made(n: int, groups: list[str] | None, k: int, problem: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        k_folds(n, groups, k, 0)
    assert all(part in caught.value.problem for part in problem)
    assert caught.value.remedy == ("use fewer folds or add records" if k > 1 else "")


@pytest.mark.parametrize(("n", "groups"), [(1, None), (0, None), (3, list("aaa"))])
def test_hold_out_says_why_when_a_part_would_be_empty(n: int, groups: list[str] | None) -> None:
    with pytest.raises(DataError) as caught:
        hold_out(n, groups, 0.5, 0)
    assert caught.value.problem.startswith("expected 2 records or more")
    assert caught.value.problem.endswith(f"got {n} in {min(n, 1)}")
    assert caught.value.remedy == "add records"


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_hold_out_refuses_a_share_that_is_none(share: float) -> None:
    with pytest.raises(DataError) as caught:
        hold_out(10, None, share, 0)
    assert caught.value.problem.startswith("expected a share between 0 and 1")
    assert caught.value.problem.endswith(f"got {share}")


def test_default_groups_are_the_files_when_it_has_them_else_equal_sequences(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,sequence,gene,x,y\na,ACGT,g,1,1\nb,ACGC,h,1,1\nc,ACGG,g,1,1\n")
    assert default_groups(read(tmp_path / "a.csv")) == ("g", "h", "g")
    (tmp_path / "b.csv").write_text("id,sequence,x,y\na,ACGT,1,1\nb,acgu,1,2\nc,ACG,1,1\n")
    first, second, third = default_groups(read(tmp_path / "b.csv"))
    assert first == second != third


def test_default_groups_join_groups_that_share_a_sequence(tmp_path: Path) -> None:
    rows = ["a,ACGT,g", "b,ACGU,h", "c,CCC,h", "d,CCC,i", "e,GGG,j"]
    (tmp_path / "a.csv").write_text("id,sequence,gene,x,y\n" + "".join(f"{row},1,1\n" for row in rows))
    groups = default_groups(read(tmp_path / "a.csv"))
    assert len({*groups[:4]}) == 1
    assert groups[4] not in groups[:4]


def test_assignment_digest_names_the_division_whatever_the_records_order() -> None:
    one = assignment_digest([np.array([0, 1]), np.array([2])], ["a", "b", "c"])
    assert len(one) == 32
    assert int(one, 16) >= 0
    assert one == assignment_digest([np.array([1, 2]), np.array([0])], ["c", "b", "a"])
    assert one != assignment_digest([np.array([2]), np.array([0, 1])], ["a", "b", "c"])
    assert one != assignment_digest([np.array([0]), np.array([1, 2])], ["a", "b", "c"])
