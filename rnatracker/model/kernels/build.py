"""The kernels' library: compiled once by the system's C compiler, then found in a cache.

Owns the compiler's options and the cache. Must not know tensors beyond where PyTorch keeps its OpenMP. Read next:
`kernels.c`, and `binding.py`, which loads the result.

The cache is `$XDG_CACHE_HOME/rnatracker/kernels`, else `~/.cache/rnatracker/kernels`, and a user's own folder under the
temporary one where that can't be written. A library's name has a digest of all that it depends on: the source, the
options, the compiler, the CPU and PyTorch's OpenMP. It is written under another name and renamed, so that processes
that use it for the first time at once don't disturb each other.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.c")

_OPTIONS = ("-std=gnu11", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros")
"""Those parts of -ffast-math that gain something, and not its rest: NaNs must stay NaNs, so that a training that
diverges is noticed. Never at the link, where -ffast-math would flush denormals for the whole process."""
_VARIANTS = (
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp"),
    ("-march=native",),
    (),
)
"""From best to worst; the first that compiles is taken. The last ones are for compilers without OpenMP."""
_TIMEOUT_SECONDS = 120
_DIGEST_BYTES = hashlib.sha256().digest_size


class UnavailableError(Exception):
    """The kernels can't be used on this machine; the message says why."""


def find_compiler() -> str | None:
    """Return the path of the C compiler, `$CC` or `cc`; None if there is none."""
    return shutil.which(os.environ.get("CC", "cc"))


def library() -> Path:
    """Return the compiled library, compiling it if it is not in the cache.

    PyTorch must have been imported before, so that its OpenMP is found.

    Raises:
        UnavailableError: if there is no compiler, it fails, or there is nowhere to keep the result.
    """
    compiler = find_compiler()
    if compiler is None:
        raise UnavailableError(f"no C compiler: {os.environ.get('CC', 'cc')} is not on the PATH")
    openmp = _openmp()
    file_name = f"kernels-{_digest(compiler, openmp)}.so"
    folders = cache_folders()
    for folder in folders:
        if _is_private(folder / file_name) and _is_whole(folder / file_name):
            return folder / file_name
    for folder in folders:
        if _is_writable(folder):
            return _compile(compiler, openmp, folder / file_name)
    raise UnavailableError(
        f"no folder to keep the compiled kernels in: {', '.join(map(str, folders))} can't be written"
    )


def cache_folders() -> list[Path]:
    """Return where a library may lie, the best first; they need not be there."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - never raises
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return [Path(cache) / "rnatracker" / "kernels", Path(tempfile.gettempdir()) / f"rnatracker-kernels-{user}"]


def _openmp() -> str | None:
    """Return the OpenMP library that PyTorch has loaded: linking it, its pool of threads is ours too."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    paths = [line.split(maxsplit=5)[5] for line in maps.splitlines() if len(line.split(maxsplit=5)) == 6]
    return next((path for path in paths if Path(path).name.startswith(("libgomp", "libiomp5", "libomp"))), None)


def _digest(compiler: str, openmp: str | None) -> str:
    content = hashlib.sha256(SOURCE.read_bytes())
    for part in (repr((_OPTIONS, _VARIANTS)), _version(compiler), _cpu(), str(openmp)):
        content.update(b"\0" + part.encode())
    return content.hexdigest()[:20]


def _version(compiler: str) -> str:
    path = Path(compiler).resolve()
    status = path.stat()  # asking it for its version would take longer than all the rest
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def _cpu() -> str:
    """Return what distinguishes kinds of CPUs: a home may be shared by the nodes of a cluster."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.platform()}"
    named = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join([platform.machine(), *(line for line in first.splitlines() if line.startswith(named))])


def _is_private(path: Path) -> bool:
    """Return whether the file or folder is there, and nobody but this user, or root, can have put it there."""
    try:
        status = path.stat()
    except OSError:
        return False
    mine = not hasattr(os, "getuid") or status.st_uid in (os.getuid(), 0)
    return mine and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_whole(path: Path) -> bool:
    """Return whether the file ends with the digest of the rest: loading half a library would crash the process."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-_DIGEST_BYTES]).digest() == content[-_DIGEST_BYTES:]


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return _is_private(folder) and os.access(folder, os.W_OK)


def _compile(compiler: str, openmp: str | None, target: Path) -> Path:
    error = ""
    try:
        with tempfile.TemporaryDirectory(prefix=".building-", dir=target.parent) as folder:
            for variant in _VARIANTS:
                error = _compile_variant(compiler, variant, openmp, Path(folder))
                if not error:
                    linked = Path(folder) / "kernels.so"
                    content = linked.read_bytes()
                    linked.write_bytes(content + hashlib.sha256(content).digest())  # see _is_whole
                    linked.chmod(0o755)  # whatever the umask: see _is_private
                    linked.replace(target)
                    return target
    except OSError as problem:
        raise UnavailableError(f"the kernels can't be written to {target.parent}: {problem.strerror}") from None
    raise UnavailableError(f"{compiler} fails to compile the kernels: {error}")


def _compile_variant(compiler: str, variant: tuple[str, ...], openmp: str | None, folder: Path) -> str:
    """Compile and link into `kernels.so` in the folder; return what went wrong, or nothing."""
    compiled, linked = str(folder / "kernels.o"), str(folder / "kernels.so")
    threads = [openmp or "-fopenmp"] if "-fopenmp" in variant else []
    for command in (
        [compiler, *_OPTIONS, *variant, "-c", str(SOURCE), "-o", compiled],
        [compiler, "-shared", compiled, *threads, "-lm", "-o", linked],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as problem:
            return str(problem)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            return next((line for line in lines if "error" in line), lines[0])
    return ""
