"""The order of the packages, what each may depend on, and what the command line may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import paths

_ROOT = paths.ROOT
_ORDER = (
    (
        "rnatracker",
        "errors",
        "escapes",
        "choices",
        "site_names",
        "also",
        "plain_yaml",
        "sections",
        "config",
        "files",
        "metrics",
        "plots",
    ),
    ("processes",),
    ("tracking",),
    ("data",),
    ("model",),
    ("prediction",),
    ("lineage",),
    ("training",),
    ("baselines",),
    ("evaluation",),
    ("blends",),
    ("registry",),
    ("old_names",),
    ("orphans", "doctor"),
    ("search",),
    ("terminal",),
    ("commands",),
    ("app",),
    ("__main__", "cli"),
)
"""Packages and modules from the ground up: each imports from its own line and from those above it."""
_STRANGERS = {("evaluation", "training")}
"""Packages that do not know each other, whichever stands higher."""
_MOST_MODULES = 17
_MOST_LINES = 500
_NEVER = {
    "errors": {"*"},
    "escapes": {"*"},
    "choices": {"*"},
    "site_names": {"*"},
    "also": {"*"},
    "plain_yaml": {"torch", "mlflow", "optuna", "typer"},
    "sections": {"torch", "mlflow", "optuna"},
    "config": {"torch", "mlflow", "optuna"},
    "metrics": {"torch", "mlflow", "optuna"},
    "processes": {"torch", "mlflow", "optuna", "typer"},
    "tracking": {"torch", "optuna", "typer"},
    "data": {"torch", "mlflow", "optuna", "typer"},
    "model": {"mlflow", "optuna", "typer"},
    "prediction": {"mlflow", "optuna", "typer"},
    "lineage": {"torch", "mlflow", "optuna", "typer"},
    "training": {"mlflow", "optuna", "typer"},
    "baselines": {"mlflow", "optuna", "typer"},
    "evaluation": {"mlflow", "optuna", "typer"},
    "blends": {"mlflow", "optuna", "typer"},
    "registry": {"optuna", "typer"},
    "search": {"mlflow", "typer"},
    "commands": {"torch", "mlflow", "optuna"},
}
"""Packages of others that one of ours never imports, not even inside a function; `*`: none at all."""
_COMMANDS = (
    "train", "baseline", "blend", "data", "evaluate", "predict", "tune", "study", "runs", "compare", "replay", "doctor",
    "promote", "models", "serve",
)  # fmt: skip
_HEAVY = (
    "torch",
    "mlflow",
    "pandas",
    "optuna",
    "scipy",
    "pydantic",
    "numpy",
    "matplotlib",
    "requests",
    "lightgbm",
    "sklearn",
)


def _files() -> dict[str, Path]:
    """Return all modules of the program by their dotted name."""
    found = {"cli": _ROOT / "cli.py"}
    for base, prefix in ((_ROOT / "rnatracker", ()), (_ROOT / "search", ("rnatracker",))):
        for path in base.rglob("*.py"):
            if (_ROOT / "rnatracker" / "search") in path.parents:
                continue  # a link to search/
            parts = (*prefix, *path.relative_to(_ROOT).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


_MODULES = _files()


def _imports(path: Path) -> set[str]:
    """Return every module that a file imports, inside functions and for type checking too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in _MODULES else str(node.module) for name in names}
    return found - {"__future__"}


_IMPORTS = {name: _imports(path) for name, path in _MODULES.items()}


def _unit(module: str) -> str:
    """Return the entry of the order that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def _line(module: str) -> int:
    return next(i for i, units in enumerate(_ORDER) if _unit(module) in units)


@pytest.mark.parametrize("module", sorted(_MODULES))
def test_module_imports_only_from_lines_above_its_own(module: str) -> None:
    climbing = {name for name in _IMPORTS[module] & _MODULES.keys() if _line(name) > _line(module)}
    assert not climbing
    unknown = {
        name
        for name in _IMPORTS[module]
        if name.split(".")[0] in ("rnatracker", "search", "cli") and name not in _MODULES
    }
    assert not unknown
    for pair in _STRANGERS:
        if _unit(module) in pair:
            other = pair[1 - pair.index(_unit(module))]
            assert other not in {_unit(name) for name in _IMPORTS[module] & _MODULES.keys()}


@pytest.mark.parametrize("module", sorted(_MODULES))
def test_module_imports_no_package_that_its_own_must_not_know(module: str) -> None:
    packages = {name.split(".")[0] for name in _IMPORTS[module]}
    never = _NEVER.get(_unit(module), set())
    if never == {"*"}:
        assert packages <= sys.stdlib_module_names | {"rnatracker"}
    else:
        assert not packages & never


def test_commands_print_only_through_the_one_place_that_escapes() -> None:
    """What others wrote must not reach a terminal as it is: `output.tell`, `output.say` and `layout` see to that."""
    allowed = {
        "rnatracker.terminal.output": {"typer.echo"},
        "rnatracker.app": {"typer.echo"},  # the version
        "rnatracker.terminal.layout": {"Console"},
        "rnatracker.terminal.progress": {"Console"},
    }
    for module, path in _MODULES.items():
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        calls = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
        assert not calls & {"print", "typer.echo", "typer.secho", "Console"} - allowed.get(module, set()), module


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Look at imports inside functions too: one that only comes later is a circle all the same."""
    edges = {name: imported & _MODULES.keys() - {name, "rnatracker"} for name, imported in _IMPORTS.items()}
    resolved: set[str] = set()
    while len(resolved) < len(edges):
        ready = {name for name, targets in edges.items() if name not in resolved and targets <= resolved}
        assert ready, f"a circle among {sorted(set(edges) - resolved)}"
        resolved |= ready


def test_no_folder_has_too_many_modules_and_no_module_too_many_lines() -> None:
    folders: dict[Path, int] = {}
    for path in _MODULES.values():
        folders[path.parent] = folders.get(path.parent, 0) + (path.name != "__init__.py")
        n_lines = len(path.read_text(encoding="utf-8").splitlines())
        assert n_lines <= _MOST_LINES, f"{path}: {n_lines} lines; cut it where the noun changes"
    assert not {folder: n for folder, n in folders.items() if n > _MOST_MODULES}


def test_only_copies_in_old_models_import_the_old_names() -> None:
    old = {path.stem for path in (_ROOT / "rnatracker" / "old_names").glob("*.py")} - {"__init__"}
    assert old
    for module, imported in _IMPORTS.items():
        assert not {f"rnatracker.{name}" for name in old} & imported, module


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([name, "--help"] for name in _COMMANDS)],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from rnatracker.app import app; "
        f"result = CliRunner().invoke(app, {arguments!r}); "
        f"print(result.exit_code, [name for name in {_HEAVY!r} if name in sys.modules])"
    )
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT, check=True)
    # For a command's options Typer itself imports pydantic; for the list of commands it does not.
    assert result.stdout.strip() in ("0 []", "0 ['pydantic']" if arguments != ["--help"] else "")


def test_command_line_works_from_a_checkout() -> None:
    for command in ([str(_ROOT / "cli.py")], ["-m", "rnatracker"]):
        result = subprocess.run(
            [sys.executable, *command, "--version"], capture_output=True, text=True, check=True, cwd=_ROOT
        )
        assert result.stdout.startswith("rnatracker ")
