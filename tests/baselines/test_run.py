"""`rnatracker baseline`: tracked runs on a training's division, features kept by the data's digest, clear errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.baselines import division, features, fit, run
from rnatracker.baselines.features import features_of
from rnatracker.baselines.models import BOOSTED, KINDS
from rnatracker.commands.baseline import baseline
from rnatracker.data.features import kmers
from rnatracker.data.readers import read
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from rnatracker.training.division import split_digest
from rnatracker.training.request import RunRequest, prepare
from tests.support.toys import small_config, toy_transcripts, write_table


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_table(toy_transcripts(60), tmp_path / "toy.tsv"))


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "ROUNDS", 20)


def _baseline(tmp_path: Path, *words: str) -> dict[str, object]:
    command = ["baseline", "--no-track", "--json", "--store", str(tmp_path / "store"), *words]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("folds", [0, 3])
def test_each_kind_is_a_run_on_the_division_of_a_training(folds: int, data: str, tmp_path: Path) -> None:
    found = _baseline(tmp_path, "--data", data, "--fold", str(folds), "--split-seed", "5")
    assert [each["kind"] for each in found["baselines"]] == list(KINDS)
    tracking = TrackingSettings(tmp_path / "store", enabled=False)
    config = small_config(data__path=data, data__fold=folds, data__split_seed=5)
    expected = split_digest(prepare(RunRequest(config, tracking)))
    group = "oof" if folds else "best"
    for each in found["baselines"]:
        tracked = open_tracker(tracking).find(each["name"])
        tags = tracked.tags()
        assert (tags[Tag.KIND], tags[Tag.BASELINE], tracked.status()) == ("baseline", each["kind"], "FINISHED")
        assert tags[Tag.SPLIT_DIGEST] == expected and tags[Tag.DATA_DIGEST] == read(data).digest()
        assert tracked.metrics()[f"{group}/pcc_mean"] == pytest.approx(each["metrics"][f"{group}/pcc_mean"])
        table = tracked.files.out_of_fold_predictions if folds else tracked.files.validation_predictions
        assert len(table.read_text().splitlines()) == (61 if folds else 13)
        weights = sorted(path.relative_to(tracked.folder).as_posix() for path in tracked.folder.rglob("*.npz"))
        inside = [f"fold{i}/" for i in (1, 2, 3)] if folds else [""]
        assert weights == [f"checkpoints/{place}best.npz" for place in inside]
        assert len(each["folds"]) == folds
        assert all(len(value) <= 20 for key, value in tracked.params().items() if key.startswith("baseline."))
    by_kind = {each["kind"]: each["metrics"][f"{group}/pcc_mean"] for each in found["baselines"]}
    assert by_kind["kmer-ridge"] > max(by_kind["mean"], by_kind["length"], 0.7)


def test_figures_are_those_of_transcripts_that_trained_nothing(data: str, tmp_path: Path) -> None:
    """The mean of the others predicts each fold; whoever saw it would have the mean of all."""
    (found,) = _baseline(tmp_path, "--data", data, "--fold", "3", "--kind", "mean")["baselines"]
    rows = [
        line.split("\t") for line in (Path(found["folder"]) / "predictions/out_of_fold.tsv").read_text().splitlines()
    ]
    transcripts = toy_transcripts(60)
    predicted = np.array([[float(value) for value in row[1:4]] for row in rows[1:]])
    for fold in np.unique(predicted, axis=0):
        inside = (predicted == fold).all(axis=1)
        assert 15 < inside.sum() < 25
        assert transcripts.measured()[~inside].mean(axis=0) == pytest.approx(fold)


def test_features_are_counted_once_for_a_data_set(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking, transcripts = TrackingSettings(tmp_path / "store"), read(data)
    first = features_of(transcripts, tracking).frequencies
    with monkeypatch.context() as patch:
        patch.setattr(kmers, "frequencies", lambda _encoded: pytest.fail("counted again"))
        assert np.array_equal(features_of(transcripts, tracking).frequencies, first)
    (kept,) = features.folder(tracking).iterdir()
    for content in (b"", b"\x93NUMPY", kept.read_bytes()[:500]):  # cut or of others: counted again
        kept.write_bytes(content)
        assert np.array_equal(features_of(transcripts, tracking).frequencies, first)


def test_features_of_the_latest_data_sets_are_kept(tmp_path: Path) -> None:
    tracking = TrackingSettings(tmp_path / "store")
    for seed in range(features._KEPT + 2):
        features_of(toy_transcripts(5, seed), tracking)
    assert len(list(features.folder(tracking).iterdir())) == features._KEPT


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert features_of(toy_transcripts(5), TrackingSettings(tmp_path / "file")).frequencies.shape[0] == 5


def test_a_baseline_that_fails_is_recorded_so(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(division, "fit", fail)
    words = ["baseline", "--data", data, "--no-track", "--store", str(tmp_path / "store"), "--kind", "length"]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (1, True)
    tracked = open_tracker(TrackingSettings(tmp_path / "store", enabled=False)).find("exp1")
    assert tracked.status() == "FAILED" and Tag.MODEL_DIGEST not in tracked.tags()
    assert "out of memory" in result.stderr


def test_a_lightgbm_that_cannot_be_loaded_is_one_error(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    words = ["baseline", "--data", data, "--no-track", "--store", str(tmp_path / "store")]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (1, True)
    assert "LightGBM, for boosted trees, can't be loaded" in result.stderr and "pip install lightgbm" in result.stderr
    tracker = open_tracker(TrackingSettings(tmp_path / "store", enabled=False))
    assert [tracker.find(f"exp{i}").status() for i in (1, 2, 3, 4)] == ["FINISHED"] * 3 + ["FAILED"]


def test_too_few_transcripts_for_trees_are_said(tmp_path: Path) -> None:
    data = str(write_table(toy_transcripts(30), tmp_path / "few.tsv"))
    found = [each["kind"] for each in _baseline(tmp_path, "--data", data)["baselines"]]
    assert found == ["mean", "length", "kmer-ridge"]
    for kind in BOOSTED:
        words = ["baseline", "--data", data, "--no-track", "--store", str(tmp_path / "store"), "--kind", kind]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 1 and "need 40 training transcripts" in result.stderr


def test_every_kind_can_be_asked_for() -> None:
    hint = get_type_hints(baseline, include_extras=True)["kind"]
    assert get_args(get_args(hint)[0]) == ("all", *KINDS)
    assert {*run.NAMES} == {*KINDS}
    told = CliRunner().invoke(app, ["baseline", "--help"], terminal_width=300, env={"COLUMNS": "300"}).stdout
    assert all(kind in told for kind in KINDS)


@pytest.mark.parametrize(
    ("words", "code"), [([], 2), (["--data", "{data}", "--fold", "99"], 1), (["--data", "{data}", "--kind", "svm"], 2)]
)
def test_what_cannot_be_done_leaves_no_run(words: list[str], code: int, data: str, tmp_path: Path) -> None:
    filled = [word.format(data=data) for word in words]
    result = CliRunner().invoke(app, ["baseline", "--no-track", "--store", str(tmp_path / "store"), *filled])
    assert result.exit_code == code
    assert not (tmp_path / "store" / "untracked").exists()
