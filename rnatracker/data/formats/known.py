"""The known formats: what each looks like, which one a file has, and its records.

Owns the names. Must not know what a sequence or a fraction may be: `rnatracker/data/readers.py` checks that, and is to
be read next, with the module of each format.

| name       | record                                                                     |
|------------|----------------------------------------------------------------------------|
| `port3`    | `> id` (the id is the last word); the sequence; the values                 |
| `port6`    | `> id`; protein; 5'UTR; CDS; 3'UTR; values; the sequence is the three parts |
| `original` | `>id gene_biotype:.. transcript_biotype:.. dist:a_b_c_d`; the sequence     |
| `table`    | TSV or CSV: `id`, `sequence`, a column per site, perhaps `gene` or `group` |
| `fasta`    | plain FASTA, wrapped or not; no fractions                                  |

Source: `load_cefra` of the PyTorch port and `split_train_test.py` beside it for the first two (values are
normalised here in float64; the port rounds them to 4 digits); `Gene_Wrapper.seq_data_loader` of the
original (Yan et al. 2019) for the third. The original drops every record whose `gene_biotype` isn't
`protein_coding`, and reads one replicate; all records and both replicates are kept here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rnatracker.config import FORMER_FORMATS
from rnatracker.data.formats.fasta import fasta_records
from rnatracker.data.formats.lines import DISTRIBUTION, PARTS, are_values, blocks, original, ported
from rnatracker.data.formats.record import Record, Refusal, refuse
from rnatracker.data.source import Source, names_columns
from rnatracker.errors import DataError

DESCRIPTIONS = {
    "port3": "records of 3 lines: > id, sequence, values",
    "port6": "records of 6 lines: > id, protein, 5'UTR, CDS, 3'UTR, values",
    "original": "records of 2 lines: a header with dist: or distA: and distB:, sequence",
    "table": "a TSV or CSV with columns id, sequence and one per site",
    "fasta": "plain FASTA, without fractions",
}
"""What each format looks like, for messages."""


_DIGIT = re.compile(rb"[0-9]")


def sniff(source: Source) -> str | None:
    """Recognise a file's format by its beginning; None where it looks like none of them."""
    lines = source.head.splitlines()
    if not source.whole:
        lines = lines[:-1] or lines
    lines = [line.strip() for line in lines]
    first = next((line for line in lines if line), b"")
    if not first.startswith(b">"):
        return "table" if b"\t" in first or b"," in first or names_columns(first, b"; |") else None
    if DISTRIBUTION.search(first.decode("utf-8", "replace")):
        return "original"
    counts = _lines_before_values(lines)
    # One plain FASTA record may have digits in it by mistake; where values belong, nearly every record has them.
    if 4 * len(counts) < sum(line.startswith(b">") for line in lines) or not counts:
        return "fasta"
    return "port6" if max(set(counts), key=counts.count) > 3 else "port3"


def _lines_before_values(lines: list[bytes]) -> list[int]:
    """Count, for each record that ends in a line of values, the lines from its header to there.

    No sequence and no protein has a digit in it, unless its lines are numbered.
    """
    counts, since_header = [], 0
    for line in lines:
        if line.startswith(b">"):
            since_header = 0
        elif _DIGIT.search(line) and are_values(line.decode("utf-8", "replace").split()):
            counts.append(since_header)
        since_header += 1
    return counts


def settle(source: Source, wanted: str) -> str:
    """Return a file's format: as it looks, which must be the wanted one unless that is `auto`.

    Raises:
        DataError: if it looks like none, or like another.
    """
    sniffed, wanted = sniff(source), FORMER_FORMATS.get(wanted, wanted)
    if wanted == "auto":
        if sniffed is None:
            first = source.head.split(maxsplit=1)[0][:30].decode("utf-8", "replace")
            known = "; ".join(f"{name}: {text}" for name, text in DESCRIPTIONS.items())
            raise DataError(f"{source.name}: looks like no known format, begins with {first!r}", f"known: {known}")
        return sniffed
    if wanted not in DESCRIPTIONS:
        raise DataError(f"--format {wanted}: no such format", f"use one of auto, {', '.join(DESCRIPTIONS)}")
    # Of a large file's first record the head may hold only the beginning, which looks like plain FASTA.
    if sniffed not in (None, wanted) and (source.whole or sniffed != "fasta"):
        raise DataError(
            f"{source.name}: expected {wanted} ({DESCRIPTIONS[wanted]}) as --format says, but it looks like "
            f"{sniffed} ({DESCRIPTIONS[str(sniffed)]})",
            "leave --format out",
        )
    return wanted


def records(source: Source, format: str, bad: Refusal = refuse) -> Iterator[Record]:  # noqa: A002 - the users' word
    """Cut a file into records.

    Args:
        source: the open file.
        format: any name of the table above but `table`.
        bad: called with the error of a record whose lines don't make one; where it returns, reading continues at the
            next header.

    Raises:
        DataError: where lines don't make a record, while iterating.
    """
    if format == "fasta":
        yield from fasta_records(source, bad)
        return
    parse = {"port3": ported, "port6": ported, "original": original}[format]
    for number, lines in blocks(source, PARTS[format], bad):
        try:
            record = parse(source.name, number, lines)
        except DataError as error:
            bad(error)
            continue
        yield record
