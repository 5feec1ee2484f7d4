"""Opening a file of transcripts: gzipped or not, and a look at its beginning.

Owns gzip, text against binary, and the wording of what can't be opened or read on. Must not know what a
record is. Read next: `formats.py`, which tells the formats apart by the beginning that is read here.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from rnatracker.errors import DataError

HEAD_BYTES = 1 << 20
"""How much of a file is looked at to tell its format: more than the longest known transcript."""
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Source:
    """An open file of transcripts.

    Attributes:
        name: the file's name, for messages.
        stream: its bytes from the start, unpacked, without a byte order mark.
        head: the first `HEAD_BYTES` of the same bytes.
        whole: True where the head is all there is.
    """

    name: str
    stream: BinaryIO
    head: bytes
    whole: bool


class _Rejoined(io.RawIOBase):
    """What was read ahead, then the rest of the stream: works where nothing can be sought, as in a pipe."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        part = self._head[: len(buffer)]
        if not part:
            part = memoryview(self._rest.read(len(buffer)))
        else:
            self._head = self._head[len(part) :]
        buffer[: len(part)] = part
        return len(part)


@contextmanager
def opened(path: str | Path) -> Iterator[Source]:
    """Open a file of transcripts for reading, unpacking gzip where its content is gzip.

    Raises:
        DataError: if there is no such file, it can't be read or unpacked, it is empty, or it isn't text;
            also when one of these shows only while the caller reads on.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == _GZIP_MAGIC
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
            head = stream.read(HEAD_BYTES)
            whole = len(head) < HEAD_BYTES
            head = head.removeprefix(codecs.BOM_UTF8)
            _check_text(path.name, head)
            with io.BufferedReader(_Rejoined(head, stream), HEAD_BYTES) as rejoined:
                yield Source(path.name, rejoined, head, whole)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{path}: expected a file, got a folder; name a file in it") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path.name}: can't be unpacked as gzip ({error}); it is damaged or cut off: fetch it again"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error}); check the file") from None


def _check_text(name: str, head: bytes) -> None:
    if not head.strip():
        raise DataError(f"{name}: expected at least one record, got an empty file")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
        position = head.find(b"\0")
    except UnicodeDecodeError as error:
        position = error.start
    if position >= 0:
        raise DataError(
            f"{name}: expected text in UTF-8, got byte 0x{head[position]:02x} at position {position}: a binary "
            "file, or text saved otherwise; only gzip is unpacked, so unpack or save it as UTF-8 first"
        )
