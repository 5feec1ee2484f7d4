"""Runs from request to store: what they leave, how they end, how they resume."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rnatracker import metrics
from rnatracker.app import app
from rnatracker.config import Config
from rnatracker.data.readers import read
from rnatracker.errors import ConfigError, DataError, RNATrackerError, TrackingError, TrainingError
from rnatracker.evaluation import evaluate, models
from rnatracker.model import checkpoint
from rnatracker.prediction import run_table
from rnatracker.processes import identity
from rnatracker.processes.stop import Interrupted
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training import run, trainer
from rnatracker.training.request import Outcome, RunRequest
from tests.support.toys import SITES, SilentReporter, small_config, toy_transcripts, write_table


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_table(toy_transcripts(40), tmp_path / "toy.tsv"))


@pytest.fixture(params=["mlflow", "folders"])
def tracking(request: pytest.FixtureRequest, mlflow_store: Path) -> TrackingSettings:
    return TrackingSettings(mlflow_store, enabled=request.param == "mlflow")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _train(tracking: TrackingSettings, data: str, reporter: SilentReporter | None = None, **changes: Any) -> Outcome:
    request = RunRequest(small_config(data__path=data, **changes), tracking)
    return run.train(request, reporter or SilentReporter())


def _found(tracking: TrackingSettings, name: str) -> TrackedRun:
    tracker = open_tracker(tracking)
    return tracker.find(name if tracking.enabled else str(tracking.store / "untracked" / name))


def _only_run(tracking: TrackingSettings) -> TrackedRun:
    return _found(tracking, "exp1")


def test_run_leaves_weights_settings_predictions_pictures_and_log(tracking: TrackingSettings, data: str) -> None:
    outcome = _train(tracking, data)
    found = _only_run(tracking)
    assert (outcome.run_id, outcome.name, found.status()) == (found.id, "exp1", "FINISHED")
    files = {str(p.relative_to(found.folder)) for p in found.folder.rglob("*") if p.is_file()}
    assert files >= {
        "config.yaml", "log.txt", "checkpoints/best.pt", "checkpoints/last.pt", "predictions/validation.tsv",
        "plots/learning_curves.png", "plots/predicted_against_measured.png",
    }  # fmt: skip
    assert "epoch 3/3" in (found.folder / "log.txt").read_text()
    assert found.params()["train.batch_size"] == "8"
    assert found.tags()["rnatracker.data_digest"] == read(data).digest()
    assert found.logged_steps("val/pcc_mean") == found.logged_steps("train/loss") == {1, 2, 3}


def test_run_records_the_figures_of_its_predictions(tracking: TrackingSettings, data: str) -> None:
    outcome = _train(tracking, data)
    _, predicted, measured = run_table.read_predictions(outcome.folder / "predictions" / "validation.tsv")
    expected = metrics.summarise(predicted, measured, SITES)
    recorded = _only_run(tracking).metrics()
    for name, value in expected.items():
        assert outcome.metrics[f"best/{name}"] == pytest.approx(value, abs=1e-6)
        assert recorded[f"best/{name}"] == pytest.approx(value, abs=1e-6)


def test_tracking_does_not_change_the_weights(mlflow_store: Path, data: str) -> None:
    weights = []
    for enabled in (True, False):
        outcome = _train(TrackingSettings(mlflow_store, enabled=enabled), data)
        weights.append(checkpoint.load(outcome.folder / "checkpoints" / "last.pt").weights)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_cross_validation_measures_each_transcript_once(tracking: TrackingSettings, data: str, jobs: int) -> None:
    request = RunRequest(small_config(data__path=data, data__fold=3), tracking, jobs=jobs)
    outcome = run.train(request, SilentReporter())
    parent = _only_run(tracking)
    children = parent.children()
    assert sorted(children) == ["fold1", "fold2", "fold3"]
    assert {child.status() for child in children.values()} == {"FINISHED"}
    ids, predicted, measured = run_table.read_predictions(outcome.folder / "predictions" / "out_of_fold.tsv")
    transcripts = toy_transcripts(40)
    assert ids == list(transcripts.ids)
    assert measured == pytest.approx(transcripts.measured(), abs=1e-8)
    expected = metrics.summarise(predicted, measured, SITES)
    recorded = parent.metrics()
    for name, value in expected.items():
        assert recorded[f"oof/{name}"] == pytest.approx(value, abs=1e-6)
        by_fold = [children[f"fold{i}"].metrics()[f"test/{name}"] for i in (1, 2, 3)]
        assert recorded[f"mean/{name}"] == pytest.approx(np.mean(by_fold), abs=1e-6)
        assert recorded[f"sd/{name}"] == pytest.approx(np.std(by_fold, ddof=1), abs=1e-6)


def test_fold_that_measures_never_trains_or_chooses(tracking: TrackingSettings, data: str) -> None:
    from rnatracker.training import division, request

    prepared = request.prepare(RunRequest(small_config(data__path=data, data__fold=4), tracking))
    trainings = division.plan(prepared)
    assert len(trainings) == 4
    assert sorted(index for each in trainings if each.test is not None for index in each.test) == list(range(40))
    for each in trainings:
        assert each.test is not None
        parts = [set(part.tolist()) for part in (each.train, each.validation, each.test)]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        assert set.union(*parts) == set(range(40))
        assert len(each.validation) == 3  # 10 % of 30


@pytest.mark.slow
def test_folds_start_from_the_same_fresh_weights_whatever_came_before(mlflow_store: Path, data: str) -> None:
    tracking = TrackingSettings(mlflow_store, enabled=False)
    lasts = []
    for jobs in (1, 2):
        request = RunRequest(small_config(data__path=data, data__fold=2), tracking, jobs=jobs)
        folder = run.train(request, SilentReporter()).folder
        lasts.append(checkpoint.load(folder / "fold2" / "checkpoints" / "last.pt").weights)
    assert all(torch.equal(lasts[0][name], lasts[1][name]) for name in lasts[0])


class _StopsAfter(SilentReporter):
    """Interrupts this process, as Ctrl-C does, after so many epochs."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs

    def epoch(self, label: str, result: trainer.EpochResult, epochs: int, objective: str) -> None:
        super().epoch(label, result, epochs, objective)
        if len(self.epochs) == self._epochs:
            os.kill(os.getpid(), 2)


@pytest.mark.parametrize("fold", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_interrupted_run_is_killed_and_resumes_in_the_same_run(
    tracking: TrackingSettings, data: str, fold: int
) -> None:
    whole = _train(tracking, data, data__fold=fold)
    with pytest.raises(Interrupted) as stopped:
        _train(tracking, data, _StopsAfter(4 if fold else 2), data__fold=fold)
    assert stopped.value.command.startswith("rnatracker train --resume ")
    assert _found(tracking, "exp2").status() == "KILLED"
    name = "exp2" if tracking.enabled else str(tracking.store / "untracked" / "exp2")
    resumed = run.resume(name, tracking, SilentReporter())
    assert resumed.run_id == stopped.value.run_id
    assert resumed.metrics == whole.metrics
    assert _found(tracking, "exp2").status() == "FINISHED"


def test_resumed_run_records_epochs_that_were_saved_but_not_recorded(
    tracking: TrackingSettings, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        _train(tracking, data, _StopsAfter(2))
    found = _only_run(tracking)
    last = checkpoint.load(found.folder / "checkpoints" / "last.pt")
    assert last.progress is not None
    assert len(last.progress["history"]) == 2
    monkeypatch.setattr(type(found), "logged_steps", lambda self, key: {1})
    recorded: list[int] = []
    original = type(found).log_metrics

    def record(self: TrackedRun, values: dict[str, float], step: int) -> None:
        recorded.append(step)
        original(self, values, step)

    monkeypatch.setattr(type(found), "log_metrics", record)
    run.resume(str(found.folder) if not tracking.enabled else "exp1", tracking, SilentReporter())
    assert recorded[:2] == [2, 3]


def test_resume_refuses_a_finished_run_and_other_data(tracking: TrackingSettings, data: str, tmp_path: Path) -> None:
    _train(tracking, data)
    name = "exp1" if tracking.enabled else str(tracking.store / "untracked" / "exp1")
    with pytest.raises(TrackingError) as finished:
        run.resume(name, tracking, SilentReporter())
    assert all(part in finished.value.problem for part in ("exp1", "has finished"))
    assert "--weights" in finished.value.remedy
    with pytest.raises(Interrupted):
        _train(tracking, data, _StopsAfter(1))
    other = str(write_table(toy_transcripts(40, seed=9), tmp_path / "other.tsv"))
    with pytest.raises(DataError) as changed:
        run.resume(name.replace("exp1", "exp2"), tracking, SilentReporter(), data=other)
    assert all(part in changed.value.problem for part in (other, "exp2", "not the transcripts"))
    assert "--data" in changed.value.remedy
    assert _found(tracking, "exp2").status() == "KILLED"


def test_run_ends_as_failed_with_its_epoch_when_the_loss_is_no_number(tracking: TrackingSettings, data: str) -> None:
    with pytest.raises(TrainingError) as caught:
        _train(tracking, data, train__lr=1e36)
    assert re.match(r"epoch \d: the .* loss is", caught.value.problem)
    found = _only_run(tracking)
    assert found.status() == "FAILED"
    assert found.tags()["rnatracker.message"] == str(caught.value)


@pytest.mark.parametrize(
    ("error", "problem", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "last.pt"), "last.pt: the disk is full", "train --resume"),
        (MemoryError(), "out of memory with batch_size 8 and max_length 60", "--batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory with batch_size 8", "--batch_size"),
    ],
)
def test_run_ends_as_failed_with_a_remedy_when_disk_or_memory_run_out(
    tracking: TrackingSettings, data: str, monkeypatch: pytest.MonkeyPatch, error: Exception, problem: str, remedy: str
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(checkpoint, "save", fail)
    with pytest.raises(TrainingError) as caught:
        _train(tracking, data)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert _only_run(tracking).status() == "FAILED"


def test_run_ends_as_failed_when_the_program_is_at_fault(
    tracking: TrackingSettings, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.Trainer, "fit", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _train(tracking, data)
    assert _only_run(tracking).status() == "FAILED"
    assert "ZeroDivisionError" in _only_run(tracking).tags()["rnatracker.message"]


@pytest.mark.parametrize(
    ("changes", "records", "kind", "message"),
    [
        ({"data__fold": 5}, 2, DataError, "2 records only, with --fold 5"),
        ({}, 1, DataError, "expected 2 records or more"),
        ({"data__path": None}, 2, ConfigError, "no data to train on"),
        ({"data__path": "/nowhere/x.fa"}, 2, DataError, "x.fa"),
        ({"train__device": "mps"}, 2, ConfigError, "mps is not available"),
    ],
)
def test_wrong_input_leaves_no_run_behind(
    mlflow_store: Path, tmp_path: Path, changes: dict[str, Any], records: int, kind: type[RNATrackerError], message: str
) -> None:
    tracking = TrackingSettings(mlflow_store)
    data = str(write_table(toy_transcripts(records), tmp_path / "few.tsv"))
    with pytest.raises(kind) as caught:
        run.train(RunRequest(small_config(**({"data__path": data} | changes)), tracking), SilentReporter())
    assert message in caught.value.problem
    with pytest.raises(TrackingError) as missing:
        open_tracker(tracking).find("exp1")
    assert "exp1" in missing.value.problem


def _start_from(path: Path, data: str, settings: Config) -> RunRequest:
    return RunRequest(settings, TrackingSettings(path.parent, enabled=False), weights=str(path))


def test_weights_of_other_sizes_or_sites_or_with_folds_are_refused(mlflow_store: Path, data: str) -> None:
    tracking = TrackingSettings(mlflow_store, enabled=False)
    weights = str(_train(tracking, data).folder / "checkpoints" / "last.pt")
    for changes, problem, remedy in (
        ({"model__rnn_hidden": 5}, "trained with model.rnn_hidden 3, but 5", "--set model.rnn_hidden=3"),
        ({"data__sites": ["ERM", "Cytosol"]}, "sites Nucleus,Cytosol,ERM, but ERM,Cytosol", "--sites Nucleus"),
        ({"data__fold": 2}, "--weights with --fold", "use one of them"),
        ({"train__epochs": 2}, "3 epochs behind it, and 2 in all are asked for", "--epochs 53"),
    ):
        settings = small_config(**({"data__path": data, "train__epochs": 9} | changes))
        with pytest.raises(RNATrackerError) as caught:
            run.train(RunRequest(settings, tracking, weights=weights), SilentReporter())
        assert problem in caught.value.problem
        assert remedy in caught.value.remedy


def test_training_from_weights_is_a_new_run_with_the_next_epochs(tracking: TrackingSettings, data: str) -> None:
    weights = _train(tracking, data).folder / "checkpoints" / "last.pt"
    reporter = SilentReporter()
    request = RunRequest(small_config(data__path=data, train__epochs=5), tracking, weights=str(weights))
    outcome = run.train(request, reporter)
    assert outcome.name == "exp2"
    assert [result.epoch for result in reporter.epochs] == [4, 5]
    whole = _train(tracking, data, train__epochs=5)
    assert outcome.metrics["best/pcc_mean"] <= whole.metrics["best/pcc_mean"] + 1e-12
    last = checkpoint.load(outcome.folder / "checkpoints" / "last.pt").weights
    expected = checkpoint.load(whole.folder / "checkpoints" / "last.pt").weights
    assert all(torch.equal(last[name], expected[name]) for name in last)


def test_tensorboard_events_are_written_when_asked_for(tracking: TrackingSettings, data: str) -> None:
    request = RunRequest(small_config(data__path=data), tracking, tensorboard=True)
    folder = run.train(request, SilentReporter()).folder
    assert [path.stat().st_size > 100 for path in (folder / "tensorboard").glob("events.*")] == [True]


def test_evaluation_of_a_cross_validation_is_that_of_its_folds_mean(tracking: TrackingSettings, data: str) -> None:
    outcome = _train(tracking, data, data__fold=2)
    name = "exp1" if tracking.enabled else str(outcome.folder)
    model = models.model_of_run(name, tracking)
    result = evaluate.evaluate(model, data, train=small_config().train, resamples=0)
    single = [
        evaluate.evaluate(models.model_of_file(str(path)), data, train=small_config().train, resamples=0).predicted
        for path in [
            child.folder / "checkpoints" / "best.pt" for _, child in sorted(_only_run(tracking).children().items())
        ]
    ]
    assert result.predicted == pytest.approx(np.mean(single, axis=0))
    assert "remembers" in result.warnings[0].text


def test_evaluation_matches_sites_by_name_and_refuses_others(mlflow_store: Path, data: str, tmp_path: Path) -> None:
    tracking = TrackingSettings(mlflow_store, enabled=False)
    model = models.model_of_file(str(_train(tracking, data).folder / "checkpoints" / "best.pt"))
    settings = small_config().train
    straight = evaluate.evaluate(model, data, train=settings, resamples=0)
    swapped = evaluate.evaluate(model, data, train=settings, sites=["ERM", "Nucleus", "Cytosol"], resamples=0)
    # Ranks are left out: normalising columns in another order parts fractions that were tied.
    figures = [[score.value for score in each.scores if score.measure != "spearman"] for each in (straight, swapped)]
    assert figures[1] == pytest.approx(figures[0])
    with pytest.raises(DataError) as caught:
        evaluate.evaluate(model, data, train=settings, sites=["ERM", "Nucleus"], resamples=0)
    assert all(part in caught.value.problem for part in ("ERM, Nucleus", "best.pt", "Nucleus, Cytosol, ERM"))


@pytest.mark.parametrize("moment", ["start", "publish", "reopen"])
def test_run_is_ended_when_a_signal_comes_while_its_record_is_made(
    moment: str, tracking: TrackingSettings, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if moment == "reopen":
        with pytest.raises(Interrupted):
            _train(tracking, data, _StopsAfter(1))
    tracker = open_tracker(tracking)
    kind = type(tracker) if moment == "start" else type(_only_run(tracking) if moment == "reopen" else _made(tracking))
    original = getattr(kind, moment)

    def interrupted(self: Any, *arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), 15)
        return original(self, *arguments, **options)

    monkeypatch.setattr(kind, moment, interrupted)
    name = "exp1" if tracking.enabled else str(tracking.store / "untracked" / "exp1")
    with pytest.raises(Interrupted):
        run.resume(name, tracking, SilentReporter()) if moment == "reopen" else _train(tracking, data)
    last = "exp2" if moment == "publish" else "exp1"
    assert _found(tracking, last).status() == "KILLED"


def _made(tracking: TrackingSettings) -> TrackedRun:
    """Return a run, to know its class."""
    found = open_tracker(tracking).start(log_name=None, params={}, tags={}, dataset=None)
    found.finish("FINISHED")
    return found


def test_second_signal_ends_a_run_that_is_being_ended_no_sooner(
    tracking: TrackingSettings, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(_made(tracking))
    original = kind.finish

    def interrupted(self: Any, *arguments: Any) -> None:
        os.kill(os.getpid(), 2)
        os.kill(os.getpid(), 2)
        original(self, *arguments)

    monkeypatch.setattr(kind, "finish", interrupted)
    assert _train(tracking, data).state == "FINISHED"
    assert _found(tracking, "exp2").status() == "FINISHED"


def test_log_ends_with_what_ended_the_run(tracking: TrackingSettings, data: str) -> None:
    with pytest.raises(TrainingError):
        _train(tracking, data, train__lr=1e36)
    with pytest.raises(Interrupted):
        _train(tracking, data, _StopsAfter(1))
    assert "loss is" in (_found(tracking, "exp1").folder / "log.txt").read_text().splitlines()[-1]
    assert "resume with: rnatracker train --resume" in (_found(tracking, "exp2").folder / "log.txt").read_text()


def test_resumed_run_needs_its_first_weights_no_more(tracking: TrackingSettings, data: str, tmp_path: Path) -> None:
    weights = _train(tracking, data).folder / "checkpoints" / "last.pt"
    copy = tmp_path / "start.pt"
    copy.write_bytes(weights.read_bytes())
    request = RunRequest(small_config(data__path=data, train__epochs=6), tracking, weights=str(copy))
    with pytest.raises(Interrupted):
        run.train(request, _StopsAfter(1))
    copy.unlink()
    name = "exp2" if tracking.enabled else str(tracking.store / "untracked" / "exp2")
    assert run.resume(name, tracking, SilentReporter()).state == "FINISHED"


def test_site_that_would_hide_a_figure_is_refused(mlflow_store: Path, tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    for sites, message in (
        ("mean,b", "a site can't be called 'mean'"),
        ("A+,A*", "differs from it in punctuation only"),
    ):
        table.write_text(f"id,sequence,{sites}\nx,ACGT,1,2\ny,ACGG,2,1\n")
        with pytest.raises(DataError) as caught:
            _train(TrackingSettings(mlflow_store, enabled=False), str(table))
        assert message in caught.value.problem
        assert caught.value.remedy.startswith("rename the column")


@pytest.mark.slow
def test_folds_are_resumed_once_the_workers_of_a_killed_run_have_ended(tracking: TrackingSettings, data: str) -> None:
    name = _train(tracking, data, data__fold=2).name
    found = _found(tracking, name)
    with subprocess.Popen(["sleep", "600"]) as orphan, subprocess.Popen(["sleep", "600"]) as killed:
        dead = identity.tags_of(killed.pid)
        killed.kill()
        killed.wait()
        fold = found.children()["fold2"]
        for each, tags in ((found, dead), (fold, identity.tags_of(orphan.pid))):
            each.reopen(even_finished=True)
            each.set_tags(tags)

        class EndsTheOrphan(SilentReporter):
            def line(self, text: str) -> None:
                super().line(text)
                if "waiting for the killed run's workers to save fold2" in text:
                    orphan.kill()

        reporter = EndsTheOrphan()
        try:
            assert run.resume(name, tracking, reporter).state == "FINISHED"
        finally:
            orphan.kill()
    assert any("waiting" in line for line in reporter.lines)
    assert found.children()["fold2"].status() == "FINISHED"


def test_folds_are_not_resumed_while_a_worker_of_a_killed_run_does_not_end(
    tracking: TrackingSettings, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = _train(tracking, data, data__fold=2).name
    fold = _found(tracking, name).children()["fold2"]
    _found(tracking, name).reopen(even_finished=True)
    monkeypatch.setattr(run, "_ORPHANS_SECONDS", 0.0)
    with subprocess.Popen(["sleep", "600"]) as orphan:
        fold.reopen(even_finished=True)
        fold.set_tags(identity.tags_of(orphan.pid))
        try:
            with pytest.raises(TrackingError) as caught:
                run.resume(name, tracking, SilentReporter())
        finally:
            orphan.kill()
    assert f"end it with: kill {orphan.pid}" in caught.value.remedy


def test_settings_of_weights_count_before_the_options_are_checked(tmp_path: Path, data: str) -> None:
    """A length of 40 is too short for the default network, and not for that of the weights."""
    made = _train(TrackingSettings(tmp_path / "mlruns", enabled=False), data, encoding__max_length=40)
    words = ["train", "--data", data, "--weights", str(made.folder / "checkpoints" / "best.pt"), "--max-length", "40"]
    words += ["--epochs", "4", "--no-track", "--store", str(tmp_path / "mlruns"), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    folder = Path(json.loads(result.stdout)["folder"])
    assert checkpoint.load(folder / "checkpoints" / "best.pt").encoding.max_length == 40
