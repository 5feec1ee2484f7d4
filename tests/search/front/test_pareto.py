"""The front of a study: which trials are on it, and how it is told."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from optuna.trial import TrialState
from typer.testing import CliRunner

from rnatracker import config
from rnatracker.app import app
from rnatracker.errors import StudyError, UsageError
from rnatracker.search import hints, pictures, space, summary, tune
from rnatracker.search.definition import find_search, open_search
from rnatracker.search.front.cost import COST
from rnatracker.search.front.order import nondominated
from rnatracker.search.front.pareto import front, to_measure
from rnatracker.search.pictures.points import shown
from rnatracker.search.records import config_file, leave, options
from rnatracker.search.records.command import Typed, completed
from rnatracker.search.study import Search, StudyRequest
from rnatracker.terminal import study_tables
from rnatracker.tracking.settings import TrackingSettings
from tests.support.toys import small_config

_SPACE = {"train.lr": {"float": [1e-4, 1e-1], "log": True}, "model.rnn_hidden": {"int": [2, 60]}}


def _request(folder: Path, **changes: Any) -> StudyRequest:
    made = StudyRequest("toy", small_config(), space.parse(_SPACE, "s.yaml"), TrackingSettings(folder, enabled=False))
    return replace(made, **{"sampler": "random", "scheduler": "none", "cost": "parameters", **changes})


def _begin(folder: Path, **changes: Any) -> Search:
    search = open_search(_request(folder, **changes), "d")
    options.keep(search)
    return search


def _come_to(search: Search, *ends: tuple[float, float | None, str]) -> Search:
    """Let a trial come to each value at each cost: complete or pruned."""
    for value, cost, end in ends:
        claim = search.claim()
        assert claim is not None
        if cost is not None:
            claim.trial.set_user_attr(COST, cost)
        claim.trial.report(value, 1)
        if end == "complete":
            search.study.tell(claim.trial, value)
        else:
            search.study.tell(claim.trial, state=TrialState.PRUNED)
    return search


_ENDS = (
    (0.50, 2000.0, "complete"),  # the start: on the front
    (0.40, 1000.0, "complete"),  # on the front
    (0.60, 3000.0, "complete"),  # the best
    (0.60, 4000.0, "complete"),  # as good, dearer
    (0.45, 2500.0, "complete"),  # beaten by the start
    (0.30, 500.0, "complete"),  # the cheapest
    (0.90, 100.0, "pruned"),  # not measured to its end
)


def test_front_of_points_is_what_no_other_beats() -> None:
    values, costs = [0.5, 0.4, 0.6, 0.6, 0.3, 0.5], [2.0, 1.0, 3.0, 4.0, 0.5, 2.0]
    assert nondominated(values, costs) == [4, 1, 0, 2]  # of two that are equal the first, no dearer one that is as good
    assert nondominated([], []) == []
    assert nondominated([0.1, 0.2, 0.3], [3.0, 2.0, 1.0]) == [2]


def test_front_of_a_study_has_complete_trials_the_cheapest_first(tmp_path: Path) -> None:
    search = _come_to(_begin(tmp_path), *_ENDS)
    assert [trial.number for trial in front(search)] == [5, 1, 0, 2]
    assert [trial.number for trial in to_measure(search)] == [2, 0, 1, 5, 3, 4]
    losses = _come_to(_begin(tmp_path / "loss", config=small_config(train__objective="val_loss")), *_ENDS)
    assert [trial.number for trial in front(losses)] == [5]


def test_study_without_a_cost_has_no_front(tmp_path: Path) -> None:
    search = _come_to(_begin(tmp_path, cost=None), (0.5, None, "complete"), (0.6, None, "complete"))
    assert front(search) == [] and [trial.number for trial in to_measure(search)] == [1, 0]
    told = study_tables.study_as_json(search, 5)
    assert (told["cost"], told["front"]) == (None, []) and told["best"][0]["cost"] is None
    assert "cost" not in search.study.user_attrs["definition"] and "cost" not in summary.to_csv(search).splitlines()[0]
    assert "front" not in leave.description(search, None)
    assert not {path.name for path in pictures.draw_all(search, tmp_path / "plots")} & {"front.png", "front.html"}


def test_front_is_told_in_tables_json_description_and_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    search = _come_to(_begin(tmp_path), *_ENDS)
    told = study_tables.study_as_json(search, 5)
    assert told["cost"] == "parameters"
    found = [(each["trial"], each["value"], each["cost"]) for each in told["front"]]
    assert found == [(5, 0.3, 500.0), (1, 0.4, 1000.0), (0, 0.5, 2000.0), (2, 0.6, 3000.0)]
    study_tables.print_study(search, limit=3)
    text = capsys.readouterr().out
    lines = text[text.index("The front of pcc_mean and parameters") :].splitlines()
    table = [line for line in lines if line.strip()]
    assert table[1].split()[:3] == ["trial", "pcc_mean", "parameters"]
    rows_begin = [line.split()[:2] for line in table[3:7]]
    assert rows_begin == [["5", "0.3000"], ["1", "0.4000"], ["0", "(start)"], ["2", "0.6000"]]
    description = leave.description(search, None)
    after = description[description.index("The front, the cheapest first") :]
    assert "| trial | pcc_mean | parameters | train.lr |" in after and "| 5 | 0.3000 | 500 |" in after
    assert "| 4 |" not in after and "| 4 | 0.4500 | 2500 |" in description
    rows = list(csv.DictReader(io.StringIO(summary.to_csv(search))))
    assert [row["cost"] for row in rows] == ["2000.0", "1000.0", "3000.0", "4000.0", "2500.0", "500.0", "100.0"]
    points = shown(search)
    assert [point.number for point in points.front] == [5, 1, 0, 2] and len(points.priced) == 7
    pictures.draw_all(search, tmp_path / "plots")
    assert imread(tmp_path / "plots" / "front.png").shape[1] > 1000
    page = (tmp_path / "plots" / "front.html").read_text()
    assert '"name":"front"' in page and "500 parameters" in page and '"type":"log"' in page


def test_refit_and_next_step_know_the_best_where_two_are_equal(tmp_path: Path) -> None:
    """The front has the cheaper one, `best` the first."""
    search = _come_to(
        _begin(tmp_path, trials=3), (0.2, 50.0, "complete"), (0.6, 40.0, "complete"), (0.6, 30.0, "complete")
    )
    assert [trial.number for trial in front(search)] == [2]
    assert [trial.number for trial in to_measure(search)] == [1, 2, 0]
    assert str(hints.next_command(search, None)).startswith("rnatracker tune --study toy --refit")


def test_study_goes_on_with_both_objectives_by_its_name_and_never_with_others(tmp_path: Path) -> None:
    (tmp_path / "toy.tsv").write_text("x")
    made = small_config(data__path=str(tmp_path / "toy.tsv"))
    search = _begin(tmp_path, config=made)
    tracking, digest = search.request.tracking, "d"
    found = find_search("toy", None, tracking)
    assert found is not None and found.request.cost == "parameters"
    alone = completed(Typed("toy", tracking))
    assert alone.cost == "parameters"
    open_search(alone, digest)
    without = completed(Typed("toy", tracking, settings={"train.objective": "pcc_mean"}, others={"cost": None}))
    with pytest.raises(StudyError) as caught:
        open_search(without, digest)
    assert "--objective pcc_mean,parameters before, pcc_mean now" in caught.value.problem
    other = completed(Typed("toy", tracking, settings={"train.objective": "val_loss"}, others={"cost": "seconds"}))
    with pytest.raises(StudyError) as caught:
        open_search(other, digest)
    assert "--objective pcc_mean,parameters before, val_loss,seconds now" in caught.value.problem
    assert "config train.objective" not in caught.value.problem  # said once


def test_study_of_before_goes_on_and_takes_no_cost(tmp_path: Path) -> None:
    search = _begin(tmp_path, cost=None)
    open_search(search.request, "d")
    with pytest.raises(StudyError, match="--objective pcc_mean before, pcc_mean,seconds now"):
        open_search(replace(search.request, cost="seconds"), "d")


def test_sampler_that_follows_one_objective_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        tune.check_scheduler(_request(tmp_path, sampler="cmaes"))
    assert "--sampler cmaes" in caught.value.problem and caught.value.remedy == "use --sampler tpe or gp"


def test_any_trial_can_be_exported(tmp_path: Path) -> None:
    search = _come_to(_begin(tmp_path), *_ENDS)
    trial = config_file.export_trial(search, 5, tmp_path / "small.yaml")
    text = (tmp_path / "small.yaml").read_text()
    assert text.splitlines()[0] == "# Study toy, complete: trial 5."
    assert "# It has pcc_mean 0.3000 on validation, at 500 parameters." in text
    assert config.read(tmp_path / "small.yaml")["model"]["rnn_hidden"] == trial.params["model.rnn_hidden"]
    with pytest.raises(StudyError) as caught:
        config_file.export_trial(search, 7, tmp_path / "none.yaml")
    assert "no trial 7; it has 0 to 6" in caught.value.problem and "rnatracker study toy" in caught.value.remedy
    assert not (tmp_path / "none.yaml").exists()


def test_trial_is_exported_by_the_command(tmp_path: Path) -> None:
    _come_to(_begin(tmp_path / "runs"), *_ENDS)
    words = ["study", "toy", "--store", str(tmp_path / "runs"), "--no-track"]
    wanted = CliRunner().invoke(app, [*words, "--trial", "1", "--export", str(tmp_path / "one.yaml"), "--json"])
    assert wanted.exit_code == 0 and "trial 1 is in" in wanted.stderr
    assert "trial 1." in (tmp_path / "one.yaml").read_text()
    alone = CliRunner().invoke(app, [*words, "--trial", "1"])
    assert alone.exit_code == 0 and "Cost: 1000 parameters" in alone.stdout
