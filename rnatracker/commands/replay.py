"""`rnatracker replay`.

Owns its options and what it prints. The work is done by `rnatracker.training.replay`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnatracker.choices import Device
from rnatracker.terminal import options, output
from rnatracker.tracking.tags import Tag

if TYPE_CHECKING:
    from rnatracker.tracking.contract import TrackedRun
    from rnatracker.training.agreement import Agreement
    from rnatracker.training.replay import Plan

_SHOWN = 12


def replay(
    run: Annotated[
        str,
        typer.Argument(help="A run: its id, name or folder; a trial as exp5/trial3.", **options.RUN),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="Where the run's data are now, if they were moved. Other data are refused.",
            **options.FILE,
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = None,
    device: Annotated[
        Device | None,
        typer.Option(help="Where to compute.", show_default="as recorded", rich_help_panel=options.COMPUTING_PANEL),
    ] = None,
    jobs: options.Jobs = 1,
    json_: options.Json = False,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
) -> None:
    """Repeat a run from what was logged, and check that its figures agree; exit code 3 if they don't.

    rnatracker replay exp1
    """
    from rnatracker.processes.stop import Interrupted
    from rnatracker.terminal.progress import reporter
    from rnatracker.tracking.hints import command
    from rnatracker.training import agreement
    from rnatracker.training import replay as replaying

    tracking = options.tracking_settings(store, tracking_uri, experiment)
    planned = replaying.plan(run, tracking, data=data, device=device, jobs=jobs)
    for warning in planned.warnings:
        output.say(f"Warning: {warning}")
    try:
        with reporter() as display:
            again = replaying.replay(planned, display)
    except Interrupted as stopped:
        again_command = command(["replay", run], tracking)
        output.say(
            f"Stopped; nothing was compared. Start again with: {again_command}. "
            f"Resume the training with: {stopped.command}"
        )
        raise typer.Exit(130) from None
    found = agreement.compare(planned.original, again)
    again.set_tags({Tag.REPLAY_AGREEMENT: found.words})
    if json_:
        _print_json(planned, again, found)
    else:
        _print(planned, again, found)
    if not found.agrees:
        raise typer.Exit(output.NO)


def _print_json(planned: Plan, again: TrackedRun, found: Agreement) -> None:
    output.print_json(
        {
            "replays": {"run_id": planned.original.id, "name": planned.name},
            "run_id": again.id,
            "name": again.name,
            "warnings": planned.warnings,
            "agrees": found.agrees,
            "agreement": found.words,
            "values": found.n_values,
            "largest_difference": None if found.largest == float("inf") else found.largest,
            "metrics": [
                {"metric": gap.metric, "step": gap.step, "recorded": gap.recorded, "found": gap.found}
                for gap in found.gaps
            ],
        }
    )


def _verdict(found: Agreement) -> str:
    if not found.gaps:
        return "there is nothing to compare"
    if found.agrees:
        return f"the figures agree, {found.words}"
    return f"the figures DON'T agree, they differ by up to {found.largest:.3g}"


def _print(planned: Plan, again: TrackedRun, found: Agreement) -> None:
    from rnatracker.terminal.tables import new_table, show
    from rnatracker.tracking.hints import command

    compared = f"{found.n_values} values of {len(found.gaps)} metrics"
    output.tell(f"{again.name} replays {planned.name}: {_verdict(found)} ({compared})")
    differing = [gap for gap in found.gaps if gap.size > 0]
    if differing:
        table = new_table()
        for header in ("metric", "epoch", "recorded", "replayed", "difference"):
            table.add_column(header, justify="left" if header == "metric" else "right")
        for gap in differing[:_SHOWN]:
            replayed = "-" if gap.found is None else f"{gap.found:.7g}"
            size = "-" if gap.found is None else f"{gap.size:.2g}"
            table.add_row(gap.metric, str(gap.step or ""), f"{gap.recorded:.7g}", replayed, size)
        more = f", the first {_SHOWN} of {len(differing)}" if len(differing) > _SHOWN else ""
        show(table, f"Where each metric differs most{more}")
        if not found.agrees and planned.warnings:
            output.tell("The differences from the record in the warnings above may be the reason.")
    words = ["compare", planned.name, again.name] if differing else ["runs"]
    output.tell(f"Next: {command(words, planned.prepared.request.tracking)}")
