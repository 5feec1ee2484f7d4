"""Opening a file of transcripts: gzipped or not, and a look at its beginning.

Owns gzip, text against binary, and the wording of what can't be opened or read on. Must not know what a record is.
Read next: `rnatracker/data/formats/known.py`, which tells the formats apart by the beginning that is read here.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from rnatracker.data.formats.column_names import ID_NAMES, SEQUENCE_NAMES
from rnatracker.errors import DataError

HEAD_BYTES = 1 << 20
"""How much of a file is read to recognise its format: more than the longest known transcript."""
_GZIP_MAGIC = b"\x1f\x8b"
_BUFFER_BYTES = 1 << 17
_LONGEST_CHARACTER = 4
_ESCAPED = re.compile("[\udc80-\udcff]")
"""Bytes that are no UTF-8, as Python keeps them in text."""
_OLD_MAC = bytes.maketrans(b"\r", b"\n")
_COMMENT = re.compile(rb"[ \t]*(?:[#;][^\n]*|sep=[^\n]{0,2}|\r)?(?:\n|\Z)")
"""A line above the records that is none: blank, a comment, or Excel's `sep=,`."""


@dataclass(frozen=True)
class Source:
    """An open file of transcripts.

    Attributes:
        name: the file's name, for messages.
        stream: its bytes from the start, unpacked, without a byte order mark.
        head: the first `HEAD_BYTES` of the same bytes.
        whole: True where the head is all there is.
        raw: the same as it lies on the disk or comes through the pipe, perhaps packed.
        remarks: what was read otherwise than it stands, and how often; 0: of the file as a whole.
    """

    name: str
    stream: BinaryIO
    head: bytes
    whole: bool
    raw: BinaryIO
    _unpacked: _Rejoined
    remarks: Counter[str] = field(default_factory=Counter)

    def notes(self, last_id: str, last_length: int) -> tuple[str, ...]:
        """Return what a user should know of the file, which has been read to its end.

        Args:
            last_id: the last record's id.
            last_length: its nucleotides.
        """
        found = [f"{self.name}: {what}{f': {count:,}' if count else ''}" for what, count in self.remarks.items()]
        if self._unpacked.last not in b"\n\r":
            last = f"its last record, {last_id} ({last_length:,} nt), may be cut off"
            found.append(f"{self.name}: the file doesn't end with a line end: {last}")
        return tuple(found)

    def share_read(self) -> float | None:
        """Return how much of the file has been read, 0 to 1; None where its size isn't known, as in a pipe."""
        try:
            size = os.fstat(self.raw.fileno()).st_size
            return min(self.raw.tell() / size, 1.0) if size else None
        except OSError:
            return None


class _Readable(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class _Rejoined(io.RawIOBase):
    """What was read ahead, then the rest of the stream: works where nothing can be sought, as in a pipe.

    Errors of reading become ours here, and not around whatever a caller does while the file is open. One call reads
    once: Python looks for Ctrl-C between calls, and would overlook it while it fills a buffer from a slow pipe.
    """

    def __init__(self, head: bytes, rest: _Readable, path: Path, *, old_mac: bool = False) -> None:
        self._head = memoryview(head)
        self._rest = rest
        self._path = path
        self._old_mac = old_mac
        self.last = b"\n"
        """The last byte so far."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        part = self._head[: len(buffer)]
        if not part:
            with _errors_of_reading(self._path):
                read = self._rest.read1(len(buffer))
            part = memoryview(read.translate(_OLD_MAC) if self._old_mac else read)
        else:
            self._head = self._head[len(part) :]
        buffer[: len(part)] = part
        if part:
            self.last = bytes(part[-1:])
        return len(part)


class _Utf8(io.RawIOBase):
    """Another stream's bytes, each that is no UTF-8 replaced by NUL, which readers refuse where it stands."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        out = b""
        while not out:
            data = self._stream.read(len(buffer) - _LONGEST_CHARACTER)
            if data.isascii() and not self._decoder.getstate()[0]:
                out = data
            else:
                out = _ESCAPED.sub("\0", self._decoder.decode(data, not data)).encode()
            if not data:
                break
        buffer[: len(out)] = out
        return len(out)


def without_bad_bytes(stream: BinaryIO) -> BinaryIO:
    """Return a stream that is UTF-8 throughout: bytes that aren't become NUL."""
    return io.BufferedReader(_Utf8(stream), _BUFFER_BYTES)


@contextmanager
def opened(path: str | Path, *, check_bytes: int = HEAD_BYTES) -> Iterator[Source]:
    """Open a file of transcripts for reading, unpacking gzip where its content is gzip.

    Args:
        path: the file.
        check_bytes: how much of its beginning must be text for the file to be taken as text.

    Raises:
        DataError: if there is no such file, it can't be read or unpacked, it is empty, or it isn't text;
            also when one of these shows only while the caller reads on.
    """
    path = Path(path)
    with ExitStack() as stack:
        with _errors_of_reading(path):
            raw = stack.enter_context(path.open("rb"))
        yield stack.enter_context(_source(raw, path, check_bytes))


def check_readable(path: str | Path) -> None:
    """Check that a file can be opened and holds text, before anything slow is done; what is no file is left alone.

    Raises:
        DataError: as `opened`.
    """
    if Path(path).is_file() or not Path(path).exists():  # a pipe can be read once only
        with opened(path):
            return


@contextmanager
def standard_input(*, check_bytes: int = HEAD_BYTES) -> Iterator[Source]:
    """Read a file of transcripts from standard input, as `opened` reads one that has a name.

    Raises:
        DataError: as `opened`; also if standard input is closed.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise DataError("standard input: expected records, but it is closed", "name a file, or pipe one in")
    with _source(sys.stdin.buffer, Path("standard input"), check_bytes) as source:
        yield source


@contextmanager
def _source(raw: BinaryIO, path: Path, check_bytes: int) -> Iterator[Source]:
    with _errors_of_reading(path):
        magic = raw.read(len(_GZIP_MAGIC))
        rest: io.BufferedReader | gzip.GzipFile = io.BufferedReader(
            _Rejoined(magic, cast(io.BufferedReader, raw), path), _BUFFER_BYTES
        )
        if magic == _GZIP_MAGIC:
            rest = gzip.GzipFile(fileobj=rest)
        head = rest.read(HEAD_BYTES)
    whole = len(head) < HEAD_BYTES
    head = head.removeprefix(codecs.BOM_UTF8)
    _check_text(path.name, head, check_bytes)
    remarks: Counter[str] = Counter()
    old_mac = b"\r" in head and b"\n" not in head
    if old_mac:
        head = head.translate(_OLD_MAC)
        remarks["lines end with CR alone, as on old Macs; read as line ends"] = 0
    head = _without_comments(path.name, head, remarks)
    unpacked = _Rejoined(head, rest, path, old_mac=old_mac)
    with io.BufferedReader(unpacked, HEAD_BYTES) as rejoined:
        yield Source(path.name, rejoined, head, whole, raw, unpacked, remarks)


def _without_comments(name: str, head: bytes, remarks: Counter[str]) -> bytes:
    """Return a file's beginning without the lines above its first record, or above a table's header, that are none."""
    start = 0
    while start < len(head):
        match = _COMMENT.match(head, start)
        if match is None or names_columns(match[0], b"\t,;"):
            break
        if match[0].strip():
            remarks["lines of comments above the records, left out"] += 1
        start = match.end()
    if start == len(head):
        raise DataError(f"{name}: expected at least one record, got comments only")
    line, sign, rest = head[start:].partition(b"\n")
    if line.lstrip().startswith(b"#"):
        remarks["its header begins with #, left out"] = 0
        line = line.lstrip().removeprefix(b"#").lstrip()
    return line + sign + rest


def names_columns(line: bytes, separators: bytes) -> bool:
    """Tell whether a line is the header of a table of transcripts, with one of these characters between its columns."""
    parts = [line.strip().removeprefix(b"#").lower().split(bytes([each])) for each in separators]
    found = [{cell.strip().strip(b'"').decode("utf-8", "replace") for cell in cells} for cells in parts]
    return any(not names.isdisjoint(ID_NAMES) and not names.isdisjoint(SEQUENCE_NAMES) for names in found)


@contextmanager
def _errors_of_reading(path: Path) -> Iterator[None]:
    """Raise a DataError where a file can't be opened or read."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "check the path") from None
    except IsADirectoryError:
        raise DataError(f"{path}: expected a file, got a folder", "name a file in it") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path.name}: can't be unpacked as gzip ({error})", "it is damaged or cut off: fetch it again"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error})", "check the file") from None


def _check_text(name: str, head: bytes, check_bytes: int) -> None:
    if not head.strip():
        raise DataError(f"{name}: expected at least one record, got an empty file")
    head = head[:check_bytes]
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
        position = head.find(b"\0")
    except UnicodeDecodeError as error:
        position = error.start
    if position >= 0:
        raise DataError(
            f"{name}: expected text in UTF-8, got byte 0x{head[position]:02x} at position {position}: a binary "
            "file, or text saved otherwise",
            "only gzip is unpacked, so unpack or save it as UTF-8 first",
        )
