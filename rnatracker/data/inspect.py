"""What a file of transcripts holds, before anything is trained on it.

Owns the figures of a report and what they mean. Must not know printing. Read next: `readers.py`, whose
`survey` reads even what training would refuse; `rnatracker/commands/data.py`, which prints the report.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rnatracker import metrics
from rnatracker.config import ModelConfig
from rnatracker.data import similarity
from rnatracker.data.encoding import ANY
from rnatracker.data.folds import default_groups, k_folds, sequence_groups
from rnatracker.data.formats.column_names import ANY_NAMES, ColumnNames
from rnatracker.data.readers import survey
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.errors import DataError

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SHORTEST = ModelConfig().receptive_field
"""Nucleotides below which the default network sees padding too."""
_FOLDS = 5
_IDENTITIES = (0.5, 0.7, 0.8, 0.9)
_EQUAL = 1e-12
"""Fractions that differ by no more than this are equal, apart from rounding."""


@dataclass(frozen=True)
class SiteReport:
    """The fractions of one site.

    Attributes:
        name: of the site.
        mean: over records.
        sd: standard deviation over records.
        constant: True where all records have the same fraction: no PCC is defined then.
        replicate_pcc: PCC between two replicates, the ceiling of a model's PCC; None without two.
    """

    name: str
    mean: float
    sd: float
    constant: bool
    replicate_pcc: float | None


@dataclass(frozen=True)
class FamilyReport:
    """How many transcripts of a file are relatives.

    Attributes:
        families: how many there are at 80 % identity over 80 % of the shorter, those of one transcript included.
        largest: transcripts of the largest.
        of: the id of its first.
        folds: of a division at random.
        in_training: share of the transcripts that have a relative outside of their fold, by the relatives' identity.
    """

    families: int
    largest: int
    of: str
    folds: int
    in_training: dict[str, float]


@dataclass(frozen=True)
class Report:
    """What a file holds. Shares are between 0 and 1, lengths in nucleotides.

    Attributes:
        file: its name.
        format: one of `rnatracker.data.formats.known.DESCRIPTIONS`.
        columns: which column of a table was taken for what; empty where it is no table.
        records: how many.
        groups: how many different groups the file names; None where it names none.
        nucleotides: of all records.
        lengths: quantiles of length, from `0%` (the shortest) to `100%`.
        max_length: what the next two are about.
        records_cut: share of the records that are longer.
        nucleotides_cut: share of the nucleotides that are cut off.
        shorter_than_receptive_field: records that the default network (45 nt) pads to see at all.
        ambiguous_nucleotides: share that is no A, C, G or T.
        ambiguous_records: records that have one or more.
        duplicate_sequences: records whose sequence an earlier one has.
        uniform_records: records with the same fraction at all sites.
        sites: one report for each; none where nothing was measured.
        digest: of ids, sequences and fractions, as a run's tags have it.
        problem_counts: what training would refuse, by kind: `duplicate_id`, `empty_sequence`,
            `unknown_letter`, `all_zero`, `bad_fractions`, `no_fraction` (a column).
        problems: the error of each.
        notes: what was read otherwise than it stands in the file, and what looks cut off.
        relatives: how many transcripts are relatives, where that was asked for.
    """

    file: str
    format: str
    columns: str
    records: int
    groups: int | None
    nucleotides: int
    lengths: dict[str, int]
    max_length: int
    records_cut: float
    nucleotides_cut: float
    shorter_than_receptive_field: int
    ambiguous_nucleotides: float
    ambiguous_records: int
    duplicate_sequences: int
    uniform_records: int
    sites: list[SiteReport]
    digest: str
    problem_counts: dict[str, int]
    problems: list[DataError]
    notes: list[str]
    relatives: FamilyReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON, which knows no NaN: such a figure is None."""
        report = asdict(self) | {"problems": [str(error) for error in self.problems]}
        for site in report["sites"]:
            site.update({key: None for key, value in site.items() if value != value})
        return report


def inspect(
    path: str | Path,
    *,
    max_length: int = 4000,
    format: str = "auto",  # noqa: A002 - the users' word
    sites: list[str] | None = None,
    labels: str = "mean",
    columns: ColumnNames = ANY_NAMES,
    families: bool = False,
) -> Report:
    """Look through a file of any format.

    Args:
        path: the file.
        max_length: nucleotides above which a record would be cut.
        format: its format, or `auto`.
        sites: names of the sites.
        labels: which of two replicates: `A`, `B` or `mean`.
        columns: which columns of a table hold what, where their names don't say it.
        families: look for similar transcripts too.

    Raises:
        DataError: if the file's lines don't make records; what is wrong inside records is in the report.
    """
    transcripts, problems, file_format = survey(path, format=format, sites=sites, labels=labels, columns=columns)
    lengths = transcripts.lengths
    nucleotides = int(lengths.sum())
    ambiguous = np.add.reduceat(np.append(transcripts.codes == ANY, False), transcripts.offsets[:-1], dtype=np.int64)
    ambiguous[lengths == 0] = 0  # reduceat gives an empty record the next one's first nucleotide
    quantiles = np.quantile(lengths, QUANTILES, method="nearest")
    fractions = transcripts.fractions
    return Report(
        file=transcripts.source,
        format=file_format,
        columns=transcripts.columns,
        records=len(transcripts),
        groups=None if transcripts.groups is None else len(set(transcripts.groups)),
        nucleotides=nucleotides,
        lengths={f"{q:.0%}": int(length) for q, length in zip(QUANTILES, quantiles, strict=True)},
        max_length=max_length,
        records_cut=float((lengths > max_length).mean()),
        nucleotides_cut=float((lengths - max_length).clip(min=0).sum() / max(nucleotides, 1)),
        shorter_than_receptive_field=int((lengths < SHORTEST).sum()),
        ambiguous_nucleotides=float(ambiguous.sum() / max(nucleotides, 1)),
        ambiguous_records=int((ambiguous > 0).sum()),
        duplicate_sequences=len(transcripts) - len(set(sequence_groups(transcripts))),
        uniform_records=0 if fractions is None else int((np.ptp(fractions, axis=1) < _EQUAL).sum()),
        sites=_sites(transcripts),
        digest=transcripts.digest(),
        problem_counts=dict(Counter(problem.kind for problem in problems)),
        problems=[problem.error for problem in problems],
        notes=[*transcripts.notes, *filter(None, [metrics.few(len(transcripts)) if fractions is not None else ""])],
        relatives=_relatives(transcripts) if families else None,
    )


def _relatives(transcripts: Transcripts) -> FamilyReport:
    found = similarity.relatives(transcripts)
    sizes = Counter(similarity.families(transcripts.ids, *found.at()))
    n_folds = min(_FOLDS, len(transcripts))
    fold = np.empty(len(transcripts), np.int64)
    for number, members in enumerate(k_folds(len(transcripts), default_groups(transcripts), n_folds, 0)):
        fold[members] = number
    shares = {}
    for identity in _IDENTITIES:
        first, second = found.at(identity)
        parted = fold[first] != fold[second]
        shares[f"{identity:.0%}"] = len(np.union1d(first[parted], second[parted])) / len(transcripts)
    of, largest = sizes.most_common(1)[0]
    return FamilyReport(len(sizes), largest, of, n_folds, shares)


def _sites(transcripts: Transcripts) -> list[SiteReport]:
    if transcripts.fractions is None:
        return []
    whole = transcripts.fractions[np.isfinite(transcripts.fractions).all(axis=1)]
    n_sites = len(transcripts.sites)
    if not len(whole):
        whole = np.full((1, n_sites), np.nan)
    ceiling = _ceiling(transcripts.replicates) if transcripts.replicates is not None else [None] * n_sites
    return [
        SiteReport(name, float(column.mean()), float(column.std()), bool(np.ptp(column) < _EQUAL), pcc)
        for name, column, pcc in zip(transcripts.sites, whole.T, ceiling, strict=True)
    ]


def _ceiling(replicates: tuple[Fractions, Fractions]) -> list[float | None]:
    whole = np.isfinite(np.hstack(replicates)).all(axis=1)
    if not whole.any():
        return [None] * replicates[0].shape[1]
    return [float(pcc) for pcc in metrics.pcc_per_site(replicates[0][whole], replicates[1][whole])]
