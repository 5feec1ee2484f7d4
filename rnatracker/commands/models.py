"""`rnatracker models`: versions, one of them closely, and the way back.

Owns its options and what it prints. The work is done by `rnatracker.registry.registry` and
`rnatracker.registry.promotion`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnatracker.errors import UsageError
from rnatracker.terminal import options, output
from rnatracker.tracking.tags import Tag

if TYPE_CHECKING:
    from rnatracker.registry.registry import Registry
    from rnatracker.registry.version import Version


def models(
    action: Annotated[
        str | None,
        typer.Argument(help="show, for one version; leave out for the list.", metavar="show", show_default=False),
    ] = None,
    version: Annotated[
        str | None,
        typer.Argument(
            help="With show: a version number, champion, challenger or previous.", metavar="VERSION", show_default=False
        ),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Make the previous champion the champion again.")
    ] = False,
    name: options.ModelName = "rnatracker",
    json_: options.Json = False,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
) -> None:
    """List the versions of the registered model, show one, or return to the previous champion.

    rnatracker models

    rnatracker models show 3

    rnatracker models --rollback
    """
    if action not in (None, "show") or (action == "show") != (version is not None) or (rollback and action):
        raise UsageError("rnatracker models: expected nothing, show VERSION, or --rollback")

    from rnatracker.registry.registry import Registry

    tracking = options.tracking_settings(store, tracking_uri, experiment)
    registry = Registry(tracking, name)
    if rollback:
        following = _roll_back(registry, json_)
    elif version is not None:
        following = _show(registry, version, json_)
    else:
        following = _list(registry, json_)
    if not json_:
        from rnatracker.tracking.hints import model_command

        output.tell(f"Next: {model_command(following, tracking, name)}")


def _list(registry: Registry, json_: bool) -> list[str]:
    """Print the versions; return what to type next."""
    versions = registry.versions()
    if json_:
        output.print_json({"model": registry.name, "versions": [_as_json(each) for each in versions]})
        return []
    if not versions:
        output.tell(f"Model {registry.name!r} has no versions yet")
        return ["promote", "RUN_ID"]
    from rnatracker.terminal.tables import print_versions

    print_versions(versions, registry.name)
    return ["models", "show", str(versions[0].number)]


def _show(registry: Registry, reference: str, json_: bool) -> list[str]:
    """Print one version; return what to type next."""
    found = registry.version(int(reference)) if reference.isdigit() else registry.named(reference)
    if json_:
        output.print_json(_as_json(found))
        return []
    from rnatracker.terminal.tables import print_version

    print_version(found)
    return ["evaluate", str(found.number), "--data", "FILE"]


def _roll_back(registry: Registry, json_: bool) -> list[str]:
    """Return to the previous champion and say so; return what to type next."""
    from rnatracker.registry.promotion import roll_back

    now, before = roll_back(registry)
    if json_:
        output.print_json({"champion": now.number, "previous": before.number if before else None})
        return []
    instead = f" in place of version {before.number}, which is previous now" if before else ""
    output.tell(f"{now.label} (run {now.run_name}) is champion again{instead}")
    return ["models"]


def _as_json(version: Version) -> dict[str, Any]:
    return {
        "model": version.name,
        "version": version.number,
        "aliases": list(version.aliases),
        "run_id": version.run_id,
        "run": version.run_name,
        "created": version.created,
        "sites": version.sites,
        "size_bytes": version.size_bytes,
        "metrics": version.metrics,
        "data_digest": version.tags.get(Tag.DATA_DIGEST, ""),
        "split_digest": version.tags.get(Tag.SPLIT_DIGEST, ""),
        "weights_sha256": version.checksums,
        "verdict": version.verdict or None,
    }
