"""Print the lowest versions that pyproject.toml admits, as constraints for pip: `make test-lower` tests with them.

torch has the version of constraints.txt: its lower bound is not tried.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_NOT_TRIED = "torch"


def lowest() -> list[str]:
    """Return `name==version` for each direct dependency that has a lower bound, those of development too."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    bounds = [each for each in (re.match(r"([\w-]+)>=([\w.]+)", text) for text in requirements) if each is not None]
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound[1] != _NOT_TRIED]


def not_tried() -> list[str]:
    """Return the exact versions of what isn't tried at its lower bound."""
    lines = (_ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith(f"{_NOT_TRIED}==")]


if __name__ == "__main__":
    print("\n".join([*lowest(), *not_tried()]))
