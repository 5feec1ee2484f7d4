"""How runs, parameters, metrics and addresses are written.

Owns the form of names and the limits that MLflow and file systems set them, and how a description of ours and what a
user has typed into it stand together. Must not know MLflow.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re

from rnatracker.errors import UsageError

MAX_TAG = 8000
"""Characters of a tag; MLflow cuts the rest without a word."""
_LEAST_TEXT = 200
"""Characters of a description below which a part of it says nothing."""


def as_text(value: object) -> str:
    """Write a parameter's value as YAML would read it: `true`, `null`, `0.0001`, `["Nucleus", "ERM"]`."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def cut(value: str, limit: int) -> str:
    """Return `value` in at most `limit` characters, and where it had more, saying so at its end."""
    if len(value) <= limit:
        return value
    note = f" ... [cut, {len(value)} characters]"
    return value[: limit - len(note)] + note


def described(before: str, mark: str, text: str, limit: int) -> tuple[str, str]:
    """Lay a description of ours into what is there: in place of our last one, else below what a user has typed.

    Args:
        before: the description that is there.
        mark: what was returned with our last one; empty where there is none.
        text: the new one.
        limit: characters that a description may have; ours is cut where it would be longer, or left out.

    Returns:
        The whole description, and a mark by which ours is found in it the next time.
    """
    head, tail = _around(before, mark) or ((before.rstrip() + "\n\n").lstrip("\n"), "")
    room = limit - len(head) - len(tail)
    if room < min(len(text), _LEAST_TEXT):
        return before, ""
    text = cut(text, room)
    return head + text + tail, f"{len(text)} {_digest(text)}"


def _around(before: str, mark: str) -> tuple[str, str] | None:
    """Return what stands before and after our last description; None where it isn't there as it was written."""
    length, _, digest = mark.partition(" ")
    size = int(length) if length.isdigit() else 0
    for start in range(len(before) - size + 1 if size else 0):
        if _digest(before[start : start + size]) == digest:
            return before[:start], before[start + size :]
    return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def masked(text: str) -> str:
    """Return a text with `***` for the user and password in each address, `http://user:password@host`."""
    text = re.sub(r"://[^/\s]+@", "://***@", text)
    return re.sub(r"([?&](?:password|passwd|pwd|token)=)[^&\s]+", r"\1***", text)


def login_of(uri: str) -> str:
    """Return what an address has before its host, `user:password@`, which no link shall show."""
    match = re.search(r"(?<=://)[^/]+@", uri)
    return match[0] if match else ""


def metric_key(key: str) -> str:
    """Return a metric's name as MLflow admits it: other characters than letters, digits and `_ . - : /` as `_`."""
    admitted = re.sub(r"[^\w.\- :/]", "_", key)[:250]
    return posixpath.normpath(admitted).lstrip("./") or "_"


def run_name(number: int, log_name: str | None) -> str:
    """Return the name of a top-level run, `exp12` or `exp12_name`."""
    return f"exp{number}_{log_name}" if log_name else f"exp{number}"


def run_number(name: str) -> int:
    """Return N of a name `exp<N>...`, else 0."""
    match = re.match(r"exp(\d+)(?:_|$)", name)
    return int(match[1]) if match else 0


def check_name(name: str, typed: str | None = None) -> None:
    """Check that a name can be a folder's on any system.

    Args:
        name: the run's whole name.
        typed: the part of it that the user gave, if it isn't all.

    Raises:
        ConfigError: if it can't.
    """
    if not re.fullmatch(r"[\w.+-][\w.+ -]{0,99}", name) or name in (".", ".."):
        raise UsageError(
            f"--log-name {(typed or name)!r}: a run can't have that name",
            "a name, exp<N>_ included, has up to 100 letters, digits, spaces and _ . + -, and begins with no space",
        )
