"""Whole studies with a cost: what trials cost, paused ones too, what is kept, and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.search import refit
from rnatracker.search.definition import load_search
from rnatracker.search.front import cost
from rnatracker.search.front.pareto import to_measure
from rnatracker.search.front.size import n_parameters
from rnatracker.search.records import leave
from rnatracker.search.scheduling.courses import is_paused
from rnatracker.search.study import SCHEDULE
from rnatracker.tracking.settings import TrackingSettings
from tests.support.studies import small_study, work_through
from tests.support.toys import SMALL, SilentReporter, toy_transcripts, write_table

_SPACE = {"train.lr": {"float": [1e-3, 1e-1], "log": True}, "model.rnn_hidden": {"int": [2, 20]}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_table(toy_transcripts(60), tmp_path / "toy.tsv")


def _tracking(tmp_path: Path) -> TrackingSettings:
    return TrackingSettings(tmp_path / "runs", enabled=False)


def test_parameters_of_each_trial_are_kept_and_tracked(data: Path, tmp_path: Path) -> None:
    request = small_study(data, _tracking(tmp_path), content=_SPACE, cost="parameters", trials=3)
    search, context = work_through(request)
    for number, child in enumerate(context.parent.children()[name] for name in ("trial0", "trial1", "trial2")):
        trial = search.trial(number)
        model = request.config.model.model_copy(update={"rnn_hidden": trial.params["model.rnn_hidden"]})
        assert cost.cost_of(trial) == n_parameters(model, 3) == child.metrics()["cost/parameters"]


def test_seconds_are_the_median_of_all_epochs_also_of_a_trial_that_was_paused(data: Path, tmp_path: Path) -> None:
    """Epochs before a pause are those of the run: what they took is read from its history."""
    settings = {"data__fold": 2, "train__epochs": 4}
    request = small_study(
        data, _tracking(tmp_path), content=_SPACE, cost="seconds", trials=5, scheduler="freeze-thaw", settings=settings
    )
    search, context = work_through(request)
    resumed = [trial.number for trial in search.trials() if any("resumed" in s for s in trial.user_attrs[SCHEDULE])]
    assert resumed
    for name, child in context.parent.children().items():
        trial = search.trial(int(name.removeprefix("trial")))
        took = [s for fold in (1, 2) for s in child.history(f"fold{fold}/time/epoch_seconds").values()]
        assert len(took) == trial.user_attrs["epochs"] and took
        assert cost.cost_of(trial) == cost.of_epochs(took)


def test_study_without_a_cost_notes_none(data: Path, tmp_path: Path) -> None:
    search, context = work_through(small_study(data, _tracking(tmp_path), content=_SPACE, trials=2))
    assert all(cost.COST not in trial.user_attrs for trial in search.trials())
    assert not any(key.startswith("cost/") for key in context.parent.children()["trial1"].metrics())


@pytest.mark.slow
def test_refit_measures_the_front(data: Path, tmp_path: Path) -> None:
    request = small_study(data, _tracking(tmp_path), content=_SPACE, cost="parameters", trials=4)
    search, context = work_through(request)
    leave.leave(search, context.parent)
    verdict = refit.refit(search, SilentReporter(), lambda _: None, best=1, seeds=1, jobs=1)
    first = next(trial.number for trial in to_measure(search) if trial.number != 0)
    assert {each.trial for each in verdict.refitted} == {0, first}
    assert (context.parent.files.plots / "front.png").is_file()


@pytest.mark.slow
def test_commands_search_for_small_networks(data: Path, tmp_path: Path) -> None:
    """With the default scheduler and one worker; then the study goes on by its name alone."""
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(_SPACE))
    where = ["--store", str(tmp_path / "runs"), "--no-track"]
    sets = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    words = ["tune", "--study", "toy", "--data", str(data), "--space", str(space), *where, *sets]

    def run(*given: str) -> dict[str, object]:
        found = CliRunner().invoke(app, [*given, "--json"])
        assert found.exit_code == 0, found.output
        return dict(json.loads(found.stdout))

    told = run(*words, "--trials", "4", "--objective", "pcc_mean,parameters")
    assert told["cost"] == "parameters" and told["front"]
    more = run("tune", "--study", "toy", "--trials", "6", *where)
    assert sum(dict(more["trials"]).values()) == 6  # type: ignore[call-overload]
    shown = run("study", "toy", *where)
    assert shown["front"] == more["front"]
    search = load_search("toy", None, _tracking(tmp_path))
    assert search.request.cost == "parameters"
    assert all(cost.cost_of(trial) for trial in search.trials() if is_paused(trial) or trial.state.is_finished())
    refused = CliRunner().invoke(app, ["tune", "--study", "toy", "--objective", "pcc_mean", *where])
    assert refused.exit_code == 1 and "--objective pcc_mean,parameters before, pcc_mean now" in refused.stderr
