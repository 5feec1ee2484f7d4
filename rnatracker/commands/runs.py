"""`rnatracker runs`.

Owns its options and what it prints. The work is in `rnatracker.listing`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnatracker.commands import common

if TYPE_CHECKING:
    from rnatracker.listing import Row
    from rnatracker.tracking import TrackingSettings

_LIMIT = 20


def runs(
    study: Annotated[str | None, typer.Option(help="Only the runs of this study.", metavar="NAME")] = None,
    where: Annotated[
        str | None,
        typer.Option(help="Only runs for which this holds: MLflow's filters, joined by 'and'.", metavar="FILTER"),
    ] = None,
    sort: Annotated[
        str, typer.Option(help="when, name, pcc, metrics.NAME or params.NAME; the latest or highest first.")
    ] = "when",
    reverse: Annotated[bool, typer.Option("--reverse", help="Sort the other way round.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(help="Rows; 0: all.", min=0, show_default=f"{_LIMIT}, all with --json and --csv"),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="A row for each fold and trial too, not folded under its run.")
    ] = False,
    csv: Annotated[
        str | None, typer.Option(help="Write a table with all parameters and metrics.", metavar="FILE")
    ] = None,
    json_: common.Json = False,
    experiment: common.Experiment = "rnatracker",
    store: common.Store = None,
    tracking_uri: common.TrackingUri = None,
) -> None:
    """List runs: when, state, data, the parameters in which they differ, and their best PCC.

    rnatracker runs --where "metrics.best/pcc_mean > 0.4" --sort pcc
    """
    from rnatracker import listing
    from rnatracker.listing_sources import open_source

    tracking = common.tracking_settings(store, tracking_uri, experiment, False)
    most = limit if limit is not None else (0 if csv or json_ else _LIMIT)
    source = open_source(tracking)
    found: list[Row] = []
    if source is not None:
        early = most if sort == "when" and not (reverse or all_ or study) else 0
        listed = source.runs(where, enough=early or None)
        found = listing.rows(listed, unfold=all_, study=study)
        if sort.startswith(("metric", "param")):
            source.fill([row.run for row in found])
        found = listing.sort(found, sort, reverse=reverse)
        shown = found[: most or None]
        source.fill([row.run for row in shown])
    else:
        shown = []
    if csv is not None:
        _write_csv(shown, Path(csv))
    if json_:
        common.print_json(_as_json(shown, len(found)))
    elif csv is not None:
        common.say(f"{len(shown)} runs in {csv}")
    else:
        _print(shown, len(found), tracking, is_filtered=bool(study or where), unfolded=all_)


def _as_json(shown: list[Row], total: int) -> dict[str, Any]:
    from rnatracker.listing import differing

    return {
        "runs": [record(row) for row in shown],
        "total": total,
        "differing": differing([row.run.params for row in shown]),
    }


def record(row: Row) -> dict[str, Any]:
    """Return a row for a script."""
    run, (pcc, measured_on) = row.run, row.headline
    return {
        "run_id": run.run_id,
        "name": run.name,
        "parent_id": run.parent_id,
        "kind": run.kind,
        "state": run.state,
        "started": _iso(run.started),
        "seconds": None if run.ended is None else (run.ended - run.started) / 1000,
        "study": run.tags.get("rnatracker.study"),
        "data": run.data,
        "data_digest": run.tags.get("rnatracker.data_digest"),
        "split_digest": run.tags.get("rnatracker.split_digest"),
        "replays": run.tags.get("rnatracker.replays"),
        "children": len(row.children),
        "pcc_mean": pcc,
        "measured_on": measured_on,
        "params": run.params,
        "metrics": run.metrics,
    }


def _iso(milliseconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _local(milliseconds: int) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%Y-%m-%d %H:%M")


def _write_csv(shown: list[Row], path: Path) -> None:
    import csv
    import io

    from rnatracker.artifacts import write_text
    from rnatracker.errors import ConfigError

    records = []
    for row in shown:
        flat = record(row)
        params, metrics = flat.pop("params"), flat.pop("metrics")
        flat |= {f"params.{key}": value for key, value in params.items()}
        records.append(flat | {f"metrics.{key}": metrics[key] for key in sorted(metrics)})
    columns = list(dict.fromkeys(key for each in records for key in each))
    columns.sort(key=lambda name: name.startswith("params.") + 2 * name.startswith("metrics."))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    try:
        write_text(path, text.getvalue())
    except OSError as error:
        raise ConfigError(f"--csv {path}: can't be written: {error.strerror or error}") from None


def _print(shown: list[Row], total: int, tracking: TrackingSettings, *, is_filtered: bool, unfolded: bool) -> None:
    from rnatracker.invocation import command

    if not shown:
        if is_filtered:
            common.say("No run is like that.")
            typer.echo(f"Next: {command(['runs'], tracking)}")
        else:
            common.say(f"No runs yet in {tracking.tracking_uri or tracking.store}.")
            typer.echo(f"Next: {command(['train', '--data', 'FILE'], tracking)}")
        return
    hidden = _print_table(shown, f"Runs of {tracking.experiment}")
    if hidden:
        common.say(f"They differ also in {', '.join(hidden)}: see --csv FILE or --json.")
    if len(shown) < total:
        common.say(f"{len(shown)} of {total} runs; --limit 0 shows all.")
    if not unfolded and any(row.children for row in shown):
        common.say("Folds and trials are folded under their run; --all shows each.")
    typer.echo(f"Next: {command(_next(shown), tracking)}")


def _next(shown: list[Row]) -> list[str]:
    """Return what to try: comparing the first two runs that can be compared, else measuring one."""
    able = [row for row in shown if row.headline[0] is not None and row.run.kind in ("train", "cross-validation")]
    for i, row in enumerate(able):
        split = row.run.tags.get("rnatracker.split_digest")
        same = [other.name for other in able[i + 1 :] if other.run.tags.get("rnatracker.split_digest") == split]
        if split and same:
            return ["compare", row.name, same[0]]
    return ["evaluate", able[0].name, "--data", "FILE"] if able else ["ui"]


def _print_table(shown: list[Row], title: str) -> list[str]:
    """Print the table, with as many differing parameters as fit; return those that don't."""
    import shutil
    import sys

    from rnatracker import listing
    from rnatracker.commands.tables import new_table, show

    keys = listing.differing([row.run.params for row in shown])
    short = listing.short_names(keys)
    left = {"run": [row.name for row in shown], "when": [_local(row.run.started) for row in shown]}
    left["state"] = [row.run.state for row in shown]
    left["of it"] = [row.under_it for row in shown]
    data = listing.data_names(row.run for row in shown)
    left["data"] = [data[row.run.run_id] for row in shown]
    right = {
        "PCC": ["-" if row.headline[0] is None else f"{row.headline[0]:.3f}" for row in shown],
        "measured on": [row.headline[1] for row in shown],
    }
    middle = {short[key]: [_value(row.run.params.get(key)) for row in shown] for key in keys}
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - sum(map(_width, [*left.items(), *right.items()]))
        while middle and sum(map(_width, middle.items())) > room:
            middle.popitem()
    table = new_table()
    for name, cells in (left | middle | right).items():
        if any(cells):
            is_number = name == "PCC" or all(_is_number(cell) for cell in cells)
            table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    columns = [cells for cells in (left | middle | right).values() if any(cells)]
    for line in zip(*columns, strict=True):
        table.add_row(*line)
    show(table, title)
    return [key for key in keys if short[key] not in middle]


def _value(text: str | None) -> str:
    """Return a parameter's value in few characters."""
    if text is None:
        return "-"
    try:
        return text if len(text) < 7 else f"{float(text):.4g}"
    except ValueError:
        return text.translate({ord(letter): None for letter in '[]" '}) if text.startswith("[") else text


def _width(column: tuple[str, list[str]]) -> int:
    name, cells = column
    return max(map(len, [name, *cells])) + 2 if any(cells) else 0


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == "-"
    return True
