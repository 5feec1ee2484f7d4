"""Where a run's numbers come from: versions, commit, command line.

Owns the tags that say so. Must not know mlflow or data.
"""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from rnatracker import __version__
from rnatracker.tracking.tags import Tag

_PACKAGES = ("torch", "mlflow", "optuna", "numpy", "pandas", "scipy")


def tags() -> dict[str, str]:
    """Return tags: versions, the command line, and, from a git checkout, commit and whether it was changed."""
    found = {
        Tag.VERSION: __version__,
        Tag.PYTHON: platform.python_version(),
        Tag.COMMAND: shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    return found | {f"rnatracker.{package}": version for package, version in packages().items()} | _git()


def packages() -> dict[str, str]:
    """Return the versions of the packages that figures may depend on, by name; of those that are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git() -> dict[str, str]:
    """Return the commit of the code that runs, if it lies in a git checkout of its own."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return {}
    try:
        commit = _run_git(folder, "rev-parse", "HEAD")
        dirty = bool(_run_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return {}
    return {Tag.COMMIT: commit, Tag.GIT_DIRTY: str(dirty).lower()}


def _run_git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()  # noqa: S603
