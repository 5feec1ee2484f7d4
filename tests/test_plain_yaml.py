"""YAML in configs, spaces and `--set`: plain values are read, all else is one clear error, soon."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rnatracker import config, plain_yaml
from rnatracker.errors import ConfigError
from rnatracker.search import space

_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
ODD = {
    "a key twice": ("{lr: 1, lr: 2}", "line 1, column 9: key lr is there twice"),
    "a section twice": ("train: {lr: 1}\ntrain: {epochs: 2}", "line 2, column 1: key train is there twice"),
    "timestamp": ("{lr: !!timestamp x}", "column 6: values tagged !!timestamp are not read"),
    "object": ("{lr: !!python/object:os.system x}", "values tagged !!python/object:os.system are not read"),
    "own tag": ("{lr: !mine x}", "values tagged !mine are not read"),
    "no integer": ("{lr: !!int a}", "expected a whole number after !!int, got 'a'"),
    "no float": ("{lr: !!float a}", "expected a number after !!float, got 'a'"),
    "no bool": ("{lr: !!bool maybe}", "expected true or false after !!bool, got 'maybe'"),
    "5,000 digits": ("{lr: " + "9" * 5000 + "}", "a whole number of 5000 digits is too large"),
    "20 digits": ("{lr: -" + "9" * 20 + "}", "a whole number of 20 digits is too large"),
    "deep lists": ("[" * 60_000, "lists and keys are nested more than 20 deep"),
    "deep mappings": ("{a: " * 15_000, "lists and keys are nested more than 20 deep"),
    "deep blocks": ("- " * 30_000, "lists and keys are nested more than 20 deep"),
    "itself": ("&a [*a]", "column 5: aliases are not read"),
    "bomb": (_BOMB, "line 2, column 8: aliases are not read"),
    "NUL": ("{lr: a\0b}", "character 0x00 at position 7"),
    "NUL in quotes": (r'{lr: "a\0b"}', "a text can't hold the character NUL"),
    "escape": ("{lr: \x1b[31m}", "character 0x1b at position 6"),
    "a list as a key": ("{[a]: b}", "expected a word as a key"),
    "two documents": ("--- 1\n--- 2\n", "another document"),
    "too long": ("# " + "x" * 70_000, "expected settings in at most 65,536"),
    "no end": ("{lr: 'a", "unexpected end of stream"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "odd.yaml"


@pytest.mark.parametrize("name", ODD)
def test_odd_yaml_is_one_clear_error_within_a_second(path: Path, name: str) -> None:
    content, problem = ODD[name]
    path.write_text(content)
    readers: list[Callable[[], object]] = [
        lambda: config.assemble(str(path), {}, {}, []),
        lambda: space.load(str(path)),
        lambda: config.assemble(None, {}, {}, [f"train.lr={content}"]),
    ]
    for reader in readers:
        began = time.process_time()
        with pytest.raises(ConfigError) as caught:
            reader()
        assert problem in caught.value.problem
        assert len(str(caught.value)) < 300
        assert time.process_time() - began < 1


def test_file_that_is_no_text_or_has_no_end_is_an_error(path: Path) -> None:
    path.write_bytes(b"train: {lr: \xff}")
    with pytest.raises(ConfigError, match="expected text in UTF-8, got byte 0xff at position 13"):
        plain_yaml.read(path)
    with pytest.raises(ConfigError, match="expected settings in at most 65,536 bytes, got more"):
        plain_yaml.read(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("010", 10),
        ("-.5", -0.5),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("no", "no"),
        ("2024-01-01", "2024-01-01"),
        ("True", True),
        ("~", None),
        ("'1'", "1"),
        ("[NO, null]", ["NO", None]),
    ],
)
def test_words_mean_what_they_look_like(text: str, value: object) -> None:
    got = plain_yaml.load(text, "x")
    assert (got, type(got)) == (value, type(value))


def test_what_is_written_is_read_again_the_same() -> None:
    value = {"a": ["1e5", "yes", "null", "~", "a: b", "1", "010", "0x1", ".5", "true", "", " x", "é\n"], "b": 1e-5}
    assert plain_yaml.load(plain_yaml.dump(value), "x") == value
    assert plain_yaml.load(plain_yaml.dump(value, flow=None), "x") == value
    wide = [*value["a"][:-1], "x" * 300] if isinstance(value["a"], list) else []
    assert plain_yaml.load(plain_yaml.on_one_line(wide), "x") == wide


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("train.epochs=true", "train.epochs: input should be a valid integer, got True"),
        ("train.lr=true", "train.lr: input should be a valid number, got True"),
        ("train.epochs='3'", "train.epochs: input should be a valid integer, got '3'"),
        ("model.masked=1", "model.masked: input should be a valid boolean, got 1"),
        ("model.masked='false'", "model.masked: input should be a valid boolean, got 'false'"),
        ("data.sites=[1, 2]", "data.sites: input should be a valid string, got 1"),
        ("train.lr={a: b}", "--set train.lr: expected one value, got {'a': 'b'}"),
    ],
)
def test_setting_of_another_type_is_an_error(given: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.assemble(None, {}, {}, [given])
    assert problem in caught.value.problem


def test_scale_of_a_space_that_is_no_truth_value_is_an_error() -> None:
    with pytest.raises(ConfigError, match="train.lr: log must be true or false, got 'false'"):
        space.parse({"train.lr": {"float": [0.1, 0.2], "log": "false"}}, "x")
