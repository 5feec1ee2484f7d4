"""What is built and installed: one package, whole, that does not mind what lies in the user's folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from rnatracker import __version__

_ROOT = Path(__file__).parent.parent
_FIXTURE = Path(__file__).parent / "fixtures" / "store_before_move.tar.xz"
_NOT_SOURCES = (".*", "build", "dist", "demo", "mlruns", "*.egg-info", "__pycache__")
_CODE = ("benchmarks", "rnatracker", "search", "tests")
_SMALL = (
    "encoding.max_length=300", "model.conv1_channels=3", "model.conv2_channels=3", "model.rnn_hidden=2",
    "model.attention_size=2", "data.fold=0", "train.threads=1",
)  # fmt: skip
_USERS_OWN = ("cli", "search", "configs", "commands", "training")
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """An environment in which the wheel is installed, and a user's folder.

    Attributes:
        environment: the virtual environment.
        work: the current folder of what runs.
        others: a folder on PYTHONPATH.
    """

    environment: Path
    work: Path
    others: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the user's folder."""
        return subprocess.run(
            [str(self.environment / "bin" / program), *arguments],
            cwd=self.work,
            env=_variables() | {"PYTHONPATH": str(self.others), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def out(self, program: str, *arguments: str) -> str:
        """Run a program that succeeds; return what it prints."""
        result = self.run(program, *arguments)
        assert result.returncode == 0, (arguments, result.stdout, result.stderr)
        return result.stdout


def _variables() -> dict[str, str]:
    """Return the environment without what leads Python to a checkout, or MLflow to a server."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MLFLOW"))}


def _build(kind: str, sources: Path, folder: Path) -> Path:
    """Build a wheel or sdist with the setuptools that is installed: nothing is downloaded."""
    script = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, without what builds and environments leave there."""
    folder = tmp_path_factory.mktemp("sources") / "rnatracker"
    shutil.copytree(_ROOT, folder, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_SOURCES))
    return folder


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build("wheel", sources, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build("sdist", sources, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of its own, before this one's packages on the path."""
    folder = tmp_path_factory.mktemp("installed")
    environment, work, others = folder / "venv", folder / "work", folder / "others"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "--isolated"]
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True, cwd=folder, env=_variables())  # elsewhere it may find a checkout's
    # A path in a .pth file comes last, and the .pth files there, as that of an editable install, are not read.
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text("".join(f"{sysconfig.get_path(key)}\n" for key in ("purelib", "platlib")))
    for each in (work, others):
        each.mkdir()
        for name in _USERS_OWN:
            (each / f"{name}.py").write_text(f"raise SystemExit('the {name}.py of {each.name} was imported')\n")
    return Installed(environment, work, others)


def _names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(name for name in archive.namelist() if not name.endswith("/"))


def _modules() -> list[str]:
    """Return the modules of the checkout by their path; those behind the link to search/ are that folder's."""
    found = [path for folder in _CODE for path in (_ROOT / folder).rglob("*.py")]
    names = [path.relative_to(_ROOT).as_posix() for path in [*found, _ROOT / "cli.py"]]
    return sorted(name for name in names if not name.startswith("rnatracker/search/"))


def test_wheel_holds_one_package_and_all_of_it(wheel: Path) -> None:
    names = _names(wheel)
    assert {name.split("/")[0] for name in names} == {"rnatracker", f"rnatracker-{__version__}.dist-info"}
    package = [name.removeprefix("rnatracker/") for name in _modules() if name.startswith(("rnatracker/", "search/"))]
    assert [name for name in names if name.endswith(".py")] == sorted(f"rnatracker/{name}" for name in package)
    settings = {f"rnatracker/{path.relative_to(_ROOT).as_posix()}" for path in (_ROOT / "configs").rglob("*.yaml")}
    assert len(settings) > 5
    others = {name for name in names if name.startswith("rnatracker/") and not name.endswith(".py")}
    assert others == settings | {"rnatracker/py.typed", "rnatracker/model/kernels/kernels.c"}


def test_sdist_holds_what_the_checkout_does_and_each_file_once(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert not [member.name for member in members if member.issym() or member.islnk()]
    names = [member.name.partition("/")[2] for member in members if member.isfile()]
    assert not [name for name, times in Counter(names).items() if times > 1]
    assert sorted(name for name in names if name.endswith(".py")) == _modules()
    docs = {path.relative_to(_ROOT).as_posix() for path in (_ROOT / "docs").iterdir()}
    fixture = _FIXTURE.relative_to(_ROOT).as_posix()
    assert {"README.md", "CHANGELOG.md", "LICENSE", "Makefile", "constraints.txt", fixture, *docs} <= {*names}


def test_wheel_built_from_the_sdist_is_the_same(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "sources", filter="data")
    (unpacked,) = (tmp_path / "sources").iterdir()
    again = _build("wheel", unpacked, tmp_path)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert _names(wheel) == _names(again)
        assert [name for name in _names(wheel) if one.read(name) != other.read(name)] == []


class TestInstalled:
    def test_package_of_the_wheel_is_the_one_that_is_imported(self, installed: Installed) -> None:
        script = (
            "import rnatracker, rnatracker.search, rnatracker.config as config; "
            "print(rnatracker.__file__, rnatracker.search.__file__, config.shipped_folder(), sep='\\n')"
        )
        (site,) = installed.environment.glob("lib/python*/site-packages")
        for line in installed.out("python", "-c", script).splitlines():
            assert Path(line).is_relative_to(site / "rnatracker")

    def test_its_commands_work_beside_modules_of_the_users_own(self, installed: Installed) -> None:
        for command in (["rnatracker"], ["python", "-m", "rnatracker"]):
            assert installed.out(*command, "--version") == f"rnatracker {__version__}\n"
            assert "Usage: rnatracker" in installed.out(*command, "--help")
        installed.out("rnatracker", "data", "simulate", "mrna.tsv", "--records", "40", "--median-length", "150")
        sets = [part for each in _SMALL for part in ("--set", each)]
        trained = ["--data", "mrna.tsv", "--config", "paper", *sets, "--epochs", "2"]
        installed.out("rnatracker", "train", *trained)
        installed.out("rnatracker", "predict", "mrna.tsv", "--model", "exp1", "--out", "predicted.tsv")
        assert len(pd.read_csv(installed.work / "predicted.tsv", sep="\t")) == 40
        installed.out(
            "rnatracker", "tune", *trained, "--study", "s", "--space", "smoke", "--trials", "2", "--jobs", "2"
        )
        assert "2 trials complete" in installed.out("rnatracker", "study", "s")

    def test_model_registered_before_the_move_is_loaded(self, installed: Installed) -> None:
        with tarfile.open(_FIXTURE) as archive:
            archive.extractall(installed.work / "old", filter="data")
        script = (
            "import sys, mlflow.pyfunc, pandas; "
            "found = mlflow.pyfunc.load_model(sys.argv[1]).predict(pandas.read_csv('old/mrna_test.tsv', sep='\\t')); "
            "found.to_csv('old/found.tsv', sep='\\t', index=False)"
        )
        (folder,) = (installed.work / "old").glob("mlruns/artifacts/rnatracker/models/m-*/artifacts")
        installed.out("python", "-c", script, str(folder))
        found, expected = (
            pd.read_csv(installed.work / "old" / name, sep="\t") for name in ("found.tsv", "expected.tsv")
        )
        figures = ["Cytosol", "Insoluble", "Membrane", "Nuclear"]
        assert found[figures].to_numpy() == pytest.approx(expected[figures].to_numpy(), abs=1e-6)

    def test_mypy_sees_its_types_those_of_the_search_too(self, installed: Installed) -> None:
        program = installed.work / "program.py"
        program.write_text(
            "from rnatracker.files import digest_of\n"
            "from rnatracker.search.space import load\n"
            "number: int = load('smoke')\n"
            "digest_of(1)\n"
        )
        result = installed.run("python", "-m", "mypy", "--strict", "--no-incremental", program.name)
        first, second, total = result.stdout.splitlines()
        assert 'expression has type "Space", variable has type "int"' in first
        assert 'incompatible type "int"; expected "Path"' in second
        assert total.startswith("Found 2 errors in 1 file")
