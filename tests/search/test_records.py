"""What a study keeps and leaves: the refit's verdict, config files, a headline, the next step, importances."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState, create_trial

from rnatracker import config
from rnatracker.search import hints, space, summary
from rnatracker.search.definition import open_search
from rnatracker.search.records import config_file, leave
from rnatracker.search.records import verdict as verdicts
from rnatracker.search.records.headline import headline
from rnatracker.search.records.verdict import Refitted, Verdict, judge
from rnatracker.search.scheduling.courses import PAUSED
from rnatracker.search.study import Search, StudyRequest
from rnatracker.terminal import layout, output, study_tables
from rnatracker.tracking.settings import TrackingSettings
from tests.support.toys import small_config

_NAN = float("nan")
_SPACE = {
    "train.lr": {"float": [1e-4, 1e-1], "log": True},
    "model.rnn": {"categorical": ["gru", "lstm"]},
    "model.rnn_activation": {"categorical": ["relu", "none"], "when": {"model.rnn": "lstm"}},
}


def _search(folder: Path, content: dict[str, Any] | None = None, **changes: Any) -> Search:
    settings = changes.pop("settings", {})
    found = space.parse(content or _SPACE, "space.yaml")
    made = StudyRequest(
        "toy", small_config(**settings), found, TrackingSettings(folder), sampler="random", scheduler="none"
    )
    return open_search(replace(made, **changes), "d")


def _complete(search: Search, *values: float | None) -> None:
    """Complete a trial for each value; prune it where that is None."""
    for value in values:
        claim = search.claim()
        assert claim is not None
        if value is None:
            claim.trial.report(-0.5, 1)
            search.study.tell(claim.trial, state=TrialState.PRUNED)
        else:
            search.study.tell(claim.trial, value)


def _verdict(best: int, gain: float = 0.2, *, undefined: bool = False) -> Verdict:
    start = Refitted(0, True, 0.5, np.array([[0.4, 0.42], [0.41, 0.43]]), ("a", "b"), {}, ("exp7_a", "exp8_b"))
    values = start.values + gain + np.array([[0.0, 0.01], [0.01, 0.0]])
    other = Refitted(best, False, 0.9, values, ("c", "d"), {"kmer-ridge": (0.1, 0.2)}, ("exp5_c", "exp6_d"))
    if undefined:
        start.values[:, 1] = other.values[:, 1] = _NAN
    return judge("pcc_mean", [start, other])


@pytest.mark.parametrize("undefined", [False, True])
def test_verdict_is_kept_with_the_study(undefined: bool, tmp_path: Path) -> None:
    search, verdict = _search(tmp_path), _verdict(3, undefined=undefined)
    assert verdicts.kept(search) is None
    verdicts.keep(search, verdict)
    found = verdicts.kept(_search(tmp_path))
    assert found is not None
    assert (found.difference, found.low, found.high) == (verdict.difference, verdict.low, verdict.high)
    for one, other in zip(found.refitted, verdict.refitted, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        assert replace(one, values=other.values) == other
    assert "NaN" not in (tmp_path / "optuna.journal").read_text()


def test_next_step_goes_from_the_search_to_the_refit_to_the_registry(tmp_path: Path) -> None:
    search = _search(tmp_path, trials=3)
    _complete(search, 0.5)
    store = f"--store {tmp_path}"
    assert hints.next_command(search, None) == f"rnatracker tune --study toy {store}"
    claim = search.claim()
    assert claim is not None
    assert hints.next_command(search, None) == f"rnatracker study toy {store}"
    search.study.tell(claim.trial, 0.6)
    assert hints.next_command(search, None, is_used_up=True) == f"rnatracker tune --study toy --refit {store}"
    _complete(search, 0.4)
    assert hints.next_command(search, None) == f"rnatracker tune --study toy --refit {store}"
    assert hints.next_command(search, _verdict(1)) == f"rnatracker promote exp5_c {store}"
    assert hints.next_command(search, _verdict(2)) == f"rnatracker tune --study toy --refit {store}"  # the best since


def test_study_in_which_nothing_but_the_start_has_a_value_has_nothing_to_refit(tmp_path: Path) -> None:
    search = _search(tmp_path, trials=2)
    _complete(search, 0.5, None)
    assert hints.next_command(search, None) is None


def test_headline_says_what_the_refit_leaves_of_the_best(tmp_path: Path) -> None:
    search = _search(tmp_path, trials=3)
    assert headline(search, None) == []
    _complete(search, 0.5, 0.9, 0.4)
    assert headline(search, None)[0].startswith(
        "Best pcc_mean on validation: 0.9000 (trial 1, starting config 0.5000). "
    )
    claim, winner = headline(search, _verdict(1))
    assert "of which fresh seeds leave pcc_mean 0.6200" in claim
    assert winner.startswith("Winner of the refit: trial 1, 0.6200, better than the starting config: +0.2050 (95 % ")
    assert "not shown to be better" in headline(search, _verdict(1, gain=0.001))[1]
    assert "the starting config, 0.4150" in headline(search, _verdict(1, gain=-0.1))[1]
    assert "has not measured yet" in headline(search, _verdict(2))[0]


def test_description_begins_with_what_matters_and_ends_with_the_next_step(tmp_path: Path) -> None:
    search = _search(tmp_path, trials=2)
    _complete(search, 0.5, 0.9)
    text = leave.description(search, _verdict(1))
    assert text.startswith("Best pcc_mean on validation: 0.9000")
    assert "| 1 | 0.9000 | 0.6200 |" in text
    assert text.endswith(f"Next: `rnatracker promote exp5_c --store {tmp_path}`")


def test_config_file_names_no_place_and_has_short_numbers(tmp_path: Path) -> None:
    settings = {"data__path": "/somewhere/mine.tsv", "train__device": "cpu", "train__save_every": 3}
    search = _search(tmp_path, trials=2, settings=settings)
    _complete(search, 0.5, 0.9)
    best = summary.best(search, 1)[0]
    assert config_file.export_best(search, tmp_path / "best.yaml").number == 1
    text = (tmp_path / "best.yaml").read_text()
    assert str(tmp_path) not in text and "/somewhere" not in text
    found = config.build(config.read(tmp_path / "best.yaml"), "best.yaml").flat()
    assert found["train.lr"] == float(f"{best.params['train.lr']:.4g}") != best.params["train.lr"]
    assert len(str(found["train.lr"])) <= len("0.00012345")
    expected = summary.config_of(search, best).flat()
    assert {key for key in expected if found[key] != expected[key]} == {
        "data.path", "train.device", "train.threads", "train.lr",
    }  # fmt: skip
    assert text.startswith("# Study toy, the best: trial 1.\n# Its pcc_mean of 0.9000 on validation is the best of 2 ")
    config_file.write_winner(search, _verdict(1), tmp_path / "winner.yaml")
    claims = (tmp_path / "winner.yaml").read_text().splitlines()[:3]
    assert claims[0] == "# Study toy, the refit's winner: trial 1."
    assert "(2 x 2 folds): pcc_mean 0.6200" in claims[1] and "+0.2050 (95 % interval" in claims[2]


def test_number_that_may_not_be_rounded_stays_as_it_is() -> None:
    found = config_file.rounded(small_config(), {"model.dropout": 0.999996, "train.lr": 0.00213087})
    assert (found.model.dropout, found.train.lr) == (0.999996, 0.002131)


def test_value_of_a_trial_that_was_not_completed_is_what_it_had_reached(tmp_path: Path) -> None:
    search = _search(tmp_path, settings={"data__fold": 2, "train__epochs": 3}, trials=4)
    for reports, end in (
        ({1: 0.1, 2: 0.3, 3: 0.3, 4: 0.5, 5: 0.7}, "PRUNED"),
        ({}, "PRUNED"),
        ({1: 0.9}, "FAIL"),
        ({1: 0.2}, "pause"),
    ):
        claim = search.claim()
        assert claim is not None
        for step, value in reports.items():
            claim.trial.report(value, step)
        if end != "pause":
            search.study.tell(claim.trial, state=TrialState[end])
    paused = next(t for t in search.trials() if t.state.name == "RUNNING")
    search.handed_out.put_back(paused)
    values = [summary.value_of(trial, search) for trial in search.trials()]
    assert values == [pytest.approx((0.3 + 0.7) / 2), None, None, 0.2]
    assert [trial.number for trial in summary.valued(search)] == [0, 3]


def test_importances_wait_for_enough_trials_and_then_name_the_key_that_matters(tmp_path: Path) -> None:
    """Values are those of the rate alone; pruned trials count, and keys that exist under a condition only."""
    search = _search(tmp_path, trials=12, seed=1)
    for number in range(12):
        claim = search.claim()
        assert claim is not None
        worth = -abs(np.log10(claim.config.train.lr) + 2)
        if number % 3 == 2:
            claim.trial.report(float(worth), 1)
            search.study.tell(claim.trial, state=TrialState.PRUNED)
        else:
            search.study.tell(claim.trial, float(worth))
        assert summary.missing_for_importances(search) == max(10 - number - 1, 0)
        assert bool(summary.importances(search)) == (number >= 9)
    found = summary.importances(search)
    assert next(iter(found)) == "train.lr"
    assert set(found) == set(_SPACE)
    wide = {f"model.{key}": {"int": [4, 9]} for key in ("conv1_kernel", "rnn_hidden", "attention_size")}
    wide |= {f"model.conv{i}_channels": {"int": [4, 9]} for i in (1, 2)} | {"train.warmup": {"float": [0.0, 0.5]}}
    assert summary.missing_for_importances(_search(tmp_path / "wide", wide)) == 12  # two for each of six keys


def test_start_outside_of_the_space_counts_with_the_nearest_value(tmp_path: Path) -> None:
    search = _search(tmp_path, {"model.rnn_hidden": {"int": [4, 8], "step": 2}, "train.lr": {"float": [0.05, 0.1]}})
    first, second = search.request.space
    assert (first.nearest(3), first.nearest(7), first.nearest(99), second.nearest(0.01)) == (4, 8, 8, 0.05)
    assert search.request.space.nearest({"model.rnn_hidden": 5}) == {"model.rnn_hidden": 4, "train.lr": 0.05}


def test_reasons_that_differ_in_their_numbers_are_told_once(tmp_path: Path) -> None:
    search = _search(tmp_path, trials=4)
    for reason in ("lr 9.03e+34 is too high", "lr 1 is too high", "memory: 3 GB", "lr -0.5 is too high"):
        claim = search.claim()
        assert claim is not None
        claim.trial.set_user_attr("reason", reason)
        search.study.tell(claim.trial, state=TrialState.FAIL)
    assert summary.failure_lines(search) == [
        "trial 0: lr 9.03e+34 is too high (and trials 1, 3 with other numbers)",
        "trial 2: memory: 3 GB",
    ]
    assert len(summary.failures(search)) == 4


def test_narrow_terminal_has_a_column_for_each_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search = _search(tmp_path, trials=7)
    _complete(search, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    monkeypatch.setattr(layout, "fits", lambda table: False)
    study_tables.print_study(search, limit=10)
    lines = capsys.readouterr().out.splitlines()
    starts = [line.split()[0] for line in lines if line.strip()]
    assert [word for word in starts if word in ("trial", "pcc_mean", "lr", "rnn")] == [
        "trial",
        "pcc_mean",
        "lr",
        "rnn",
    ] * 2
    first, second = (line.split()[1:] for line in lines if line.split()[:1] == ["pcc_mean"])
    assert [*first, *second] == ["0.7000", "0.6000", "0.5000", "0.4000", "0.3000", "0.2000", "0.1000"]


def test_sentences_are_broken_between_words_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "one two-three " * 10
    output.tell_sentence(text)
    assert len(capsys.readouterr().out.splitlines()) == 1
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    output.tell_sentence(text)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert " ".join(lines).split() == text.split()


def test_paused_trials_are_listed_below_the_complete_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = _search(tmp_path, trials=5)
    _complete(search, 0.1, 0.2)
    for value in (0.05, 0.3):
        reported = {"intermediate_values": {1: value}, "user_attrs": {PAUSED: "later", "epochs": 1, "seconds": 2.0}}
        search.study.add_trial(create_trial(state=TrialState.WAITING, **reported))
    study_tables.print_study(search, limit=3)
    printed = capsys.readouterr().out
    assert "2 paused" in printed
    assert [line.split()[0] for line in printed.splitlines() if line.strip()[:1].isdigit()] == ["1", "0", "3"]
    assert "3 (paused)" in printed and "0.3000" in printed and "0.0500" not in printed
    assert (summary.savings(search).saved, summary.savings(search).seconds) == (4, 8.0)  # of three epochs, one trained
