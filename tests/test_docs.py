"""What the documents, docstrings and comments name is there: files, modules, commands and their options."""

from __future__ import annotations

import ast
import io
import re
import shlex
import tokenize
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

from rnatracker.app import app
from rnatracker.tracking.tags import Tag

_ROOT = Path(__file__).parent.parent
_LINK = _ROOT / "rnatracker" / "search"
_FOLDERS = ("rnatracker", "search", "configs", "docs", "tests", "benchmarks")
"""Folders of the repository: a path below one of them is one of ours, `checkpoints/` is a run's."""
_DOCUMENTS = [_ROOT / "README.md", _ROOT / "CHANGELOG.md", _ROOT / "mlruns/README.md", *sorted(_ROOT.glob("docs/*.md"))]
_MODULES = [path for folder in _FOLDERS for path in sorted((_ROOT / folder).rglob("*.py")) if _LINK not in path.parents]
_PROGRAM = [path for path in _MODULES if path.relative_to(_ROOT).parts[0] in ("rnatracker", "search")]
_OTHERS = [_ROOT / "Makefile", *sorted(_ROOT.glob("configs/**/*.yaml")), *sorted(_ROOT.glob("rnatracker/**/*.c"))]
_ELSEWHERE = {
    "Scripts/draw_scatter_plot.py": "the original's",
    "split_train_test.py": "the PyTorch port's",
    "train.py": "the PyTorch port's",
    "served.py": "in the folder of each registered model",
}
"""Python files that lie elsewhere, and whose they are."""
_OPTIONS_ELSEWHERE = {
    "--constraint": "pip's",
    "--env-manager": "mlflow's",
    "--backend-store-uri": "mlflow's",
    "--artifacts-destination": "mlflow's",
    "--no-serve-artifacts": "mlflow's",
    "--detach": "docker's",
    "--username": "createdb's",
}
_NOT_MODULES = {value for value in vars(Tag).values() if isinstance(value, str)}
"""Dotted names that begin like a module's."""
_NOT_CALLS = {"version"}
"""What may stand behind `rnatracker` where it is the name of a model."""


@cache
def _words_of(path: Path) -> str:
    """Return a document, or the docstrings and comments of a module."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    strings = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr)]
    values = [each.value for each in strings if isinstance(each, ast.Constant)]
    return "\n\n".join([*comments, *(value for value in values if isinstance(value, str))])


def _none_wrong(paths: Iterable[Path], find: Callable[[Path], Iterable[str]]) -> None:
    """Hold that nothing is wrong in any file; say all that is."""
    found = {path.relative_to(_ROOT): sorted(set(find(path))) for path in paths}
    lines = [f"{path}: {', '.join(names)}" for path, names in found.items() if names]
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)


def test_files_and_folders_that_are_named_exist() -> None:
    """They are named from the top of the repository, or by their bare name in files that lie beside them."""

    def missing(path: Path) -> list[str]:
        named = _files_named(_words_of(path))
        return [each for each in named if not any((folder / each).exists() for folder in (_ROOT, path.parent))]

    _none_wrong([*_DOCUMENTS, *_MODULES, *_OTHERS], missing)


def _files_named(text: str) -> Iterator[str]:
    """Yield what looks like a file of ours, and folders of ours; a run's files and a user's are left out."""
    for named in re.findall(r"(?<![\w./<*-])[\w./-]*\w\.(?:py|md|c)\b(?!\.)", text):
        if named not in _ELSEWHERE:
            yield named
    for named in re.findall(rf"(?<![\w./<*-])(?:{'|'.join(_FOLDERS)})/[\w./-]*(?![\w./*-])", text):
        yield named.rstrip(".")


def test_no_module_tells_to_read_itself() -> None:
    def itself(path: Path) -> list[str]:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        name = path.relative_to(_ROOT).as_posix()
        return [each for each in _files_named(docstring) if name in (each, f"{path.parent.relative_to(_ROOT)}/{each}")]

    _none_wrong(_PROGRAM, itself)


def test_modules_that_are_named_exist() -> None:
    def missing(path: Path) -> set[str]:
        named = set(re.findall(r"(?<![\w./-])rnatracker(?:\.[A-Za-z_]\w*)+", _words_of(path)))
        return {name for name in named - _NOT_MODULES if not _is_module_or_in_one(name)}

    _none_wrong([*_DOCUMENTS, *_MODULES, *_OTHERS], missing)


def _is_module_or_in_one(dotted: str) -> bool:
    folder, name = dotted.rsplit(".", 1)
    module = _file_of(folder)
    return _file_of(dotted) is not None or (module is not None and name in _names_in(module))


def _file_of(dotted: str) -> Path | None:
    """Return a module's file or a package's folder."""
    if dotted == "rnatracker.configs":
        return _ROOT / "configs"
    place = _ROOT.joinpath(*dotted.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


@cache
def _names_in(module: Path) -> set[str]:
    """Return what a module defines at its top level."""
    names = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


@cache
def _commands() -> dict[tuple[str, ...], set[str]]:
    """Return the options of each command by its words, those of the whole by ()."""
    found: dict[tuple[str, ...], set[str]] = {}

    def walk(command: typer.core.TyperCommand | typer.core.TyperGroup, words: tuple[str, ...]) -> None:
        options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        found[words] = {option for option in options if option.startswith("-")} | {"--help"}
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*words, name))

    walk(typer.main.get_command(app), ())
    return found


def test_commands_and_their_options_that_are_named_exist() -> None:
    """Look at what begins with `rnatracker`, in code blocks, in backticks and in the commands' own help."""

    def unknown(path: Path) -> Iterator[str]:
        for words in _calls(path):
            command: tuple[str, ...] = ()
            for word in words:
                if (*command, word) in _commands():
                    command = (*command, word)
                elif word.startswith("--") and word.partition("=")[0] not in _commands()[command]:
                    yield " ".join([*command, word])
            if not command and not words[0].startswith("-"):
                yield words[0]

    assert sum(len([*_calls(path)]) for path in _DOCUMENTS) > 50
    _none_wrong([*_DOCUMENTS, *_MODULES], unknown)


def _calls(path: Path) -> Iterator[list[str]]:
    """Yield the words of each call of ours, those of `rnatracker train --data FILE` for one."""
    for line in _code(_words_of(path)):
        for call in re.findall(r"(?:^|[\s/])rnatracker ((?:[a-z-]|\[).*)", line):
            words = shlex.split(re.sub(r"[\[\]']", " ", re.split(r" #| \|", call)[0]))
            if words and words[0] not in _NOT_CALLS:
                yield words


def _code(text: str) -> Iterator[str]:
    """Yield the lines of code blocks, what stands between backticks, and lines that are nothing but a call."""
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from block.splitlines()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))
    yield from (line.strip() for line in prose.splitlines() if re.match(r"\s+rnatracker [a-z]+ ", line))


def test_options_that_are_named_exist() -> None:
    """Each is one of some command of ours, of a benchmark, or of a program of others'."""
    known = set().union(*_commands().values(), _OPTIONS_ELSEWHERE)
    for path in _ROOT.glob("benchmarks/*.py"):
        known |= set(re.findall(r"add_argument\(\s*\"(--[\w-]+)\"", path.read_text(encoding="utf-8")))

    def unknown(path: Path) -> set[str]:
        return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*\b(?!_)", _words_of(path))) - known

    _none_wrong([*_DOCUMENTS, *_MODULES], unknown)
