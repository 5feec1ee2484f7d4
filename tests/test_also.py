"""How further data sets are written in `data.also`."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnatracker import also, config
from rnatracker.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "file", "sites"),
    [
        ("b.fa", "b.fa", None),
        ("b.fa:Soma,Neurite", "b.fa", ("Soma", "Neurite")),
        ("x:y/b.fa: Soma , Neurite", "x:y/b.fa", ("Soma", "Neurite")),
        ("x:y/b.fa", "x:y/b.fa", None),
    ],
)
def test_file_and_sites_are_told_apart(text: str, file: str, sites: tuple[str, ...] | None) -> None:
    assert also.parts(text) == (file, sites)


def test_paths_are_made_absolute_and_sites_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = config.assemble(None, {}, {"data.path": "a.fa", "data.also": ["b.fa", "c.fa:X,Y"]}, [])
    assert found.data.also == (str(tmp_path / "b.fa"), f"{tmp_path / 'c.fa'}:X,Y")
    again = config.build(config.nest(found.flat()), "again")
    assert again == found


def test_what_is_no_data_set_is_refused() -> None:
    for texts, problem in (
        (["b.fa:X,X"], "data.also: a site can't be called 'X': two sites are"),
        ([":X,Y"], "data.also: ':X,Y': expected a file"),
        ([], "data.also"),
    ):
        with pytest.raises(ConfigError) as caught:
            config.assemble(None, {}, {"data.path": "a.fa", "data.also": texts}, [])
        assert problem in caught.value.problem
