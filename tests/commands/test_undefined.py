"""Figures that are undefined, or of a few transcripts only: left out, and said, by every command that prints them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import DataError, StudyError
from rnatracker.registry.comparison import PromotionRequest
from rnatracker.registry.promotion import promote
from rnatracker.registry.test_set import DataOptions
from rnatracker.search import summary, tune
from rnatracker.search.definition import load_search
from rnatracker.terminal.study_tables import study_as_json
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.division import divide
from tests.support.candidates import finished_run, training_data
from tests.support.studies import small_study, work_through
from tests.support.toys import SMALL, toy_transcripts, write_table


def _one_differs(n: int, seed: int = 0) -> Transcripts:
    """Return transcripts of which the first only is somewhere else: most parts of them have constant sites."""
    fractions = np.tile([0.0, 1.0, 0.0], (n, 1))
    fractions[0] = [1.0, 0.0, 0.0]
    return replace(toy_transcripts(n, seed), fractions=fractions)


def _run(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def _is_said(result: Result) -> bool:
    """Tell whether both are said, and nothing is shown as a number that is none."""
    assert "nan" not in result.output.lower().split()
    return "PCC says little of" in result.output and "PCC is undefined at" in result.output


@pytest.mark.parametrize("folds", ["0", "3"])
def test_training_chooses_by_the_loss_and_says_so(folds: str, tmp_path: Path) -> None:
    data = write_table(_one_differs(12), tmp_path / "one.tsv")
    sets = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    common = ["--data", str(data), "--store", str(tmp_path / "mlruns"), "--no-track", *sets, "--fold", folds]
    result = _run("train", *common)
    assert result.exit_code == 0, result.output
    assert _is_said(result)
    assert "pcc_mean is undefined here, so the best epoch is chosen by val_loss" in result.output
    assert "best val_loss" in result.output and "-inf" not in result.output
    folder = next((tmp_path / "mlruns" / "untracked").glob("exp1"))
    assert "chosen by val_loss" in "".join(path.read_text() for path in folder.rglob("log.txt"))
    note = json.loads((folder / "run.json").read_text())["tags"]["mlflow.note.content"]
    assert "nan" not in note and "PCC is undefined at" in note


def test_study_is_refused_where_its_objective_is_undefined_in_every_fold(tmp_path: Path) -> None:
    data = write_table(replace(toy_transcripts(20), fractions=np.tile([0.2, 0.5, 0.3], (20, 1))), tmp_path / "x.tsv")
    tracking = TrackingSettings(tmp_path / "mlruns", enabled=False)
    request = small_study(data, tracking, settings={"data__fold": 2})
    with pytest.raises(StudyError) as caught:
        tune.check_objective(request, tune.read_transcripts(request))
    assert "pcc_mean is undefined" in caught.value.problem
    assert "--objective val_loss" in caught.value.remedy
    by_loss = small_study(data, tracking, settings={"data__fold": 2, "train__objective": "val_loss"})
    assert tune.check_objective(by_loss, tune.read_transcripts(by_loss))


def test_trial_leaves_out_the_folds_in_which_its_objective_is_undefined(tmp_path: Path) -> None:
    transcripts = toy_transcripts(60)
    tracking = TrackingSettings(tmp_path / "mlruns", enabled=False)
    request = small_study(tmp_path / "one.tsv", tracking, trials=1, settings={"data__fold": 2})
    fractions = transcripts.measured().copy()
    fractions[divide(transcripts, request.config.data)[0].validation] = [0.0, 1.0, 0.0]
    write_table(replace(transcripts, fractions=fractions), tmp_path / "one.tsv")
    cautions = tune.check_objective(request, tune.read_transcripts(request))
    assert "fold1: pcc_mean is undefined, and left out of each trial's value" in cautions
    search, context = work_through(request)
    search.study.set_user_attr("cautions", cautions)
    trial = search.study.trials[0]
    assert trial.state.name == "COMPLETE"
    assert trial.user_attrs["fold_values"] == [None, trial.value]
    figures = context.parent.children()["trial0"].metrics()
    assert figures["objective"] == trial.value
    assert "sd/pcc_mean" not in figures and "sd/loss" in figures
    assert set(trial.intermediate_values) == {4, 5, 6}
    shown = load_search("toy", None, tracking)
    assert study_as_json(shown, 1)["warnings"] == cautions == summary.cautions(shown)


def test_measuring_comparing_and_promoting_say_it(mlflow_store: Path, tmp_path: Path) -> None:
    tracking, train = TrackingSettings(mlflow_store), training_data(tmp_path)
    first, second = finished_run(tracking, train, 1), finished_run(tracking, train, 2)
    test = str(write_table(replace(_one_differs(5, seed=9), ids=tuple("abcde")), tmp_path / "test.tsv"))
    store = ["--store", str(mlflow_store)]
    assert _is_said(_run("evaluate", first.id, "--data", test, *store))
    assert _is_said(_run("compare", first.id, second.id, "--data", test, *store))
    assert _is_said(_run("promote", first.id, "--data", test, *store))
    assert _is_said(_run("promote", second.id, *store))
    assert _is_said(_run("models", "show", "1", *store))


def test_looking_at_a_few_records_and_simulating_them_say_it(tmp_path: Path) -> None:
    few = write_table(toy_transcripts(5), tmp_path / "few.tsv")
    enough = write_table(toy_transcripts(10), tmp_path / "enough.tsv")
    assert "PCC says little of 5 transcripts" in _run("data", "inspect", str(few)).output
    assert "PCC says little" not in _run("data", "inspect", str(enough)).output
    simulated = _run("data", "simulate", str(tmp_path / "made.fa"), "--records", "4")
    assert "PCC says little of 4 transcripts" in simulated.output


def test_test_set_on_which_nothing_can_be_measured_is_refused(mlflow_store: Path, tmp_path: Path) -> None:
    tracking = TrackingSettings(mlflow_store)
    run = finished_run(tracking, training_data(tmp_path), 1)
    same = replace(toy_transcripts(20, seed=9), fractions=np.tile([0.2, 0.3, 0.5], (20, 1)))
    test = DataOptions(str(write_table(same, tmp_path / "test.tsv")))
    with pytest.raises(DataError) as caught:
        promote(PromotionRequest(run.id, tracking, data=test))
    assert "pcc_mean is undefined" in caught.value.problem
    assert "--data FILE" in caught.value.remedy
