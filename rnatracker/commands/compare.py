"""`rnatracker compare`.

Owns its options and what it prints. The work is done by `rnatracker.evaluation.compare`.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnatracker.terminal import options, output, progress

if TYPE_CHECKING:
    from rnatracker.evaluation.compare import Comparison
    from rnatracker.evaluation.contrast import Contrast
    from rnatracker.tracking.settings import TrackingSettings


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Two or more runs: ids, names or folders.", **options.RUN, show_default=False),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="Compare the runs on this file, which none of them was trained on.",
            **options.FILE,
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = None,
    plot: Annotated[
        str | None,
        typer.Option(help="Draw the learning curves of the runs into one PNG.", **options.FILE),
    ] = None,
    file_format: options.FileFormat = "auto",
    sites: options.Sites = None,
    labels: options.Labels = "mean",
    id_column: options.IdColumn = None,
    sequence_column: options.SequenceColumn = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap samples of the 95 % intervals.", min=100)] = 2000,
    device: options.Device = "auto",
    json_: options.Json = False,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
) -> None:
    """Compare runs side by side: what differs, their figures, and whether one predicts better.

    rnatracker compare exp1 exp2 --plot curves.png
    """
    from rnatracker.data.formats.column_names import ColumnNames
    from rnatracker.data.source import check_readable

    if plot is not None:
        _check_plot(Path(plot))
    if data is not None:
        check_readable(data)

    from rnatracker.evaluation.compare import compare as compare_runs

    tracking = options.tracking_settings(store, tracking_uri, experiment)
    with progress.progress("predicting") if data else nullcontext() as on_batch:
        found = compare_runs(
            runs,
            tracking,
            data=data,
            resamples=resamples,
            on_batch=on_batch,
            device=device,
            file_format=file_format,
            sites=options.site_names(sites),
            labels=labels,
            columns=ColumnNames(id_column, sequence_column),
        )
    if plot is not None:
        _plot(found, Path(plot))
    if json_:
        output.print_json(_as_json(found, plot))
        return
    _print(found)
    if plot is not None:
        output.tell(f"Learning curves: {plot}")
    output.tell(f"Next: {_next(found, tracking, data)}")


def _check_plot(path: Path) -> None:
    from rnatracker.errors import ConfigError, UsageError

    if path.suffix.lower() != ".png":
        raise UsageError(f"--plot {path}: the picture is a PNG, so its name must end in .png", f"use {path.stem}.png")
    if not path.parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no folder {path.parent}", "make it, or name another file")


def _plot(found: Comparison, path: Path) -> None:
    from rnatracker import plots
    from rnatracker.errors import ConfigError
    from rnatracker.evaluation.compare import curves

    try:
        plots.curves_over_each_other({side.name: curves(side) for side in found.sides}, path)
    except OSError as error:
        raise ConfigError(f"--plot {path}: can't be written: {error.strerror or error}") from None


def _as_json(found: Comparison, plot: str | None) -> dict[str, Any]:
    return {
        "runs": [
            {"name": side.name, "run_id": side.run.id, "kind": side.kind, "status": side.status} for side in found.sides
        ],
        "params": found.params,
        "metrics": found.metrics,
        "best": {key: found.sides[i].name for key, i in found.best.items()},
        "comparable": not found.problems,
        "problems": found.problems,
        "measured_on": found.measured_on,
        "transcripts": found.n_records,
        "reference": found.reference,
        "contrasts": [
            {
                "first": each.first,
                "second": each.second,
                "verdict": each.verdict,
                "text": each.text,
                "differences": [
                    vars(difference) | {"p_corrected": p}
                    for difference, p in zip(each.differences, each.corrected, strict=True)
                ],
            }
            for each in found.contrasts
        ],
        "trained_on_some": found.remembering,
        "warnings": found.warnings,
        "plot": plot,
    }


def _print(found: Comparison) -> None:
    from rnatracker.terminal.tables import new_table, show

    names = [side.name for side in found.sides]
    for warning in found.warnings:
        output.say(f"Note: {warning}")
    if found.params:
        table = new_table()
        for header in ("parameter", *names):
            table.add_column(header)
        for key, values in found.params.items():
            table.add_row(key, *("-" if value is None else value for value in values))
        show(table, "Parameters that differ")
    else:
        output.tell("The parameters that the runs have in common are the same.")
    table = new_table()
    table.add_column("figure")
    for name in names:
        table.add_column(name, justify="right")
    for key, figures in found.metrics.items():
        best = found.best.get(key)
        table.add_row(key, *(_figure(key, value, marked=i == best) for i, value in enumerate(figures)))
    show(table, "Figures, the best with a *" if found.best else "Figures")
    for problem in found.problems:
        output.tell(f"Not comparable{' by their own figures' if found.contrasts else ''}: {problem}")
    for contrast in found.contrasts:
        _print_contrast(contrast, found)
    if found.remembering:
        output.tell(
            f"This is not a fair test: {', '.join(found.remembering)} had some of these transcripts in training and "
            "may remember them. Give --data with transcripts that no run was trained on."
        )
    if len(found.contrasts) > 1:
        output.tell(
            f"Each is compared with {found.reference}, the best of them; p-values are corrected for that choice too."
        )


def _figure(key: str, value: float | None, *, marked: bool) -> str:
    name = key.rpartition("/")[2]
    text = (
        "-"
        if value is None
        else f"{value:g}"
        if name in ("epoch", "trial")
        else f"{value:.{4 if name == 'loss' else 3}f}"
    )
    return f"{text} {'*' if marked else ' '}"


def _print_contrast(contrast: Contrast, found: Comparison) -> None:
    from rnatracker.terminal.tables import new_table, show

    table = new_table()
    for header in ("site", "difference", "95 % interval", "p", "p, corrected"):
        table.add_column(header, justify="left" if header == "site" else "right")
    for difference, p in zip(contrast.differences, contrast.corrected, strict=True):
        if difference.name == "pcc_mean":
            table.add_section()
        interval = "-" if difference.low != difference.low else f"{difference.low:+.3f} to {difference.high:+.3f}"
        table.add_row(
            difference.name.removeprefix("pcc_"), _signed(difference.value), interval, _p(difference.p), _p(p)
        )
    show(
        table,
        f"PCC of {contrast.first} minus that of {contrast.second}: {found.n_records} transcripts, {found.measured_on}",
    )
    output.tell(contrast.text + "\n")


def _signed(value: float) -> str:
    return "-" if value != value else f"{value:+.3f}"


def _p(value: float) -> str:
    return "-" if value != value else f"{value:.3f}" if value >= 0.001 else "<0.001"


def _next(found: Comparison, tracking: TrackingSettings, data: str | None) -> str:
    """Return what to try: promoting the better run, else measuring all on a test file, else more runs."""
    from rnatracker.tracking.hints import command

    if len(found.contrasts) == 1 and not found.remembering and found.contrasts[0].verdict != "alike":
        contrast = found.contrasts[0]
        better = contrast.first if contrast.verdict == "better" else contrast.second
        if not next(side.run for side in found.sides if side.name == better).can_be_registered:
            return f"{command(['evaluate', better], tracking)} --data FILE"
        return command(["promote", better], tracking)
    if (data is None or found.remembering) and not any(side.kind == "study" for side in found.sides):
        return f"{command(['compare', *(side.name for side in found.sides)], tracking)} --data FILE"
    return command(["runs"], tracking)
