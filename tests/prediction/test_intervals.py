"""Split-conformal intervals: their width, how much they cover, and the file that keeps them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.data.simulate import simulate
from rnatracker.data.writers import write
from rnatracker.errors import CheckpointError, UsageError
from rnatracker.prediction import intervals
from rnatracker.prediction.intervals import Residuals
from rnatracker.registry.registry import Registry
from rnatracker.tracking import places, store
from rnatracker.tracking.settings import TrackingSettings
from tests.support.toys import toy_transcripts, write_table

_TINY = (
    "--max-length", "80", "--batch-size", "8", "--set", "model.conv1_channels=2", "--set", "model.conv2_channels=2",
    "--set", "model.rnn_hidden=2", "--set", "model.attention_size=2", "--set", "train.threads=1",
)  # fmt: skip


def _residuals(n: int = 9) -> Residuals:
    predicted = np.zeros((n, 2))
    measured = np.stack([np.arange(n, 0, -1) / 10, -np.arange(n) / 100], axis=1)
    return Residuals.of(("a", "b"), predicted, measured)


@pytest.mark.parametrize(("percent", "rank"), [(90, 9), (80, 8), (75, 8), (10, 1), (1, 1)])
def test_width_is_the_residual_of_the_rank_that_the_theorem_names(percent: float, rank: int) -> None:
    assert _residuals().half_widths(percent, ("a", "b")).tolist() == [rank / 10, (rank - 1) / 100]
    assert _residuals().half_widths(percent, ("b", "a")).tolist() == [(rank - 1) / 100, rank / 10]


def test_too_few_residuals_are_refused_with_what_they_are_enough_for() -> None:
    with pytest.raises(UsageError) as caught:
        _residuals(8).half_widths(90, ("a", "b"))
    assert caught.value.problem == "--interval 90: 8 out-of-fold residuals are too few for that"
    assert caught.value.remedy == "give at most 88"


def test_residuals_of_other_sites_are_refused() -> None:
    with pytest.raises(CheckpointError, match="residuals of a, b: the model predicts a, c"):
        _residuals().half_widths(50, ("a", "c"))


def test_transcripts_that_were_not_measured_are_left_out() -> None:
    found = Residuals.of(("a",), np.array([[0.1], [0.2], [0.3]]), np.array([[0.2], [np.nan], [0.1]]))
    assert found.sizes == pytest.approx(np.array([[0.1], [0.2]]))


def test_ends_stay_between_nothing_and_all() -> None:
    low, high = intervals.bounds(np.array([[0.05, 0.95], [0.5, 0.5]]), np.array([0.1, 0.2]))
    assert low == pytest.approx(np.array([[0, 0.75], [0.4, 0.3]]))
    assert high == pytest.approx(np.array([[0.15, 1], [0.6, 0.7]]))


def test_file_keeps_residuals_and_is_refused_when_cut_or_pickled(tmp_path: Path) -> None:
    path = tmp_path / "residuals.npy"
    intervals.write(path, _residuals())
    assert intervals.read(path, ("a", "b")).sizes == pytest.approx(_residuals().sizes)
    with pytest.raises(CheckpointError, match="not the residuals of 3 sites"):
        intervals.read(path, ("a", "b", "c"))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="not readable residuals"):
        intervals.read(path, ("a", "b"))
    np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(CheckpointError, match="not readable residuals"):
        intervals.read(path, ("a", "b"))


def test_new_transcripts_are_covered_as_often_as_asked_for() -> None:
    rng = np.random.default_rng(0)
    measured = rng.dirichlet(np.ones(3), 12_000)
    predicted = 0.6 * measured + 0.4 * rng.dirichlet(np.ones(3), 12_000)
    half = Residuals.of("abc", predicted[:2000], measured[:2000]).half_widths(90, "abc")
    low, high = intervals.bounds(predicted[2000:], half)
    covered = ((low <= measured[2000:]) & (measured[2000:] <= high)).mean(axis=0)
    assert np.abs(covered - 0.9).max() < 0.02


@pytest.fixture(scope="module")
def cross_validated(empty_mlflow_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A store with a cross-validation that all tests here share, and the options that lead to it."""
    folder = tmp_path_factory.mktemp("intervals")
    own = folder / "mlruns"
    shutil.copytree(empty_mlflow_store, own)
    store.mend_paths(own / places.DATABASE, own)
    data, at = write_table(toy_transcripts(40), folder / "toy.tsv"), ("--store", str(own))
    _do("train", "--data", str(data), "--fold", "2", "--epochs", "2", *_TINY, *at)
    return str(data), *at


def _do(*command: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, command)
    assert done.exit_code == code, done.output
    return done.output


def test_intervals_are_the_same_of_a_run_and_of_its_version(cross_validated: tuple[str, ...], tmp_path: Path) -> None:
    data, *at = cross_validated
    _do("promote", "exp1", *at)
    tables = []
    for model, name in (("exp1", "a.tsv"), ("champion", "b.tsv"), ("champion", "c.parquet")):
        out = str(tmp_path / name)
        _do("predict", data, "--model", model, "--interval", "90", "--out", out, *at)
        tables.append(pd.read_parquet(out) if name.endswith("parquet") else pd.read_csv(out, sep="\t"))
    sites = ["Nucleus", "Cytosol", "ERM"]
    ends = [f"{site}{end}" for site in sites for end in ("_low", "_high")]
    assert list(tables[0].columns) == ["id", *sites, *(f"{site}_sd" for site in sites), *ends, "most_likely"]
    for site in sites:
        found = tables[0]
        assert ((found[f"{site}_low"] <= found[site]) & (found[site] <= found[f"{site}_high"])).all()
    for other in tables[1:]:  # a version keeps them in float32
        pd.testing.assert_frame_equal(tables[0], other, atol=1e-6)


def test_intervals_are_refused_where_nothing_tells_how_far_a_model_is_off(cross_validated: tuple[str, ...]) -> None:
    data, *at = cross_validated
    name = json.loads(_do("train", "--data", data, "--epochs", "1", *_TINY, *at, "--json").splitlines()[-1])["name"]
    said = _do("predict", data, "--model", name, "--interval", "90", *at, code=1)
    assert f"{name}: no out-of-fold predictions are kept with it" in said
    assert "cross-validate with: rnatracker train --data FILE --fold 5" in said


def test_residuals_that_were_changed_are_refused(cross_validated: tuple[str, ...]) -> None:
    data, *at = cross_validated
    at += ["--name", "changed"]
    _do("promote", "exp1", *at)
    tracking = TrackingSettings(Path(at[1]))
    registry = Registry(tracking, "changed")
    (path,) = registry.folder(registry.named("champion")).rglob("residuals.npy")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    said = _do("predict", data, "--interval", "90", *at, code=1)
    assert "residuals.npy is not what was registered" in said
    _do("predict", data, *at)


@pytest.mark.slow
def test_a_network_covers_what_it_has_never_seen_as_often_as_asked_for(mlflow_store: Path, tmp_path: Path) -> None:
    at = ("--store", str(mlflow_store))
    simulated = simulate(4000, seed=1, median_length=300).transcripts
    for name, part in (("train.tsv", np.arange(2000)), ("new.tsv", np.arange(2000, 4000))):
        write(simulated.take(part), tmp_path / name)
    train = ("--fold", "4", "--epochs", "6", "--max-length", "400", "--lr", "0.003", "--set", "model.rnn_hidden=8")
    _do("train", "--data", str(tmp_path / "train.tsv"), *train, *at)
    out = tmp_path / "out.tsv"
    _do("predict", str(tmp_path / "new.tsv"), "--model", "exp1", "--interval", "90", "--out", str(out), *at)
    predicted = pd.read_csv(out, sep="\t", index_col="id")
    measured = pd.read_csv(tmp_path / "new.tsv", sep="\t", index_col="id").loc[predicted.index]
    sites = [name for name in predicted.columns if f"{name}_low" in predicted]
    inside = [
        (predicted[f"{site}_low"] <= measured[site]) & (measured[site] <= predicted[f"{site}_high"]) for site in sites
    ]
    assert abs(float(np.mean(inside)) - 0.9) < 0.02
