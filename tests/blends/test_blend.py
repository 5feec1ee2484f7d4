"""A blend is a run like others: made, refused, evaluated, compared, promoted, predicted from, served."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from rnatracker import metrics
from rnatracker.app import app
from rnatracker.baselines import fit
from rnatracker.baselines.run import BaselineRequest, run_baselines
from rnatracker.choices import BaselineKind
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import CheckpointError, DataError, RNATrackerError, TrackingError, UsageError
from rnatracker.evaluation import models, weights
from rnatracker.evaluation.weights import BLEND, load_weights, write_weights
from rnatracker.prediction import run_table, table
from rnatracker.prediction.predictor import Predictor
from rnatracker.registry.http_app import LOOPBACK, App
from rnatracker.registry.registry import Registry
from rnatracker.registry.resolve import resolve
from rnatracker.tracking import places, store
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


@pytest.fixture(scope="module")
def tracking(empty_mlflow_store: Path, tmp_path_factory: pytest.TempPathFactory) -> TrackingSettings:
    """One store for all tests here, since what is blended takes a while to train."""
    folder = tmp_path_factory.mktemp("blends") / "mlruns"
    shutil.copytree(empty_mlflow_store, folder)
    store.mend_paths(folder / places.DATABASE, folder)
    return TrackingSettings(folder)


@pytest.fixture
def own(mlflow_store: Path) -> TrackingSettings:
    """A store of a test's own."""
    return TrackingSettings(mlflow_store)


def _transcripts(n: int, seed: int = 0) -> Transcripts:
    """Return transcripts whose fractions follow from composition and length: no run here sees all of that."""
    found = toy_transcripts(n, seed)
    length = ((found.lengths - 20) / 70)[:, None]
    of_length = np.hstack([length, (1 - length) / 2, (1 - length) / 2])
    return replace(found, fractions=0.6 * found.measured() + 0.4 * of_length)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_table(_transcripts(90), tmp_path_factory.mktemp("data") / "train.tsv"))


@pytest.fixture
def test_data(tmp_path: Path) -> str:
    return str(write_table(_transcripts(30, seed=9), tmp_path / "test.tsv"))


def _baseline(tracking: TrackingSettings, data: str, kind: BaselineKind, **changes: object) -> TrackedRun:
    config = small_config(data__path=data, **({"data__fold": 3} | changes))
    (found,) = run_baselines(BaselineRequest(config, tracking, (kind,)), NullReporter())
    return open_tracker(tracking).find(found.outcome.run_id)


def _network(tracking: TrackingSettings, data: str, **changes: object) -> TrackedRun:
    config = small_config(data__path=data, **({"data__fold": 3, "train__epochs": 1} | changes))
    return open_tracker(tracking).find(train(RunRequest(config, tracking), NullReporter()).run_id)


def _command(tracking: TrackingSettings, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [*words, "--store", str(tracking.store)])
    assert result.exit_code == code, result.output
    return result


def _blend(tracking: TrackingSettings, *runs: TrackedRun) -> TrackedRun:
    made = json.loads(_command(tracking, "blend", *(run.name for run in runs), "--json", "--no-baseline").stdout)
    return open_tracker(tracking).find(made["run_id"])


@pytest.fixture(scope="module")
def blend(tracking: TrackingSettings, data: str) -> TrackedRun:
    """A blend of a curve of the length and of two networks, of which the first counts nothing."""
    return _blend(
        tracking,
        _baseline(tracking, data, "length"),
        _network(tracking, data),
        _network(tracking, data, train__seed=5, encoding__max_length=60, encoding__keep="3p", train__epochs=12),
    )


def test_a_blend_s_figures_are_those_of_its_cross_fitted_predictions(blend: TrackedRun, data: str) -> None:
    ids, predicted, measured = run_table.read_predictions(blend.files.out_of_fold_predictions)
    assert ids == [f"t{i}" for i in range(90)] and predicted.sum(axis=1) == pytest.approx(1)
    figures = blend.metrics()
    scores = metrics.summarise(predicted, measured, SITES)
    assert {f"oof/{name}": value for name, value in scores.items()}.items() <= figures.items()
    counts = [figures[f"member{i}/weight"] for i in (1, 2, 3)]
    assert sum(counts) == pytest.approx(1) and counts[0] > 0.1 and counts[2] > 0.1
    assert "| run | weight |" in blend.tags()["mlflow.note.content"]
    assert json.loads(blend.params()["blend.members"]) == ["exp1_length", "exp2", "exp3"]


def test_a_blend_predicts_the_weighted_mean_of_its_runs(
    blend: TrackedRun, tracking: TrackingSettings, test_data: str
) -> None:
    transcripts, figures, expected = toy_transcripts(30, seed=9), blend.metrics(), np.zeros((30, 3))
    for number, name in enumerate(("exp1_length", "exp2", "exp3"), start=1):
        of_run = models.model_of_run(name, tracking).predictor(_CPU)
        expected += figures[f"member{number}/weight"] * of_run.predict(transcripts)
    found = models.model_of_run(blend.name, tracking)
    assert found.predictor(_CPU).predict(transcripts) == pytest.approx(expected, abs=1e-6)
    assert sum(found.weights) == pytest.approx(1, abs=1e-12)


def test_a_promoted_blend_predicts_the_same_everywhere(
    blend: TrackedRun, tracking: TrackingSettings, test_data: str, tmp_path: Path
) -> None:
    _command(tracking, "promote", blend.name, "--data", test_data)
    transcripts = toy_transcripts(30, seed=9)
    expected = table.prediction_frame(models.model_of_run(blend.id, tracking).predictor(_CPU), transcripts)
    figures = [name for name in expected if name != "most_likely"]

    _command(tracking, "predict", test_data, "--out", str(tmp_path / "out.tsv"), "--format", "table")
    by_command = pd.read_csv(tmp_path / "out.tsv", sep="\t")
    assert by_command[figures].to_numpy() == pytest.approx(expected[figures].to_numpy(), abs=1e-6)

    sequences = [transcripts.sequence(i) for i in range(len(transcripts))]
    mlflow.set_tracking_uri(f"sqlite:///{tracking.store}/mlflow.db")
    loaded = mlflow.pyfunc.load_model("models:/rnatracker@champion")
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    answer = loaded.predict(pd.DataFrame({"sequence": sequences}))
    assert list(answer) == list(expected)
    assert answer[figures].to_numpy() == pytest.approx(expected[figures].to_numpy(), abs=1e-9)

    served = ask(App(resolve("champion", tracking).predictor(_CPU), max_body=10**6, hosts=LOOPBACK), sequences)
    assert pd.DataFrame(served)[figures].to_numpy() == pytest.approx(expected[figures].to_numpy(), abs=1e-9)

    registry = Registry(tracking)
    folder = registry.folder(registry.named("champion"))
    assert not [*folder.rglob("*.pkl")] and [*folder.rglob(BLEND)]
    answered = _command(tracking, "predict", test_data, "--format", "table", "--interval", "90").stdout
    assert "_low" in answered.splitlines()[0]


def test_a_blend_is_compared_evaluated_and_blended_again(
    blend: TrackedRun, tracking: TrackingSettings, test_data: str
) -> None:
    found = json.loads(_command(tracking, "compare", blend.name, "exp2", "--json").stdout)
    assert found["comparable"] and len(found["contrasts"]) == 1
    scores = json.loads(_command(tracking, "evaluate", blend.name, "--data", test_data, "--json").stdout)
    assert {each["site"] for each in scores["scores"]} >= set(SITES)
    again = json.loads(_command(tracking, "blend", blend.name, "exp2", "--json").stdout)
    assert again["beside"] and sum(each["weight"] for each in again["members"]) == pytest.approx(1)
    assert sum(models.model_of_run(again["run_id"], tracking).weights) == pytest.approx(1)


@pytest.mark.parametrize("command", ["replay", "resume", "attention"])
def test_what_blends_do_not_do_is_said(
    command: str, blend: TrackedRun, tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    attend = ["predict", data, "--model", blend.name, "--attention", str(tmp_path / "a.tsv"), "--format", "table"]
    words = {"replay": ["replay", blend.name], "resume": ["train", "--resume", blend.name], "attention": attend}
    said = _command(tracking, *words[command], code=1).stderr
    assert ("--attention" if command == "attention" else "rnatracker blend exp1_length exp2 exp3") in said


def test_runs_that_do_not_belong_together_are_refused(own: TrackingSettings, data: str, tmp_path: Path) -> None:
    first = _baseline(own, data, "length")
    other_data = str(write_table(toy_transcripts(60, seed=3), tmp_path / "other.tsv"))
    refused = {
        "single training": _network(own, data, data__fold=0),
        "different data": _baseline(own, other_data, "mean"),
        "divided their data differently": _baseline(own, data, "mean", data__split_seed=7),
    }
    for words, run in refused.items():
        with pytest.raises(TrackingError) as found:
            _blended(own, first, run)
        assert words in found.value.problem and found.value.remedy, words
    with pytest.raises(TrackingError) as found:
        _blended(own, first, _baseline(own, data, "length", data__fold=0))
    assert "with: rnatracker baseline --config " in found.value.remedy
    assert found.value.remedy.endswith(f" --kind length --store {own.store} --fold 5")
    for names in ([first.name], [first.name, first.id]):
        with pytest.raises(UsageError):
            _blended(own, *names)
    kinds = [each["kind"] for each in json.loads(_command(own, "runs", "--json").stdout)["runs"]]
    assert len(kinds) == 5 and "blend" not in kinds


def _blended(tracking: TrackingSettings, *runs: TrackedRun | str) -> None:
    from rnatracker.blends.run import BlendRequest, run_blend

    names = [run if isinstance(run, str) else run.name for run in runs]
    run_blend(BlendRequest(names, tracking, baselines=False), NullReporter())


def test_an_unfinished_run_is_refused(own: TrackingSettings, data: str) -> None:
    first, second = _baseline(own, data, "length"), _baseline(own, data, "mean")
    second.files.out_of_fold_predictions.unlink()
    with pytest.raises(TrackingError):
        _blended(own, first, second)
    shutil.rmtree(first.files.checkpoints)
    with pytest.raises(RNATrackerError):
        _blended(own, first, second)


def test_the_data_may_have_moved(own: TrackingSettings, tmp_path: Path) -> None:
    data = str(write_table(toy_transcripts(90), tmp_path / "train.tsv"))
    runs = [_baseline(own, data, "length"), _baseline(own, data, "kmer-ridge")]
    moved = tmp_path / "moved.tsv"
    other = write_table(toy_transcripts(90, seed=5), tmp_path / "other.tsv")
    names = [run.name for run in runs]
    assert "not the data of exp1_length" in _command(own, "blend", *names, "--data", str(other), code=1).stderr
    Path(data).rename(moved)
    with pytest.raises(DataError) as found:
        _blended(own, *runs)
    assert "--data FILE" in found.value.remedy
    assert "not the data of exp1_length" in _command(own, "blend", *names, "--data", str(other), code=1).stderr
    _command(own, "blend", *names, "--data", str(moved))
    _command(own, "promote", "exp3")  # the blend knows where its data are


def test_what_is_not_in_mlflow_is_not_advised_to_be_promoted(data: str, tmp_path: Path) -> None:
    untracked = TrackingSettings(tmp_path / "mlruns", enabled=False)
    better, _ = _baseline(untracked, data, "kmer-ridge"), _baseline(untracked, data, "mean")
    *_, last = _command(untracked, "blend", "exp1", "exp2", "--no-track").stdout.splitlines()
    assert last == f"Next: rnatracker evaluate {untracked.store / 'untracked' / 'exp3_blend'} --data FILE"
    *_, last = _command(untracked, "compare", "exp1", "exp2").stdout.splitlines()
    assert last == f"Next: rnatracker evaluate {better.name} --store {untracked.store} --data FILE"


def test_what_its_runs_were_trained_on_does_not_judge_a_blend(
    blend: TrackedRun, tracking: TrackingSettings, data: str
) -> None:
    said = _command(tracking, "promote", blend.name, "--data", data, "--name", "judged", code=1).stderr
    assert "trained on" in said


@pytest.mark.parametrize("damage", ["cut", "pickled", "gone", "weights", "added", "swapped"])
def test_a_blend_with_other_files_is_refused(
    damage: str, blend: TrackedRun, tracking: TrackingSettings, tmp_path: Path
) -> None:
    folder = blend.files.blend
    shutil.copytree(folder, tmp_path / "kept")
    first, second = sorted(folder.glob("model*.pt"))[:2]
    content = first.read_bytes()
    if damage == "gone":
        first.unlink()
    elif damage == "swapped":  # each a sound file
        first.write_bytes(second.read_bytes())
    elif damage == "weights":
        (folder / BLEND).write_text((folder / BLEND).read_text().replace("0.", "0.0", 1))
    elif damage == "added":
        shutil.copy(first, folder / "model99.pt")
    else:
        first.write_bytes(content[:-9] if damage == "cut" else pickle.dumps({"weights": 1}))
    try:
        with pytest.raises(CheckpointError) as found:
            models.model_of_run(blend.id, tracking)
        assert "rnatracker blend exp1_length exp2 exp3" in found.value.remedy
        _command(tracking, "promote", blend.name, "--name", "damaged", code=1)
        assert not Registry(tracking, "damaged").versions()
    finally:
        shutil.rmtree(folder)
        (tmp_path / "kept").rename(folder)


def test_a_registered_blend_whose_weights_were_changed_is_refused(
    blend: TrackedRun, tracking: TrackingSettings, data: str
) -> None:
    _command(tracking, "promote", blend.name, "--name", "changed")
    registry = Registry(tracking, "changed")
    (path,) = registry.folder(registry.named("champion")).rglob(BLEND)
    path.write_text(path.read_text() + " ")
    for command in (["predict", data, "--format", "table"], ["evaluate", "champion", "--data", data]):
        assert "not what was registered" in _command(tracking, *command, "--name", "changed", code=1).stderr


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "nonsense", "null", "[" * 100_000,
        '{"format": "other", "version": 1, "weights": {"model1.pt": 0.5, "model2.pt": 0.5}}',
        '{"format": "rnatracker-blend", "version": 2, "weights": {"model1.pt": 0.5, "model2.pt": 0.5}}',
        '{"format": "rnatracker-blend", "version": 1, "weights": {"model1.pt": 0.5, "../model2.pt": 0.5}}',
        '{"format": "rnatracker-blend", "version": 1, "weights": {"model1.pt": 0.5, "model2.pt": 0.4}}',
        '{"format": "rnatracker-blend", "version": 1, "weights": {"model1.pt": -1, "model2.pt": 2}}',
        '{"format": "rnatracker-blend", "version": 1, "weights": {"model1.pt": NaN, "model2.pt": 1}}',
        '{"format": "rnatracker-blend", "version": 1, "weights": {"model1.pt": [1], "model2.pt": 0}}',
    ],
    ids=range(12),
)  # fmt: skip
def test_a_file_that_holds_no_weights_of_a_blend_is_refused(content: str, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    write_weights(folder, [toy_checkpoint(1), toy_checkpoint(2)], [0.25, 0.75])
    assert load_weights(folder, weights.checksums_of(folder), "it", "").weights == (0.25, 0.75)
    (folder / BLEND).write_text(content)
    with pytest.raises(CheckpointError):
        load_weights(folder, weights.checksums_of(folder), "it", "")


def test_networks_that_see_transcripts_otherwise_are_blended() -> None:
    transcripts = toy_transcripts(20)
    whole, short = toy_checkpoint(1), toy_checkpoint(2, encoding__max_length=30, encoding__keep="3p")
    both = Predictor([whole, short], _CPU, weights=[0.25, 0.75])
    expected = [Predictor([each], _CPU).predict(transcripts) for each in (whole, short)]
    assert both.predict_each(transcripts) == pytest.approx(np.stack(expected))
    assert both.predict(transcripts) == pytest.approx(0.25 * expected[0] + 0.75 * expected[1])
    assert both.encoding.max_length == 30  # what a transcript may be cut to
    with pytest.raises(CheckpointError):
        both.check_attention()


def test_equal_weights_are_the_plain_mean_and_its_spread() -> None:
    transcripts = toy_transcripts(20)
    members = [toy_checkpoint(seed) for seed in range(4)]
    plain, weighted = Predictor(members, _CPU), Predictor(members, _CPU, weights=[0.25] * 4)
    first, second = table.predict(plain, transcripts), table.predict(weighted, transcripts)
    assert second.fractions == pytest.approx(first.fractions, abs=1e-12)
    assert first.spread is not None and second.spread == pytest.approx(first.spread, abs=1e-12)
