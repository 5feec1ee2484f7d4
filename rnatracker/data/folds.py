"""Dividing transcripts: training and validation, folds, and a fingerprint of a division.

Owns seeded division that never parts a group. Must not know files or the model. Read next: `readers.py`
for where groups come from.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Sequence

import numpy as np

from rnatracker.data.encoding import Indices
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import DataError


def default_groups(transcripts: Transcripts) -> tuple[str, ...]:
    """Return what must not be divided: transcripts of one group, of one sequence, of one family, or so connected.

    A sequence that stands on both sides of a division is remembered, not predicted.
    """
    groups = transcripts.groups
    for others in (transcripts.families, sequence_groups(transcripts)):
        if others is not None:
            groups = others if groups is None else _joined(groups, others)
    return groups or ()


def _joined(groups: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Return groups such that neither one of `groups` nor one of `others` is divided."""
    joined: dict[str, str] = {}

    def root(name: str) -> str:
        while joined.setdefault(name, name) != name:
            name = joined[name]
        return name

    for group, other in zip(groups, others, strict=True):
        joined[root(f"other {other}")] = root(f"group {group}")
    return tuple(root(f"group {group}").removeprefix("group ") for group in groups)


def check_largest(groups: Sequence[str], room: int, part: str, remedy: str) -> None:
    """Check that no family is larger than the part that it must be in.

    Args:
        groups: one for each record.
        room: records that the part has room for.
        part: what to call it.
        remedy: what to do where there is one.

    Raises:
        DataError: naming the family.
    """
    name, size = Counter(groups).most_common(1)[0]
    if size > room:
        family = f"the family of {name} has {size} transcripts"
        raise DataError(f"{family}, and {part} has room for {room} of {len(groups)}", remedy)


def sequence_groups(transcripts: Transcripts) -> tuple[str, ...]:
    """Return for each transcript a fingerprint of its sequence, the same for the same sequence."""
    return tuple(digest.hex() for digest in transcripts.sequence_digests(16))


def hold_out(n: int, groups: Sequence[str] | None, share: float, seed: int) -> tuple[Indices, Indices]:
    """Divide n records in two at random, by whole groups.

    Args:
        n: number of records.
        groups: one for each record; None: each record on its own.
        share: of the records in the held-out part, between 0 and 1; met as nearly as groups allow, taking
            them in a random order.
        seed: the same seed gives the same division.

    Returns:
        Indices of the training part and of the held-out part, each sorted, int64.

    Raises:
        DataError: if there are fewer than two groups, so that one part would be empty.
    """
    if not 0 < share < 1:
        raise DataError(f"expected a share between 0 and 1 to hold out, got {share}")
    members = _members(n, groups)
    if len(members) < 2:
        raise DataError(
            f"expected 2 records or more (of different groups or sequences) to hold out a part, got {n} "
            f"in {len(members)}",
            "add records",
        )
    target = min(max(round(share * n), 1), n - 1)
    chosen: list[Indices] = []
    size = 0
    for i in np.random.default_rng(seed).permutation(len(members)):
        larger = size + len(members[i])
        if larger < n and abs(larger - target) < abs(size - target):
            chosen.append(members[i])
            size = larger
    if not chosen:
        chosen = [min(members, key=len)]
    held_out = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(n), held_out), held_out


def k_folds(n: int, groups: Sequence[str] | None, k: int, seed: int) -> list[Indices]:
    """Divide n records at random into k folds of nearly equal size, by whole groups.

    Groups are shuffled, then the largest are given out first, each to the fold that is smallest so far.

    Args:
        n: number of records.
        groups: one for each record; None: each record on its own.
        k: number of folds, 2 or more.
        seed: the same seed gives the same folds.

    Returns:
        For each fold the indices that it holds out, sorted, int64; every record is in one fold.

    Raises:
        DataError: if there are fewer groups than folds.
    """
    members = _members(n, groups)
    if k < 2:
        raise DataError(f"--fold {k}: expected 2 folds or more, or 0 for a single run")
    if len(members) < k:
        different = "" if len(members) == n else f" in {len(members)} groups or different sequences"
        raise DataError(f"{n} records{different} only, with --fold {k}", "use fewer folds or add records")
    order = np.random.default_rng(seed).permutation(len(members))
    by_size = sorted(order, key=lambda i: -len(members[i]))
    smallest = [(0, fold) for fold in range(k)]
    folds: list[list[Indices]] = [[] for _ in range(k)]
    for i in by_size:
        size, fold = heapq.heappop(smallest)
        folds[fold].append(members[i])
        heapq.heappush(smallest, (size + len(members[i]), fold))
    return [np.sort(np.concatenate(fold)) for fold in folds]


def assignment_digest(parts: Sequence[Indices], ids: Sequence[str]) -> str:
    """Return 32 hexadecimal digits that identify a division, whatever the order of the records in the file.

    Args:
        parts: the division, in order: training and held out, or the folds.
        ids: of all records.
    """
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update("\x1f".join(sorted(ids[i] for i in part)).encode())
        hasher.update(b"\x1e")
    return hasher.hexdigest()[:32]


def _members(n: int, groups: Sequence[str] | None) -> list[Indices]:
    """Return the indices of each group, groups in the order of their first records."""
    if groups is None:
        return list(np.arange(n).reshape(-1, 1))
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    return [np.array(indices, np.int64) for indices in members.values()]
