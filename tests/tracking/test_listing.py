"""Lists of runs: from the database and through MLflow, filtered, folded, sorted."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from rnatracker.errors import UsageError
from rnatracker.tracking import filters, listing
from rnatracker.tracking.contract import NoExperimentError, TrackedRun
from rnatracker.tracking.listing import Listed, Row, RunList
from rnatracker.tracking.mlflow_tracker import MlflowTracker
from rnatracker.tracking.open import existing_trackers, open_tracker
from rnatracker.tracking.settings import TrackingSettings

FILTERS = [
    "metrics.val/pcc_mean > 0.35",
    "metrics.`val/pcc_mean` <= 0.4 and params.train.lr = 0.01",
    "params.train.lr != '0.01'",
    "params.train.lr LIKE '0.0%'",
    "tags.rnatracker.kind = fold",
    "tags.rnatracker.study IS NULL",
    "tags.rnatracker.study IS NOT NULL and params.train.rnn IS NULL",
    "run_name LIKE 'EXP%'",
    "run_name ILIKE 'EXP%'",
    "attributes.status = 'RUNNING'",
    "attributes.run_id NOT IN ('x')",
    "start_time > 0",
    "datasets.name = 'a.tsv'",
    "datasets.context = 'training' and datasets.digest != 'nothing'",
]


def _begin(tracker: MlflowTracker, kind: str, parent: TrackedRun | None = None, **more: object) -> TrackedRun:
    study = more.pop("study", None)
    name = more.pop("name", None)
    from rnatracker.tracking.contract import DatasetInput

    return tracker.start(
        log_name=None,
        params={key.replace("__", "."): value for key, value in more.items()},
        tags={"rnatracker.kind": kind, **({"rnatracker.study": str(study)} if study else {})},
        dataset=DatasetInput("a.tsv", "abc", "/a.tsv", 3) if parent is None else None,
        parent=parent,
        name=None if name is None else str(name),
    )


def _end(run: TrackedRun, metrics: Mapping[str, float], step: int = 0) -> None:
    run.log_metrics(metrics, step)
    run.finish("FINISHED")


@pytest.fixture
def settings(mlflow_store: Path) -> TrackingSettings:
    """A store with a training, a cross-validation of two folds, a study of two trials, and a run that goes on."""
    made = TrackingSettings(mlflow_store)
    tracker = open_tracker(made)
    assert isinstance(tracker, MlflowTracker)
    _end(_begin(tracker, "train", train__lr=0.01, data__path="/a/a.tsv"), {"best/pcc_mean": 0.4, "val/pcc_mean": 0.3})
    cv = _begin(tracker, "cross-validation", train__lr=0.02, data__path="/a/a.tsv")
    for fold in (1, 2):
        child = _begin(tracker, "fold", cv, name=f"fold{fold}", train__lr=0.02, fold=fold)
        _end(child, {"test/pcc_mean": 0.3 + fold / 10, "val/pcc_mean": 0.5})
    _end(cv, {"oof/pcc_mean": 0.45})
    study = _begin(tracker, "study", study="s", train__lr=0.01)
    for trial in (0, 1):
        child = _begin(tracker, "trial", study, name=f"trial{trial}", study="s", train__lr=0.01 * trial)
        _end(child, {"best/pcc_mean": 0.2 + trial / 10})
    _end(study, {})
    going = _begin(tracker, "train", train__rnn="gru")
    for epoch, value in enumerate([0.1, 0.36, 0.2], start=1):
        going.log_metrics({"val/pcc_mean": value}, epoch)
    going.flush()
    return made


class Source(Protocol):
    """What lists runs: a tracker, or a backend asked through MLflow as a server is."""

    def list_runs(self, where: str | None = None, enough: int | None = None) -> RunList: ...

    def fill(self, runs: Sequence[Listed]) -> None: ...


def _by_sql(settings: TrackingSettings) -> MlflowTracker:
    (tracker,) = existing_trackers(settings)
    assert isinstance(tracker, MlflowTracker)
    return tracker


def _through_mlflow(settings: TrackingSettings) -> Source:
    return _by_sql(settings).backend


@pytest.fixture(params=["database", "mlflow"])
def source(request: pytest.FixtureRequest, settings: TrackingSettings) -> Source:
    return _by_sql(settings) if request.param == "database" else _through_mlflow(settings)


def _names(found: list[Row]) -> list[str]:
    return [row.name for row in found]


class TestSources:
    def test_runs_are_the_latest_first_with_their_headline(self, source: Source) -> None:
        runs = source.list_runs().runs
        source.fill(runs)
        assert [run.name for run in runs][:1] == ["exp4"]
        assert {run.name: run.headline for run in runs} == {
            "exp1": (0.4, "validation"),
            "exp2": (0.45, "out-of-fold"),
            "fold1": (0.4, "its fold"),
            "fold2": (0.5, "its fold"),
            "exp3": (None, ""),
            "trial0": (0.2, "validation"),
            "trial1": (pytest.approx(0.3), "validation"),
            "exp4": (0.36, "validation"),
        }

    def test_both_sources_give_the_same_runs(self, settings: TrackingSettings) -> None:
        found = []
        for each in (_by_sql(settings), _through_mlflow(settings)):
            runs = each.list_runs().runs
            each.fill(runs)
            found.append({run.run_id: replace(run) for run in runs})
        assert found[0] == found[1]

    @pytest.mark.parametrize("where", FILTERS)
    def test_a_filter_admits_what_mlflow_admits(self, settings: TrackingSettings, where: str) -> None:
        sources = (_by_sql(settings), _through_mlflow(settings))
        found = [{r.run_id for r in each.list_runs(where).runs if r.matches} for each in sources]
        assert found[0] == found[1]
        assert found[0] or "EXP" in where

    def test_deleted_runs_and_other_experiments_are_left_out(self, settings: TrackingSettings) -> None:
        tracker = open_tracker(settings)
        tracker._backend.client.delete_run(tracker.find("exp1").id)  # type: ignore[attr-defined]
        other = replace(settings, experiment="other")
        open_tracker(other)
        assert "exp1" not in [run.name for run in _by_sql(settings).list_runs().runs]
        assert _by_sql(other).list_runs().runs == []

    def test_there_is_no_source_and_nothing_is_made_when_there_is_no_store(self, tmp_path: Path) -> None:
        assert existing_trackers(TrackingSettings(tmp_path / "mlruns")) == []
        assert not (tmp_path / "mlruns").exists()

    def test_an_unknown_experiment_is_said_with_those_there_are(self, settings: TrackingSettings) -> None:
        with pytest.raises(NoExperimentError, match="no experiment 'x'; there are: Default, rnatracker") as caught:
            _by_sql(replace(settings, experiment="x")).list_runs()
        with pytest.raises(NoExperimentError) as again:
            _ = _by_sql(replace(settings, experiment="x")).backend
        assert again.value.problem == caught.value.problem

    def test_a_server_is_asked_for_no_more_pages_than_are_needed(
        self, settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rnatracker.tracking.mlflow_run._PAGE", 2)
        found = listing.rows(_through_mlflow(settings).list_runs(enough=2).runs, unfold=False)
        assert [(row.name, row.folded) for row in found[:2]] == [("exp4", ""), ("exp3", "2 trials")]
        assert len(found) == 2


class TestFilters:
    @pytest.mark.parametrize(
        "bad",
        ["foo", "metrics.a > 'x'", "params.a > 3", "status = 'FINISHED' or status = 'KILLED'", "metrics.a >", "x.y = 3",
         "metrics.a LIKE 'b'", "run_id > 'a'"],
    )  # fmt: skip
    def test_a_bad_filter_is_one_clear_error(self, source: Source, bad: str) -> None:
        with pytest.raises(UsageError) as caught:
            source.list_runs(bad)
        assert caught.value.problem.startswith(f"--where {bad!r}: ")
        assert "as in: --where 'metrics.val/pcc_mean > 0.4" in caught.value.remedy
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            ("metrics.val/pcc_mean > 0.4", "metrics.`val/pcc_mean` > 0.4"),
            ("params.train.lr = 0.001 and metrics.a < 1", "params.`train.lr` = '0.001' and metrics.`a` < 1"),
            ("tags.a = 'metrics.b = 3'", "tags.`a` = 'metrics.b = 3'"),
            ("metrics.`a b` > 1", "metrics.`a b` > 1"),
            ('params.a != "x y"', 'params.`a` != "x y"'),
            ("run_name = 'exp1'", "run_name = 'exp1'"),
        ],
    )
    def test_names_and_values_are_quoted_where_mlflow_wants_it(self, typed: str, meant: str) -> None:
        assert filters.quoted(typed) == meant


class TestRows:
    def test_children_are_folded_under_their_parent(self, source: Source) -> None:
        found = listing.rows(source.list_runs().runs, unfold=False)
        assert [(row.name, row.folded) for row in found] == [
            ("exp4", ""), ("exp3", "2 trials"), ("exp2", "2 folds"), ("exp1", "")
        ]  # fmt: skip
        assert found[1].headline == (pytest.approx(0.3), "best trial")

    def test_every_run_has_a_row_when_unfolded(self, source: Source) -> None:
        found = listing.rows(source.list_runs().runs, unfold=True)
        assert len(found) == 8
        assert {"exp2/fold1", "exp3/trial1", "exp3", "exp1"} <= set(_names(found))

    def test_a_parent_is_shown_when_only_a_child_matches(self, source: Source) -> None:
        runs = source.list_runs("metrics.test/pcc_mean > 0.45").runs
        assert [(r.name, r.folded) for r in listing.rows(runs, unfold=False)] == [("exp2", "1 of 2 folds")]
        assert _names(listing.rows(runs, unfold=True)) == ["exp2/fold2"]

    def test_a_study_brings_its_own_runs_only(self, source: Source) -> None:
        assert _names(listing.rows(source.list_runs().runs, unfold=False, study="s")) == ["exp3"]
        assert sorted(_names(listing.rows(source.list_runs().runs, unfold=True, study="s"))) == [
            "exp3", "exp3/trial0", "exp3/trial1"
        ]  # fmt: skip
        assert listing.rows(source.list_runs().runs, unfold=True, study="other") == []

    @pytest.mark.parametrize(
        ("key", "reverse", "expected"),
        [
            ("when", False, ["exp4", "exp3", "exp2", "exp1"]),
            ("when", True, ["exp1", "exp2", "exp3", "exp4"]),
            ("name", False, ["exp1", "exp2", "exp3", "exp4"]),
            ("pcc", False, ["exp2", "exp1", "exp4", "exp3"]),
            ("params.train.lr", False, ["exp3", "exp1", "exp2", "exp4"]),
            ("params.train.lr", True, ["exp2", "exp3", "exp1", "exp4"]),
            ("metrics.val/pcc_mean", False, ["exp1", "exp4", "exp3", "exp2"]),
        ],
    )
    def test_rows_are_sorted_with_those_without_a_value_last(
        self, source: Source, key: str, reverse: bool, expected: list[str]
    ) -> None:
        found = listing.rows(source.list_runs().runs, unfold=False)
        source.fill([row.run for row in found])
        assert _names(listing.sort(found, key, reverse=reverse)) == expected

    def test_sort_refuses_what_it_doesnt_know(self) -> None:
        with pytest.raises(UsageError) as caught:
            listing.sort([], "loss", reverse=False)
        assert caught.value.problem == "--sort loss: unknown"
        assert "sort by when, name" in caught.value.remedy

    def test_numbers_in_names_are_sorted_as_numbers(self) -> None:
        rows = [Row(Listed("", name, "", 0, None)) for name in ("exp10", "exp9", "exp9_a")]
        assert _names(listing.sort(rows, "name", reverse=False)) == ["exp9", "exp9_a", "exp10"]


def test_differing_leaves_out_what_is_equal_missing_or_shown_elsewhere() -> None:
    first = {"train.lr": "0.1", "train.epochs": "3", "data.path": "/a", "new": "1", "study.seed": "0"}
    second = {"train.lr": "0.2", "train.epochs": "3", "data.path": "/b", "study.seed": "1"}
    assert listing.differing([first, second]) == ["train.lr"]


def test_short_names_are_whole_where_they_would_be_alike() -> None:
    assert listing.short_names(["train.lr", "a.x", "b.x"]) == {"train.lr": "lr", "a.x": "a.x", "b.x": "b.x"}


def test_data_of_one_name_and_different_content_are_told_apart() -> None:
    runs = [
        Listed(str(i), "", "", 0, None, {"rnatracker.data_digest": digest}, {"data.path": f"/{i}/{name}"})
        for i, (name, digest) in enumerate([("a.tsv", "111111aa"), ("a.tsv", "222222bb"), ("b.tsv", "333333cc")])
    ]
    assert list(listing.data_names(runs).values()) == ["a.tsv (111111)", "a.tsv (222222)", "b.tsv"]


@pytest.mark.slow
def test_commands_work_through_a_server(settings: TrackingSettings, tmp_path: Path) -> None:
    from rnatracker import doctor
    from rnatracker.evaluation import compare
    from rnatracker.training import agreement, replay
    from rnatracker.training.request import RunRequest
    from rnatracker.training.run import train
    from tests.support.servers import start_server
    from tests.support.toys import SilentReporter, small_config, toy_transcripts, write_table

    data = write_table(toy_transcripts(40), tmp_path / "toy.tsv")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start_server(settings.store, tmp_path / "files", port)
    try:
        there = TrackingSettings(tmp_path / "here", f"http://127.0.0.1:{port}")
        assert len(_by_sql(there).list_runs().runs) == 8
        with pytest.raises(NoExperimentError):
            _by_sql(replace(there, experiment="x")).list_runs()
        train(RunRequest(small_config(data__path=str(data)), there), SilentReporter())
        again = replay.replay(replay.plan("exp5", there), SilentReporter())
        assert agreement.compare(open_tracker(there).find("exp5"), again).words == "bit-identical"
        compared = compare.compare(["exp5", again.name], there, resamples=100)
        assert compared.contrasts[0].text.endswith("predict the same.")
        assert not [each for each in doctor.examine(there) if each.level == "broken"]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
