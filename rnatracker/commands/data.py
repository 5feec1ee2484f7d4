"""`rnatracker data`: inspect, simulate, split, download.

Owns their options and what they print. The work is done in `rnatracker/data/`. Must not import anything heavy at
module level.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnatracker.terminal import options, output, progress
from rnatracker.terminal.tables import new_table, show

if TYPE_CHECKING:
    from rnatracker.data.formats.column_names import ColumnNames
    from rnatracker.data.inspect import FamilyReport, Report
    from rnatracker.data.simulate import Simulated
    from rnatracker.terminal.layout import PlainTable

app = typer.Typer(
    cls=output.Group,
    context_settings=output.CONTEXT,
    no_args_is_help=True,
    help="Inspect, simulate, split and download files of transcripts.",
)

File = Annotated[Path, typer.Argument(help="File of transcripts, gzipped or not.", metavar="FILE", parser=options.path)]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]


class SetName(StrEnum):
    """The data sets that can be downloaded."""

    CEFRA_SEQ = "cefra-seq"
    APEX_RIP = "apex-rip"


@app.command("inspect")
def inspect_file(
    file: File,
    max_length: Annotated[
        int, typer.Option(min=1, help="Maximum length in nucleotides; longer transcripts would be cut.")
    ] = 4000,
    file_format: options.FileFormat = "auto",
    sites: options.Sites = None,
    labels: options.Labels = "mean",
    id_column: options.IdColumn = None,
    sequence_column: options.SequenceColumn = None,
    group_column: options.GroupColumn = None,
    families: Annotated[
        bool, typer.Option("--families", help="Look for similar transcripts too; needs MMseqs2.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show what a file contains, and what training would refuse in it."""
    from rnatracker.data.formats.column_names import ColumnNames
    from rnatracker.data.inspect import inspect
    from rnatracker.errors import DataError

    columns = ColumnNames(id_column, sequence_column, group_column)
    names = options.site_names(sites)
    report = inspect(
        file, max_length=max_length, format=file_format, sites=names, labels=labels, columns=columns, families=families
    )
    if as_json:
        output.print_json(report.to_dict())
    else:
        _print_report(report)
    if report.problems:
        more = f" ({len(report.problems) - 1} more)" if len(report.problems) > 1 else ""
        raise DataError(f"{report.problems[0].problem}{more}", report.problems[0].remedy)
    if not as_json and report.sites:
        alike = report.relatives is not None and report.relatives.largest > 1
        _next(_train(file, names, columns) + (" --group-by similarity" if alike else ""))
    elif not as_json:
        output.tell("Next: these transcripts have no measured fractions; rnatracker train needs some")


@app.command()
def simulate(
    out: Annotated[
        Path,
        typer.Argument(
            help="File to write: a table if it ends in .tsv or .csv, else FASTA-like.",
            metavar="OUT",
            parser=options.path,
        ),
    ],
    records: Annotated[int, typer.Option(help="Number of transcripts.")] = 300,
    sites: Annotated[
        str | None,
        typer.Option(help="Names of the sites.", metavar="A,B,...", show_default="Cytosol,Insoluble,Membrane,Nuclear"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same file.")] = 0,
    noise: Annotated[float, typer.Option(help="Noise on the logits, which sets the ceiling of PCC.")] = 0.5,
    median_length: Annotated[int, typer.Option(help="Median length in nucleotides.")] = 2500,
    relatives: Annotated[
        int,
        typer.Option(
            help="How many of them are relatives of others: isoforms that share the 3' end, and paralogs with 5, 10, "
            "20 or 30 % changed.",
            min=0,
        ),
    ] = 0,
    force: Force = False,
) -> None:
    """Write simulated mRNAs whose fractions follow from zipcodes in their UTRs, plus noise."""
    from rnatracker.config import DEFAULT_SITES
    from rnatracker.data.simulate import simulate as simulate_transcripts
    from rnatracker.data.writers import check_absent, delimiter_of, write

    check_absent([out], force=force)
    names = tuple(options.site_names(sites) or DEFAULT_SITES)
    made = simulate_transcripts(
        records, names, seed=seed, noise=noise, median_length=median_length, relatives=relatives
    )
    write(made.transcripts, out)
    _print_simulated(made, out)
    _next(_train(out, None if delimiter_of(out) else names))


@app.command()
def split(
    file: File,
    test: Annotated[float, typer.Option(help="Share of the transcripts for the test part, between 0 and 1.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same split.")] = 0,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder for NAME_train and NAME_test; made if needed.",
            metavar="DIR",
            parser=options.path,
            show_default="that of the file",
        ),
    ] = None,
    train_out: Annotated[
        Path | None, typer.Option(help="File for the training part.", metavar="FILE", parser=options.path)
    ] = None,
    test_out: Annotated[
        Path | None, typer.Option(help="File for the test part.", metavar="FILE", parser=options.path)
    ] = None,
    file_format: options.FileFormat = "auto",
    sites: options.Sites = None,
    id_column: options.IdColumn = None,
    sequence_column: options.SequenceColumn = None,
    group_column: options.GroupColumn = None,
    group_by: options.GroupBy = "group",
    force: Force = False,
) -> None:
    """Split a file into two at random; groups, or transcripts with the same sequence, stay together."""
    from rnatracker.data.formats.column_names import ColumnNames
    from rnatracker.data.split import default_names, split_file

    columns = ColumnNames(id_column, sequence_column, group_column)
    names = options.site_names(sites)
    train_default, test_default = default_names(file, out_dir)
    parts = split_file(
        file,
        train_out or train_default,
        test_out or test_default,
        share=test,
        seed=seed,
        format=file_format,
        sites=names,
        columns=columns,
        group_by=group_by,
        force=force,
    )
    table = _table("part", "records", "file")
    table.add_row("train", f"{parts.n_train:,}", str(parts.train))
    table.add_row("test", f"{parts.n_test:,}", str(parts.test))
    for note in parts.notes:
        output.say(f"Note: {note}")
    show(table)
    what = "families or groups" if group_by == "similarity" else "groups or different sequences"
    output.tell(f"{parts.n_groups:,} {what}, none of them split.")
    _next(_train(parts.train, names, columns) + (" --group-by similarity" if group_by == "similarity" else ""))


@app.command()
def download(
    name: Annotated[SetName, typer.Argument(help="Name of the data set.")],
    to: Annotated[
        Path | None,
        typer.Option(
            help="Folder to save it in.", metavar="DIR", parser=options.path, show_default="~/.cache/rnatracker"
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Address of the folder with the files.", metavar="BASE", show_default="GitHub")
    ] = None,
) -> None:
    """Download a data set of the original RNATracker, and check its content."""
    from rnatracker.data.download import BASE_URL, DATA_SETS, fetch

    data_set = DATA_SETS[name.value]
    with progress.download(data_set.name) as on_bytes:
        path, fetched = fetch(data_set, to, base_url=url or BASE_URL, progress=on_bytes)
    output.tell(f"{path}: {'downloaded' if fetched else 'already there'}, content checked")
    _next(f"data inspect {shlex.quote(str(path))} --sites {','.join(data_set.sites)}")


def _train(file: Path, sites: Sequence[str] | None, columns: ColumnNames | None = None) -> str:
    named = ["--sites", ",".join(sites)] if sites else []
    given = columns.given() if columns is not None else {}
    return shlex.join(["train", "--data", str(file), *named, *(word for pair in given.items() for word in pair)])


def _next(command: str) -> None:
    output.tell(f"Next: rnatracker {command}")


def _table(*headers: str) -> PlainTable:
    table = new_table()
    for header in headers:
        table.add_column(header, justify="left" if header in _WORDS else "right")
    return table


_WORDS = ("site", "part", "file", "zipcodes", "what", "value")


def _print_report(report: Report) -> None:
    facts = _table("what", "value")
    facts.show_header = False
    for key, value in _facts(report):
        facts.add_row(key, value)
    show(facts)
    if report.sites:
        table = _table("site", "mean", "sd", "PCC of replicates")
        for site in report.sites:
            pcc = "-" if site.replicate_pcc is None or site.replicate_pcc != site.replicate_pcc else site.replicate_pcc
            cells = [f"{site.mean:.4f}", f"{site.sd:.4f}", pcc if isinstance(pcc, str) else f"{pcc:.3f}"]
            table.add_row(site.name + (" (constant)" if site.constant else ""), *cells)
        show(table)
    if report.relatives is not None:
        _print_relatives(report.relatives)
    for note in report.notes:
        output.say(f"Note: {note}")
    for problem in report.problems[:5]:
        output.say(f"Training would refuse: {problem}")


def _print_relatives(found: FamilyReport) -> None:
    from rnatracker.data.similarity import said

    output.tell(
        f"{found.families:,} families at {said()}; the largest, that of {found.of}, "
        f"has {output.amount(found.largest, 'transcript')}."
    )
    table = _table("identity", "with a relative in training")
    for identity, share in found.in_training.items():
        table.add_row(f"{identity} or more", f"{share:.1%}")
    show(table, f"Of {found.folds} folds at random, what share of the transcripts that are tested:")
    output.tell("Below about 65 % identity only some relatives are found.")


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    yield "file", f"{report.file} ({report.format})"
    if report.columns:
        yield "columns", report.columns
    yield "records", f"{report.records:,}" + ("" if report.groups is None else f" in {report.groups:,} groups")
    yield "nucleotides", f"{report.nucleotides:,}"
    yield "length", ", ".join(f"{quantile} {length:,}" for quantile, length in report.lengths.items())
    cut = f"{report.records_cut:.1%} of the records, {report.nucleotides_cut:.1%} of the nucleotides"
    yield f"cut at {report.max_length:,} nt", cut
    yield "below 45 nt", f"{report.shorter_than_receptive_field:,} records, shorter than the network's receptive field"
    yield (
        "N or ambiguous",
        f"{report.ambiguous_nucleotides:.3%} of the nucleotides, {report.ambiguous_records:,} records",
    )
    yield "same sequence", f"{report.duplicate_sequences:,} records have that of an earlier one"
    yield "same ids", f"{report.problem_counts.get('duplicate_id', 0):,} records have that of an earlier one"
    if report.sites:
        counts = report.problem_counts
        bad, zero = counts.get("bad_fractions", 0), counts.get("all_zero", 0)
        constant = [site.name for site in report.sites if site.constant]
        yield (
            "fractions",
            f"{zero:,} records all zero, {bad:,} otherwise wrong, {report.uniform_records:,} equal at all sites",
        )
        yield "constant sites", ", ".join(constant) or "none"
    else:
        yield "fractions", "none: a file for prediction"
    yield "digest", report.digest


def _print_simulated(made: Simulated, out: Path) -> None:
    from rnatracker.metrics import few, mean_over_sites, shown

    table = _table("site", "zipcodes", "ceiling of PCC")
    for index, (site, ceiling) in enumerate(zip(made.transcripts.sites, made.ceiling, strict=True)):
        zipcodes = " ".join(zipcode.letters for zipcode in made.zipcodes if zipcode.site == index)
        table.add_row(site, zipcodes, shown(ceiling))
    table.add_section()
    table.add_row("mean", "", shown(mean_over_sites(made.ceiling)))
    show(table, f"{out}: {len(made.transcripts):,} transcripts, {len(made.transcripts.codes):,} nucleotides")
    warning = few(len(made.transcripts))
    if warning:
        output.say(f"Note: {warning}")
