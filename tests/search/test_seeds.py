"""A search spends its epochs on settings: trials train one network each, and the refit as many as the config says."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnatracker import config
from rnatracker.errors import ConfigError
from rnatracker.search import refit, space, summary, tune
from rnatracker.search.study import StudyRequest
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support.studies import small_study, work_through
from tests.support.toys import SilentReporter, toy_transcripts, write_table


@pytest.fixture
def request_of_three(tmp_path: Path) -> StudyRequest:
    data = write_table(toy_transcripts(40), tmp_path / "toy.tsv")
    settings = {"train__seeds": 3, "train__epochs": 1, "data__fold": 2}
    return small_study(data, TrackingSettings(tmp_path / "mlruns", enabled=False), trials=2, settings=settings)


@pytest.mark.slow
def test_trials_train_one_network_and_the_refit_all(request_of_three: StudyRequest) -> None:
    search, context = work_through(request_of_three)
    for child in context.parent.children().values():
        assert child.params()["train.seeds"] == "1"
        assert config.build(config.read(child.files.config), "config").train.seeds == 1
        assert child.metrics()["time/epochs"] == 2
        assert not list(child.files.checkpoints.rglob("seed*"))
    best = summary.best(search, 1)[0]
    assert summary.config_of(search, best).train.seeds == 3
    verdict = refit.refit(search, SilentReporter(), lambda _line: None, best=1, seeds=1, jobs=1)
    for each in verdict.refitted:
        run = open_tracker(request_of_three.tracking).find(each.run_ids[0])
        assert run.params()["train.seeds"] == "3"
        assert each.mean == pytest.approx(run.metrics()["mean/pcc_mean"])
        places = [sorted(path.name for path in fold.files.checkpoints.iterdir()) for fold in run.children().values()]
        assert places == [["best.pt", "last.pt", "seed2", "seed3"]] * 2


def test_study_says_that_trials_train_one_network(request_of_three: StudyRequest, tmp_path: Path) -> None:
    search, _ = work_through(request_of_three)
    said = "trials train one network each; train.seeds 3 is for --refit"
    assert said in tune._greeting(search)
    data = tmp_path / "toy.tsv"
    one, _ = work_through(small_study(data, request_of_three.tracking, name="one", trials=1))
    assert not [line for line in tune._greeting(one) if "train.seeds" in line]


def test_weight_of_further_data_is_not_searched() -> None:
    with pytest.raises(ConfigError) as caught:
        space.parse({"train.also_weight": {"float": [0.1, 1.0]}}, "x.yaml")
    assert "train.also_weight can't be searched: a study's trials are trained on one data set" in caught.value.problem


def test_number_of_networks_is_not_searched() -> None:
    with pytest.raises(ConfigError) as caught:
        space.parse({"train.seeds": {"int": [1, 5]}}, "x.yaml")
    assert "train.seeds can't be searched" in caught.value.problem
    assert "--set train.seeds=N" in caught.value.remedy
