"""Whole studies: trials as runs, pruning, what is left behind, and the commands."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from optuna.trial import TrialState, create_trial
from typer.testing import CliRunner

from rnatracker import config
from rnatracker.app import app
from rnatracker.commands.tune import seconds_of
from rnatracker.errors import StudyError
from rnatracker.processes import identity
from rnatracker.processes.stop import StopSignal
from rnatracker.search import hints, memory, refit, summary, trial_runs, tune
from rnatracker.search.records import leave
from rnatracker.search.study import WORKER
from rnatracker.search.worker import run_trials
from rnatracker.tracking.contract import DeletedRunError, TrackedRun, Tracker
from rnatracker.tracking.mlflow_tracker import MlflowTracker
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.division import split_digest
from rnatracker.training.reporting import NullReporter
from rnatracker.training.trainer import Stopped
from tests.support import paths
from tests.support.studies import SPACE, StopAfter, open_context, small_study, work_through
from tests.support.toys import SMALL, SilentReporter, small_config, toy_transcripts, write_table

_CLI = paths.CLI


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_table(toy_transcripts(60), tmp_path / "toy.tsv")


def _no_mlflow(tmp_path: Path) -> TrackingSettings:
    return TrackingSettings(tmp_path / "mlruns", enabled=False)


def test_trial_is_a_child_run_with_folds_as_metrics(data: Path, mlflow_store: Path) -> None:
    request = small_study(data, TrackingSettings(mlflow_store), trials=2, settings={"data__fold": 2})
    search, context = work_through(request)
    children = context.parent.children()
    assert sorted(children) == ["trial0", "trial1"]
    for number, child in enumerate(children[name] for name in sorted(children)):
        assert child.status() == "FINISHED"
        scores, trial = child.metrics(), search.study.trials[number]
        assert child.logged_steps("fold1/val/pcc_mean") == {1, 2, 3}
        assert child.logged_steps("fold2/val/pcc_mean") == {1, 2, 3}
        assert trial.value == pytest.approx(scores["objective"])
        assert trial.value == pytest.approx(sum(trial.user_attrs["fold_values"]) / 2)
        assert sorted(trial.intermediate_values) == [1, 2, 3, 4, 5, 6]
        assert float(child.params()["train.lr"]) == trial.params["train.lr"]
        assert child.tags()["rnatracker.split_digest"] == split_digest(context.prepared)
        assert child.tags()["rnatracker.kernel"] in ("fused", "torch")
        assert {path.name for path in (child.folder / "checkpoints").rglob("*.pt")} == {"best.pt"}
        assert not list(child.folder.glob("predictions/*"))  # the folds' test parts stay unseen


def test_value_is_the_best_validation_objective_of_a_single_division(data: Path, tmp_path: Path) -> None:
    search, context = work_through(small_study(data, _no_mlflow(tmp_path), trials=1))
    trial = search.study.trials[0]
    assert trial.value == max(trial.intermediate_values.values())
    child = context.parent.children()["trial0"]
    assert child.metrics()["best/pcc_mean"] == pytest.approx(trial.value)


def test_bad_trial_is_pruned_and_its_run_says_where(data: Path, mlflow_store: Path) -> None:
    request = small_study(
        data, TrackingSettings(mlflow_store), trials=6, scheduler="median", settings={"train__epochs": 4}
    )
    search, context = open_context(request)
    for _ in range(5):  # five trials that nothing can beat
        claim = search.claim()
        assert claim is not None
        for step in (1, 2, 3, 4):
            claim.trial.report(1.0, step)
        search.study.tell(claim.trial, 1.0)
    run_trials(context, NullReporter(), StopSignal())
    trial = search.study.trials[5]
    assert (trial.state, list(trial.intermediate_values)) == (TrialState.PRUNED, [1])
    child = context.parent.children()["trial5"]
    tags = child.tags()
    assert child.status() == "KILLED"
    assert (tags["pruned"], tags["pruned.fold"], tags["pruned.epoch"]) == ("its validation value", "1", "1")
    assert tags["pruned.saved_epochs"] == "3"
    assert not (child.folder / "checkpoints").exists()
    assert summary.savings(search).saved == 3


def test_trial_that_fails_is_failed_with_its_reason_and_the_study_goes_on(data: Path, mlflow_store: Path) -> None:
    content = {"train.lr": {"float": [1e30, 1e36], "log": True}}
    request = small_study(data, TrackingSettings(mlflow_store), trials=3, content=content)
    search, context = work_through(request)
    states = [trial.state.name for trial in search.study.trials]
    assert states == ["COMPLETE", "FAIL", "FAIL"]
    assert "loss is" in search.study.trials[1].user_attrs["reason"]
    child = context.parent.children()["trial1"]
    assert child.status() == "FAILED"
    assert "loss is" in child.tags()["rnatracker.message"]


@pytest.mark.parametrize("tracked", [False, True])
def test_stopped_trial_resumes_to_the_same_value(tracked: bool, data: Path, tmp_path: Path, mlflow_store: Path) -> None:
    settings = {"train__epochs": 6, "data__fold": 2}
    whole, _ = work_through(
        small_study(data, TrackingSettings(tmp_path / "whole", enabled=False), trials=1, settings=settings)
    )
    request = small_study(data, TrackingSettings(mlflow_store, enabled=tracked), trials=1, settings=settings)
    search, context = open_context(request)
    with pytest.raises(Stopped):
        run_trials(context, NullReporter(), StopAfter(40))
    child = context.parent.children()["trial0"]
    assert (search.counts().waiting, child.status()) == (1, "KILLED")
    assert 6 < len(search.study.trials[0].intermediate_values) < 12
    run_trials(context, NullReporter(), StopSignal())
    assert list(context.parent.children()) == ["trial0"]
    assert context.parent.children()["trial0"].status() == "FINISHED"
    assert search.study.trials[0].value == whole.study.trials[0].value
    assert search.study.trials[0].intermediate_values == whole.study.trials[0].intermediate_values


def test_trial_that_resumes_is_pruned_where_it_stands_and_not_where_it_began(data: Path, tmp_path: Path) -> None:
    """Others have done better meanwhile: its epochs before the interruption were trained all the same."""
    request = small_study(data, _no_mlflow(tmp_path), trials=6, scheduler="median", settings={"train__epochs": 6})
    search, context = open_context(replace(request, trials=1))
    run_trials(context, NullReporter(), StopSignal())
    search, context = open_context(replace(request, trials=2))
    with pytest.raises(Stopped):
        run_trials(context, NullReporter(), StopAfter(40))
    reached = search.study.trials[1].last_step
    assert reached is not None
    assert 1 < reached < 6
    for _ in range(4):
        search.study.add_trial(
            create_trial(state=TrialState.COMPLETE, value=1.0, intermediate_values=dict.fromkeys(range(1, 7), 1.0))
        )
    run_trials(open_context(request)[1], NullReporter(), StopSignal())
    trial = search.study.trials[1]
    assert (trial.state, trial.last_step, trial.user_attrs["epochs"]) == (TrialState.PRUNED, reached, reached)
    assert context.parent.children()["trial1"].tags()["pruned.epoch"] == str(reached)


def test_fold_that_ran_out_of_patience_is_compared_at_its_end(data: Path, tmp_path: Path) -> None:
    settings = {"train__epochs": 30, "train__patience": 1, "data__fold": 2, "train__lr": 0.5}
    search, _ = work_through(small_study(data, _no_mlflow(tmp_path), trials=1, settings=settings))
    steps = sorted(search.study.trials[0].intermediate_values)
    assert len(steps) < 60
    assert {30, 60} <= set(steps)


def test_trial_runs_end_as_their_trials_did_when_a_process_was_killed_in_between(
    data: Path, mlflow_store: Path
) -> None:
    request = small_study(data, TrackingSettings(mlflow_store), trials=2)
    search, context = open_context(request)
    run_trials(context, NullReporter(), StopSignal())
    search.study.add_trial(create_trial(state=TrialState.PRUNED))
    pruned = context.tracker.start(
        log_name=None, params={}, tags={}, dataset=None, parent=context.parent, name="trial2"
    )
    (pruned.folder / "checkpoints").mkdir()
    for child in context.parent.children().values():
        child.reopen(even_finished=True)
        child.finish("FAILED", "its process died")
    trial_runs.match_runs(search, context.parent)
    states = {name: child.status() for name, child in context.parent.children().items()}
    assert states == {"trial0": "FINISHED", "trial1": "FINISHED", "trial2": "KILLED"}
    assert not (pruned.folder / "checkpoints").exists()


def test_study_goes_on_when_a_trials_run_was_deleted(data: Path, mlflow_store: Path) -> None:
    request = small_study(data, TrackingSettings(mlflow_store), trials=2, keep_weights=1)
    search, context = open_context(replace(request, trials=1))
    run_trials(context, NullReporter(), StopSignal())
    tracker = context.tracker
    assert isinstance(tracker, MlflowTracker)
    tracker.backend.client.delete_run(search.study.trials[0].user_attrs["run_id"])
    search, context = open_context(request)
    run_trials(context, NullReporter(), StopSignal())
    assert search.counts().complete == 2
    assert context.parent.children()["trial1"].status() == "FINISHED"


def test_studys_run_belongs_to_who_still_works_on_it_when_a_command_leaves(data: Path, mlflow_store: Path) -> None:
    search, context = open_context(small_study(data, TrackingSettings(mlflow_store)))
    claim = search.claim()
    assert claim is not None
    other = identity.own_tags() | {identity.PID: "1", identity.PROCESS_START: "7"}
    claim.trial.set_user_attr(WORKER, other)
    tune.hand_over(search, context.parent)
    assert other.items() <= context.parent.tags().items()


def test_weights_of_the_best_only_are_kept_when_asked(data: Path, tmp_path: Path) -> None:
    search, context = work_through(small_study(data, _no_mlflow(tmp_path), keep_weights=2))
    kept = {name for name, child in context.parent.children().items() if (child.folder / "checkpoints").exists()}
    assert kept == {f"trial{trial.number}" for trial in summary.best(search, 2)}


def test_trial_that_cannot_fit_is_pruned_before_it_starts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    search, context = work_through(small_study(data, _no_mlflow(tmp_path), trials=1))
    trial = search.study.trials[0]
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {})
    assert trial.user_attrs["reason"].startswith("memory: a step needs about")
    assert "memory" in context.parent.children()["trial0"].tags()["pruned"]


@pytest.mark.parametrize("kernel", ["auto", "torch"])
def test_memory_estimate_grows_with_batch_and_length(kernel: str) -> None:
    def estimate(**changes: Any) -> int:
        settings = small_config(model__kernel=kernel, **changes)
        return memory.estimate_bytes(settings, 3, 10_000, torch.device("cpu"))

    base = estimate(train__batch_size=100, encoding__max_length=500)
    assert estimate(train__batch_size=200, encoding__max_length=500) == pytest.approx(2 * base, rel=0.2)
    assert estimate(train__batch_size=100, encoding__max_length=1000) == pytest.approx(2 * base, rel=0.2)


def test_summary_is_left_in_the_study_run(data: Path, mlflow_store: Path) -> None:
    search, context = work_through(small_study(data, TrackingSettings(mlflow_store), trials=5))
    leave.leave(search, context.parent)
    folder = context.parent.folder
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == [0, 1, 2, 3, 4]
    best = summary.best(search, 1)[0]
    found = config.build(config.read(folder / "best.yaml"), "best").flat()
    exact = summary.config_of(search, best).flat() | {"data.path": None, "train.threads": 0}
    assert found == exact | {"train.lr": pytest.approx(best.params["train.lr"], rel=5e-4)}
    names = {path.name for path in (folder / "plots").iterdir()}
    for name in ("history", "learning_curves", "parallel_coordinates", "slices"):
        assert {f"{name}.png", f"{name}.html"} <= names
    page = (folder / "plots" / "history.html").read_text()
    assert 'src="plotly.min.js"' in page
    assert "https://cdn" not in page
    assert "plotly.min.js" in names
    assert context.parent.metrics()["best/objective"] == pytest.approx(best.value)
    assert "so optimistic" in context.parent.tags()["mlflow.note.content"]


def test_rerun_command_gives_the_trial_again(data: Path, tmp_path: Path) -> None:
    search, _ = work_through(small_study(data, _no_mlflow(tmp_path), trials=2))
    best = summary.best(search, 1)[0]
    words = hints.rerun_command(search, best).removeprefix("rnatracker ").split()
    more = ["--no-track", "--store", str(tmp_path / "again"), "--threads", "1", "--json"]
    result = CliRunner().invoke(app, [*words, *more])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["metrics"]["best/pcc_mean"] == pytest.approx(best.value)


def test_rerun_command_is_whole_when_there_are_many_sites(data: Path, tmp_path: Path) -> None:
    search, _ = work_through(small_study(data, _no_mlflow(tmp_path), trials=1))
    sites = tuple(f"Compartment{i}" for i in range(12))
    settings = search.request.config
    wide = settings.model_copy(update={"data": settings.data.model_copy(update={"sites": sites})})
    many = replace(search, request=replace(search.request, config=wide))
    words = shlex.split(hints.rerun_command(many, search.study.trials[0]))
    given = next(word for word in words if word.startswith("data.sites="))
    assert tuple(yaml.safe_load(given.removeprefix("data.sites="))) == sites


def test_wilcoxon_without_enough_folds_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError) as caught:
        tune.check_scheduler(small_study(data, _no_mlflow(tmp_path), scheduler="wilcoxon", settings={"data__fold": 3}))
    assert "--scheduler wilcoxon" in caught.value.problem
    assert "--fold 5" in caught.value.remedy


def test_trial_has_no_trunk_to_spare(data: Path, tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError) as caught:
        tune.tune(small_study(data, _no_mlflow(tmp_path), settings={"train__freeze": 2}), print, lambda *_: None)
    assert "train.freeze" in caught.value.problem


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("45m", 2700), ("2h", 7200), ("1h30m", 5400), ("1d", 86400)])
def test_time_span_is_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


def _arguments(data: Path, store: Path, *more: str) -> list[str]:
    path = store.parent / "space.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    sets = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    base = ["tune", "--study", "toy", "--data", str(data), "--space", str(path), "--store", str(store)]
    return [*base, *sets, *more]


@pytest.mark.slow
def test_commands_tune_and_study_work_together(data: Path, mlflow_store: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(_CLI),
        *_arguments(data, mlflow_store, "--trials", "3", "--scheduler", "none", "--json"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["state"], told["trials"]["complete"]) == ("FINISHED", 3)
    assert all(f"trial {number}  pcc_mean" in result.stderr for number in range(3))  # the last one too
    tracker: Tracker = open_tracker(TrackingSettings(mlflow_store))
    run = tracker.find(told["run_id"])
    assert (run.name, run.status(), len(run.children())) == ("exp1_toy", "FINISHED", 3)
    assert tracker.has_view("study-toy")

    def study(*more: str) -> str:
        shown = CliRunner().invoke(app, ["study", *more, "--store", str(mlflow_store)], env={"COLUMNS": "200"})
        assert shown.exit_code == 0, shown.stderr
        return shown.stdout

    assert study("--list").split() == ["toy"]
    text = study("toy", "--export", str(tmp_path / "best.yaml"), "--plots", str(tmp_path / "plots"))
    assert "3 of 3 trials complete" in text
    assert "0 (start)" in text
    assert "settings: rnatracker train --data" in text
    assert f"Next: rnatracker tune --study toy --refit --store {mlflow_store}" in text
    assert config.read(tmp_path / "best.yaml")["model"]["rnn_hidden"] == told["best"]["params"]["model.rnn_hidden"]
    assert (tmp_path / "plots" / "history.html").exists()
    assert json.loads(study("toy", "--json"))["best"][0]["trial"] == told["best"]["trial"]
    words = ["--store", str(mlflow_store), "--refit", "--refit-best", "1", "--refit-seeds", "1", "--no-baseline"]
    again = CliRunner().invoke(app, ["tune", "--study", "toy", *words], env={"COLUMNS": "200"})
    assert again.exit_code == 0, again.output
    told = json.loads(study("toy", "--json"))
    assert told["next"].split()[:2] == ["rnatracker", "promote"] and told["next"].split()[2] == told["refit"]["run"]
    assert "Winner of the refit: " in again.stdout and f"Next: {told['next']}" in study("toy")
    assert "fresh seeds (1 x 3 folds)" in run.tags()["mlflow.note.content"]
    assert {"refit.csv", "winner.yaml", "best.yaml"} <= {path.name for path in run.folder.iterdir()}
    assert (run.files.plots / "refit.png").is_file()
    study("toy", "--delete-weights")
    assert not any(list(child.folder.rglob("best.pt")) for child in run.children().values())
    assert list(tracker.find(told["refit"]["run_id"]).children()["fold1"].folder.rglob("best.pt"))  # not a trial's


@pytest.mark.parametrize("tracked", [False, True])
def test_study_whose_run_is_gone_for_good_begins_a_new_one(
    tracked: bool, data: Path, tmp_path: Path, mlflow_store: Path
) -> None:
    tracking = TrackingSettings(mlflow_store) if tracked else _no_mlflow(tmp_path)
    request = small_study(data, tracking, trials=2)
    _, context = open_context(request)
    with pytest.raises(Stopped):
        run_trials(context, NullReporter(), StopAfter(8))
    before = context.parent
    for run in (*before.children().values(), before):
        _delete_for_good(run, context.tracker)
    again, context = open_context(request)
    assert again.study.user_attrs["run_id"] == context.parent.id != before.id
    run_trials(context, NullReporter(), StopSignal())
    assert sorted(context.parent.children()) == ["trial0", "trial1"]
    assert {trial.state.name for trial in again.trials()} == {"COMPLETE"}
    _delete_for_good(context.parent.children()["trial0"], context.tracker)
    assert trial_runs.delete_weights(again)[0] == 1


def _delete_for_good(run: TrackedRun, tracker: Tracker) -> None:
    """Delete a run as `mlflow gc` does, or as its folder is deleted."""
    if isinstance(tracker, MlflowTracker):
        tracker.backend.client.delete_run(run.id)
        tracker.backend.client._tracking_client.store._hard_delete_run(run.id)
    shutil.rmtree(run.folder, ignore_errors=True)


def test_study_whose_run_was_deleted_says_how_to_restore_it(data: Path, mlflow_store: Path) -> None:
    request = small_study(data, TrackingSettings(mlflow_store), trials=1)
    _, context = open_context(request)
    assert isinstance(context.tracker, MlflowTracker)
    context.tracker.backend.client.delete_run(context.parent.id)
    with pytest.raises(DeletedRunError) as caught:
        open_context(request)
    assert f"mlflow runs restore --run-id {context.parent.id}" in caught.value.remedy


def test_study_in_which_all_trials_fail_is_failed_with_the_reasons(data: Path, tmp_path: Path) -> None:
    content = {"train.lr": {"float": [1e30, 1e36], "log": True}}
    request = small_study(data, _no_mlflow(tmp_path), trials=2, content=content, settings={"train__lr": 1e33})
    search, context = work_through(request)
    outcome = tune._finish(search, context.parent, context.tracker, None)
    assert (outcome.state, context.parent.status()) == ("FAILED", "FAILED")
    with pytest.raises(StudyError, match="none of its 2 trials has a value; trial 0: epoch 1: the training loss is"):
        tune.check_any_value(outcome)
    with pytest.raises(StudyError, match="trial 0: epoch 1: the training loss is"):
        refit.refit(search, SilentReporter(), lambda _line: None, best=1, seeds=1, jobs=1)
    assert "the training loss is" in context.parent.tags()["rnatracker.message"]
    words = ["study", "toy", "--store", str(tmp_path / "mlruns"), "--no-track"]
    shown = CliRunner().invoke(app, words)
    assert "Without a value: trial 0: epoch 1: the training loss is" in shown.stdout
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert [each["trials"] for each in told["failures"]] == [[0], [1]]
    assert all("the training loss is" in each["reason"] for each in told["failures"])
