"""`rnatracker runs`.

Owns its options and what it prints. The work is in `rnatracker/tracking/listing.py` and
`rnatracker/tracking/open.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnatracker.terminal import options, output
from rnatracker.tracking.tags import Tag

if TYPE_CHECKING:
    from rnatracker.tracking.listing import Row
    from rnatracker.tracking.open import Selection
    from rnatracker.tracking.settings import TrackingSettings

_LIMIT = 20
_RECENT_DAYS = 300
_WIDE = 20
"""Characters of a parameter that is left out first where a terminal is narrow."""


def runs(
    study: Annotated[str | None, typer.Option(help="Only the runs of this study.", metavar="NAME")] = None,
    where: Annotated[
        str | None,
        typer.Option(help="Only runs that match: MLflow's filters, joined by 'and'.", metavar="FILTER"),
    ] = None,
    sort: Annotated[
        str, typer.Option(help="when, name, pcc, metrics.NAME or params.NAME; the latest or highest first.")
    ] = "when",
    reverse: Annotated[bool, typer.Option("--reverse", help="Sort the other way round.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(help="How many rows; 0: all.", min=0, show_default=f"{_LIMIT}, all with --json and --csv"),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="A row for each fold and trial too, not folded under its run.")
    ] = False,
    csv: Annotated[
        str | None,
        typer.Option(help="Write all runs, folds and trials too, with all parameters and metrics.", **options.FILE),
    ] = None,
    json_: options.Json = False,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
) -> None:
    """List runs: when, state, data, the parameters in which they differ, and their best PCC.

    rnatracker runs --where "metrics.best/pcc_mean > 0.4" --sort pcc
    """
    from rnatracker.tracking.open import existing_trackers, select

    tracking = options.tracking_settings(store, tracking_uri, experiment, False)
    maximum = limit if limit is not None else (0 if csv or json_ else _LIMIT)
    trackers = existing_trackers(tracking)
    unfold = all_ or csv is not None  # a table for a notebook has every run
    selection = select(trackers, where=where, study=study, sort=sort, reverse=reverse, limit=maximum, unfold=unfold)
    if csv is not None:
        _write_csv(selection.rows, Path(csv))
    if json_:
        output.print_json(_as_json(selection))
    elif csv is not None:
        output.say(f"{_count(len(selection.rows), 'run')} in {csv}")
    elif not selection.rows:
        _print_none(tracking, is_filtered=bool(study or where))
    else:
        _print(selection, tracking, is_unfolded=all_, is_filtered=bool(where))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _as_json(selection: Selection) -> dict[str, Any]:
    from rnatracker.tracking.listing import differing

    return {
        "runs": [record(row) for row in selection.rows],
        "total": None if selection.is_partial else selection.total,
        "differing": differing([row.run.params for row in selection.rows]),
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
        "tracked": run.is_tracked,
        "started": _iso(run.started),
        "seconds": None if run.ended is None else (run.ended - run.started) / 1000,
        "study": run.tags.get(Tag.STUDY),
        "data": run.data,
        "data_digest": run.tags.get(Tag.DATA_DIGEST),
        "split_digest": run.tags.get(Tag.SPLIT_DIGEST),
        "replays": run.tags.get(Tag.REPLAYS),
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

    when = datetime.fromtimestamp(milliseconds / 1000).astimezone()
    is_recent = (datetime.now().astimezone() - when).days < _RECENT_DAYS
    return when.strftime("%m-%d %H:%M" if is_recent else "%Y-%m-%d")


def _write_csv(shown: list[Row], path: Path) -> None:
    import csv
    import io

    from rnatracker.errors import ConfigError
    from rnatracker.files import write_text

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


def _print_none(tracking: TrackingSettings, *, is_filtered: bool) -> None:
    from rnatracker.tracking.hints import command
    from rnatracker.tracking.names import masked

    if is_filtered:
        output.say("No runs match, nor do folds or trials of one; --json lists the names of figures and settings.")
        output.tell(f"Next: {command(['runs'], tracking)}")
    else:
        output.say(f"No runs yet in {masked(tracking.tracking_uri or str(tracking.store))}.")
        output.tell(f"Next: {command(['train', '--data', 'FILE'], tracking)}")


def _print(selection: Selection, tracking: TrackingSettings, *, is_unfolded: bool, is_filtered: bool) -> None:
    from rnatracker.tracking.hints import command

    rows = selection.rows
    hidden = _print_table(rows, f"Runs of {tracking.experiment}")
    if hidden:
        output.say(f"They also differ in {', '.join(hidden)}: see --csv FILE or --json.")
    if len(rows) < selection.total:
        total = "more" if selection.is_partial else str(selection.total)
        output.say(f"{len(rows)} of {total} runs; --limit 0 shows all.")
    if not is_unfolded and any(row.children for row in rows):
        some = " A run is listed if it matches, or one of these does." if is_filtered else ""
        output.say(f"Folds and trials are folded under their run; --all shows each.{some}")
    output.tell(f"Next: {command(_next(rows), tracking)}")


def _next(shown: list[Row]) -> list[str]:
    """Return what to try: comparing the first two runs that can be compared, else measuring one."""
    kinds = ("train", "cross-validation", "baseline", "blend")
    able = [row for row in shown if row.run.state == "finished" and row.run.kind in kinds]
    for i, row in enumerate(able):
        split = row.run.tags.get(Tag.SPLIT_DIGEST)
        same = [other.name for other in able[i + 1 :] if other.run.tags.get(Tag.SPLIT_DIGEST) == split]
        if split and same:
            return ["compare", row.name, same[0]]
    return ["evaluate", able[0].name, "--data", "FILE"] if able else ["ui"]


def _print_table(shown: list[Row], title: str) -> list[str]:
    """Print the table, with as many columns as fit; return the parameters that don't."""
    import shutil
    import sys

    from rnatracker.terminal.tables import new_table, show
    from rnatracker.tracking import listing

    keys = listing.differing([row.run.params for row in shown])
    names = listing.short_names(keys)
    columns = _columns(shown, {names[key]: key for key in keys})
    if len(shown) > 1 and len(set(columns.get("data", ()))) == 1:
        title += f", data {columns.pop('data')[0]}"
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        by_width = sorted(names.values(), key=lambda name: -_width(name, columns[name]))
        very_wide = [name for name in by_width if _width(name, columns[name]) > _WIDE]
        optional = list(dict.fromkeys([*very_wide, "data", *by_width, "folds or trials", "when"]))
        while optional and sum(_width(name, cells) for name, cells in columns.items()) > width:
            columns.pop(optional.pop(0), None)
    table = new_table()
    for name, cells in columns.items():
        is_number = name == "PCC" or all(_is_number(cell) for cell in cells)
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    for line in zip(*columns.values(), strict=True):
        table.add_row(*line)
    show(table, title)
    return [key for key in keys if names[key] not in columns]


def _columns(shown: list[Row], params: dict[str, str]) -> dict[str, list[str]]:
    """Return the table's columns, those that would be empty left out; `params` are parameters by their short name."""
    from rnatracker.tracking import listing

    data = listing.data_names(row.run for row in shown)
    any_untracked = not all(row.run.is_tracked for row in shown)
    columns = {
        "run": [row.name for row in shown],
        "when": [_local(row.run.started) for row in shown],
        "state": [row.run.state for row in shown],
        "folds or trials": [row.folded for row in shown],
        "tracked": ["yes" if row.run.is_tracked else "no" for row in shown] if any_untracked else [],
        "data": [data[row.run.run_id] for row in shown],
        **{name: [_value(row.run.params.get(key)) for row in shown] for name, key in params.items()},
        "PCC": ["-" if row.headline[0] is None else f"{row.headline[0]:.3f}" for row in shown],
        "measured on": [row.headline[1] for row in shown],
    }
    return {name: cells for name, cells in columns.items() if any(cells)}


def _value(text: str | None) -> str:
    """Return a parameter's value in few characters."""
    if text is None:
        return "-"
    try:
        return text if len(text) < 7 else f"{float(text):.4g}"
    except ValueError:
        pass
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return ",".join(map(str, found)) if isinstance(found, list) else text


def _width(name: str, cells: list[str]) -> int:
    return max(map(len, [name, *cells])) + 3


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == "-"
    return True
