"""What a command prints, and how an error becomes a line and an exit code.

Owns stdout and stderr of the commands. Must not import anything heavy.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import sys
import textwrap
from typing import Any

import typer
from typer.core import TyperGroup

from rnatracker.errors import RNATrackerError, disk_fault, is_out_of_memory
from rnatracker.escapes import printable_lines

CONTEXT = {"help_option_names": ["-h", "--help"]}
NO = 3
"""Exit code of a command whose answer is no: not promoted, not agreed."""


class Group(TyperGroup):
    """A group of commands whose expected errors are one clear line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error of ours is printed and exits with its code."""
        _prepare()
        try:
            return super().invoke(ctx)
        except RNATrackerError as error:
            say(f"Error: {error}")
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:  # whoever read wants no more, as `head` does
            silence()
            raise typer.Exit(0) from None
        except (MemoryError, RuntimeError, OSError) as error:
            if is_out_of_memory(error):
                say("Error: out of memory; close other programs, or use smaller data or a larger machine")
            elif fault := disk_fault(error, "standard output or a temporary file"):
                say(f"Error: {'; '.join(fault)}")
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
    """Print a line for people, on stderr; what others wrote in it can only appear."""
    typer.echo(printable_lines(text), err=True)


def silence() -> None:
    """Let what is left in standard output's buffer go nowhere: Python would fail once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def tell(text: str) -> None:
    """Print a line of a command's result, on stdout; what others wrote in it can only appear."""
    typer.echo(printable_lines(text))


def tell_sentence(text: str) -> None:
    """Print a sentence of a command's result, on stdout; on a terminal it is broken between words."""
    line = printable_lines(text)
    if sys.stdout.isatty():
        width = max(shutil.get_terminal_size().columns, 20)
        line = textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False, subsequent_indent="  ")
    typer.echo(line)


class _Warnings(logging.Handler):
    """Says what the package warns of."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def _prepare() -> None:
    """Make stdout and stderr take any text, and warnings lines like all others."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a site may be called what Latin-1 or ASCII can't write
    log = logging.getLogger("rnatracker")
    if not any(isinstance(each, _Warnings) for each in log.handlers):
        log.addHandler(_Warnings(logging.WARNING))


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object on stdout; NaN becomes null, since JSON has none."""
    typer.echo(json.dumps(_finite(content)))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value != value else value
