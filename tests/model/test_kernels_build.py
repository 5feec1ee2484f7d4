"""Compiling the kernels: the cache, who may have written it, and machines without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rnatracker.config import ModelConfig
from rnatracker.errors import ConfigError
from rnatracker.model.kernels import binding, build
from rnatracker.model.kernels.functions import kernel_in_use
from rnatracker.model.network import RNATracker

_needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
_CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of this test's own; the library is looked for anew, and again after the test."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    binding._load.cache_clear()
    yield tmp_path / "cache" / "rnatracker" / "kernels"
    binding._load.cache_clear()


@_needs_compiler
def test_library_is_compiled_once_and_found_again(cache: Path) -> None:
    path = build.library()
    assert path.parent == cache
    written = path.stat().st_mtime_ns
    assert build.library() == path
    assert path.stat().st_mtime_ns == written
    assert [file.name for file in cache.iterdir()] == [path.name]


@_needs_compiler
def test_library_has_another_name_when_source_or_cpu_differ(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {build._digest("/bin/sh", None), build._digest("/bin/sh", "/lib/libgomp.so.1")}
    monkeypatch.setattr(build, "_cpu", lambda: "another")
    names.add(build._digest("/bin/sh", None))
    source = cache.parent / "kernels.c"
    source.parent.mkdir(parents=True)
    source.write_text("int other;")
    monkeypatch.setattr(build, "SOURCE", source)
    names.add(build._digest("/bin/sh", None))
    assert len(names) == 4


@pytest.mark.slow
@_needs_compiler
def test_concurrent_first_uses_all_get_a_whole_library(cache: Path) -> None:
    program = (
        "import ctypes; from rnatracker.model.kernels import build; "
        "ctypes.CDLL(str(build.library())).rnatracker_forward"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(build.__file__).parents[3])}
    command = [sys.executable, "-c", program]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(3)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert errors == [b"", b"", b""]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(list(cache.iterdir())) == 1


@_needs_compiler
def test_temporary_folder_is_used_when_home_cannot_be_written(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be: fails for root too")
    path = build.library()
    assert path.parent.parent == tmp_path / "temporary"
    assert path.parent.stat().st_mode & 0o777 == 0o700


@_needs_compiler
def test_reason_is_given_when_nothing_can_be_written(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    (tmp_path / "temporary").rmdir()
    (tmp_path / "temporary").write_text("")
    with pytest.raises(build.UnavailableError) as caught:
        build.library()
    assert all(str(folder) in str(caught.value) for folder in build.cache_folders())


@pytest.mark.slow
@_needs_compiler
def test_library_that_others_can_write_is_not_loaded(cache: Path) -> None:
    path = build.library()
    path.chmod(0o666)
    assert build.library() == path  # compiled again
    assert path.stat().st_mode & 0o022 == 0
    cache.chmod(0o777)
    path.unlink()
    assert build.library().parent != cache


@_needs_compiler
def test_damaged_library_is_compiled_again(cache: Path) -> None:
    path = build.library()
    path.write_bytes(path.read_bytes()[:2000])
    assert binding.why_not() is None
    assert path.stat().st_size > 10_000


@_needs_compiler
@pytest.mark.slow
def test_kernels_share_the_threads_of_torch(cache: Path) -> None:
    """In a process of its own: other libraries, as scikit-learn, bring an OpenMP of their own into this one."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("only Linux lists the libraries that are loaded")
    program = (
        "from rnatracker.model.kernels import binding\n"
        "assert binding.why_not() is None\n"
        "lines = open('/proc/self/maps').read().splitlines()\n"
        "print(*sorted({line.split()[-1] for line in lines if 'libgomp' in line}), sep='\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) <= 1, done.stdout


@pytest.mark.parametrize("compiler", ["missing", "broken"])
def test_torch_computes_when_there_is_no_working_compiler(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho 'kernels.c: error: no such luck' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken) if compiler == "broken" else "no-such-compiler")
    name, reason = kernel_in_use(ModelConfig(), _CPU)
    assert name == "torch"
    assert ("no such luck" if compiler == "broken" else "no C compiler: no-such-compiler") in reason
    network, plain = (RNATracker(ModelConfig(kernel=kernel), 2).eval() for kernel in ("auto", "torch"))
    plain.load_state_dict(network.state_dict())
    batch = torch.ones(1, 60, dtype=torch.uint8), torch.tensor([60]), torch.tensor([60])
    assert torch.equal(network(*batch), plain(*batch))
    with pytest.raises(ConfigError) as caught:
        RNATracker(ModelConfig(kernel="fused"), 2)(*batch)
    assert caught.value.problem == f"model.kernel: fused can't be used here: {reason}"
    assert caught.value.remedy == "use auto or torch"
