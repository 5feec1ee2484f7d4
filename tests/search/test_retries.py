"""Failed trials that are tried again, and a starting config that has no value when it comes to the refit."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.errors import StudyError
from rnatracker.processes.stop import StopSignal
from rnatracker.search import refit, summary, trial_runs
from rnatracker.search.definition import open_search
from rnatracker.search.pruning import START
from rnatracker.search.records import verdict as verdicts
from rnatracker.search.sampling import REASON, RETRIES
from rnatracker.search.study import OUTSIDE, Claim, Search, StudyRequest
from rnatracker.search.worker import run_trials
from rnatracker.terminal import study_tables
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.reporting import NullReporter
from tests.support.studies import SPACE, open_context, small_study
from tests.support.toys import SMALL, SilentReporter, toy_transcripts, write_table

_SPACE = {"train.lr": {"float": [1e-3, 5e-3], "log": True}, "model.rnn_hidden": {"int": [2, 6]}}
"""The starting config's rate, 0.01, lies outside."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_table(toy_transcripts(60), tmp_path / "toy.tsv")


def _request(data: Path, folder: Path, **changes: Any) -> StudyRequest:
    return small_study(data, TrackingSettings(folder / "mlruns", enabled=False), content=_SPACE, **changes)


def _claimed(search: Search) -> Claim:
    claim = search.claim()
    assert claim is not None
    return claim


def _fails(search: Search, claim: Claim) -> None:
    claim.trial.set_user_attr(REASON, "out of memory")
    search.study.tell(claim.trial, state=TrialState.FAIL)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_failed_trials_are_tried_again_in_their_place(sampler: Any, data: Path, tmp_path: Path) -> None:
    search = open_search(_request(data, tmp_path, trials=4, sampler=sampler), "d")
    claims = [_claimed(search)]
    _fails(search, claims[0])
    for _ in range(3):
        claims.append(_claimed(search))
        if claims[-1].number == 2:
            _fails(search, claims[-1])
        else:
            search.study.tell(claims[-1].trial, 0.5)
    assert search.claim() is None
    assert (search.counts().over, search.counts().failed) == (4, 2)

    assert search.retry_failed() == {0: 4, 2: 5}
    assert search.retry_failed() == {}  # not twice
    assert (search.counts().over, search.counts().failed, search.counts().waiting) == (2, 0, 2)
    first = _claimed(search)
    search.study.tell(first.trial, 0.7)
    second = _claimed(search)
    assert [first.number, second.number] == [4, 5]
    assert [first.config, second.config] == [claims[0].config, claims[2].config]
    start = summary.start_trial(search)
    assert start is not None
    assert (start.number, start.user_attrs[OUTSIDE], start.user_attrs[RETRIES]) == (4, ["train.lr"], 0)
    _fails(search, second)
    assert search.claim() is None
    assert [trial.number for trial in search.trials()] == [1, 3, 4, 5]
    assert search.retry_failed() == {5: 6}
    third = _claimed(search)
    assert (third.number, third.config) == (6, claims[2].config)
    search.study.tell(third.trial, 0.6)
    more = replace(search, request=replace(search.request, trials=6))
    assert _claimed(more).trial.params not in [claim.trial.params for claim in claims]


def test_settings_that_failed_once_count_as_good_as_their_second_trial_was(data: Path, tmp_path: Path) -> None:
    """What a sampler is shown: a failed trial is as bad as can be, one that is tried again is nothing."""
    search = open_search(_request(data, tmp_path, trials=3), "d")
    search.study.tell(_claimed(search).trial, 0.5)
    _fails(search, _claimed(search))
    _claimed(search)
    shown = search.study.sampler._shown  # type: ignore[attr-defined]
    assert [trial.state for trial in shown.get_trials()][:2] == [TrialState.COMPLETE, TrialState.PRUNED]
    search.retry_failed()
    assert [trial.state for trial in shown.get_trials()][:2] == [TrialState.COMPLETE, TrialState.FAIL]


def test_impossible_settings_are_not_tried_again(data: Path, tmp_path: Path) -> None:
    content = {"encoding.max_length": {"int": [1, 60]}, "model.conv1_kernel": {"int": [1, 50]}}
    tracking = TrackingSettings(tmp_path / "mlruns", enabled=False)
    search = open_search(small_study(data, tracking, content=content, sampler="random", trials=12), "d")
    while (claim := search.claim()) is not None:
        search.study.tell(claim.trial, 0.5)
    assert search.counts().failed
    assert search.retry_failed() == {}


def _fail_first_in_training(request: StudyRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work through a study whose first trial runs out of memory."""
    from rnatracker.search import objective

    search, context = open_context(request)
    train = objective.train_all

    def failing(*arguments: Any, **options: Any) -> Any:
        if search.trials()[0].state == TrialState.RUNNING:
            raise MemoryError
        return train(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(objective, "train_all", failing)
        run_trials(context, NullReporter(), StopSignal())
    assert search.trials()[0].state == TrialState.FAIL


def test_trial_that_is_tried_again_has_a_run_of_its_own_and_is_shown(
    data: Path, mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = small_study(data, TrackingSettings(mlflow_store), trials=2)
    _fail_first_in_training(request, monkeypatch)
    search, context = open_context(request)
    search.retry_failed()
    run_trials(context, NullReporter(), StopSignal())
    trial_runs.match_runs(search, context.parent)
    ends = {name: run.status() for name, run in context.parent.children().items()}
    assert ends == {"trial0": "FAILED", "trial1": "FINISHED", "trial2": "FINISHED"}
    words = ["study", "toy", "--store", str(mlflow_store)]
    shown = CliRunner().invoke(app, words).stdout
    assert "Study toy: 2 of 2 trials complete, 0 pruned, 0 failed" in shown
    assert "2 (start)" in shown
    assert "Trial 0 failed, and is tried again as trial 2: out of memory" in shown
    assert "Without a value" not in shown
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert [(each["trial"], each["as"]) for each in told["retries"]] == [(0, 2)]
    assert summary.to_csv(search).splitlines()[0].split(",")[:2] == ["trial", "state"]
    assert len(summary.to_csv(search).splitlines()) == 4


@pytest.mark.slow
def test_command_tries_failed_trials_again(
    data: Path, mlflow_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_first_in_training(small_study(data, TrackingSettings(mlflow_store), trials=2), monkeypatch)
    space = tmp_path / "x.yaml"
    space.write_text(yaml.safe_dump(SPACE))
    sets = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    words = ["tune", "--study", "toy", "--data", str(data), "--space", str(space), "--trials", "2"]
    words += ["--scheduler", "none", "--config", "v1"]
    for expected in ("trial 0 failed; it is tried again as trial 2", "no failed trial could be tried again"):
        told = CliRunner().invoke(app, [*words, *sets, "--retry-failed", "--store", str(mlflow_store)])
        assert told.exit_code == 0, told.output
        assert expected in told.output
    assert "Study toy: 2 of 2 trials complete, 0 pruned, 0 failed" in told.output


def _without_start(state: str, request: StudyRequest) -> Search:
    """Return a study with a trial that has a value, whose starting config has none: in this state."""
    search, _ = open_context(request)
    if state != "never begun":
        claim = _claimed(search)
        assert claim.trial.user_attrs[START]
        claim.trial.report(0.4, 1)
        if state == "failed":
            _fails(search, claim)
        elif state == "pruned":
            claim.trial.set_user_attr(REASON, "it would take 80 GB")
            search.study.tell(claim.trial, state=TrialState.PRUNED)
        else:
            search.put_back(claim)
    params = {"train.lr": 0.002, "model.rnn_hidden": 4}
    distributions = {"train.lr": FloatDistribution(1e-3, 5e-3, log=True), "model.rnn_hidden": IntDistribution(2, 6)}
    search.study.add_trial(create_trial(value=0.5, params=params, distributions=distributions))
    return search


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("failed", "failed, out of memory"),
        pytest.param("pruned", "pruned, it would take 80 GB", marks=pytest.mark.slow),
        pytest.param("paused", "waiting", marks=pytest.mark.slow),
        pytest.param("never begun", "waiting", marks=pytest.mark.slow),
    ],
)
def test_starting_config_without_a_value_is_refitted_all_the_same(
    state: str, why: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"data__fold": 2, "train__epochs": 1}
    search = _without_start(state, _request(data, tmp_path, settings=settings))
    told: list[str] = []
    verdict = refit.refit(search, SilentReporter(), told.append, best=1, seeds=1, jobs=1)
    assert told[0] == f"refit: the starting config, trial 0, has no value in the study ({why})"
    start = next(each for each in verdict.refitted if each.is_start)
    other = next(each for each in verdict.refitted if not each.is_start)
    assert math.isnan(start.claimed) and math.isnan(start.optimism) and other.claimed == 0.5
    assert start.values.shape == other.values.shape == (1, 2)
    assert math.isfinite(verdict.difference)
    run = open_context(search.request)[1].tracker.find(start.run_ids[0])
    assert (run.params()["train.lr"], run.params()["model.rnn_hidden"]) == ("0.01", "3")
    study_tables.print_verdict(verdict)
    row = next(line for line in capsys.readouterr().out.splitlines() if "0 (start)" in line)
    assert row.split()[2] == "-" and row.split()[-1] == "-"
    assert json.loads(json.dumps(verdicts.as_plain(verdict)))["settings"]


def test_refit_without_any_other_value_is_refused(data: Path, tmp_path: Path) -> None:
    search = open_search(_request(data, tmp_path, trials=2), "d")
    search.study.tell(_claimed(search).trial, 0.5)
    _fails(search, _claimed(search))
    with pytest.raises(StudyError, match="no trial but that with the starting config has a value; trial 1: out of mem"):
        refit.refit(search, SilentReporter(), [].append, best=1, seeds=1, jobs=1)
