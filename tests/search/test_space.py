"""Search spaces: what a file may say, and what is said of one that is wrong."""

from __future__ import annotations

import re
from typing import Any

import optuna
import pytest

from rnatracker import config, plain_yaml
from rnatracker.config import Config
from rnatracker.errors import ConfigError
from rnatracker.search import space
from tests.support import paths

_DOCS = (paths.ROOT / "docs" / "search.md").read_text(encoding="utf-8")


def _errors() -> list[tuple[str, str]]:
    lines = re.search(r"```errors\n(.*?)```", _DOCS, re.DOTALL)[1].splitlines()  # type: ignore[index]
    return [(line, error.removeprefix("# ")) for line, error in zip(lines[::2], lines[1::2], strict=True)]


@pytest.mark.parametrize("start", ["default", "v1"])
@pytest.mark.parametrize("name", ["default", "wide", "smoke", "v1"])
def test_shipped_space_holds_what_runs_start_from(name: str, start: str) -> None:
    found = space.load(name)
    inside, outside = found.params_of(config.build(config.read(config.find(start)), start).flat())
    assert outside == []
    assert {"encoding.max_length", "train.lr", "model.rnn_hidden"} <= inside.keys()


def test_space_of_the_documentation_is_read() -> None:
    text = re.search(r"```yaml\n(.*?)```", _DOCS, re.DOTALL)[1]  # type: ignore[index]
    found = space.parse(plain_yaml.load(text, "docs"), "docs")
    by_key = {each.key: each for each in found}
    assert by_key["train.lr"].values == (1e-4, 1e-2)
    assert by_key["train.lr"].log
    assert by_key["encoding.max_length"].step == 500
    assert by_key["model.rnn_activation"].when == {"model.rnn": ("lstm",)}


@pytest.mark.parametrize(("line", "message"), _errors())
def test_error_is_worded_as_documented(line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        space.parse(plain_yaml.load(line, "docs"), "mine.yaml")
    assert str(caught.value) == f"mine.yaml: {message}"


def test_key_is_drawn_only_when_its_condition_holds() -> None:
    found = space.parse(
        {
            "model.rnn_activation": {"categorical": ["relu", "none"], "when": {"model.rnn": "lstm"}},
            "model.rnn": {"categorical": ["gru", "lstm"]},
        },
        "x",
    )
    for rnn, expected in (("gru", {"model.rnn"}), ("lstm", {"model.rnn", "model.rnn_activation"})):
        trial = optuna.trial.FixedTrial({"model.rnn": rnn, "model.rnn_activation": "none"})
        assert found.draw(trial).keys() == expected
    settings = space.apply(Config(), {"model.rnn": "lstm", "model.rnn_activation": "none"})
    assert (settings.model.rnn, settings.model.rnn_activation, settings.train.lr) == ("lstm", "none", 1e-3)


@pytest.mark.parametrize(
    ("entry", "value", "expected"),
    [
        ({"int": [16, 128], "step": 8}, 32, True),
        ({"int": [16, 128], "step": 8}, 33, False),
        ({"int": [16, 128]}, 15, False),
        ({"categorical": [True, False]}, True, True),
    ],
)
def test_contains_tells_what_can_be_drawn(entry: dict[str, Any], value: object, expected: bool) -> None:
    key = "model.masked" if "categorical" in entry else "model.rnn_hidden"
    (dimension,) = space.parse({key: entry}, "x")
    assert dimension.contains(value) is expected


def test_description_changes_with_the_space_and_not_with_its_order() -> None:
    one = {"train.lr": {"float": [0.1, 0.2]}, "model.rnn": {"categorical": ["gru", "lstm"]}}
    other = dict(reversed(one.items()))
    changed = one | {"train.lr": {"float": [0.1, 0.3]}}
    described = [space.parse(each, "x").as_dict() for each in (one, other, changed)]
    assert described[0] == described[1] != described[2]


def test_space_is_read_again_from_its_own_description() -> None:
    found = space.load("wide")
    assert space.parse(found.as_dict(), "again").as_dict() == found.as_dict()


def test_circle_of_conditions_is_an_error() -> None:
    content = {
        "model.rnn": {"categorical": ["gru", "lstm"], "when": {"model.masked": True}},
        "model.masked": {"categorical": [True, False], "when": {"model.rnn": "gru"}},
    }
    with pytest.raises(ConfigError) as caught:
        space.parse(content, "x")
    assert all(key in caught.value.problem for key in ("model.rnn", "model.masked", "circle"))


def test_condition_that_never_holds_is_an_error() -> None:
    content = {
        "model.rnn": {"categorical": ["gru", "lstm"]},
        "model.dropout": {"float": [0.1, 0.2], "when": {"model.rnn": "rnn"}},
    }
    with pytest.raises(ConfigError) as caught:
        space.parse(content, "x")
    assert all(part in caught.value.problem for part in ("model.dropout", "model.rnn", "'rnn'", "never"))


def test_space_that_is_not_there_names_the_shipped_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        space.load("nothing.yaml")
    assert "nothing.yaml" in caught.value.problem
    assert all(name in caught.value.remedy for name in space.shipped())
