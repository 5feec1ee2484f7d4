"""Pictures of a study show all trials that have come to some value, each kind as what it is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from rnatracker.search import pictures, space
from rnatracker.search.definition import open_search
from rnatracker.search.pictures.points import shown
from rnatracker.search.pictures.settings import Scale
from rnatracker.search.records.verdict import Refitted, judge
from rnatracker.search.study import Search, StudyRequest
from rnatracker.search.summary import TrialState
from rnatracker.tracking.settings import TrackingSettings
from tests.support.toys import small_config

_SPACE = {
    "train.lr": {"float": [0.02, 0.2], "log": True},
    "model.rnn": {"categorical": ["gru", "lstm"]},
    "model.rnn_activation": {"categorical": ["relu", "none"], "when": {"model.rnn": "lstm"}},
    "model.rnn_hidden": {"int": [2, 6]},
}


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """Twelve trials: the starting config, whose rate of 0.01 lies outside of the space, and of the others some pruned,
    one paused, one failed."""
    made = small_config(data__fold=2)
    request = StudyRequest("toy", made, space.parse(_SPACE, "s.yaml"), TrackingSettings(tmp_path, enabled=False))
    found = open_search(replace(request, trials=12, sampler="random", scheduler="none"), "d")
    for number in range(12):
        claim = found.claim()
        assert claim is not None
        last = 2 if number in (3, 4, 5) else 6
        for step in range(1, last + 1):
            claim.trial.report(number / 20 + step / 100, step)
        if number == 11:
            found.handed_out.put_back(found.trial(claim.number))
        elif number == 10:
            found.study.tell(claim.trial, state=TrialState.FAIL)
        elif last == 2:
            found.study.tell(claim.trial, state=TrialState.PRUNED)
        else:
            found.study.tell(claim.trial, number / 20)
    return found


def test_each_kind_of_trial_is_shown_and_a_failed_one_is_not(search: Search) -> None:
    found = shown(search)
    assert [point.number for point in found.points] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]
    kinds = {kind: [point.number for point in found.of_state(kind)] for kind in ("complete", "pruned", "paused")}
    assert kinds == {"complete": [1, 2, 6, 7, 8], "pruned": [3, 4, 5], "paused": [11]}
    assert found.start is not None and found.best is not None
    assert (found.start.number, found.best.number) == (0, 9)
    assert found.start.settings["train.lr"] == 0.01 and "train.lr" in found.start.keys
    assert found.points[3].value == pytest.approx(0.17)  # at its second and last report


def _drawn(search: Search, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    kept: dict[str, Figure] = {}
    save = Figure.savefig

    def spy(figure: Figure, file: Any, **options: Any) -> None:
        kept[Path(file.name).name.split(".")[1]] = figure
        save(figure, file, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    pictures.draw_all(search, folder)
    return kept


def test_pictures_mark_the_start_the_best_and_what_was_pruned_or_paused(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = _drawn(search, tmp_path / "plots", monkeypatch)
    assert set(kept) == {"history", "learning_curves", "importance", "parallel_coordinates", "slices"}
    words = {"complete", "pruned", "paused", "starting config", "best"}
    slices = kept["slices"].axes
    assert {text.get_text() for text in kept["slices"].legends[0].get_texts()} == words
    points = sum(len(each.get_offsets()) for each in slices[0].collections)
    assert points == 11  # the starting config too, though its rate lies outside
    assert slices[0].get_xlim()[0] < 0.01 and slices[0].get_xscale() == "log"
    assert len(slices[0].patches) == 1  # what lies outside of the space is shaded
    lstm = sum(point.settings["model.rnn"] == "lstm" for point in shown(search).points)
    assert sum(len(each.get_offsets()) for each in slices[3].collections) == lstm
    history = kept["history"].axes[0].get_legend_handles_labels()[1]
    assert words | {"best so far"} == set(history)
    assert len(kept["parallel_coordinates"].axes[0].lines) == 11 + 5  # a line for each trial and an axis for each key
    curves = [line.get_label() for line in kept["learning_curves"].axes[0].lines]
    assert {"complete, 5", "pruned, 3", "paused, 1", "starting config, trial 0", "best, trial 9"} <= set(curves)


def test_pages_show_the_same_trials_without_a_network(search: Search, tmp_path: Path) -> None:
    written = pictures.draw_all(search, tmp_path / "plots")
    pages = {path.stem: path.read_text() for path in written if path.suffix == ".html"}
    assert set(pages) == {"history", "learning_curves", "importance", "parallel_coordinates", "slices"}
    for text in pages.values():
        assert 'src="plotly.min.js"' in text and "https://cdn" not in text
    found = re.search(r"Plotly.newPlot\(\s*\"[^\"]+\",\s*(\[.*?\]),\s*\{\"template\"", pages["history"], re.DOTALL)
    assert found is not None
    traces = {trace["name"]: trace for trace in json.loads(found[1])}
    assert set(traces) == {"complete", "pruned", "paused", "starting config", "best"}
    assert traces["paused"]["hovertext"][0].startswith("trial 11, paused<br>pcc_mean 0.")
    assert (tmp_path / "plots" / "plotly.min.js").stat().st_size > 1e6


def test_study_of_which_only_pruned_trials_have_a_value_is_drawn(tmp_path: Path) -> None:
    request = StudyRequest("toy", small_config(), space.parse(_SPACE, "s.yaml"), TrackingSettings(tmp_path))
    found = open_search(request, "d")
    assert pictures.draw_all(found, tmp_path / "none") == []
    claim = found.claim()
    assert claim is not None
    claim.trial.report(0.3, 1)
    found.study.tell(claim.trial, state=TrialState.PRUNED)
    names = {path.name for path in pictures.draw_all(found, tmp_path / "plots")}
    assert names == {"history.png", "history.html", "learning_curves.png", "learning_curves.html"}


def test_refit_is_drawn_with_what_the_study_claimed(tmp_path: Path) -> None:
    start = Refitted(0, True, 0.5, np.array([[0.4, float("nan")]]), ("a",))
    other = Refitted(1, False, 0.9, np.array([[0.6, float("nan")]]), ("b",))
    path = pictures.draw_refit(judge("pcc_mean", [start, other]), tmp_path / "plots")
    assert imread(path).shape[1] > 1000


def test_scale_says_where_a_value_lies() -> None:
    log = Scale([1e-4, 1e-1], log=True)
    assert [log.height(x) for x in (1e-4, 1e-3, 1e-1)] == pytest.approx([0, 1 / 3, 1])
    assert [text for _, text in log.ticks()] == ["0.0001", "0.001", "0.01", "0.1"]
    choices = Scale(["gru", "lstm", "none"], choices=True)
    assert choices.ticks() == [(0.0, "gru"), (0.5, "lstm"), (1.0, "none")]
    assert Scale([3.0, 3.0]).height(3.0) == 0.5
