"""Reading files of transcripts: any format to `Transcripts`, or one error that says where and why.

Owns what a sequence and a fraction may be, and the names of the sites. Must not know lines and columns:
The modules of `rnatracker/data/formats/` cut files into records. Read next: `transcripts.py`, `folds.py`.
"""

from __future__ import annotations

import math
import shlex
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rnatracker import site_names
from rnatracker.config import DEFAULT_SITES, DataConfig
from rnatracker.data import sequences
from rnatracker.data.encoding import ANY, UNKNOWN, Codes
from rnatracker.data.formats import known, sums, table
from rnatracker.data.formats.column_names import ANY_NAMES, ColumnNames
from rnatracker.data.formats.header import Columns, header
from rnatracker.data.formats.known import DESCRIPTIONS
from rnatracker.data.formats.record import Record, is_missing, without_stops
from rnatracker.data.formats.repeats import Repeats
from rnatracker.data.sequences import Fault, FaultKind
from rnatracker.data.source import Source, opened
from rnatracker.data.transcripts import Fractions, Transcripts, checked_sites
from rnatracker.errors import DataError

LABELS = ("A", "B", "mean")
"""Which replicate to take, where there are two."""
_SHOWN = 12
"""Values of a record that an error shows."""


@dataclass(frozen=True)
class Problem:
    """A record that training would refuse.

    Attributes:
        kind: what is wrong with it.
        error: what `read` raises.
    """

    kind: FaultKind
    error: DataError


def read(
    path: str | Path,
    *,
    format: str = "auto",  # noqa: A002 - the users' word
    sites: Sequence[str] | None = None,
    labels: str = "mean",
    columns: ColumnNames = ANY_NAMES,
    assumed: Sequence[str] = (),
) -> Transcripts:
    """Read transcripts with measured fractions.

    Args:
        path: the file, gzipped or not.
        format: `port3`, `port6`, `original` or `table`; `auto` recognises it by the content.
        sites: names of the sites in the order of the values. A table names its own, and `sites` then selects
            and orders its columns. None: the file's names.
        labels: `A`, `B` or `mean` (of the two, each normalised) of two replicates.
        columns: which columns of a table hold what, where their names don't say it.
        assumed: what the sites of a file are called that doesn't name them, where that is known from elsewhere.

    Returns:
        Fractions are (N, S) float64 and sum to 1 in each row.

    Raises:
        DataError: naming the file, the record, the rule, the value and the remedy.
    """
    with opened(path) as source:
        loaded = _Loaded(source, format, sites, labels, columns, tuple(assumed))
        if not loaded.has_values:
            raise DataError(
                f"{source.name}: there are no fractions in it, it looks like {loaded.format} "
                f"({DESCRIPTIONS[loaded.format]})",
                "give a file with measured fractions",
            )
        for record in loaded.records:
            loaded.add(record)
            if loaded.problems:
                raise loaded.problems[0].error
        transcripts = loaded.finish()
        if loaded.problems:
            raise loaded.problems[0].error
        return transcripts


def read_for(data: DataConfig, path: str | Path, assumed: Sequence[str] = ()) -> Transcripts:
    """Read transcripts with measured fractions as a run's settings say.

    Args:
        data: the settings.
        path: the file.
        assumed: as for `read`: the sites that a run recorded, which were not always asked for.

    Raises:
        DataError: as `read`.
    """
    columns = ColumnNames(data.id_column, data.sequence_column, data.group_column)
    return read(path, format=data.format, sites=data.sites, labels=data.labels, columns=columns, assumed=assumed)


def read_unlabelled(
    path: str | Path,
    *,
    format: str = "auto",  # noqa: A002
    sites: Sequence[str] | None = None,
    columns: ColumnNames = ANY_NAMES,
) -> Transcripts:
    """Read transcripts for prediction: plain FASTA, or any labelled format.

    Fractions are kept where the file has them and every one is in order; they never make this fail.

    Raises:
        DataError: as `read`, except for fractions.
    """
    with opened(path) as source:
        loaded = _Loaded(source, format, sites, "mean", columns, DEFAULT_SITES, strict_sites=False)
        for record in loaded.records:
            loaded.add(record)
            refused = [p for p in loaded.problems if p.kind not in (FaultKind.ALL_ZERO, FaultKind.BAD_FRACTIONS)]
            if refused:
                raise refused[0].error
        return loaded.finish()


def survey(
    path: str | Path,
    *,
    format: str = "auto",  # noqa: A002
    sites: Sequence[str] | None = None,
    labels: str = "mean",
    columns: ColumnNames = ANY_NAMES,
) -> tuple[Transcripts, list[Problem], str]:
    """Read all that can be read, and list what `read` would refuse.

    Returns:
        The transcripts (ids may be doubled, a refused row of fractions is NaN, an unknown letter is `N`), the
        problems in the file's order, and the format.

    Raises:
        DataError: if the file's lines don't make records.
    """
    with opened(path) as source:
        loaded = _Loaded(source, format, sites, labels, columns)
        for record in loaded.records:
            loaded.add(record)
        return loaded.finish(), loaded.problems, loaded.format


@contextmanager
def verbatim(
    path: str | Path,
    *,
    format: str = "auto",  # noqa: A002
    columns: ColumnNames = ANY_NAMES,
) -> Iterator[tuple[bytes, Iterator[Record]]]:
    """Open a file for copying: its header, which only a table has, and its records as they stand in it.

    Raises:
        DataError: if the file's lines don't make records, while iterating.
    """
    with opened(path) as source:
        loaded = _Loaded(source, format, None, "mean", columns, DEFAULT_SITES, strict_sites=False)
        yield loaded.header, loaded.records


class _Loaded:
    """What has been read of one file so far, each record checked as it comes.

    Sequences go into one growing array of codes: a list of strings would take several times the memory.
    """

    def __init__(
        self,
        source: Source,
        wanted: str,
        sites: Sequence[str] | None,
        labels: str,
        names: ColumnNames,
        assumed: tuple[str, ...] = (),
        *,
        strict_sites: bool = True,
    ) -> None:
        if labels not in LABELS:
            raise DataError(f"--labels {labels}: expected one of {', '.join(LABELS)}")
        self.source = source
        self.labels = labels
        self.format = known.settle(source, wanted)
        self.problems: list[Problem] = []
        self.sites = None if sites is None else checked_sites(sites)
        self.columns: Columns | None = None
        self.repeats: Repeats | None = None
        self.sites_named = sites is not None or self.format == "table"
        if self.format == "table":
            self.columns = header(source, self.sites, names)
            self.sites = self.columns.sites
            self.repeats = Repeats(self.columns)
            records = table.rows(source, self.columns, repeats=self.repeats)
        else:
            _check_no_columns(source, self.format, names)
            records = known.records(source, self.format)
        self.header = self.columns.header if self.columns is not None else b""
        self.grouped = self.columns is not None and self.columns.group is not None
        self.records = without_stops(records, source.remarks)
        self.has_values = self.format != "fasta" and self.sites != ()
        self.strict_sites = strict_sites
        self.left: frozenset[int] = frozenset()
        self.not_words: DataError | None = None
        self.columns_chosen = sites is not None
        self.assumed = assumed
        self.last: Record | None = None
        self.n_replicates = 0
        self.n_ungrouped = 0
        self.numbers: dict[str, int] = {}
        self.ids: list[str] = []
        self.groups: list[str] = []
        self.codes = bytearray()
        self.ends = array("q", [0])
        self.rows: tuple[array[float], array[float]] = (array("d"), array("d"))
        self.totals: tuple[array[float], array[float]] = (array("d"), array("d"))

    def add(self, record: Record) -> None:
        """Check a record and keep it, noting what is wrong with it."""
        first = self.numbers.setdefault(record.id, record.number)
        if first != record.number:
            problem = f"expected different ids, but record {first} has it too"
            self._note(record, Fault(FaultKind.DUPLICATE_ID, problem, "rename one"))
        codes = self._sequence(record)
        if self.has_values and not self.n_replicates:
            self._begin_values(record)
        if self.left:
            self._check_words(record)
            values = (tuple(value for i, value in enumerate(record.values[0]) if i not in self.left),)
            record = replace(record, values=values)
        self.ids.append(record.id)
        self.groups.append(record.group or record.id)
        self.n_ungrouped += not record.group
        self.last = record
        self.codes += codes.data
        self.ends.append(len(self.codes))
        if self.has_values:
            self._fractions(record)

    def _note(self, record: Record, fault: Fault) -> None:
        error = fault.in_record(self.source.name, record.number, record.id)
        self.problems.append(Problem(fault.kind, error))

    def _sequence(self, record: Record) -> Codes:
        codes, fault = sequences.checked(record.sequence)
        if fault is None:
            return codes
        self._note(record, fault)
        return np.where(codes == UNKNOWN, np.uint8(ANY), codes)

    def _fractions(self, record: Record) -> None:
        if len(record.values) != self.n_replicates:
            problem = f"expected {self.n_replicates} measurement(s) as in record 1, got {len(record.values)}"
            self._note(record, Fault(FaultKind.BAD_FRACTIONS, problem))
        for i, label in enumerate("AB"[: self.n_replicates]):
            values = record.values[i] if i < len(record.values) else ()
            row, total, fault = _row(values, self.sites or ())
            self.rows[i].extend(row)
            self.totals[i].append(total)
            if fault and len(record.values) == self.n_replicates and self.labels in ("mean", label):
                if self.n_replicates == 2:
                    fault = replace(fault, problem=f"replicate {label}: {fault.problem}")
                self._note(record, fault)

    def _begin_values(self, record: Record) -> None:
        """Settle, by the first record, how many replicates there are and what the sites are."""
        self.n_replicates = len(record.values)
        if self.labels != "mean" and self.n_replicates < 2:
            raise DataError(
                f"{self.source.name}: expected two replicates for --labels {self.labels}, got one", "leave it out"
            )
        n_values = len(record.values[0])
        if self.format == "table" and self.strict_sites and not self.columns_chosen:
            self._check_columns(record)
        if self.sites is None and n_values == len(self.assumed):
            self.sites = self.assumed
        if self.sites is None and self.strict_sites:
            raise unnamed(self.source.name, record)
        if self.sites is not None and len(self.sites) < 2 and self.strict_sites:
            problem = f"{self.source.name}: expected 2 sites or more, got {', '.join(self.sites)}"
            raise DataError(problem, "add a column for each, or name those that are there with --sites")
        self.has_values = self.sites is not None and len(self.sites) >= 2
        fault = site_names.fault(self.sites or ()) if self.strict_sites else ""
        if fault:  # of a table's columns: names that a user gives were checked before
            raise DataError(f"{self.source.name}: {fault}", "rename the column, or choose others with --sites")

    def _check_columns(self, record: Record) -> None:
        """Leave out columns of words, such as gene symbols, which are no sites: told by the first record.

        Raises:
            DataError: if fewer than two columns are left.
        """
        words = [i for i, value in enumerate(record.values[0]) if math.isnan(_number(value)) and not is_missing(value)]
        names = self.sites or ()
        others = [name for i, name in enumerate(names) if i not in words]
        if words and not any(_has_comma(record.values[0][i]) for i in words):
            problem = f"expected a number for {names[words[0]]}, got {record.values[0][words[0]][:30]!r}"
            choice = (
                f"or where {names[words[0]]} is no site, name those that are: --sites {shlex.quote(','.join(others))}"
            )
            group = f"; where records that share it belong together, add --group-column {shlex.quote(names[words[0]])}"
            remedy = (f"correct it, {choice}" if len(others) > 1 else "correct it") + group
            error = DataError.in_record(self.source.name, record.number, record.id, problem, remedy)
            if self.columns is None or len(others) < 2:
                raise error
            self.not_words = error
            self.left, self.sites = frozenset(words), tuple(others)
            values = tuple(place for i, place in enumerate(self.columns.values) if i not in self.left)
            self.columns = replace(self.columns, sites=self.sites, values=values)

    def _check_words(self, record: Record) -> None:
        """Check that a column that was left out has words only: else the first record's was a mistake in a site."""
        if self.not_words is not None and any(not math.isnan(_number(record.values[0][i])) for i in self.left):
            self.problems.append(Problem(FaultKind.NO_FRACTION, self.not_words))
            self.not_words = None

    def _check_last(self) -> None:
        """Look whether the last record's values are whole: with one cut off they sum to something else than all others.

        Where others' sums differ by more than a hundredth, sums say nothing.
        """
        if self.last is None or not self.strict_sites or not self.has_values:
            return
        for label, totals, values in zip("AB", self.totals, self.last.values, strict=False):
            if self.n_replicates == 2 and self.labels not in ("mean", label):
                continue
            others = np.frombuffer(totals, np.float64)[:-1]
            others = others[np.isfinite(others)]
            if len(others) < 2 or not math.isfinite(totals[-1]):
                continue
            usual = float(np.median(others))
            widest = float(np.abs(others - usual).max())
            rounding = len(values) * 0.5 * 10.0 ** -max(map(_decimals, values))
            if widest <= usual / 100 and abs(totals[-1] - usual) > max(3 * widest, rounding, 1e-9 * usual):
                problem = f"expected values that sum to {usual:.6g} as all others do, got {totals[-1]:.6g}; it is the "
                problem += "last record: the file may be cut off"
                remedy = "fetch it again, or correct or remove the record"
                self._note(self.last, Fault(FaultKind.BAD_FRACTIONS, problem, remedy))
                return

    def _check_sums(self) -> None:
        """Look whether a table's columns, where the user hasn't chosen them, can be fractions of one whole."""
        if self.columns is None or self.columns_chosen or not self.strict_sites or not self.has_values:
            return
        totals = np.frombuffer(self.totals[0], np.float64)
        values = np.frombuffer(self.rows[0], np.float64).reshape(len(totals), -1) * totals[:, None]
        names = self.columns.sites
        found = sums.no_fraction(names, values[np.isfinite(values).all(axis=1)])
        if found is not None:
            name, why = names[found[0]], found[1]
            others = [other for other in names if other != name]
            without = f"if it is no site, name those that are: --sites {shlex.quote(','.join(others))}; "
            remedy = f"if it is one, name them all: --sites {shlex.quote(','.join(names))}"
            problem = f"{self.source.name}: column {name!r} doesn't look like a site's fractions: {why}"
            error = DataError(problem, (without if len(others) > 1 else "") + remedy)
            self.problems.append(Problem(FaultKind.NO_FRACTION, error))

    def finish(self) -> Transcripts:
        """Return all that was added.

        Raises:
            DataError: if nothing was.
        """
        if not self.ids:
            raise DataError(f"{self.source.name}: expected at least one record, got none")
        self._check_last()
        self._check_sums()
        measured = []
        if self.has_values:
            rows = self.rows[: self.n_replicates]
            measured = [np.frombuffer(row, np.float64).reshape(len(self.ids), -1) for row in rows]
        chosen = {"A": measured[:1], "B": measured[1:2], "mean": measured}[self.labels]
        fractions: Fractions | None = np.mean(chosen, axis=0) if chosen else None
        if fractions is not None and not self.strict_sites and not np.isfinite(fractions).all():
            fractions, measured = None, []
        # Where only one replicate was asked for, the other may be unusable: then there is no pair.
        paired = len(measured) == 2 and (self.labels == "mean" or all(np.isfinite(m).all() for m in measured))
        return Transcripts(
            ids=tuple(self.ids),
            codes=np.frombuffer(self.codes, np.uint8),
            offsets=np.frombuffer(self.ends, np.int64),
            sites=(self.sites or ()) if fractions is not None else (),
            fractions=fractions,
            replicates=(measured[0], measured[1]) if paired else None,
            groups=tuple(self.groups) if self.grouped else None,
            sites_named=self.sites_named,
            source=self.source.name,
            columns=self.columns.said() if self.columns is not None else "",
            notes=self._notes(),
        )

    def _notes(self) -> tuple[str, ...]:
        if self.grouped and self.n_ungrouped:
            self.source.remarks["records without a group, each one of its own"] = self.n_ungrouped
        repeats = [f"{self.source.name}: {note}" for note in self.repeats.notes()] if self.repeats is not None else []
        return (*self.source.notes(self.ids[-1], self.ends[-1] - self.ends[-2]), *repeats)


def unnamed(source: str, record: Record) -> DataError:
    """Return the error of a file with values that doesn't say of which sites they are."""
    values = record.values[0]
    shown = " ".join(value[:20] for value in values[:_SHOWN]) + " ..." * (len(values) > _SHOWN)
    names = ",".join(f"site{i + 1}" for i in range(len(values)))
    return DataError.in_record(
        source,
        record.number,
        record.id,
        f"expected sites with names, but the file has none for its {len(values)} values ({shown})",
        f"name them in the order of the values, as in --sites {names}",
    )


def _check_no_columns(source: Source, format: str, names: ColumnNames) -> None:  # noqa: A002
    for option, name in names.given().items():
        raise DataError(
            f"{source.name}: {option} {name} is for tables, and it looks like {format} ({DESCRIPTIONS[format]})",
            f"leave {option} out",
        )


def _row(values: tuple[str, ...], sites: tuple[str, ...]) -> tuple[list[float], float, Fault | None]:
    """Return one measurement normalised to sum 1, what it summed to, and what is wrong with it."""
    nothing, bad = ([math.nan] * len(sites), math.nan), FaultKind.BAD_FRACTIONS
    if len(values) != len(sites):
        problem = f"expected {len(sites)} fractions ({', '.join(sites)}), got {len(values)}"
        return *nothing, Fault(bad, problem, "give a value for each site, and name with --sites as many as there are")
    numbers = [_number(value) for value in values]
    for site, value, number in zip(sites, values, numbers, strict=True):
        if not math.isfinite(number) or number < 0:
            rule = "a number" if math.isnan(number) else "a finite number of 0 or more"
            problem = f"expected {rule} for {site}, got {value[:30]!r}"
            remedy = "write a decimal point" if _has_comma(value) else "correct it or remove the record"
            return *nothing, Fault(bad, problem, remedy)
    total = 0.0
    for number in numbers:  # not `sum`, which since Python 3.12 rounds otherwise: the transcripts' digest hangs on it
        total += number
    if total == 0:
        problem = f"expected a fraction above 0, got {' '.join(values)}"
        return *nothing, Fault(FaultKind.ALL_ZERO, problem, "remove the record")
    if math.isinf(total):
        return *nothing, Fault(bad, f"expected a finite sum, got {' '.join(values)}", "scale them down")
    return [number / total for number in numbers], total, None


def _has_comma(value: str) -> bool:
    """Tell whether a value is a number but for its decimal comma."""
    return value.count(",") == 1 and not math.isnan(_number(value.replace(",", ".")))


def _decimals(value: str) -> int:
    """Return how many digits a written number has behind its point; many where it is written with an exponent."""
    mantissa, exponent, _ = value.lower().partition("e")
    return 12 if exponent else len(mantissa.partition(".")[2])


def _number(value: str) -> float:
    """Read a number; NaN where it is none. Python would admit `1_000` and digits of other scripts."""
    try:
        return float(value) if value.isascii() and "_" not in value else math.nan
    except ValueError:
        return math.nan
