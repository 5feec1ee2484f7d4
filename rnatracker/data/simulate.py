"""Simulated transcripts whose fractions follow from their sequence: for demos, tests and measurements.

Owns what a simulated mRNA looks like and what its zipcodes do. Must not know files. Read next:
`writers.py`, which writes them.

A transcript is a 5'UTR, a coding sequence (ATG, codons without a stop, a stop) and a 3'UTR with a polyadenylation
signal; lengths are log-normal. Every site has three zipcodes, variants of one consensus of 8 nucleotides, each planted
in one of the UTRs, often several times, with a preference for one end of it. Each occurrence in the finished sequence,
planted or by chance, raises its site's logit by `EFFECT * log2(1 + occurrences)`; a softmax over sites gives the
noiseless fractions, so these are a function of the sequence alone. Normal noise on the logits gives the measured ones.
The PCC between the two is the ceiling: no prediction from sequence can be expected to score above it.

Composition and lengths are rounded from what is typical of human mRNAs (GC of 60 % in 5'UTRs, 44 % in
3'UTRs, and 56, 42 and 59 % at the three positions of codons); they are there for looks, not for study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from rnatracker.config import DEFAULT_SITES
from rnatracker.data.encoding import CHANNELS, Codes, encode
from rnatracker.data.relatives import Relative, plant
from rnatracker.data.transcripts import Fractions, Transcripts, checked_sites
from rnatracker.errors import DataError
from rnatracker.metrics import Array, pcc_per_site

EFFECT = 1.0
"""Logits for each doubling of 1 + occurrences of a zipcode."""
ZIPCODES_PER_SITE = 3
_ZIPCODE_LENGTH = 8
_SHORTEST_MEDIAN = 150
_LENGTH_SIGMA = 0.6
_PARTS = np.array([0.10, 0.45, 0.45])
_PARTS_SIGMA = 0.3
_GC = {"5'UTR": 0.60, "codon 1": 0.56, "codon 2": 0.42, "codon 3": 0.59, "3'UTR": 0.44}
_STOPS = ("TAA", "TAG", "TGA")
_MORE_COPIES = 1.5
"""Mean number of copies of a zipcode beyond the first, where it is planted."""
_POLY_A = "AATAAA"
_POLY_A_FROM_END = 20
_PALETTES = ("AT", "GC", "CT", "AG", "AC", "GT")
_APART = 4
"""Letters in which the sites' consensuses differ at least, so that no variant is that of two sites."""
_AT_ONCE = 2000
"""Transcripts that are made at a time, for the sake of memory."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Zipcode:
    """A planted motif.

    Attributes:
        letters: its sequence.
        site: index of the site that it directs to.
        utr: 0 if it is planted in the 5'UTR, 2 if in the 3'UTR.
        late: True if it prefers the 3' end of that UTR, False if the 5' end.
    """

    letters: str
    site: int
    utr: int
    late: bool


@dataclass(frozen=True)
class Simulated:
    """Simulated transcripts and what is known of them.

    Attributes:
        transcripts: with noisy fractions.
        noiseless: (N, S) float64, the fractions that follow from the sequences.
        zipcodes: the motifs, three for each site.
        relatives: those that were made from another transcript; they stand last.
    """

    transcripts: Transcripts
    noiseless: Fractions
    zipcodes: tuple[Zipcode, ...]
    relatives: tuple[Relative, ...] = ()

    @property
    def ceiling(self) -> Array:
        """(S,) PCC between noiseless and noisy fractions of each site."""
        return pcc_per_site(self.noiseless, self.transcripts.measured())


def simulate(
    n: int,
    sites: Sequence[str] = DEFAULT_SITES,
    *,
    seed: int = 0,
    noise: float = 0.5,
    median_length: int = 2500,
    relatives: int = 0,
) -> Simulated:
    """Simulate transcripts with fractions.

    Args:
        n: how many.
        sites: names of the sites, two or more.
        seed: the same seed gives the same transcripts.
        noise: standard deviation of the noise on each logit; 0: none, and a ceiling of 1.
        median_length: nucleotides, 150 or more.
        relatives: how many of them are isoforms and paralogs of others; their zipcodes are those of their sequences.

    Raises:
        DataError: if a number is out of range.
    """
    _check(n, noise, median_length, relatives)
    sites = checked_sites(sites)
    rng = np.random.default_rng(seed)
    zipcodes = _zipcodes(rng, len(sites))
    n_alone = n - relatives
    parts = _lengths(rng, n_alone, median_length)
    offsets = np.concatenate(([0], np.cumsum(parts.sum(axis=1))))
    codes = np.empty(int(offsets[-1]), np.uint8)
    for first in range(0, n_alone, _AT_ONCE):
        some = slice(first, min(first + _AT_ONCE, n_alone))
        made = codes[offsets[some.start] : offsets[some.stop]]
        _write_mrna(rng, made, parts[some])
        _plant(rng, made, parts[some], zipcodes, len(sites))
    added, planted = plant(np.random.default_rng([seed, 1]), codes, offsets, relatives)
    codes = np.concatenate([codes, *added])
    offsets = np.concatenate([offsets, offsets[-1] + np.cumsum([len(each) for each in added], dtype=np.int64)])
    logits = _logits(_count_all(codes, offsets, zipcodes), zipcodes, len(sites))
    transcripts = Transcripts(
        ids=_ids(n_alone, planted),
        codes=codes,
        offsets=offsets,
        sites=sites,
        fractions=_softmax(logits + noise * rng.standard_normal(logits.shape)),
        source="simulated",
    )
    return Simulated(transcripts, _softmax(logits), zipcodes, tuple(planted))


def _ids(n_alone: int, planted: Sequence[Relative]) -> tuple[str, ...]:
    alone = [f"SIM{i:06d}" for i in range(1, n_alone + 1)]
    return (*alone, *(f"SIM{each.index + 1:06d}_{each.kind}_of_{alone[each.parent]}" for each in planted))


def _count_all(codes: Codes, offsets: Integers, zipcodes: tuple[Zipcode, ...]) -> Integers:
    """Count each zipcode in each transcript, (N, Z), some transcripts at a time."""
    counts = []
    for first in range(0, len(offsets) - 1, _AT_ONCE):
        some = offsets[first : first + _AT_ONCE + 1]
        counts.append(_count(codes[some[0] : some[-1]], some - some[0], zipcodes))
    return np.concatenate(counts)


def _check(n: int, noise: float, median_length: int, relatives: int) -> None:
    if n < 2:
        raise DataError(f"--records {n}: expected 2 or more, since one has no PCC")
    if not 0 <= relatives < n:
        raise DataError(f"--relatives {relatives}: expected less than the {n} records, since each is one of another's")
    if not 0 <= noise < np.inf:
        raise DataError(f"--noise {noise}: expected a finite number of 0 or more")
    if median_length < _SHORTEST_MEDIAN:
        raise DataError(f"--median-length {median_length}: expected {_SHORTEST_MEDIAN} nucleotides or more")


def _zipcodes(rng: np.random.Generator, n_sites: int) -> tuple[Zipcode, ...]:
    """Draw a consensus for each site, far from the others', and three variants of it by one letter each.

    A consensus is mostly of two letters, as AU-rich or CA-rich elements are.
    """
    consensuses: list[str] = []
    zipcodes: list[Zipcode] = []
    for site in range(n_sites):
        palette = _PALETTES[site % len(_PALETTES)]
        weights = np.array([0.4 if letter in palette else 0.1 for letter in CHANNELS])
        consensus = ""
        while not consensus or any(_differences(consensus, other) < _APART for other in consensuses):
            consensus = "".join(rng.choice(list(CHANNELS), _ZIPCODE_LENGTH, p=weights))
        consensuses.append(consensus)
        # One in the 5'UTR, one at either end of the 3'UTR.
        positions = rng.permutation(_ZIPCODE_LENGTH)[:ZIPCODES_PER_SITE]
        for position, (utr, late) in zip(positions, ((0, False), (2, False), (2, True)), strict=True):
            other = CHANNELS[(CHANNELS.index(consensus[position]) + rng.integers(1, 4)) % 4]
            letters = consensus[:position] + other + consensus[position + 1 :]
            zipcodes.append(Zipcode(letters, site, utr, late))
    return tuple(zipcodes)


def _differences(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def _lengths(rng: np.random.Generator, n: int, median: int) -> Integers:
    """Draw the lengths of 5'UTR, coding sequence and 3'UTR, (N, 3); the second is a multiple of 3."""
    total = median * np.exp(_LENGTH_SIGMA * rng.standard_normal(n)).clip(0.2, 8)
    shares = _PARTS * np.exp(_PARTS_SIGMA * rng.standard_normal((n, 3)))
    parts = np.rint(total[:, None] * shares / shares.sum(axis=1, keepdims=True)).astype(np.int64)
    parts[:, 1] = np.maximum(parts[:, 1] // 3, 2) * 3
    return np.asarray(parts)


def _write_mrna(rng: np.random.Generator, codes: Codes, parts: Integers) -> None:
    """Fill in the codes of some transcripts, which lie one after the other."""
    part = np.repeat(np.tile(np.arange(3, dtype=np.uint8), len(parts)), parts.ravel())
    for utr, name in ((0, "5'UTR"), (2, "3'UTR")):
        where = np.flatnonzero(part == utr)
        codes[where] = _letters_table(_GC[name])[rng.integers(0, 256, len(where), np.uint8)]
    where = np.flatnonzero(part == 1)
    codons = _codon_table()
    codes[where] = codons[rng.integers(0, len(codons), len(where) // 3)].ravel()
    ends = np.cumsum(parts.ravel()).reshape(-1, 3)
    _put(codes, ends[:, 0], encode("ATG"))
    stops = np.array([encode(stop) for stop in _STOPS])
    _put(codes, ends[:, 1] - 3, stops[rng.integers(0, len(stops), len(parts))])
    _put(codes, ends[parts[:, 2] >= 2 * _POLY_A_FROM_END, 2] - _POLY_A_FROM_END, encode(_POLY_A))


def _put(codes: Codes, starts: Integers, motif: Codes) -> None:
    """Write a motif, or one of (K, length) motifs, at each of K positions."""
    codes[starts[:, None] + np.arange(motif.shape[-1])] = motif


def _weights(gc: float) -> npt.NDArray[np.float64]:
    return np.array([(gc if letter in "GC" else 1 - gc) / 2 for letter in CHANNELS])


def _letters_table(gc: float) -> Codes:
    """Return 256 codes in the proportions that a GC content gives: one random byte draws one letter."""
    edges = np.rint(np.cumsum(_weights(gc)) * 256)
    return (np.searchsorted(edges, np.arange(256), side="right") + 1).astype(np.uint8)


def _codon_table() -> Codes:
    """Return about 4,096 codons, (K, 3), in the proportions of their letters; no stop codon is among them."""
    weights = [_weights(_GC[f"codon {position}"]) for position in (1, 2, 3)]
    table = []
    for letters in product(range(4), repeat=3):
        if "".join(CHANNELS[letter] for letter in letters) not in _STOPS:
            share = np.prod([w[letter] for w, letter in zip(weights, letters, strict=True)])
            table += [letters] * round(4096 * share)
    return np.array(table, np.uint8) + 1


def _plant(
    rng: np.random.Generator, codes: Codes, parts: Integers, zipcodes: tuple[Zipcode, ...], n_sites: int
) -> None:
    """Write zipcodes into the UTRs: each is absent from half of the transcripts or more, else there once or more.

    With more sites each zipcode is rarer, so that they don't fill the UTRs.
    """
    ends = np.cumsum(parts.ravel()).reshape(-1, 3)
    for zipcode in zipcodes:
        present = rng.random(len(parts)) < min(0.5, 2 / n_sites)
        copies = present * (1 + rng.poisson(_MORE_COPIES, len(parts)))
        room = parts[:, zipcode.utr] - _ZIPCODE_LENGTH + 1
        which = np.repeat(np.arange(len(parts)), np.where(room > 0, copies, 0))
        place = rng.beta(3, 1, len(which)) if zipcode.late else rng.beta(1, 3, len(which))
        starts = ends[which, zipcode.utr] - parts[which, zipcode.utr] + (place * room[which]).astype(np.int64)
        _put(codes, starts, encode(zipcode.letters))


def _count(codes: Codes, offsets: Integers, zipcodes: tuple[Zipcode, ...]) -> Integers:
    """Count each zipcode in each transcript, (N, Z)."""
    # Eight letters of two bits are one 16-bit number: a table says which zipcode it is, if any.
    n_windows = len(codes) - _ZIPCODE_LENGTH + 1
    windows = np.zeros(n_windows, np.uint16)
    for i in range(_ZIPCODE_LENGTH):
        windows <<= 2
        windows |= codes[i : i + n_windows] - np.uint8(1)
    table = np.full(4**_ZIPCODE_LENGTH, len(zipcodes), np.uint16)
    for index, zipcode in enumerate(zipcodes):
        table[sum((int(c) - 1) * 4**i for i, c in enumerate(encode(zipcode.letters)[::-1]))] = index
    zipcode_at = table[windows]
    starts = np.flatnonzero(zipcode_at < len(zipcodes))
    transcript = np.searchsorted(offsets, starts, side="right") - 1
    within = starts + _ZIPCODE_LENGTH <= offsets[transcript + 1]
    counts = np.zeros((len(offsets) - 1, len(zipcodes)), np.int64)
    np.add.at(counts, (transcript[within], zipcode_at[starts[within]]), 1)
    return counts


def _logits(occurrences: Integers, zipcodes: tuple[Zipcode, ...], n_sites: int) -> Fractions:
    directs = np.zeros((len(zipcodes), n_sites))
    directs[np.arange(len(zipcodes)), [zipcode.site for zipcode in zipcodes]] = EFFECT
    return np.asarray(np.log2(1.0 + occurrences) @ directs)


def _softmax(logits: Fractions) -> Fractions:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
