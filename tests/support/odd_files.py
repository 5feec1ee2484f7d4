"""A generator of odd files of transcripts: each format as it should be, then something done to it. Seeds are fixed."""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_SITES = ("Nucleus", "Cytosol", "ERM")
_RECORDS = 8
_ESCAPES = ("\x1b]0;owned\x07", "\x1b[2J", "\x1b[31m", "\x9b31m", "\r", "\x08", "\u202e", "[/red]", "[nuc]", "[bold]")
_NUMBERS = ("nan", "inf", "-1", "1e999", "1e-320", "NA", "", "1_0", "0x1", "1,5", "٣", "9" * 400)
_NAMES = ("mean", "overall", "most_likely", "id", "a" * 260, "x/../y", "Kern β", "", "a,b", "Cytosol_sd", "ERM*")
_LETTERS = ("*", "-", " ", "X", "é", "α", "٣", "\u2028")
_MISSING = ("NA", "-", ".", "nan", "#N/A", "")


@dataclass(frozen=True)
class OddFile:
    """A file, and what it was made from.

    Attributes:
        path: the file.
        what: its format and what was done to it.
        plain: the text as it should be.
        is_harmless: whether what was done leaves no doubt of what is meant, so that it must be read as `plain` is.
    """

    path: Path
    what: str
    plain: str
    is_harmless: bool


def _sequence(rng: random.Random) -> str:
    return "".join(rng.choices("ACGT", k=rng.randint(45, 90)))


def _values(rng: random.Random, n: int) -> list[str]:
    return [f"{rng.random():.3f}" for _ in range(n)]


def _port3(rng: random.Random) -> str:
    return "".join(f"> t{i}\n{_sequence(rng)}\n{' '.join(_values(rng, 4))}\n" for i in range(_RECORDS))


def _port6(rng: random.Random) -> str:
    parts = ("\n".join(_sequence(rng) for _ in range(3)) for _ in range(_RECORDS))
    return "".join(f"> t{i}\nMKL\n{each}\n{' '.join(_values(rng, 4))}\n" for i, each in enumerate(parts))


def _original(rng: random.Random) -> str:
    labels = ("dist",) if rng.random() < 0.5 else ("distA", "distB")
    headers = (" ".join(f"{label}:{'_'.join(_values(rng, 4))}" for label in labels) for _ in range(_RECORDS))
    return "".join(f">t{i} gene_biotype:x {header}\n{_sequence(rng)}\n" for i, header in enumerate(headers))


def _fasta(rng: random.Random) -> str:
    return "".join(f">t{i} words\n{_sequence(rng)}\n" for i in range(_RECORDS))


def _table(rng: random.Random, delimiter: str) -> str:
    rows = [["id", "sequence", "gene", *_SITES]]
    rows += [[f"t{i}", _sequence(rng), f"g{i}", *_values(rng, 3)] for i in range(_RECORDS)]
    return "".join(delimiter.join(row) + "\n" for row in rows)


_FORMATS: dict[str, Callable[[random.Random], str]] = {
    "port3.fa": _port3,
    "port6.fa": _port6,
    "original.fa": _original,
    "plain.fa": _fasta,
    "table.tsv": lambda rng: _table(rng, "\t"),
    "table.csv": lambda rng: _table(rng, ","),
}


def _insert(text: str, rng: random.Random, what: str) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + what + text[place:]


def _in_name(text: str, rng: random.Random, what: str) -> str:
    """Put something into an id or a column's name."""
    name = rng.choice(["t0", "t3", "Nucleus", "sequence", "gene"])
    return text.replace(name, name[:1] + what + name[1:], 1) if name in text else text.replace("t0", f"t{what}0", 1)


def _number(text: str, rng: random.Random, what: str) -> str:
    numbers = list(re.finditer(r"\d\.\d+", text))
    if not numbers:
        return text + what
    match = rng.choice(numbers)
    return text[: match.start()] + what + text[match.end() :]


def _rows(text: str, change: Callable[[list[str]], list[str]]) -> str:
    return "\n".join(change(text.split("\n")))


def _index(text: str, name: str) -> str:
    """Put a column of numbers in front, where it is a table."""
    head, *rows = text.split("\n")
    delimiter = "\t" if "\t" in head else ","
    if delimiter not in head or head.startswith(">"):
        return text
    return "\n".join([f"{name}{delimiter}{head}", *(f"{i}{delimiter}{row}" for i, row in enumerate(rows) if row), ""])


def _blank_rows(text: str) -> str:
    head = text.partition("\n")[0]
    delimiter = "\t" if "\t" in head else ","
    return text + (delimiter * head.count(delimiter) + "\n") * 2 if not head.startswith(">") else text + "\n \n"


def _shuffled(text: str, rng: random.Random) -> str:
    rows = text.split("\n")
    return "\n".join(rng.sample(rows, len(rows)))


def _without_a_line(text: str, rng: random.Random) -> str:
    rows = text.split("\n")
    del rows[rng.randrange(len(rows))]
    return "\n".join(rows)


HARMLESS: dict[str, Callable[[str, random.Random], str]] = {
    "nothing": lambda text, _: text,
    "no last line end": lambda text, _: text.rstrip("\n"),
    "comment lines": lambda text, rng: rng.choice(["# made by hand\n", "; old\n", "sep=,\n", "\n#\n\n"]) + text,
    "BOM": lambda text, _: "\ufeff" + text,
    "CR": lambda text, _: text.replace("\n", "\r"),
    "CRLF": lambda text, _: text.replace("\n", "\r\n"),
    "index column": lambda text, rng: _index(text, rng.choice(["", "Unnamed: 0"])),
    "blank rows": lambda text, _: _blank_rows(text),
    "final stops": lambda text, _: re.sub(r"([ACGT]{45,})(?=[\n\t,])(?!\n[ACGT])", r"\1*", text),
}
"""What is done to files without a doubt of what is meant."""
HARMFUL: dict[str, Callable[[str, random.Random], str]] = {
    "cut off": lambda text, rng: text[: rng.randrange(len(text))],
    "last number cut": lambda text, _: text.rstrip("\n")[:-1],
    "a line twice": lambda text, rng: _rows(text, lambda rows: [*rows, rng.choice(rows)]),
    "a line gone": _without_a_line,
    "lines shuffled": _shuffled,
    "blank lines": lambda text, _: text.replace("\n", "\n\n"),
    "odd letters": lambda text, rng: _insert(text, rng, rng.choice(_LETTERS)),
    "NUL": lambda text, rng: _insert(text, rng, "\0"),
    "escape in a name": lambda text, rng: _in_name(text, rng, rng.choice(_ESCAPES)),
    "escape anywhere": lambda text, rng: _insert(text, rng, rng.choice(_ESCAPES)),
    "odd number": lambda text, rng: _number(text, rng, rng.choice(_NUMBERS)),
    "all zero": lambda text, _: re.sub(r"\d\.\d+", "0", text),
    "one value": lambda text, _: re.sub(r"\d\.\d+", "0.5", text),
    "same id": lambda text, _: re.sub(r"\bt\d", "t0", text),
    "one record": lambda text, _: "\n".join(text.split("\n")[:3]) + "\n",
    "semicolons and decimal commas": lambda text, _: re.sub(r"[,\t]", ";", text).replace(".", ","),
    "quotes": lambda text, rng: _insert(text, rng, '"'),
    "numbered lines": lambda text, _: "\n".join(f"{i} {row}" for i, row in enumerate(text.split("\n"))),
    "numbers and sequence below": lambda text, rng: text.replace("\n>", f"\n46 {_sequence(rng)}\n>"),
    "labels for values": lambda text, _: re.sub(r"\n\d[\d. ]+\n", "\nNuc\n", text),
    "lower case": lambda text, _: text.lower(),
    "a long line": lambda text, rng: _insert(text, rng, "A" * 50_000),
    "separators mixed": lambda text, _: text.replace("\t", " ", 3).replace(",", "\t", 3),
    "odd site": lambda text, rng: text.replace("Nucleus", rng.choice(_NAMES)),
    "missing genes": lambda text, rng: re.sub(r"\bg\d", rng.choice(_MISSING), text),
    "gene symbols": lambda text, _: re.sub(r"\bg(\d)", r"GENE\1", text).replace("gene\t", "symbol\t"),
    "empty": lambda _, __: "",
}
"""What is done to files else: some can still be read, others must be refused."""


def _bytes_of(text: str, rng: random.Random, *, harmless: bool) -> tuple[bytes, str]:
    """Return a file's bytes and the end of its name."""
    kinds = ["utf-8", "gz"] if harmless else ["utf-8", "gz", "cut gz", "damaged gz", "utf-16", "latin-1"]
    kind = rng.choices(kinds, [20, 3, 1, 1, 1, 1][: len(kinds)])[0]
    if kind in ("utf-16", "latin-1"):
        return text.encode(kind, "surrogatepass" if kind == "utf-16" else "replace"), ""
    content = text.encode("utf-8", "surrogatepass")
    if kind == "utf-8":
        return content, ""
    packed = bytearray(gzip.compress(content, mtime=0))
    if kind == "cut gz":
        packed = packed[: rng.randrange(2, len(packed))]
    if kind == "damaged gz":
        packed[rng.randrange(10, len(packed))] ^= 0xFF
    return bytes(packed), ".gz"


def odd_files(folder: Path, n: int, seed: int) -> Iterator[OddFile]:
    """Write `n` files into a folder, one at a time, each kind of oddity equally often, alone and with others."""
    rng = random.Random(seed)
    changes = HARMLESS | HARMFUL
    for number in range(n):
        name = list(_FORMATS)[number % len(_FORMATS)]
        done = [rng.choice(list(changes)) if number >= 6 * len(changes) else list(changes)[number // 6]]
        done += rng.sample(list(changes), rng.choice([0, 0, 1, 2]))
        plain = text = _FORMATS[name](rng)
        for each in done:
            text = changes[each](text, rng) if text else text
        # Two harmless changes may make a harmful one: a comment in front of an index, say.
        harmless = len(done) == 1 and done[0] in HARMLESS
        content, end = _bytes_of(text, rng, harmless=harmless)
        path = folder / f"f{number}.{name}{end}"
        path.write_bytes(content)
        yield OddFile(path, f"{name}: {', '.join(done)}", plain, harmless)
