"""Simple models beside a run: what is shown, that it is computed once, and the words of the verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.baselines import beside, division, fit
from rnatracker.baselines.models import BOOSTED
from rnatracker.metrics import Difference
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from tests.support.candidates import finished_run, measured_by, training_data
from tests.support.toys import SMALL, toy_transcripts, write_table


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(fit, "ROUNDS", 20)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_table(toy_transcripts(90), tmp_path / "toy.tsv"))


@pytest.fixture
def tracking(tmp_path: Path) -> TrackingSettings:
    return TrackingSettings(tmp_path / "store", enabled=False)


def _command(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result


def _train(tracking: TrackingSettings, data: str, *words: str) -> dict[str, object]:
    sets = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    place = ["--no-track", "--store", str(tracking.store), "--json"]
    found = _command("train", "--data", data, *sets, "--epochs", "1", *place, *words)
    return json.loads(found.stdout)


@pytest.mark.parametrize("folds", ["0", pytest.param("3", marks=pytest.mark.slow)])
def test_a_training_is_shown_beside_simple_models(folds: str, tracking: TrackingSettings, data: str) -> None:
    found = _train(tracking, data, "--fold", folds)
    figures = found["metrics"]
    assert isinstance(figures, dict) and isinstance(found["beside"], list)
    # One epoch learns nothing, and the fractions follow from the letters: ridge is better, for sure.
    assert figures["baseline/kmer-ridge/pcc_mean"] > 0.8 and figures["baseline/kmer-ridge/high"] < 0
    assert found["beside"][-1].startswith("worse than k-mer ridge by -")
    run = open_tracker(tracking).find(str(found["name"]))
    assert run.metrics()["baseline/kmer-ridge/pcc_mean"] == pytest.approx(figures["baseline/kmer-ridge/pcc_mean"])
    assert "worse than k-mer ridge" in run.tags()[Tag.NOTE] and "worse than k-mer ridge" in run.files.log.read_text()
    group = "oof" if int(folds) else "best"
    assert figures["baseline/kmer-ridge/difference"] == pytest.approx(
        figures[f"{group}/pcc_mean"] - figures["baseline/kmer-ridge/pcc_mean"]
    )


@pytest.mark.slow
def test_figures_are_those_of_the_baselines_own_runs(tracking: TrackingSettings, data: str) -> None:
    place = ["--no-track", "--store", str(tracking.store), "--json"]
    trained = _train(tracking, data, "--fold", "3")["metrics"]
    own = json.loads(_command("baseline", "--data", data, "--fold", "3", *place).stdout)["baselines"]
    assert isinstance(trained, dict)
    for each in own[:3]:
        assert each["metrics"]["oof/pcc_mean"] == pytest.approx(trained[f"baseline/{each['kind']}/pcc_mean"])


@pytest.mark.slow
def test_models_are_trained_once_and_trees_stand_there_once_they_have_been_run(
    tracking: TrackingSettings, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _train(tracking, data)
    assert "boosting" not in str(first["beside"])
    for kind in BOOSTED:
        _command("baseline", "--data", data, "--kind", kind, "--no-track", "--store", str(tracking.store))
    monkeypatch.setattr(division, "fit", lambda *_, **__: pytest.fail("trained again"))
    second = _train(tracking, data, "--seed", "5")
    assert "kmer-boosting" in second["beside"][0] and "codon-boosting" in second["beside"][0]  # type: ignore[index]
    for line, name in zip(second["beside"][1:], ("k-mer ridge", "k-mer boosting", "codon boosting"), strict=True):  # type: ignore[index]
        assert name in line
    (kept,) = (tracking.store / "work" / "baselines").iterdir()
    (kept / "mean.npy").write_bytes(b"cut")
    monkeypatch.undo()
    third = _train(tracking, data, "--seed", "5")
    assert third["metrics"]["baseline/mean/pcc_overall"] == second["metrics"]["baseline/mean/pcc_overall"]  # type: ignore[index]


@pytest.mark.slow
def test_another_division_is_not_given_what_was_kept(tracking: TrackingSettings, data: str) -> None:
    for words in ([], ["--split-seed", "1"], ["--fold", "3"], ["--val", "0.3"]):
        _train(tracking, data, *words)
    assert len(list((tracking.store / "work" / "baselines").iterdir())) == 4


FAILURES = [
    (np.linalg.LinAlgError("SVD did not converge"), "SVD did not converge"),
    (ImportError("No module named 'sklearn'"), "No module named 'sklearn'"),
    (OSError("libgomp.so.1: cannot open shared object file"), "libgomp.so.1: cannot open shared object file"),
    (MemoryError(), "MemoryError"),
]


@pytest.mark.parametrize(("error", "said"), FAILURES)
def test_a_training_outlives_baselines_that_fail(
    error: Exception, said: str, tracking: TrackingSettings, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(division, "fit", fail)
    found = _train(tracking, data)
    assert found["state"] == "FINISHED" and found["beside"] == [f"baselines could not be computed: {said}"]


def test_a_promotion_outlives_baselines_that_fail(
    mlflow_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(beside, "fit", fail)
    run = finished_run(TrackingSettings(mlflow_store), training_data(tmp_path), 1)
    test = measured_by(1, tmp_path / "test.tsv")
    found = json.loads(_command("promote", run.id, "--data", test, "--store", str(mlflow_store), "--json").stdout)
    assert found["aliases"] == ["champion"]
    assert found["verdict"]["beside"] == ["baselines could not be computed: MemoryError"]


def test_it_can_be_left_out(tracking: TrackingSettings, data: str) -> None:
    found = _train(tracking, data, "--no-baseline")
    assert found["beside"] == [] and not any("baseline" in name for name in found["metrics"])  # type: ignore[attr-defined]
    assert not (tracking.store / "work" / "baselines").exists()


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.01, 0.07, "better than k-mer ridge by +0.040"), (-0.01, 0.07, "no better than k-mer ridge: +0.040"),
     (-0.07, -0.01, "worse than k-mer ridge by +0.040"), (np.nan, np.nan, "can't be told from")],
)  # fmt: skip
def test_words_of_the_verdict(low: float, high: float, said: str) -> None:
    assert beside.verdict("kmer-ridge", Difference("pcc_mean", 0.04, low, high, 0.5)).startswith(said)


def test_the_verdict_on_what_is_undefined() -> None:
    nan = float("nan")
    assert "undefined" in beside.verdict("kmer-ridge", Difference("pcc_mean", nan, nan, nan, nan))


def test_promotion_shows_simple_models_on_the_test_set(mlflow_store: Path, tmp_path: Path) -> None:
    tracking = TrackingSettings(mlflow_store)
    test = measured_by(1, tmp_path / "test.tsv")
    data = training_data(tmp_path)
    run = finished_run(tracking, data, 1)
    place = ["--store", str(mlflow_store), "--json"]
    found = json.loads(_command("promote", run.id, "--data", test, *place).stdout)["verdict"]
    assert found["beside"][-1].startswith("better than k-mer ridge by +")
    assert found["baselines"]["baseline/kmer-ridge/low"] > 0
    moved = tmp_path / "moved.tsv"
    Path(data).rename(moved)
    words = ["promote", finished_run(tracking, str(moved), 2, 3).id, "--data", test, "--trained-on", str(moved), *place]
    for more, shown in (([], True), (["--no-baseline"], False)):
        result = CliRunner().invoke(app, [*words, *more])
        assert result.exit_code == 3, result.output
        assert bool(json.loads(result.stdout)["verdict"]["beside"]) == shown
