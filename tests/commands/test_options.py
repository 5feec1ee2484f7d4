"""Options that several commands have: what is true of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer
from typer.models import ArgumentInfo, OptionInfo
from typer.testing import CliRunner

from rnatracker.app import app

_WORDS = ("FILE", "DIR", "FOLDER", "RUN", "MODEL", "INPUT", "OUT")
"""Words in an option's metavar by which it takes a path, or something that may be one."""


def _options(of: typer.Typer, name: str = "rnatracker") -> Iterator[tuple[str, OptionInfo | ArgumentInfo, bool]]:
    """Yield the name of each option and argument, how it is declared, and whether it gives a path."""
    for command in of.registered_commands:
        assert command.callback
        for parameter, hint in get_type_hints(command.callback, include_extras=True).items():
            for info in getattr(hint, "__metadata__", ()):
                kinds = get_args(hint)[:1]
                yield (
                    f"{name} {command.name or command.callback.__name__} {parameter}",
                    info,
                    Path in (*kinds, *get_args(kinds[0])),
                )
    for group in of.registered_groups:
        assert group.typer_instance
        yield from _options(group.typer_instance, f"{name} {group.name}")


def _path_options() -> dict[str, OptionInfo | ArgumentInfo]:
    return {
        name: info
        for name, info, is_path in _options(app)
        if is_path or any(word in (info.metavar or "") for word in _WORDS)
    }


@pytest.mark.parametrize("name", _path_options())
def test_home_folder_is_expanded_in_every_option_that_takes_a_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    parser = _path_options()[name].parser
    assert parser is not None, "give it parser=options.expanded or options.path"
    assert [str(parser(typed)) for typed in ("~/x.fa", "x.fa", "exp1", "a~b", "-")] == [
        "/home/me/x.fa", "x.fa", "exp1", "a~b", "-",
    ]  # fmt: skip


def test_options_that_take_a_path_are_found() -> None:
    words = {"train data", "train resume", "train store", "tune data", "tune space", "study storage", "predict out"}
    words |= {"data split out_dir", "data inspect file", "data download to", "import folder", "compare runs"}
    assert {f"rnatracker {word}" for word in words} <= _path_options().keys()


@pytest.mark.parametrize("command", ["train --data=~/no.fa", "tune --study x --data=~/no.fa", "data inspect ~/no.fa"])
def test_home_folder_is_expanded_where_a_shell_does_not(command: str, tmp_path: Path) -> None:
    result = CliRunner(env={"HOME": str(tmp_path)}).invoke(app, command.split())
    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path / 'no.fa'}: no such file; check the path\n"
