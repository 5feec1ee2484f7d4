"""What a command prints, and how an error becomes a line and an exit code.

Owns stdout and stderr of the commands. Must not import anything heavy.
"""

from __future__ import annotations

import json
from typing import Any

import typer
from typer.core import TyperGroup

from rnatracker.errors import RNATrackerError, is_disk_full, is_out_of_memory

CONTEXT = {"help_option_names": ["-h", "--help"]}


class Group(TyperGroup):
    """A group of commands whose expected errors are one clear line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error of ours is printed and exits with 1."""
        try:
            return super().invoke(ctx)
        except RNATrackerError as error:
            say(f"Error: {error}")
        except (MemoryError, RuntimeError, OSError) as error:
            if is_out_of_memory(error):
                say("Error: out of memory; close other programs, or use smaller data or a larger machine")
            elif is_disk_full(error):
                say(f"Error: {getattr(error, 'filename', None) or 'a file'}: the disk is full; free some space")
            else:
                raise
        raise typer.Exit(1)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read `--max_length` as `--max-length`: the port's users type the first."""
        return super().parse_args(ctx, [_dashed(token) for token in args])


def _dashed(token: str) -> str:
    name, sign, value = token.partition("=")
    return name.replace("_", "-") + sign + value if token.startswith("--") else token


def amount(count: int, noun: str) -> str:
    """Return a number with its noun, as in `1 seed` and `1,200 transcripts`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def say(text: str) -> None:
    """Print a line for people, on stderr."""
    typer.echo(text, err=True)


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object on stdout; NaN becomes null, since JSON has none."""
    typer.echo(json.dumps(_finite(content)))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value != value else value
