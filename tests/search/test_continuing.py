"""A study is continued by its name alone: what it began with is kept, and what is given anew is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rnatracker.errors import StudyError, UsageError
from rnatracker.search import space, tune
from rnatracker.search.definition import find_search, load_search, open_search
from rnatracker.search.records import options
from rnatracker.search.records.command import Typed, completed
from rnatracker.search.study import Search, StudyRequest
from rnatracker.tracking.settings import TrackingSettings
from tests.support.studies import SPACE, open_context, small_study
from tests.support.toys import toy_transcripts, write_table

_BACKWARDS = dict(reversed(SPACE.items()))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_table(toy_transcripts(30), tmp_path / "toy.tsv")


@pytest.fixture
def tracking(tmp_path: Path) -> TrackingSettings:
    return TrackingSettings(tmp_path / "mlruns", enabled=False)


def _begin(request: StudyRequest) -> Search:
    search, _ = open_context(request)
    options.keep(search)
    return search


def _params(search: Search) -> list[dict[str, Any]]:
    """Complete trials until there are no more; return what each has drawn."""
    drawn = []
    while (claim := search.claim()) is not None:
        drawn.append(dict(claim.trial.params))
        search.study.tell(claim.trial, claim.config.train.lr)
    return drawn


def test_name_alone_gives_what_the_study_began_with(data: Path, tracking: TrackingSettings) -> None:
    settings = {
        "data__fold": 2, "train__objective": "val_loss", "train__save_every": 2, "train__seeds": 3, "train__seed": 7,
        "train__device": "cpu", "data__sites": ("Nucleus", "Cytosol", "ERM"),
    }  # fmt: skip
    begun = small_study(
        data, tracking, settings=settings, content=_BACKWARDS, trials=9, sampler="random", scheduler="median", seed=7,
        keep_weights=2,
    )  # fmt: skip
    _begin(begun)
    found = completed(Typed("toy", tracking, others={"jobs": 2}))
    threads = found.config.model_copy(update={"train": found.config.train.model_copy(update={"threads": 1})})
    assert found.config.train.threads == 0  # they go by the machine
    assert replace(found, config=threads) == replace(begun, jobs=2)


def test_what_is_given_anew_is_taken_and_kept(data: Path, tracking: TrackingSettings) -> None:
    _begin(small_study(data, tracking, trials=3, sampler="random"))
    more = completed(Typed("toy", tracking, options={"trials": 6, "sampler": None}))
    assert (more.trials, more.sampler) == (6, "random")
    _begin(more)
    assert completed(Typed("toy", tracking)).trials == load_search("toy", None, tracking).request.trials == 6


def test_study_continued_by_its_name_draws_what_it_would_have_drawn(data: Path, tracking: TrackingSettings) -> None:
    """Keys in the file's order, not the alphabet's: random values are drawn one after another."""
    request = small_study(data, tracking, content=_BACKWARDS, sampler="random", trials=8)
    whole = _params(open_search(replace(request, name="whole"), "d"))
    search = open_search(replace(request, trials=4), "d")
    options.keep(search)
    first = _params(search)
    again = completed(Typed("toy", tracking, options={"trials": 8}))
    assert first + _params(open_search(again, "d")) == whole


def test_study_of_an_earlier_version_continues_with_what_it_has(data: Path, tracking: TrackingSettings) -> None:
    request = small_study(data, tracking, content=_BACKWARDS, sampler="random", scheduler="median", trials=3)
    search, _ = open_context(request)
    assert options.OPTIONS not in search.study.user_attrs
    _params(search)
    found = completed(Typed("toy", tracking))
    assert (found.sampler, found.scheduler, found.trials) == (
        "random",
        "median",
        3,
    )  # of its run, and as many as there are
    assert found.space.dimensions == request.space.dimensions
    assert found.config.data.path == str(data)
    before = find_search("toy", None, tracking)
    assert before is not None and before.counts().complete == 3


def test_contradicting_option_is_refused_as_before(data: Path, tracking: TrackingSettings, tmp_path: Path) -> None:
    search = _begin(small_study(data, tracking))
    digest = search.study.user_attrs["definition"]["data"]
    for typed in (
        Typed("toy", tracking, settings={"train.epochs": 7}),
        Typed("toy", tracking, sets=["train.epochs=7"]),
    ):
        with pytest.raises(StudyError, match="train.epochs: 3 before, 7 now"):
            open_search(completed(typed), digest)
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({"train.lr": {"float": [1e-3, 1e-2]}}))
    with pytest.raises(StudyError, match="the space of"):
        open_search(completed(Typed("toy", tracking, space=str(tmp_path / "other.yaml"))), digest)


def test_moved_data_are_asked_for_and_found_from_then_on(data: Path, tracking: TrackingSettings) -> None:
    _begin(small_study(data, tracking))
    moved = data.rename(data.with_name("moved.tsv"))
    with pytest.raises(StudyError) as caught:
        completed(Typed("toy", tracking))
    assert str(data) in caught.value.problem
    assert "rnatracker tune --study toy" in caught.value.remedy and "--data FILE" in caught.value.remedy
    given = Typed("toy", tracking, settings={"data.path": str(moved)})
    request = completed(given)
    assert tune.read_transcripts(request).ids
    _begin(request)
    assert completed(Typed("toy", tracking)).config.data.path == str(moved)


def test_other_data_under_the_same_option_are_refused(data: Path, tracking: TrackingSettings, tmp_path: Path) -> None:
    _begin(small_study(data, tracking))
    other = write_table(toy_transcripts(30, seed=1), tmp_path / "other.tsv")
    request = completed(Typed("toy", tracking, settings={"data.path": str(other)}))
    with pytest.raises(StudyError, match="other transcripts"):
        open_search(request, tune.read_transcripts(request).digest())
    assert completed(Typed("toy", tracking)).config.data.path == str(data)


def test_data_that_another_machine_has_elsewhere_do_not_hide_ours(data: Path, tracking: TrackingSettings) -> None:
    _begin(small_study(data, tracking))
    copy = write_table(toy_transcripts(30), data.with_name("copy.tsv"))
    _begin(completed(Typed("toy", tracking, settings={"data.path": str(copy)})))
    assert completed(Typed("toy", tracking)).config.data.path == str(data)


def test_name_that_is_mistyped_is_pointed_out_and_nothing_is_made(data: Path, tracking: TrackingSettings) -> None:
    with pytest.raises(UsageError, match="no data to train on"):
        completed(Typed("toy", tracking))
    assert not tracking.store.exists()
    _begin(small_study(data, tracking))
    with pytest.raises(UsageError) as caught:
        completed(Typed("tyo", tracking))
    assert "did you mean toy?" in caught.value.remedy


def test_new_study_has_the_shipped_space_and_the_defaults(data: Path, tracking: TrackingSettings) -> None:
    given = {"trials": None, "sampler": None, "scheduler": None, "keep_weights": None}
    found = completed(Typed("new", tracking, settings={"data.path": str(data), "train.seed": 4}, options=given))
    assert found.space == space.load("default")
    assert (found.trials, found.sampler, found.keep_weights, found.seed) == (20, "tpe", None, 4)
