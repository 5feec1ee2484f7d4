"""`rnatracker serve`.

Owns its options and what it prints. The work is `rnatracker.serving`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from rnatracker.commands import common
from rnatracker.errors import ConfigError

if TYPE_CHECKING:
    from rnatracker.registry import Registry
    from rnatracker.versions import Version


def serve(
    model: Annotated[
        str, typer.Option(help="champion, challenger, previous, or a version's number.", metavar="MODEL")
    ] = "champion",
    port: Annotated[int, typer.Option(help="Port to answer on.", min=1, max=65535)] = 5001,
    host: Annotated[
        str, typer.Option(help="Address to answer on; 0.0.0.0 lets other machines ask, without any password.")
    ] = "127.0.0.1",
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all.", min=0)] = 0,
    name: common.ModelName = "rnatracker",
    experiment: common.Experiment = "rnatracker",
    store: common.Store = None,
    tracking_uri: common.TrackingUri = None,
) -> None:
    """Answer requests for predictions over HTTP, with MLflow's scoring server; Ctrl-C ends it.

    rnatracker serve
    """
    from rnatracker import serving

    taken = serving.reserve(host, port)
    with taken:
        from rnatracker import version_files
        from rnatracker.device import use_threads
        from rnatracker.registry import Registry

        use_threads(threads)
        registry = Registry(common.tracking_settings(store, tracking_uri, experiment, False), name)
        version = _version(registry, model)
        common.say(f"loading {version.label}, a few seconds ...")
        registry.model(version)
        folder = version_files.folder(registry.backend, version)
        try:
            serving.serve(folder, taken, lambda: _announce(version, host, port))
        except KeyboardInterrupt:
            common.say("ended")


def _version(registry: Registry, model: str) -> Version:
    if re.fullmatch(r"\d+", model):
        return registry.version(int(model))
    if re.fullmatch(r"[a-z][a-z_-]*", model):
        return registry.named(model)
    raise ConfigError(
        f"--model {model}: only registered models are served: champion, challenger, previous, or a version's number; "
        "register a run with: rnatracker promote RUN_ID"
    )


def _announce(version: Version, host: str, port: int) -> None:
    from rnatracker import serving

    address = serving.address_of(host, port)
    typer.echo(f"Serving {version.label} (run {version.run_name}) at {address}; end with Ctrl-C")
    typer.echo(f"Try: {serving.example_request(address)}")
