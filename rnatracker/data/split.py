"""Dividing a file of transcripts into two, records copied as they are.

Owns where the two files go. Must not know the formats. Read next: `folds.py` for how the records are
divided; a run divides its own data, so this is for a test set that no run ever sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rnatracker.choices import GroupBy
from rnatracker.data.folds import check_largest, default_groups, hold_out
from rnatracker.data.formats.column_names import ANY_NAMES, ColumnNames
from rnatracker.data.readers import read_unlabelled, unnamed, verbatim
from rnatracker.data.similarity import with_families
from rnatracker.data.writers import check_absent, replacing
from rnatracker.errors import DataError, about


@dataclass(frozen=True)
class Halves:
    """What came of a division.

    Attributes:
        train: the file of the larger part.
        test: the file of the part held out.
        n_train: records in the first.
        n_test: records in the second.
        n_groups: how many groups (or different sequences) there are in both.
        notes: what a user should know of how the file was read.
    """

    train: Path
    test: Path
    n_train: int
    n_test: int
    n_groups: int
    notes: tuple[str, ...] = ()


def default_names(path: Path, folder: Path | None = None) -> tuple[Path, Path]:
    """Return `NAME_train.EXT` and `NAME_test.EXT`, in the folder given, else beside the file."""
    name, packed = (path.name[:-3], ".gz") if path.name.endswith(".gz") else (path.name, "")
    stem, suffix = Path(name).stem, Path(name).suffix
    train, test = ((folder or path.parent) / f"{stem}_{part}{suffix}{packed}" for part in ("train", "test"))
    return train, test


def split_file(
    path: Path,
    train: Path,
    test: Path,
    *,
    share: float,
    seed: int = 0,
    format: str = "auto",  # noqa: A002 - the users' word
    sites: Sequence[str] | None = None,
    columns: ColumnNames = ANY_NAMES,
    group_by: GroupBy = "group",
    force: bool = False,
) -> Halves:
    """Divide a file at random; groups, or transcripts of the same sequence, stay together.

    Every record is copied to the byte, in the file's order; a table's header goes into both. Sequences and
    ids are checked, fractions are not.

    Args:
        path: the file, of any format.
        train: where the larger part goes; gzipped if it ends in `.gz`.
        test: where the part held out goes.
        share: of the records to hold out.
        seed: the same seed gives the same division.
        format: the file's format, or `auto`.
        sites: names of the sites, which a file with values must have: its parts are worth nothing without; of a table,
            the columns that must be there.
        columns: which columns of a table hold what, where their names don't say it.
        group_by: `similarity` keeps similar sequences together too.
        force: overwrite what is there.

    Raises:
        DataError: if the file can't be read or divided, or a part's file exists, or it or its folder
            can't be written.
    """
    if len({path.resolve(), train.resolve(), test.resolve()}) < 3:
        raise DataError(f"{path}: its parts need two files of their own, got {train} and {test}")
    check_absent([train, test], force=force)
    _check_sites(path, format, sites, columns)
    transcripts = read_unlabelled(path, format=format, sites=sites, columns=columns)
    groups = default_groups(with_families(transcripts) if group_by == "similarity" else transcripts)
    if not 0 < share < 1:
        raise DataError(f"--test {share:g}: expected a share between 0 and 1, as in --test 0.2")
    with about(path.name):
        if group_by == "similarity":
            room = len(transcripts) - round(share * len(transcripts))
            check_largest(groups, room, f"the training part with --test {share:g}", "use a smaller --test")
        kept, held_out = hold_out(len(transcripts), groups, share, seed)
    in_test = set(held_out.tolist())
    _make_folders(train, test)
    with ExitStack() as stack:
        header, records = stack.enter_context(verbatim(path, format=format, columns=columns))
        parts = [stack.enter_context(replacing(part)) for part in (train, test)]
        for part in parts:
            part.write(_whole_line(header))
        for i, record in enumerate(records):
            parts[i in in_test].write(_whole_line(record.text))
    return Halves(train, test, len(kept), len(held_out), len(set(groups)), transcripts.notes)


def _check_sites(
    path: Path,
    format: str,  # noqa: A002
    sites: Sequence[str] | None,
    columns: ColumnNames,
) -> None:
    """Check that a file with values has names for them, from its header or the user.

    Raises:
        DataError: if it has none, or the user gives another number of them.
    """
    with verbatim(path, format=format, columns=columns) as (header, records):
        first = next(records, None)
    if header or first is None or not first.values:
        return
    if sites is None:
        raise unnamed(path.name, first)
    n_values = len(first.values[0])
    if n_values != len(sites):
        problem = f"expected {len(sites)} values as --sites {','.join(sites)} names them, got {n_values}"
        raise DataError.in_record(path.name, first.number, first.id, problem, "name every value")


def _make_folders(*parts: Path) -> None:
    for part in parts:
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{part.parent}: can't be made ({error.strerror or error})", "name another folder"
            ) from None


def _whole_line(text: bytes) -> bytes:
    """End a file's last line, which may have no line end, so that another can follow it."""
    return text if not text or text.endswith(b"\n") else text + b"\n"
