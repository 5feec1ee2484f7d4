"""Several networks of different seeds as one model: what each is, what their mean gives, and who sees all of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rnatracker import metrics
from rnatracker.app import app
from rnatracker.data.readers import read
from rnatracker.errors import CheckpointError, ConfigError, UsageError
from rnatracker.evaluation import compare
from rnatracker.evaluation.models import model_of_run
from rnatracker.model import checkpoint
from rnatracker.prediction import run_table
from rnatracker.prediction.predictor import Predictor
from rnatracker.processes.stop import Interrupted, StopSignal
from rnatracker.registry.comparison import PromotionRequest
from rnatracker.registry.promotion import promote
from rnatracker.registry.resolve import resolve
from rnatracker.registry.test_set import DataOptions
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training import agreement, crossval, replay, run
from rnatracker.training.beside import Compared
from rnatracker.training.division import plan
from rnatracker.training.fold_loop import Trained, Watcher, into, train_all
from rnatracker.training.request import Outcome, RunRequest, prepare, settings_of_weights
from rnatracker.training.steps.seeds import seed_of
from rnatracker.training.trainer import EpochResult, Stopped
from tests.support.toys import SITES, SilentReporter, small_config, toy_transcripts, write_table

_CPU = torch.device("cpu")
_SEED2, _SEED3 = 3241444873, 3685993406


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_table(toy_transcripts(40), tmp_path / "toy.tsv"))


@pytest.fixture
def tracking(tmp_path: Path) -> TrackingSettings:
    return TrackingSettings(tmp_path / "mlruns", enabled=False)


def _train(tracking: TrackingSettings, data: str, reporter: SilentReporter | None = None, **changes: Any) -> Outcome:
    request = RunRequest(small_config(data__path=data, **changes), tracking, jobs=changes.pop("jobs", 1))
    return run.train(request, reporter or SilentReporter())


def _found(outcome: Outcome, tracking: TrackingSettings) -> TrackedRun:
    return open_tracker(tracking).find(outcome.run_id)


def _weights(folder: Path, place: str = "", file: str = "best.pt") -> dict[str, torch.Tensor]:
    return checkpoint.load(folder / "checkpoints" / place / file).weights


def _same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def _predicted(path: Path, data: str, ids: list[str]) -> np.ndarray:
    """Return what one file of weights predicts of transcripts of a file."""
    transcripts = read(data)
    part = transcripts.take(np.array([list(transcripts.ids).index(name) for name in ids]))
    predicted: np.ndarray = Predictor([checkpoint.load(path)], _CPU).predict(part)
    return predicted


class TestSeeds:
    def test_first_network_has_the_runs_own_seed(self) -> None:
        assert [seed_of(seed, 1) for seed in (0, 7, 2**32 - 1)] == [0, 7, 2**32 - 1]

    def test_other_seeds_never_change(self) -> None:
        assert [seed_of(0, number) for number in (2, 3)] == [_SEED2, _SEED3]

    def test_runs_of_neighbouring_seeds_share_no_network(self) -> None:
        seeds = [seed_of(seed, number) for seed in range(50) for number in range(1, 21)]
        assert len(set(seeds)) == len(seeds)
        assert all(0 <= seed < 2**32 for seed in seeds)

    def test_number_of_networks_is_checked(self) -> None:
        with pytest.raises(ConfigError) as caught:
            small_config(train__seeds=0)
        assert "train.seeds" in caught.value.problem


class TestSingleRun:
    @pytest.mark.slow
    def test_each_network_is_that_of_a_run_of_its_seed(self, tracking: TrackingSettings, data: str) -> None:
        several = _train(tracking, data, train__seeds=2, train__seed=4)
        found = _found(several, tracking)
        for number in (1, 2):
            place = f"seed{number}" if number > 1 else ""
            alone = _train(tracking, data, train__seed=seed_of(4, number))
            for file in ("best.pt", "last.pt"):
                assert _same(_weights(several.folder, place, file), _weights(alone.folder, "", file))
            own = _found(alone, tracking)
            for key in ("train/loss", "val/loss", "val/pcc_mean"):
                assert found.history(f"{place}/{key}".lstrip("/")) == own.history(key)
        files = {str(path.relative_to(several.folder)) for path in several.folder.rglob("*.pt")}
        places = ("checkpoints", "checkpoints/seed2")
        assert files == {f"{place}/{name}.pt" for place in places for name in ("best", "last")}

    def test_one_network_leaves_what_it_always_left(self, tracking: TrackingSettings, data: str) -> None:
        found = _found(_train(tracking, data), tracking)
        assert not [key for key in found.metrics() if key.startswith(("seed", "single"))]
        assert sorted(path.name for path in found.files.checkpoints.iterdir()) == ["best.pt", "last.pt"]
        assert "networks" not in found.files.log.read_text()

    def test_figures_are_those_of_the_mean_prediction(self, tracking: TrackingSettings, data: str) -> None:
        reporter = SilentReporter()
        outcome = _train(tracking, data, reporter, train__seeds=3)
        found = _found(outcome, tracking)
        ids, predicted, measured = run_table.read_predictions(found.files.validation_predictions)
        places = [found.files.checkpoints / place / "best.pt" for place in ("", "seed2", "seed3")]
        each = [_predicted(path, data, ids) for path in places]
        np.testing.assert_allclose(predicted, sum(each) / 3, rtol=0, atol=1e-12)
        scores = metrics.summarise(predicted, measured, SITES)
        for name, value in scores.items():
            assert outcome.metrics[f"best/{name}"] == pytest.approx(value, abs=1e-9)
        assert outcome.metrics["best/loss"] == pytest.approx(metrics.kl_divergence(predicted, measured), abs=1e-9)
        singles = [metrics.summarise(own, measured, SITES)["pcc_mean"] for own in each]
        assert outcome.metrics["single/pcc_mean"] == pytest.approx(np.mean(singles), abs=1e-9)
        epochs = sorted(checkpoint.load(path).epoch for path in places)
        assert outcome.best_epoch == outcome.metrics["best/epoch"] == epochs[1]
        said = (
            f"one network by itself reaches PCC mean {np.mean(singles):.3f}, overall "
            f"{outcome.metrics['single/pcc_overall']:.3f}, on average; the mean of 3 networks reaches mean "
            f"{scores['pcc_mean']:.3f}, overall {scores['pcc_overall']:.3f}"
        )
        assert said in reporter.lines
        assert "mean of 3 networks" in found.tags()["mlflow.note.content"]

    def test_what_is_beside_it_sees_the_mean(self, tracking: TrackingSettings, data: str) -> None:
        seen: list[np.ndarray] = []

        def beside(_prepared: object, _trainings: object, predicted: np.ndarray) -> Compared:
            seen.append(predicted)
            return Compared()

        request = RunRequest(small_config(data__path=data, train__seeds=2), tracking)
        outcome = run.train(request, SilentReporter(), beside=beside)
        table = _found(outcome, tracking).files.validation_predictions
        np.testing.assert_array_equal(seen[0], run_table.read_predictions(table)[1])


class _StopsAfter(SilentReporter):
    """Interrupts this process, as Ctrl-C does, at a batch of an epoch of the network of this label."""

    def __init__(self, label: str, epoch: int) -> None:
        super().__init__()
        self._at, self.labels = (label, epoch), set[str]()

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        self.labels.add(label)
        if (label, epoch) == self._at:
            self._at = ("", 0)
            os.kill(os.getpid(), 2)


class TestResumption:
    @pytest.mark.parametrize("fold", [0, pytest.param(2, marks=pytest.mark.slow)])
    def test_run_stopped_amid_the_second_network_ends_with_the_same_bits(
        self, tracking: TrackingSettings, data: str, fold: int
    ) -> None:
        settings = {"train__seeds": 3, "data__fold": fold, "model__dropout": 0.3}
        whole = _train(tracking, data, **settings)
        reporter = _StopsAfter("fold2 seed2" if fold else "seed2", 2)
        with pytest.raises(Interrupted) as stopped:
            _train(tracking, data, reporter, **settings)
        assert stopped.value.saved
        found = open_tracker(tracking).find(stopped.value.run_id)
        assert found.status() == "KILLED"
        last = found.children()["fold2"] if fold else found
        assert not (last.files.checkpoints / "seed3").exists()
        with pytest.raises(CheckpointError):
            model_of_run(str(last.folder), tracking)
        first = (last.files.checkpoints / "last.pt").read_bytes()
        again = _StopsAfter("", 0)
        resumed = run.resume(str(found.folder), tracking, again)
        assert (resumed.run_id, resumed.metrics) == (found.id, whole.metrics)
        assert again.labels == ({"fold2 seed2", "fold2 seed3"} if fold else {"seed2", "seed3"})
        assert (last.files.checkpoints / "last.pt").read_bytes() == first
        for path in whole.folder.rglob("*.pt"):
            other = resumed.folder / path.relative_to(whole.folder)
            assert _same(checkpoint.load(path).weights, checkpoint.load(other).weights)
        assert agreement.compare(_found(whole, tracking), _found(resumed, tracking)).words == "bit-identical"

    def test_no_network_begins_after_a_stop(self, tracking: TrackingSettings, data: str) -> None:
        prepared = prepare(RunRequest(small_config(data__path=data, train__seeds=2), tracking))
        tracked = open_tracker(tracking).start(log_name=None, params={}, tags={}, dataset=None)
        stop, told = StopSignal(), []

        class StopsAtTheEnd(Watcher):
            def on_epoch(self, destination: object, result: EpochResult) -> None:
                told.append(result.epoch)
                stop.requested = result.epoch == 3

            def on_end(self, trained: Trained) -> None:
                told.append(0)

        with pytest.raises(Stopped):
            train_all(prepared, plan(prepared), into(tracked, SilentReporter()), stop, [StopsAtTheEnd()])
        assert told == [1, 2, 3]
        assert not (tracked.files.checkpoints / "seed2").exists()

    def test_ended_networks_are_not_trained_again_where_patience_ended_them(
        self, tracking: TrackingSettings, data: str
    ) -> None:
        settings = {"train__seeds": 2, "train__epochs": 30, "train__patience": 2, "train__lr": 0.1}
        reporter = _StopsAfter("seed2", 2)
        with pytest.raises(Interrupted) as stopped:
            _train(tracking, data, reporter, **settings)
        again = _StopsAfter("", 0)
        run.resume(str(open_tracker(tracking).find(stopped.value.run_id).folder), tracking, again)
        assert again.labels == {"seed2"}


class TestWeights:
    def test_weights_to_continue_from_are_refused_for_several(self, tracking: TrackingSettings, data: str) -> None:
        weights = str(_train(tracking, data).folder / "checkpoints" / "last.pt")
        settings = small_config(data__path=data, train__seeds=2, train__epochs=5)
        with pytest.raises(UsageError) as caught:
            run.train(RunRequest(settings, tracking, weights=weights), SilentReporter())
        assert caught.value.problem.startswith("--weights with train.seeds 2")
        assert len(open_tracker(tracking).list_runs().runs) == 1

    def test_file_of_one_of_several_networks_brings_that_network(self, tracking: TrackingSettings, data: str) -> None:
        folder = _train(tracking, data, train__seeds=2, train__seed=3).folder
        for place, seed in (("", 3), ("seed2", seed_of(3, 2))):
            path = folder / "checkpoints" / place / "last.pt"
            train = settings_of_weights(str(path))["train"]
            assert (train["seed"], train["seeds"]) == (seed, 1)
        words = ["train", "--data", data, "--weights", str(path), "--epochs", "4", "--no-baseline", "--json"]
        result = CliRunner().invoke(app, [*words, "--no-track", "--store", str(tracking.store)])
        assert result.exit_code == 0, result.output
        alone = _train(tracking, data, train__seed=seed_of(3, 2), train__epochs=4)
        folders = Path(json.loads(result.stdout)["folder"]), alone.folder
        assert _same(*(_weights(folder, "", "last.pt") for folder in folders))


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_store: Path) -> tuple[TrackingSettings, Outcome, str]:
    """A cross-validation of two folds with two networks each, and its data."""
    folder = tmp_path_factory.mktemp("seeds")
    shutil.copytree(empty_mlflow_store, folder / "mlruns")
    data = str(write_table(toy_transcripts(40), folder / "toy.tsv"))
    tracking = TrackingSettings(folder / "mlruns")
    return tracking, _train(tracking, data, data__fold=2, train__seeds=2), data


def _members(tracking: TrackingSettings, outcome: Outcome) -> list[Path]:
    children = _found(outcome, tracking).children()
    folders = [children[fold].files.checkpoints for fold in ("fold1", "fold2")]
    return [folder / place / "best.pt" for folder in folders for place in ("", "seed2")]


class TestFolds:
    def test_out_of_fold_predictions_are_each_folds_mean(self, folds: tuple[TrackingSettings, Outcome, str]) -> None:
        tracking, outcome, data = folds
        found = _found(outcome, tracking)
        for number, child in enumerate((found.children()[name] for name in ("fold1", "fold2")), start=1):
            ids, predicted, measured = run_table.read_predictions(child.files.test_predictions)
            own = [_predicted(path, data, ids) for path in _members(tracking, outcome)[2 * number - 2 : 2 * number]]
            np.testing.assert_allclose(predicted, sum(own) / 2, rtol=0, atol=1e-12)
            scores = metrics.summarise(predicted, measured, SITES)
            assert child.metrics()["test/pcc_mean"] == pytest.approx(scores["pcc_mean"], abs=1e-6)
            assert {"val/pcc_mean", "seed2/val/pcc_mean"} <= set(child.metrics())
        _, together, measured = run_table.read_predictions(found.files.out_of_fold_predictions)
        assert outcome.metrics["oof/pcc_mean"] == pytest.approx(
            metrics.summarise(together, measured, SITES)["pcc_mean"], abs=1e-9
        )
        singles = [child.metrics()["single/pcc_mean"] for child in found.children().values()]
        assert outcome.metrics["single/pcc_mean"] == pytest.approx(np.mean(singles), abs=1e-6)
        log = found.files.log.read_text()
        assert "mean of the folds: one network by itself reaches PCC mean" in log
        assert f"2 networks as one model, of seeds 0, {_SEED2}" in log
        assert "fold2 seed2  epoch 3/3" in log

    def test_promoted_run_predicts_the_mean_of_all_its_networks(
        self, folds: tuple[TrackingSettings, Outcome, str], tmp_path: Path
    ) -> None:
        tracking, outcome, _ = folds
        test = str(write_table(toy_transcripts(30, seed=5), tmp_path / "test.tsv"))
        expected = sum(_predicted(path, test, list(read(test).ids)) for path in _members(tracking, outcome)) / 4
        promote(PromotionRequest(outcome.name, tracking, data=DataOptions(test)))
        for reference in (outcome.name, "champion"):
            model = resolve(reference, tracking)
            assert (len(model.members), model.weights) == (4, ())
            np.testing.assert_allclose(model.predictor(_CPU).predict(read(test)), expected, rtol=0, atol=1e-12)
        out = tmp_path / "out.tsv"
        words = ["predict", test, "--out", str(out), "--store", str(tracking.store)]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        rows = [line.split("\t") for line in out.read_text().splitlines()]
        columns = [rows[0].index(site) for site in SITES]
        found = np.array([[float(row[column]) for column in columns] for row in rows[1:]])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        assert resolve("1", tracking).description.endswith("mean of 2 folds' models, 2 networks each")

    @pytest.mark.slow
    def test_blend_counts_every_network_of_a_run_the_same(
        self, folds: tuple[TrackingSettings, Outcome, str], tmp_path: Path
    ) -> None:
        tracking, outcome, data = folds
        other = _train(tracking, data, data__fold=2, train__seed=9, train__epochs=1)
        words = ["blend", outcome.name, other.name, "--no-baseline", "--json", "--store", str(tracking.store)]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        shares = {each["name"]: each["weight"] for each in told["members"]}
        test = read(str(write_table(toy_transcripts(30, seed=5), tmp_path / "test.tsv")))
        each = [resolve(name, tracking).predictor(_CPU).predict(test) for name in (outcome.name, other.name)]
        expected = shares[outcome.name] * each[0] + shares[other.name] * each[1]
        model = resolve(told["run_id"], tracking)
        np.testing.assert_allclose(model.predictor(_CPU).predict(test), expected, rtol=0, atol=1e-9)

    def test_replay_is_bit_identical_in_all_networks(self, folds: tuple[TrackingSettings, Outcome, str]) -> None:
        tracking, outcome, _ = folds
        planned = replay.plan(outcome.name, tracking)
        again = replay.replay(planned, SilentReporter())
        found = agreement.compare(planned.original, again)
        assert found.words == "bit-identical"
        assert {"fold2/seed2/val/pcc_mean", "fold2/val/pcc_mean", "oof/pcc_mean"} <= {gap.metric for gap in found.gaps}

    @pytest.mark.slow
    def test_folds_in_parallel_give_the_same(self, folds: tuple[TrackingSettings, Outcome, str]) -> None:
        tracking, outcome, data = folds
        request = RunRequest(small_config(data__path=data, data__fold=2, train__seeds=2), tracking, jobs=2)
        reporter = SilentReporter()
        assert run.train(request, reporter).metrics == outcome.metrics
        assert len(reporter.epochs) == 12


def test_site_that_is_undefined_in_the_first_fold_is_not_left_out(tracking: TrackingSettings) -> None:
    """A figure that is undefined isn't recorded."""
    run = open_tracker(tracking).start(log_name=None, params={}, tags={}, dataset=None)
    folds = [{"single/pcc_mean": 0.1}, {"single/pcc_mean": 0.3, "single/pcc_Nucleus": 0.5, "test/pcc_mean": 1.0}]
    summary = {"mean/pcc_mean": 0.2, "mean/pcc_overall": 0.2}
    singles = crossval._leave_singles(run, folds, summary, 2, SilentReporter())
    assert singles == pytest.approx({"single/pcc_mean": 0.2, "single/pcc_Nucleus": 0.5})


class TestReaders:
    def test_curves_are_the_mean_of_the_networks(self, tracking: TrackingSettings, data: str) -> None:
        runs = [_found(_train(tracking, data, train__seeds=seeds), tracking) for seeds in (2, 1)]
        found = compare.compare([str(each.folder) for each in runs], tracking, resamples=100)
        several, one = (compare.curves(side) for side in found.sides)
        own = [runs[0].history(f"{place}val/pcc_mean") for place in ("", "seed2/")]
        assert several["pcc_mean"] == {epoch: pytest.approx((own[0][epoch] + own[1][epoch]) / 2) for epoch in (1, 2, 3)}
        assert one["pcc_mean"] == runs[1].history("val/pcc_mean") == own[0]
        assert found.params == {"train.seeds": ["2", "1"]}

    def test_run_whose_later_networks_are_gone_is_not_taken_for_whole(
        self, tracking: TrackingSettings, data: str
    ) -> None:
        outcome = _train(tracking, data, train__seeds=2)
        model = model_of_run(str(outcome.folder), tracking)
        assert len(model.members) == 2
        assert model.description.startswith("mean of 2 networks, epochs ")
        shutil.rmtree(outcome.folder / "checkpoints" / "seed2")
        with pytest.raises(CheckpointError) as caught:
            model_of_run(str(outcome.folder), tracking)
        assert "its weights were deleted" in caught.value.problem
        assert "rnatracker train --config" in caught.value.remedy

    def test_unfinished_run_says_which_networks_lack(self, tracking: TrackingSettings, data: str) -> None:
        with pytest.raises(Interrupted) as stopped:
            _train(tracking, data, _StopsAfter("seed1", 2), train__seeds=3)
        folder = open_tracker(tracking).find(stopped.value.run_id).folder
        with pytest.raises(CheckpointError) as caught:
            model_of_run(str(folder), tracking)
        assert caught.value.problem.endswith("seed2, seed3 has not been trained yet")
        assert "--resume" in caught.value.remedy

    def test_command_evaluates_the_mean(self, tracking: TrackingSettings, data: str, tmp_path: Path) -> None:
        outcome = _train(tracking, data, train__seeds=2)
        test = str(write_table(toy_transcripts(30, seed=5), tmp_path / "test.tsv"))
        words = ["evaluate", str(outcome.folder), "--data", test, "--json", "--store", str(tracking.store)]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        paths = [outcome.folder / "checkpoints" / place / "best.pt" for place in ("", "seed2")]
        each = [_predicted(path, test, list(read(test).ids)) for path in paths]
        expected = metrics.summarise(sum(each) / 2, read(test).measured(), SITES)["pcc_mean"]
        assert f"{expected:.12f}"[:10] in result.stdout
