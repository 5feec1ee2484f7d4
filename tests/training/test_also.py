"""Runs with further data sets: what of them is trained on, what counts as seen, and running again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.config import DataConfig
from rnatracker.data import similarity
from rnatracker.data.encoding import encode
from rnatracker.data.fingerprints import fingerprints
from rnatracker.data.readers import read
from rnatracker.data.similarity import Relatives
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import DataError, UsageError
from rnatracker.lineage import others, training_data
from rnatracker.lineage.others import Other
from rnatracker.model import checkpoint
from rnatracker.processes.stop import Interrupted
from rnatracker.search import tune
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training import agreement, replay, run
from rnatracker.training.division import divide
from rnatracker.training.request import Outcome, RunRequest
from tests.support.studies import small_study
from tests.support.toys import SilentReporter, small_config, toy_transcripts, write_table


def _of(*sequences: str) -> Transcripts:
    return Transcripts(
        tuple(f"{i}" for i in range(len(sequences))),
        np.concatenate([encode(each) for each in sequences]),
        np.concatenate(([0], np.cumsum([len(each) for each in sequences]))).astype(np.int64),
        source="b.fa",
    )


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tracking(tmp_path: Path) -> TrackingSettings:
    return TrackingSettings(tmp_path / "mlruns", enabled=False)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_table(toy_transcripts(40), tmp_path / "toy.tsv"))


@pytest.fixture
def other(tmp_path: Path) -> str:
    """Write 34 transcripts measured at two other sites: 10 of them are also in the data."""
    fresh, known = toy_transcripts(24, seed=5), toy_transcripts(40).take(np.arange(0, 40, 4))
    joined = replace(
        fresh,
        ids=(*fresh.ids, *(f"again_{name}" for name in known.ids)),
        codes=np.concatenate([fresh.codes, known.codes]),
        offsets=np.concatenate([fresh.offsets, known.offsets[1:] + fresh.offsets[-1]]),
        sites=("Soma", "Neurite"),
        fractions=np.random.default_rng(0).dirichlet(np.ones(2), 34),
    )
    return str(write_table(joined, tmp_path / "other.tsv"))


def _train(tracking: TrackingSettings, data: str, reporter: Any = None, **changes: Any) -> Outcome:
    return run.train(RunRequest(small_config(data__path=data, **changes), tracking), reporter or SilentReporter())


def _found(tracking: TrackingSettings, name: str) -> TrackedRun:
    return open_tracker(tracking).find(name)


class _StopsAfter(SilentReporter):
    """Stops a run in the middle of an epoch."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._left = batches

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


def test_transcripts_that_are_measured_are_left_out_by_sequence() -> None:
    """By hand: 1 and 4 of the other data are the held-out CCCC, 3 is AAAA, which is trained on here too."""
    own, further = _of("AAAA", "CCCC", "GGGG"), _of("TTTT", "CCCC", "CCCCC", "AAAA", "CCCC")
    found = Other(further, *others._pairs(own, further, DataConfig()))
    assert found.without(np.array([1])).tolist() == [0, 2, 3]
    assert found.without(np.array([2])).tolist() == [0, 1, 2, 3, 4]
    assert found.without(np.array([0, 1])).tolist() == [0, 2]


def test_relatives_are_left_out_where_the_run_divides_by_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: own 1 and other 0 are alike by 0.85 over 0.9, own 1 and other 2 by 0.7, which is no relative."""
    alike = Relatives(np.array([1, 1]), np.array([0, 2]), np.array([0.85, 0.7]), np.array([0.9, 0.9]))
    monkeypatch.setattr(similarity, "between", lambda own, other: alike)
    own, further = _of("AAAA", "CCCC"), _of("CCCG", "CCCC", "CCGG", "TTTT")
    by_family = Other(further, *others._pairs(own, further, DataConfig(group_by="similarity")))
    assert by_family.without(np.array([1])).tolist() == [2, 3]
    assert by_family.without(np.array([0])).tolist() == [0, 1, 2, 3]
    by_sequence = Other(further, *others._pairs(own, further, DataConfig()))
    assert by_sequence.without(np.array([1])).tolist() == [0, 2, 3]


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_each_fold_leaves_out_what_it_measures(tracking: TrackingSettings, data: str, other: str, jobs: int) -> None:
    reporter = SilentReporter()
    settings = small_config(data__path=data, data__also=[other], data__fold=2, train__epochs=1)
    run.train(RunRequest(settings, tracking, jobs=jobs), reporter)
    known = {f"t{i}" for i in range(0, 40, 4)}
    for training in divide(read(data), settings.data):
        held_out = {read(data).ids[i] for i in (*training.validation, *training.test)}  # type: ignore[misc]
        n = len(known & held_out)
        expected = f"{training.name}: also training on {34 - n} transcripts of other.tsv, {n} left out"
        assert n and any(line.startswith(expected) for line in reporter.lines)


def test_best_weights_are_those_of_the_first_data_and_the_others_are_recorded(
    tracking: TrackingSettings, data: str, other: str
) -> None:
    made = _train(tracking, data, data__also=[other])
    alone = _train(tracking, data)
    ours, theirs = (checkpoint.load(each.folder / "checkpoints" / "best.pt") for each in (made, alone))
    assert ours.sites == theirs.sites == made.sites
    assert ours.weights.keys() == theirs.weights.keys()
    assert not torch.equal(ours.weights["conv1.weight"], theirs.weights["conv1.weight"])
    found = _found(tracking, "exp1")
    assert found.tags()["rnatracker.also_digests"] == read(other).digest()
    expected = {int(each) for path in (data, other) for each in fingerprints(read(path))}
    tracker = open_tracker(tracking)
    assert [len(each) for each in training_data.sources_of_run(found, tracker)] == [40, 34]
    assert {int(each) for each in training_data.of_run(found, tracker)} == expected
    Path(other).unlink()
    assert {int(each) for each in training_data.of_run(found, tracker)} == expected
    found.files.seen_beside.unlink()
    with pytest.raises(training_data.UnknownTrainingDataError) as caught:
        training_data.of_run(found, tracker)
    assert "its further data sets" in caught.value.reason


def test_others_of_a_parent_have_been_seen_too(tracking: TrackingSettings, data: str, other: str) -> None:
    _train(tracking, data, data__also=[other], train__epochs=1)
    newest = write_table(toy_transcripts(30, seed=8), Path(data).parent / "newest.tsv")
    settings = small_config(data__path=str(newest), train__epochs=1)
    run.train(RunRequest(settings, tracking, transfer="exp1"), SilentReporter())
    expected = {int(each) for path in (data, other, str(newest)) for each in fingerprints(read(path))}
    found = training_data.of_run(_found(tracking, "exp2"), open_tracker(tracking))
    assert {int(each) for each in found} == expected


@pytest.mark.parametrize("fold", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_interrupted_run_resumes_to_the_bit(tracking: TrackingSettings, data: str, other: str, fold: int) -> None:
    changes = {"data__also": [other], "data__fold": fold, "train__freeze": 0}
    whole = _train(tracking, data, **changes)
    with pytest.raises(Interrupted):
        _train(tracking, data, _StopsAfter(27 if fold else 14), **changes)
    resumed = run.resume("exp2", tracking, SilentReporter())
    for place in ["fold1/checkpoints", "fold2/checkpoints"] if fold else ["checkpoints"]:
        one, two = (checkpoint.load(each.folder / place / "last.pt") for each in (whole, resumed))
        assert all(torch.equal(one.weights[key], two.weights[key]) for key in one.weights)
        assert one.progress is not None and two.progress is not None
        for first, second in zip(one.progress["heads"], two.progress["heads"], strict=True):
            assert all(torch.equal(first[key], second[key]) for key in first)


def test_replay_and_resume_need_the_others_as_they_were(
    tracking: TrackingSettings, data: str, other: str, tmp_path: Path
) -> None:
    _train(tracking, data, data__also=[other], train__epochs=2)
    planned = replay.plan("exp1", tracking)
    assert agreement.compare(planned.original, replay.replay(planned, SilentReporter())).words == "bit-identical"
    with pytest.raises(Interrupted):
        _train(tracking, data, _StopsAfter(3), data__also=[other])
    shutil.copy(other, tmp_path / "kept.tsv")
    lines = Path(other).read_text().splitlines()
    Path(other).write_text("\n".join(lines[:-1]) + "\n")
    for again in (lambda: replay.plan("exp1", tracking), lambda: run.resume("exp3", tracking, SilentReporter())):
        with pytest.raises(DataError) as caught:
            again()
        assert "--also other.tsv: not the transcripts" in caught.value.problem
    shutil.copy(tmp_path / "kept.tsv", other)
    assert run.resume("exp3", tracking, SilentReporter()).state == "FINISHED"


def test_command_takes_several_data_sets_with_the_names_of_their_sites(
    tracking: TrackingSettings, data: str, other: str, tmp_path: Path
) -> None:
    unnamed, transcripts = tmp_path / "unnamed.fa", toy_transcripts(10, seed=6)
    unnamed.write_text("".join(f"> {i}\n{transcripts.sequence(i)}\n0.25 0.75\n" for i in range(10)))
    words = ["train", "--data", data, "--also", other, "--also", f"{unnamed}:A,B", "--no-track", "--no-baseline"]
    words += ["--store", str(tracking.store), "--epochs", "1", "--max-length", "60", "--set", "train.also_weight=0.5"]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    folder = Path(json.loads(result.stdout)["folder"])
    log = (folder / "log.txt").read_text()
    assert "also 10 transcripts of unnamed.fa, with a last layer of their own: A, B" in log
    assert f"{unnamed}:A,B" in (folder / "config.yaml").read_text()
    heads = checkpoint.load(folder / "checkpoints" / "last.pt").progress
    assert heads is not None and [len(each["bias"]) for each in heads["heads"]] == [2, 2]
    given = CliRunner().invoke(app, ["train", "--resume", "exp1", "--also", other, "--store", str(tracking.store)])
    assert given.exit_code == 2
    assert "data.also can't be given" in " ".join(given.stderr.split())


def test_what_can_not_be_trained_on_too_is_refused(
    tracking: TrackingSettings, data: str, other: str, tmp_path: Path
) -> None:
    unnamed = tmp_path / "unnamed.fa"
    unnamed.write_text("> a\nACGTACGT\n0.25 0.75\n")
    same = write_table(toy_transcripts(40).take(divide(read(data), DataConfig())[0].validation), tmp_path / "same.tsv")
    for text, problem, remedy in (
        ("none.fa", "none.fa: no such file", ""),
        (str(unnamed), "expected sites with names", f"--also {unnamed}:SITE1,SITE2"),
        (f"{unnamed}:A", "expected two or more sites behind the colon, got 'A'", ""),
        (f"{unnamed}:A,B,C", "expected 3 fractions", ""),
        (str(same), "so nothing of it can be trained on", "leave it out"),
    ):
        with pytest.raises(DataError) as caught:
            _train(tracking, data, data__also=[other, text])
        assert "--also" in caught.value.problem
        assert problem in caught.value.problem
        assert remedy in caught.value.remedy
    assert not (tracking.store / "untracked").exists()
    with pytest.raises(UsageError) as refused:
        tune.tune(small_study(Path(data), tracking, settings={"data__also": [other]}), print, lambda *_: None)
    assert "data.also" in refused.value.problem
