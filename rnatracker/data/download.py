"""Fetching the original's data sets, checked.

Owns where they lie, what their content must be, and where they are kept. Must not know what is in them. Read
next: `readers.py`, whose format `original` they have.

Source: the public repository of the original (Yan et al. 2019), HarveyYan/RNATracker at commit 42d0a9b. The
order of the sites is that of its `Scripts/draw_scatter_plot.py`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import requests

from rnatracker.config import DEFAULT_SITES
from rnatracker.data.writers import replacing
from rnatracker.errors import DataError

BASE_URL = "https://raw.githubusercontent.com/HarveyYan/RNATracker/42d0a9b"
_TIMEOUT_SECONDS = (10, 60)
_CHUNK_BYTES = 1 << 16

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have come over the wire so far, and how many there will be, if known."""


@dataclass(frozen=True)
class DataSet:
    """A published file.

    Attributes:
        path: where it lies in the repository.
        blob: its git blob id: the SHA-1 of `blob <size>`, a zero byte, and the content.
        sites: what its fractions are of.
    """

    path: str
    blob: str
    sites: tuple[str, ...]

    @property
    def name(self) -> str:
        """The file's own name."""
        return Path(self.path).name


DATA_SETS = {
    "cefra-seq": DataSet(
        "Data/cefra-seq/cefra_seq_cDNA_screened.fa", "eb0a3e62f27491d5876e9e085984d51a60baf750", DEFAULT_SITES
    ),
    "apex-rip": DataSet(
        "Data/apex-rip/apex_rip_cDNA_screened.fa",
        "c51397ca5e71ade2035349bec8bb39ebf49b7a84",
        ("KDEL", "Mito", "NES", "NLS"),
    ),
}


def cache_folder() -> Path:
    """Return where data sets are kept: `rnatracker` in `$XDG_CACHE_HOME`, else in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rnatracker"


def blob_id(path: Path) -> str:
    """Return a file's git blob id, 40 hexadecimal digits."""
    hasher = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return hasher.hexdigest()


def fetch(
    data_set: DataSet,
    folder: Path | None = None,
    *,
    base_url: str = BASE_URL,
    progress: Progress | None = None,
) -> tuple[Path, bool]:
    """Fetch a data set, unless a good copy is there already.

    Args:
        data_set: which.
        folder: where it is to be; None: the cache folder.
        base_url: where the repository's files lie.
        progress: called after each piece that comes.

    Returns:
        The file, and whether it was fetched now.

    Raises:
        DataError: if it can't be fetched or written, or its content is another. Nothing is left then.
    """
    folder = folder or cache_folder()
    target = folder / data_set.name
    url = f"{base_url.rstrip('/')}/{data_set.path}"
    try:
        if target.is_file() and blob_id(target) == data_set.blob:
            return target, False
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{target}: can't be used ({error.strerror})", "choose another folder with --to") from None
    with replacing(target) as file:
        _stream(url, target, file, progress)
        file.flush()
        blob = blob_id(Path(file.name))
        if blob != data_set.blob:
            raise DataError(
                f"{url}: expected git blob id {data_set.blob}, got {blob}: it is not the published file, or was "
                "damaged on its way",
                "nothing was kept, try again",
            )
    return target, True


def _stream(url: str, target: Path, file: IO[bytes], progress: Progress | None) -> None:
    try:
        with requests.get(url, stream=True, timeout=_TIMEOUT_SECONDS) as response:
            response.raise_for_status()
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            for chunk in response.iter_content(_CHUNK_BYTES):
                file.write(chunk)
                if progress:
                    progress(response.raw.tell(), total)
    except requests.RequestException as error:
        raise DataError(
            f"{url}: can't be fetched ({_reason(error)})",
            f"without a network here, fetch this address elsewhere, put the file at {target} and give the same command "
            "again: it checks the content",
        ) from None


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}".strip()
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return "no connection" if isinstance(error, requests.ConnectionError) else type(error).__name__
