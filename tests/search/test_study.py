"""Studies: who gets which trial, and what becomes of those whose worker has died."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState, create_trial

from rnatracker.config import Config, ModelConfig, TrainConfig
from rnatracker.errors import ConfigError, StudyError
from rnatracker.processes import identity
from rnatracker.search import definition, space, tune
from rnatracker.search.definition import open_search
from rnatracker.search.sampling import REPEATS
from rnatracker.search.study import DEATHS, STARTER, WORKER, Search, StudyRequest
from rnatracker.tracking.settings import TrackingSettings
from tests.support.toys import small_config

_SPACE = {
    "train.lr": {"float": [1e-4, 1e-1], "log": True},
    "model.rnn": {"categorical": ["gru", "lstm"]},
    "model.rnn_activation": {"categorical": ["relu", "none"], "when": {"model.rnn": "lstm"}},
}


def _request(folder: Path, content: dict[str, Any] | None = None, **changes: Any) -> StudyRequest:
    found = space.parse(content or _SPACE, "space.yaml")
    request = StudyRequest("toy", small_config(), found, TrackingSettings(folder, enabled=False), trials=10)
    return replace(request, **changes)


def _finish_all(search: Search) -> list[dict[str, Any]]:
    """Claim and complete trials until there are no more; return their params."""
    params = []
    while (claim := search.claim()) is not None:
        params.append(dict(claim.trial.params))
        search.study.tell(claim.trial, claim.config.train.lr)
    return params


@pytest.fixture(params=["journal", "sqlite"])
def request_on(request: pytest.FixtureRequest, tmp_path: Path) -> StudyRequest:
    storage = None if request.param == "journal" else f"sqlite:///{tmp_path}/studies.db"
    return _request(tmp_path, storage=storage)


def test_first_trial_has_the_starting_config(tmp_path: Path) -> None:
    claim = open_search(_request(tmp_path), "d").claim()
    assert claim is not None
    assert claim.number == 0
    assert claim.config == small_config()


def test_study_resumes_to_as_many_trials_as_asked_for(request_on: StudyRequest) -> None:
    assert len(_finish_all(open_search(request_on, "d"))) == 10
    assert _finish_all(open_search(request_on, "d")) == []
    assert len(_finish_all(open_search(replace(request_on, trials=13), "d"))) == 3


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_resumed_study_suggests_what_an_uninterrupted_one_would(sampler: Any, tmp_path: Path) -> None:
    whole = _finish_all(open_search(_request(tmp_path / "a", sampler=sampler, trials=16), "d"))
    resumed = _finish_all(open_search(_request(tmp_path / "b", sampler=sampler, trials=8), "d"))
    resumed += _finish_all(open_search(_request(tmp_path / "b", sampler=sampler, trials=16), "d"))
    assert resumed == whole
    assert len({tuple(sorted(each.items())) for each in whole}) == len(whole)


def test_other_space_data_or_config_is_refused_by_name(tmp_path: Path) -> None:
    open_search(_request(tmp_path), "d")
    other_space = _SPACE | {"train.lr": {"float": [1e-3, 1e-1]}}
    for request, digest, expected in (
        (_request(tmp_path), "e", ["transcripts"]),
        (_request(tmp_path, other_space), "d", ["train.lr", "{'float': [0.0001, 0.1], 'log': True} before", "0.001"]),
        (_request(tmp_path, config=small_config(train__epochs=7)), "d", ["train.epochs: 3 before, 7 now"]),
    ):
        with pytest.raises(StudyError) as caught:
            open_search(request, digest)
        assert all(part in caught.value.problem for part in expected)
        assert "--study" in caught.value.remedy
    open_search(_request(tmp_path, config=small_config(train__threads=2)), "d")


def test_study_of_before_the_default_changed_is_told_of_v1(tmp_path: Path) -> None:
    v1, changed = Config(), Config(model=ModelConfig(codons=True))
    open_search(_request(tmp_path, config=v1), "d")
    with pytest.raises(StudyError) as caught:
        open_search(_request(tmp_path, config=changed), "d")
    assert "model.codons: False before, True now" in caught.value.problem and "--config v1" in caught.value.remedy
    others = changed.model_copy(update={"train": TrainConfig(epochs=3)})
    open_search(_request(tmp_path / "other", config=others), "d")
    with pytest.raises(StudyError) as caught:
        open_search(_request(tmp_path / "other", config=v1), "d")
    assert "v1" not in caught.value.remedy


def test_study_is_not_told_of_v1_for_a_setting_in_which_it_may_differ(tmp_path: Path) -> None:
    open_search(_request(tmp_path), "d")
    of_refit = small_config(train__seeds=5)
    with pytest.raises(StudyError) as caught:
        open_search(_request(tmp_path, {"train.lr": {"float": [1e-3, 1e-2]}}, config=of_refit), "d")
    assert "the space of" in caught.value.problem and "train.seeds" not in caught.value.problem
    assert "v1" not in caught.value.remedy


def test_study_of_before_the_default_space_changed_is_told_of_it(tmp_path: Path) -> None:
    v1, default = (space.load(name).as_dict() for name in ("v1", "default"))
    open_search(_request(tmp_path, v1), "d")
    with pytest.raises(StudyError) as caught:
        open_search(_request(tmp_path, default), "d")
    assert caught.value.remedy.endswith("such as --space v1")
    with pytest.raises(StudyError) as caught:
        open_search(_request(tmp_path, {"train.lr": {"float": [1e-3, 1e-2]}}), "d")
    assert "v1" in caught.value.remedy
    open_search(_request(tmp_path / "other", default), "d")
    with pytest.raises(StudyError) as caught:
        open_search(_request(tmp_path / "other", v1), "d")
    assert "v1" not in caught.value.remedy


def test_trial_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    search = open_search(_request(tmp_path), "d")
    claim = search.claim()
    assert claim is not None
    waiting = multiprocessing.get_context("spawn").Process(target=_wait)
    waiting.start()
    try:
        claim.trial.set_user_attr(WORKER, identity.tags_of(waiting.pid or 0))
        other = search.claim()
        assert other is not None
        assert other.number == 1
    finally:
        waiting.kill()
        waiting.join()


def test_workers_of_a_killed_command_are_waited_for_and_no_others(tmp_path: Path) -> None:
    search = open_search(_request(tmp_path), "d")
    own = identity.own_tags()
    with subprocess.Popen(["sleep", "600"]) as worker, subprocess.Popen(["sleep", "600"]) as of_another:
        claims = []
        for process in (of_another, worker):
            claim = search.claim()
            assert claim is not None
            assert claim.trial.user_attrs[STARTER] == own
            claim.trial.set_user_attr(WORKER, identity.tags_of(process.pid))
            claims.append(claim)
        try:
            assert search.handed_out.orphans() == []
            claims[1].trial.set_user_attr(STARTER, {**own, identity.PROCESS_START: "1"})
            assert search.handed_out.orphans() == [identity.tags_of(worker.pid)]
            said: list[str] = []

            def say(text: str) -> None:
                said.append(text)
                worker.kill()

            tune._wait_for_orphans(search, say)
            assert len(said) == 1 and "waiting for 1 of a killed command's workers" in said[0]
            assert search.handed_out.orphans() == []
            assert of_another.poll() is None
        finally:
            worker.kill()
            of_another.kill()


def _wait() -> None:
    signal.pause()


def test_trial_that_was_put_back_is_the_next_and_no_death_is_counted(request_on: StudyRequest) -> None:
    search = open_search(request_on, "d")
    claim = search.claim()
    assert claim is not None
    search.put_back(claim)
    assert search.counts().waiting == 1
    again = search.claim()
    assert again is not None
    assert again.number == claim.number
    assert DEATHS not in search.study.trials[0].user_attrs


def test_repeats_are_passed_over_and_a_used_up_space_is_said_to_be(tmp_path: Path) -> None:
    content = {"model.rnn": {"categorical": ["gru", "lstm"]}, "model.masked": {"categorical": [True, False]}}
    search = open_search(_request(tmp_path, content), "d")
    seen = []
    for _ in range(4):
        claim = search.claim()
        assert claim is not None
        seen.append(tuple(sorted(claim.trial.params.items())))
        search.study.tell(claim.trial, 0.5)
    assert not search.is_used_up
    assert search.claim() is None
    assert search.is_used_up
    assert len(seen) == len(set(seen)) == 4
    assert search.counts().all == 4


def test_last_settings_of_a_space_are_found_though_most_are_tried(tmp_path: Path) -> None:
    content = {"model.rnn_hidden": {"int": [2, 41]}}
    search = open_search(_request(tmp_path, content, trials=100), "d")
    assert len({params["model.rnn_hidden"] for params in _finish_all(search)} - {None}) == 40
    assert search.is_used_up


@pytest.mark.parametrize("n_drawn", [0, 1])
def test_settings_are_those_that_would_have_been_drawn_where_their_drawing_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_drawn: int
) -> None:
    expected = _finish_all(open_search(_request(tmp_path / "whole", trials=3), "d"))
    search = open_search(_request(tmp_path / "interrupted", trials=1), "d")
    _finish_all(search)
    search = replace(search, request=replace(search.request, trials=3))
    left, write = [n_drawn], type(search.storage).set_trial_param

    def failing(self: Any, *arguments: Any) -> None:
        if not left[0]:
            raise OSError(5, "Input/output error")
        left[0] -= 1
        write(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(search.storage), "set_trial_param", failing)
        with pytest.raises(OSError, match="Input/output"):
            search.claim()
    (interrupted,) = search.study.get_trials(states=(TrialState.RUNNING,))
    assert len(interrupted.params) == n_drawn
    search.put_back_those_of({os.getpid()})
    assert _finish_all(search) == expected[1:]


def test_interrupted_trial_resumes_though_another_has_drawn_the_same_since(tmp_path: Path) -> None:
    search = open_search(_request(tmp_path), "d")
    search.study.tell(search.study.ask(), 0.1)
    claim = search.claim()
    assert claim is not None
    drawn = {"params": claim.trial.params, "distributions": claim.trial.distributions}
    search.study.add_trial(create_trial(state=TrialState.COMPLETE, value=0.5, **drawn))
    search.study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={REPEATS: claim.number}, **drawn))
    search.put_back(claim)
    again = search.claim()
    assert again is not None
    assert again.number == claim.number
    assert again.trial.params == claim.trial.params


def test_second_ctrl_c_puts_trials_back_without_a_death(tmp_path: Path) -> None:
    search = open_search(_request(tmp_path), "d")
    claim = search.claim()
    assert claim is not None
    search.put_back_those_of({os.getpid() + 1})
    assert search.counts().running == 1
    search.put_back_those_of({os.getpid()})
    assert search.counts().waiting == 1
    assert DEATHS not in search.study.trials[claim.number].user_attrs


def test_impossible_settings_fail_with_their_reason(tmp_path: Path) -> None:
    content = {"encoding.max_length": {"int": [1, 60]}, "model.conv1_kernel": {"int": [1, 50]}}
    search = open_search(_request(tmp_path, content, sampler="random", trials=12), "d")
    _finish_all(search)
    failed = [t for t in search.trials() if t.state == TrialState.FAIL]
    assert failed
    assert "shorter than the network's receptive field" in failed[0].user_attrs["reason"]
    assert search.counts().over == 12


@pytest.mark.parametrize(("sampler", "trials"), [("tpe", 40), pytest.param("gp", 20, marks=pytest.mark.slow)])
def test_sampler_learns_from_failures(sampler: Any, trials: int, tmp_path: Path) -> None:
    """Settings above a learning rate of 0.01 fail, and all others are equally good."""
    search = open_search(_request(tmp_path, {"train.lr": _SPACE["train.lr"]}, sampler=sampler, trials=trials), "d")
    failed = []
    while (claim := search.claim()) is not None:
        failed.append(claim.config.train.lr > 0.01)
        if failed[-1]:
            search.study.tell(claim.trial, state=TrialState.FAIL)
        else:
            search.study.tell(claim.trial, 0.5)
    last = failed[trials // 2 :]
    assert sum(last) < len(last) / 4  # a third of the space fails


def test_starting_value_outside_of_the_space_is_kept_in_the_first_trial(tmp_path: Path) -> None:
    content = {"train.lr": {"float": [1e-4, 1e-3]}, "model.rnn": {"categorical": ["gru", "lstm"]}}
    search = open_search(_request(tmp_path, content), "d")
    claim = search.claim()
    assert claim is not None
    assert claim.config.train.lr == 0.01
    assert claim.trial.params == {"model.rnn": "gru"}
    search.study.tell(claim.trial, 0.5)
    for lr in [params["train.lr"] for params in _finish_all(search)]:
        assert 1e-4 <= lr <= 1e-3


def test_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    _finish_all(open_search(_request(tmp_path), "d"))
    journal = tmp_path / "optuna.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 5, "trial_')
    assert open_search(_request(tmp_path, trials=11), "d").counts().complete == 10
    assert journal.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_study_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    open_search(_request(tmp_path), "d")
    with pytest.raises(StudyError) as caught:
        definition.load_search("toi", None, TrackingSettings(tmp_path, enabled=False))
    assert "toi" in caught.value.problem
    assert caught.value.remedy == "did you mean toy?"


def test_loaded_study_has_its_settings_and_space(tmp_path: Path) -> None:
    request = _request(tmp_path)
    open_search(request, "d")
    loaded = definition.load_search("toy", None, request.tracking)
    assert loaded.request.config.model == request.config.model
    assert loaded.request.config.data == request.config.data
    assert loaded.request.space.as_dict() == request.space.as_dict()


def test_warm_start_from_a_study_of_an_earlier_version_has_no_later_settings(tmp_path: Path) -> None:
    first = open_search(_request(tmp_path), "d")
    _finish_all(first)
    kept = dict(first.study.user_attrs[definition.DEFINITION])
    kept["config"] = {key: value for key, value in kept["config"].items() if key != "model.codons"}
    first.study.set_user_attr(definition.DEFINITION, kept)
    wider = {**_SPACE, "model.codons": {"categorical": [True, False]}}
    second = open_search(_request(tmp_path, wider, name="second"), "d")
    definition.warm_start(second, ("toy",))
    waiting = [trial.system_attrs["fixed_params"] for trial in second.study.trials]
    assert [each["model.codons"] for each in waiting] == [False] * len(waiting)


def test_warm_start_takes_over_the_best_of_another_study(tmp_path: Path) -> None:
    first = open_search(_request(tmp_path), "d")
    _finish_all(first)
    second = open_search(_request(tmp_path, name="second"), "d")
    definition.warm_start(second, ("toy",))
    taken = _finish_all(second)[1:3]  # the third best is the first trial here too
    best = sorted((t for t in first.study.trials), key=lambda t: t.value or 0.0, reverse=True)[:2]
    assert [each["train.lr"] for each in taken] == [trial.params["train.lr"] for trial in best]
    with pytest.raises(StudyError) as caught:
        definition.warm_start(second, ("nothing",))
    assert "--warm-start nothing" in caught.value.problem
    assert "rnatracker study --list" in caught.value.remedy


def test_no_more_trials_are_begun_than_asked_for_when_more_are_enqueued(request_on: StudyRequest) -> None:
    search = open_search(replace(request_on, trials=2), "data")
    for rate in (0.02, 0.03, 0.04):
        search.study.enqueue_trial({"train.lr": rate})
    for _ in range(2):
        claim = search.claim()
        assert claim is not None
        search.study.tell(claim.trial, 0.5)
    assert search.claim() is None
    assert search.counts().waiting == 2


@pytest.mark.parametrize("name", ["a/b", "", "a b", ".."])
def test_name_that_cannot_be_a_folders_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        definition.check_name(name)
    assert f"--study {name!r}" in caught.value.problem
    assert "letters, digits" in caught.value.remedy


def _claim_all(request: StudyRequest, numbers: Any) -> None:
    search = open_search(request, "d")
    while (claim := search.claim()) is not None:
        numbers.put(claim.number)
        search.study.tell(claim.trial, 0.5)


@pytest.mark.slow
def test_four_workers_get_each_trial_once(request_on: StudyRequest) -> None:
    context = multiprocessing.get_context("spawn")
    numbers = context.Queue()
    request = replace(request_on, trials=200 if request_on.storage is None else 60, sampler="random")
    workers = [context.Process(target=_claim_all, args=(request, numbers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    found = sorted(numbers.get(timeout=100) for _ in range(request.trials))
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert found == list(range(request.trials))
    assert open_search(request, "d").counts().complete == request.trials
