"""Files of transcripts: one of each format, and any text at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from rnatracker.config import DEFAULT_SITES
from rnatracker.data import Transcripts, read
from tests.support.toys import sequence_of

FORMATS = ["auto", "port3", "port6", "original", "table", "fasta"]


ON_ONE_FOLDER = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


_pieces = st.sampled_from(
    [">", "> a", ">b", "ACGT", "acgun", "1 1 1 1", "0.5\t0 0 .5", "nan", "1e999 1 1 1", "-1", "\n", "\r\n", "\r", " ",
     "\t", ",", '"', "id", "id,sequence,a,b", "id\tsequence\ta\tb\tgene", "t1,ACGT,1,1", "dist:1_1_1_1",
     "distA:1_2 distB:2_1", ">e distA:1_1_1_1 distB:1_0_0_1", "#", "\ufeff", "\0", "é", "٣", "\x1c", "\x85", "\u2028",
     "_"]
)  # fmt: skip


any_text = st.one_of(
    st.text(), st.lists(_pieces, max_size=30).map("".join), st.lists(_pieces, max_size=20).map("\n".join)
)


any_bytes = st.one_of(st.binary(), any_text.map(lambda text: text.encode("utf-8", "surrogatepass")))


PORT3 = "> ENSG1\nACGU\n1 1 1 1\n> chr1 ENSG2\nacgtn\n0.5 0 0.25 0.25\n"


PORT6 = "> ENSG1\nMK\nAC\nATG\nGU\n1 1 1 1\n> ENSG2\nM\n\nATGTAA\nC\n0.5 0 0.25 0.25\n"


ORIGINAL = (
    ">ENSG1 gene_biotype:protein_coding transcript_biotype:protein_coding distA:1_1_1_1 distB:3_1_0_0\nACGT\n"
    ">ENSG2 gene_biotype:lncRNA transcript_biotype:lncRNA distA:2_0_1_1 distB:1_1_1_1\nACGTN\n"
)


APEX = ">ENSG1 gene_biotype:protein_coding transcript_biotype:x dist:1_1_1_1\nACGT\n"


TABLE = "id\tsequence\tgene\tER\tNucleus\nt1\tACGT\tg1\t1\t3\nt2\tACGTN\tg1\t1\t1\n"


FASTA = ">t1 some words\nAC\nGT\n\n>t2\nACGTN\n"


LABELLED = {"port3": PORT3, "port6": PORT6, "original": ORIGINAL, "table": TABLE}


def write(folder: Path, content: str | bytes, name: str = "x.fa") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def fasta(folder: Path, n: int = 50, *, bad: int = 0, name: str = "x.fa") -> Path:
    """Write records t1, t2, ... of 20 to 90 nucleotides, some longer than the network's 60; one may be bad."""
    rng = np.random.default_rng(0)
    sequences = [sequence_of(rng, int(rng.integers(20, 90))) for _ in range(n)]
    if bad:
        sequences[bad - 1] = "ACGT!CGT"
    path = folder / name
    path.write_text("".join(f">t{i}\n{sequence}\n" for i, sequence in enumerate(sequences, start=1)))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read_four(path: Path, **options: Any) -> Transcripts:
    """Read a file; where it doesn't name its sites, they are the default four."""
    return read(path, **options, assumed=DEFAULT_SITES)
