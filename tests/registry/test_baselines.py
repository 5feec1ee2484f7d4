"""Baselines are runs like others: listed, compared, evaluated, promoted, predicted from, served; never unpickled."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.baselines import fit
from rnatracker.baselines.run import BaselineRequest, run_baselines
from rnatracker.choices import BaselineKind
from rnatracker.errors import CheckpointError, RNATrackerError
from rnatracker.evaluation import models
from rnatracker.evaluation.weights import checksums_of, load_weights, write_weights
from rnatracker.prediction.predictor import Predictor
from rnatracker.registry.http_app import LOOPBACK, App
from rnatracker.registry.registry import Registry
from rnatracker.registry.resolve import resolve
from rnatracker.tracking import store
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.reporting import NullReporter
from rnatracker.training.request import RunRequest
from rnatracker.training.run import train
from tests.support.serving import ask
from tests.support.toys import SITES, small_config, toy_checkpoint, toy_transcripts, write_table

_CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    store.quiet_mlflow()
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setattr(fit, "ROUNDS", 20)


@pytest.fixture
def tracking(mlflow_store: Path) -> TrackingSettings:
    return TrackingSettings(mlflow_store)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_table(toy_transcripts(90), tmp_path / "train.tsv"))


@pytest.fixture
def test_data(tmp_path: Path) -> str:
    return str(write_table(toy_transcripts(30, seed=9), tmp_path / "test.tsv"))


def _baseline(tracking: TrackingSettings, data: str, kind: BaselineKind, fold: int = 3) -> TrackedRun:
    config = small_config(data__path=data, data__fold=fold)
    (found,) = run_baselines(BaselineRequest(config, tracking, (kind,)), NullReporter())
    return open_tracker(tracking).find(found.outcome.run_id)


def _command(tracking: TrackingSettings, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [*words, "--store", str(tracking.store)])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize(
    ("kind", "fold"),
    [
        ("codon-boosting", 3),
        ("kmer-ridge", 0),
        pytest.param("kmer-boosting", 3, marks=pytest.mark.slow),
        pytest.param("mean", 3, marks=pytest.mark.slow),
    ],
)
def test_a_promoted_baseline_predicts_the_same_everywhere(
    kind: BaselineKind, fold: int, tracking: TrackingSettings, data: str, test_data: str, tmp_path: Path
) -> None:
    run = _baseline(tracking, data, kind, fold)
    _command(tracking, "promote", run.name, "--data", test_data)
    transcripts = toy_transcripts(30, seed=9)
    expected = Predictor(models.model_of_run(run.id, tracking).members, _CPU).predict(transcripts)

    _command(tracking, "predict", test_data, "--out", str(tmp_path / "out.tsv"), "--format", "table")
    by_command = pd.read_csv(tmp_path / "out.tsv", sep="\t")[list(SITES)].to_numpy()
    assert by_command == pytest.approx(expected, abs=1e-6)

    sequences = [transcripts.sequence(i) for i in range(len(transcripts))]
    mlflow.set_tracking_uri(f"sqlite:///{tracking.store}/mlflow.db")
    loaded = mlflow.pyfunc.load_model("models:/rnatracker@champion")
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    answer = loaded.predict(pd.DataFrame({"sequence": sequences}))
    assert answer[list(SITES)].to_numpy() == pytest.approx(expected, abs=1e-9)
    assert (f"{SITES[0]}_sd" in answer) == (fold > 0)

    served = ask(App(Predictor(resolve("champion", tracking).members, _CPU), max_body=10**6, hosts=LOOPBACK), sequences)
    assert np.array([[row[site] for site in SITES] for row in served]) == pytest.approx(expected, abs=1e-9)

    registry = Registry(tracking)
    folder = registry.folder(registry.named("champion"))
    assert not [*folder.rglob("*.pkl"), *folder.rglob("*.pt")]
    assert "lightgbm==" in (folder / "requirements.txt").read_text()


@pytest.mark.parametrize("fold", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_a_baseline_is_compared_with_a_network_of_the_same_division(
    fold: int, tracking: TrackingSettings, data: str
) -> None:
    config = small_config(data__path=data, data__fold=fold, train__epochs=1)
    network = train(RunRequest(config, tracking), NullReporter())
    ridge = _baseline(tracking, data, "kmer-ridge", fold)
    found = json.loads(_command(tracking, "compare", network.name, ridge.name, "--json").stdout)
    assert found["comparable"] and found["contrasts"][0]["verdict"] == "better"
    other = _baseline(tracking, data, "kmer-ridge", 5)
    found = json.loads(_command(tracking, "compare", network.name, other.name, "--json").stdout)
    assert not found["comparable"] and found["problems"]
    listed = json.loads(_command(tracking, "runs", "--json").stdout)["runs"]
    assert {each["kind"] for each in listed} == {"baseline", "cross-validation" if fold else "train"}


def test_a_baseline_is_evaluated_by_its_run_and_its_file(tracking: TrackingSettings, data: str, test_data: str) -> None:
    run = _baseline(tracking, data, "kmer-ridge", 0)
    scores = [
        json.loads(_command(tracking, "evaluate", model, "--data", test_data, "--json", "--resamples", "0").stdout)
        for model in (run.name, str(run.files.training().baseline))
    ]
    assert scores[0]["scores"] == scores[1]["scores"]
    assert next(each["value"] for each in scores[0]["scores"] if each["site"] == "mean") > 0.8


def test_what_a_baseline_was_trained_on_does_not_judge_it(tracking: TrackingSettings, data: str) -> None:
    run = _baseline(tracking, data, "kmer-ridge")
    assert "trained on" in _command(tracking, "promote", run.name, "--data", data, code=1).stderr


@pytest.mark.parametrize("command", ["replay", "resume", "attention"])
def test_what_baselines_do_not_do_is_said(command: str, tracking: TrackingSettings, data: str, tmp_path: Path) -> None:
    run = _baseline(tracking, data, "mean", 0)
    attend = ["predict", data, "--model", run.name, "--attention", str(tmp_path / "a.tsv"), "--format", "table"]
    words = {"replay": ["replay", run.name], "resume": ["train", "--resume", run.name], "attention": attend}[command]
    said = _command(tracking, *words, code=1).stderr
    assert ("--attention" if command == "attention" else "rnatracker baseline --config") in said


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "pickled", "swapped"])
def test_a_run_with_other_files_is_refused(damage: str, tracking: TrackingSettings, data: str) -> None:
    run = _baseline(tracking, data, "kmer-boosting")
    first, second = (run.files.training(f"fold{i}").baseline for i in (1, 2))
    content = first.read_bytes()
    if damage == "gone":
        first.unlink()
    elif damage == "swapped":  # each a sound file
        first.write_bytes(second.read_bytes())
    else:
        new = {"cut": content[:-9], "changed": content[:-9] + bytes(9), "pickled": pickle.dumps({"a": 1})}
        first.write_bytes(new[damage])
    with pytest.raises(CheckpointError) as found:
        models.model_of_run(run.id, tracking)
    assert "rnatracker baseline --config" in found.value.remedy
    _command(tracking, "promote", run.name, code=1)
    assert not Registry(tracking).versions()


def test_a_registered_baseline_that_was_changed_is_refused(tracking: TrackingSettings, data: str) -> None:
    _command(tracking, "promote", _baseline(tracking, data, "kmer-ridge", 0).name)
    registry = Registry(tracking)
    (weights,) = registry.folder(registry.named("champion")).rglob("model1.npz")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    for command in (["predict", data, "--format", "table"], ["evaluate", "champion", "--data", data]):
        assert "not what was registered" in _command(tracking, *command, code=1).stderr


def test_members_of_several_kinds_make_one_model(tmp_path: Path, tracking: TrackingSettings, data: str) -> None:
    transcripts = toy_transcripts(20, seed=4)
    ridge = models.model_of_run(_baseline(tracking, data, "kmer-ridge", 0).id, tracking).members[0]
    members = [toy_checkpoint(1), ridge, replace(toy_checkpoint(2))]
    checksums = write_weights(tmp_path / "weights", members)
    assert list(checksums) == ["model1.pt", "model2.npz", "model3.pt"] and checksums == checksums_of(
        tmp_path / "weights"
    )
    loaded = Predictor(load_weights(tmp_path / "weights", checksums, "it", "").models, _CPU)
    each = loaded.predict_each(transcripts)
    for number, member in enumerate(members):
        assert each[number] == pytest.approx(Predictor([member], _CPU).predict(transcripts))
    with pytest.raises(CheckpointError):
        loaded.check_attention()
    (tmp_path / "weights" / "model2.npz").rename(tmp_path / "weights" / "model2.pt")  # one kind as the other
    with pytest.raises(RNATrackerError):
        load_weights(tmp_path / "weights", checksums_of(tmp_path / "weights"), "it", "")
