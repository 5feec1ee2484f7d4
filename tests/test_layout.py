"""What may import what, and what the installed distribution owns."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_FLOORS = {
    0: ["rnatracker", "rnatracker.errors", "rnatracker.choices", "rnatracker.config", "rnatracker.process",
        "rnatracker.files", "rnatracker.views"],
    1: ["rnatracker.encoding", "rnatracker.data", "rnatracker.model", "rnatracker.kernels", "rnatracker.metrics",
        "rnatracker.device", "rnatracker.stop", "rnatracker.spawned", "rnatracker.provenance"],
    2: ["rnatracker.batching", "rnatracker.checkpoint", "rnatracker.trainer", "rnatracker.predictor",
        "rnatracker.artifacts", "rnatracker.plots", "rnatracker.reporting", "rnatracker.attention",
        "rnatracker.predicting", "rnatracker.prediction_files", "rnatracker.streaming", "rnatracker.verdict"],
    3: ["rnatracker.store", "rnatracker.tracked", "rnatracker.untracked", "rnatracker.mlflow_run",
        "rnatracker.tracking", "rnatracker.invocation", "rnatracker.request",
        "rnatracker.session", "rnatracker.crossval", "rnatracker.workers", "rnatracker.run",
        "rnatracker.evaluation", "rnatracker.ancestor", "rnatracker.filters", "rnatracker.listing",
        "rnatracker.listing_sources", "rnatracker.predictions", "rnatracker.comparing", "rnatracker.curves",
        "rnatracker.parts",
        "rnatracker.agreement", "rnatracker.replaying", "rnatracker.orphans", "rnatracker.doctoring",
        "rnatracker.packaging", "rnatracker.served", "rnatracker.versions", "rnatracker.version_files",
        "rnatracker.registry", "rnatracker.records", "rnatracker.holdout", "rnatracker.registration",
        "rnatracker.contest", "rnatracker.promotion", "rnatracker.serving"],
    4: ["search", "search.space", "search.pruning", "search.sampling", "search.storage", "search.study",
        "search.opening", "search.memory", "search.objective", "search.worker", "search.crew", "search.tune",
        "search.summary", "search.plots", "search.weights", "search.refit", "search.doctoring"],
    5: ["rnatracker.commands", "cli", "search.commands", "search.display", "search.tables"],
}  # fmt: skip
_FORBIDDEN = {
    "rnatracker": {"*"},
    "rnatracker.errors": {"*"},
    "rnatracker.choices": {"*"},
    "rnatracker.config": {"torch", "mlflow", "optuna"},
    "rnatracker.encoding": {"torch", "mlflow"},
    "rnatracker.data": {"torch", "mlflow"},
    "rnatracker.model": {"mlflow"},
    "rnatracker.metrics": {"torch", "mlflow"},
    "rnatracker.checkpoint": {"mlflow"},
    "rnatracker.trainer": {"mlflow", "optuna"},
    "rnatracker.predictor": {"mlflow"},
    "rnatracker.attention": {"mlflow", "typer"},
    "rnatracker.predicting": {"mlflow", "typer"},
    "rnatracker.prediction_files": {"mlflow", "typer"},
    "rnatracker.streaming": {"mlflow", "typer"},
    "rnatracker.tracking": {"optuna", "torch"},
    "rnatracker.registry": {"optuna", "torch", "typer"},
    "rnatracker.packaging": {"optuna", "typer"},
    "rnatracker.verdict": {"torch", "mlflow", "optuna"},
    "rnatracker.promotion": {"mlflow", "optuna", "typer"},
    "rnatracker.session": {"optuna", "typer", "mlflow"},
    "rnatracker.run": {"optuna", "typer", "mlflow"},
    "rnatracker.crossval": {"optuna", "typer", "mlflow"},
    "search": {"*"},
    "search.space": {"torch", "mlflow"},
    "search.pruning": {"torch", "mlflow"},
    "search.sampling": {"torch", "mlflow"},
    "search.storage": {"torch", "mlflow"},
    "search.study": {"torch", "mlflow", "typer"},
    "search.opening": {"torch", "mlflow", "typer"},
    "search.memory": {"optuna", "mlflow", "typer"},
    "search.objective": {"mlflow", "typer"},
    "search.crew": {"torch", "mlflow", "typer"},
    "search.tune": {"torch", "mlflow", "typer"},
    "search.summary": {"torch", "mlflow", "typer"},
}
_COMMANDS = (
    "train", "data", "evaluate", "predict", "tune", "study", "runs", "compare", "replay", "doctor", "promote", "models",
    "serve",
)  # fmt: skip
_HEAVY = ("torch", "mlflow", "pandas", "optuna", "scipy", "pydantic", "numpy", "matplotlib", "requests")


def _modules() -> dict[str, Path]:
    files = [*(_ROOT / "rnatracker").rglob("*.py"), *(_ROOT / "search").rglob("*.py"), _ROOT / "cli.py"]
    names = {}
    for path in files:
        parts = path.relative_to(_ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def _imports(path: Path, known: set[str]) -> set[str]:
    """Return all modules that a file imports anywhere but for type checking only."""
    found: set[str] = set()
    for node in ast.walk(_without_type_checking(ast.parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            submodules = {f"{module}.{alias.name}" for alias in node.names} & known
            found |= submodules or {module}
    return found - {"__future__"}


def _without_type_checking(tree: ast.Module) -> ast.Module:
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
    ]
    return tree


def _unit(module: str) -> str:
    """Return the entry of the table of floors that a module belongs to."""
    for package in ("rnatracker.data", "rnatracker.commands", "rnatracker.kernels"):
        if module == package or module.startswith(package + "."):
            return package
    return module


def _floor(module: str) -> int:
    return next(floor for floor, units in _FLOORS.items() if _unit(module) in units)


@pytest.mark.parametrize("module", sorted(_modules()))
def test_module_imports_from_its_own_floor_or_below(module: str) -> None:
    known = set(_modules())
    imported = _imports(_modules()[module], known)
    above = {name for name in imported & known if _floor(name) > _floor(module)}
    assert not above, f"{module} is on floor {_floor(module)}"
    allowed = sys.stdlib_module_names | {"rnatracker", "cli"}
    forbidden = _FORBIDDEN.get(_unit(module), set())
    packages = {name.split(".")[0] for name in imported}
    assert not packages & forbidden
    if forbidden == {"*"}:
        assert packages <= allowed


def test_no_module_imports_in_a_circle() -> None:
    """Count imports at module level only: one inside a function is there to break a circle in time."""
    modules = _modules()
    edges = {}
    for name, path in modules.items():
        tree = _without_type_checking(ast.parse(path.read_text(encoding="utf-8")))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                node.body = [ast.Pass()]
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                submodules = {f"{node.module}.{alias.name}" for alias in node.names} & set(modules)
                found |= submodules or ({node.module or ""} & set(modules))
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names} & set(modules)
        edges[name] = found - {name}
    resolved: set[str] = set()
    while len(resolved) < len(edges):
        ready = {name for name, targets in edges.items() if name not in resolved and targets <= resolved}
        assert ready, f"a circle among {sorted(set(edges) - resolved)}"
        resolved |= ready


def test_nothing_in_the_package_imports_the_command_line_or_the_search() -> None:
    for name, path in _modules().items():
        if name.startswith("rnatracker"):
            assert not {m for m in _imports(path, set(_modules())) if m.split(".")[0] in ("cli", "search")}, name


def test_generic_names_belong_to_this_distribution_alone() -> None:
    try:
        metadata.distribution("rnatracker")
    except metadata.PackageNotFoundError:
        pytest.skip("rnatracker is not installed here; CI installs it")
    owners = metadata.packages_distributions()
    for name in ("cli", "rnatracker", "search"):
        assert set(owners[name]) == {"rnatracker"}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([name, "--help"] for name in _COMMANDS)],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from typer.testing import CliRunner; import cli; "
        f"result = CliRunner().invoke(cli.app, {arguments!r}); "
        f"print(result.exit_code, [name for name in {_HEAVY!r} if name in sys.modules])"
    )
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT, check=True)
    # For a command's options Typer itself imports pydantic; for the list of commands it does not.
    assert result.stdout.strip() in ("0 []", "0 ['pydantic']" if arguments != ["--help"] else "")


def test_command_line_works_from_a_checkout() -> None:
    command = [sys.executable, str(_ROOT / "cli.py"), "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("rnatracker ")
