"""Writing files so that they are whole or not there, and their digests.

Owns how that is done. Must not import any dependency.
"""

from __future__ import annotations

import errno
import glob
import gzip
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

_QUIET_SECONDS = 3600.0


def gzipped(file: IO[bytes]) -> IO[bytes]:
    """Return a file that writes gzip into another, without name and time in it; closing it leaves the other open."""
    return cast(IO[bytes], gzip.GzipFile("", "wb", 6, file, mtime=0))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say in an error of the disk's which file it was: the system says it when opening, not when writing."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file under another name beside it, flush it to the disk, and only then give it its own name.

    A link stays one: the file it leads to is replaced. What is no file, as a pipe or `/dev/stdout`, can't be replaced:
    it is written as it comes.

    Raises:
        OSError: if it can't be written; `path` is then as it was, and nothing else is left.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    if path.is_symlink():
        path = path.resolve()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    _remove_old_parts(path)
    try:
        with naming(path), part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _remove_old_parts(path: Path) -> None:
    """Remove what killed processes have left of the same file: what nobody has written to for an hour."""
    for old in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _QUIET_SECONDS:
                old.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a file to a temporary name beside `path` and rename it; UTF-8.

    Raises:
        OSError: if it can't be written; `path` is then as it was.
    """
    with replacing(path) as file:
        file.write(text.encode())


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        OSError: if it can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_several(digests: Mapping[str, str]) -> str:
    """Return one digest, SHA-256, of files whose own are known by their names."""
    lines = [f"{name} {digest}" for name, digest in digests.items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
