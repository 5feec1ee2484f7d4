"""What help pages call a setting's default is what a run starts from."""

from __future__ import annotations

import pytest
import typer.main

from rnatracker import config
from rnatracker.app import app


def _settings(command: str) -> dict[str, tuple[str, object]]:
    """Return of each of a command's options that has a setting's name what its help shows, and the setting."""
    named = {key.split(".")[1]: value for key, value in config.flatten(config.starting()).items()}
    found = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    shown = {each.name: getattr(each, "show_default", None) for each in found}
    return {name: (text, named[name]) for name, text in shown.items() if isinstance(text, str) and name in named}


@pytest.mark.parametrize("command", ["train", "tune"])
def test_shown_default_is_that_of_the_starting_config(command: str) -> None:
    settings = _settings(command)
    assert {"epochs", "fold", "objective", "device"} <= settings.keys()
    assert command != "train" or {"max_length", "lr", "batch_size", "keep", "val", "seed"} <= settings.keys()
    for name, (text, value) in settings.items():
        if value is not None and name != "threads":  # 0 is shown as what it means
            assert text.split(",")[0] == str(value), name
