"""`rnatracker promote`.

Owns its options and what it prints. The work is done by `rnatracker.registry.promotion`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnatracker.errors import UsageError
from rnatracker.terminal import options, output, progress

if TYPE_CHECKING:
    from rnatracker.registry.promotion import Promotion
    from rnatracker.tracking.settings import TrackingSettings


def promote(
    run: Annotated[str, typer.Argument(help="The run: its id or name.", **options.RUN, show_default=False)],
    data: Annotated[
        str | None,
        typer.Option(
            help="Test set: labelled transcripts that neither model was trained on. It is kept with the model.",
            **options.FILE,
            show_default="the test set kept with the model",
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="The lower end of the 95 % interval of the difference in mean PCC must be above this.")
    ] = 0.0,
    max_drop: Annotated[
        float,
        typer.Option(
            help="A fall in a site's PCC by more than this, at the upper end of its 95 % interval, is refused."
        ),
    ] = 0.02,
    force: Annotated[
        bool, typer.Option("--force", help="Make it champion, whatever the rule says; needs --reason.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="Why it is forced. Recorded with the verdict.", metavar="TEXT")
    ] = None,
    trained_on: Annotated[
        list[str] | None,
        typer.Option(
            help="The file that the run was trained on, if it was moved. Repeatable.",
            **options.FILE,
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = None,
    no_relatives: Annotated[
        bool,
        typer.Option(
            "--no-relatives",
            help="Refuse a test set with transcripts similar to what a model was trained on; needs MMseqs2.",
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = False,
    no_baseline: options.NoBaseline = False,
    file_format: options.FileFormat = "auto",
    sites: options.Sites = None,
    labels: options.Labels = "mean",
    id_column: options.IdColumn = None,
    sequence_column: options.SequenceColumn = None,
    device: options.Device = "auto",
    name: options.ModelName = "rnatracker",
    json_: options.Json = False,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
) -> None:
    """Register a run's model, and make it champion if it beats the champion on a test set.

    It becomes champion if there is none yet, or if the 95 % interval of the difference in mean PCC lies above
    --margin and no site falls by more than --max-drop. Otherwise it stays challenger, and the exit code is 3.

    rnatracker promote exp3 --data test.tsv
    """
    if force != bool(reason and reason.strip()):
        raise UsageError("--force: give both --force and --reason TEXT, or neither; the reason is recorded")

    from rnatracker.data.source import check_readable

    if data is not None:
        check_readable(data)

    from rnatracker.registry import promotion
    from rnatracker.registry.comparison import PromotionRequest
    from rnatracker.registry.test_set import DataOptions

    tracking = options.tracking_settings(store, tracking_uri, experiment)
    names = options.site_names(sites)
    chosen = None if names is None else tuple(names)
    request = PromotionRequest(
        run,
        tracking,
        name=name,
        data=None if data is None else DataOptions(data, file_format, chosen, labels, id_column, sequence_column),
        trained_on=tuple(trained_on or ()),
        margin=margin,
        max_drop=max_drop,
        force=(reason or "").strip(),
        device=device,
        baselines=not no_baseline,
        no_relatives=no_relatives,
    )
    with progress.progress("predicting") as on_batch:
        result = promotion.promote(request, on_batch)
    if json_:
        output.print_json(_as_json(result))
    else:
        _print(result, tracking)
    if result.verdict is not None and not result.verdict.promoted:
        raise typer.Exit(output.NO)


def _as_json(result: Promotion) -> dict[str, object]:
    from rnatracker.terminal.tables import verdict_cautions

    version = result.version
    return {
        "model": version.name,
        "version": version.number,
        "aliases": list(version.aliases),
        "run_id": version.run_id,
        "verdict": None if result.verdict is None else result.verdict.as_json(),
        "warnings": [] if result.verdict is None else verdict_cautions(result.verdict.as_json()),
    }


def _print(result: Promotion, tracking: TrackingSettings) -> None:
    from rnatracker.terminal.tables import print_verdict
    from rnatracker.tracking.hints import model_command

    version, verdict = result.version, result.verdict

    def print_next(*words: str) -> None:
        output.tell(f"Next: {model_command([*words], tracking, version.name)}")

    if verdict is None:
        output.tell(f"{version.label} (run {version.run_name}) is the champion already; nothing was done")
        print_next("models", "show", str(version.number))
        return
    print_verdict(verdict.as_json())
    if verdict.promoted:
        before = f" in place of version {verdict.champion}" if verdict.champion else ""
        output.tell(f"{version.label} (run {version.run_name}) is now champion{before}: {verdict.reason}")
        print_next("predict", "FILE")
    else:
        output.tell(f"{version.label} (run {version.run_name}) stays challenger: {verdict.reason}")
        print_next("models")
