"""`rnatracker serve`.

Owns its options and what it prints. The work is done by `rnatracker.registry.server`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from rnatracker.errors import UsageError
from rnatracker.terminal import options, output

if TYPE_CHECKING:
    from rnatracker.registry.registry import Registry
    from rnatracker.registry.version import Version
    from rnatracker.tracking.settings import TrackingSettings


def serve(
    model: Annotated[
        str,
        typer.Option(
            help="champion, challenger, previous, or a version number.", metavar="MODEL", parser=options.expanded
        ),
    ] = "champion",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 5001,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 also admits other machines, without any password.")
    ] = "127.0.0.1",
    max_body: Annotated[
        float, typer.Option(help="Megabytes that a request's body may have.", min=0.001, metavar="MB")
    ] = 32,
    threads: options.Threads = 0,
    name: options.ModelName = "rnatracker",
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
) -> None:
    """Serve predictions over HTTP, with the requests of MLflow's scoring server, until Ctrl-C.

    rnatracker serve
    """
    from rnatracker.registry import server

    taken = server.reserve(host, port)
    with taken:
        from rnatracker.config import TrainConfig
        from rnatracker.model.device import pick_device
        from rnatracker.model.threads import use_threads
        from rnatracker.registry.registry import Registry

        use_threads(threads)
        tracking = options.tracking_settings(store, tracking_uri, experiment)
        registry = Registry(tracking, name)
        version = _version(registry, model, tracking)
        output.say(f"loading {version.label}, a few seconds ...")
        predictor = registry.model(version).predictor(pick_device(TrainConfig()))
        limit = int(max_body * 1e6)
        try:
            server.serve(predictor, taken, lambda: _announce(version, host, port), host=host, max_body=limit)
        except KeyboardInterrupt:
            output.say("stopped")


def _version(registry: Registry, model: str, tracking: TrackingSettings) -> Version:
    from rnatracker.tracking.hints import model_command

    if re.fullmatch(r"\d+", model):
        return registry.version(int(model))
    if re.fullmatch(r"[a-z][a-z_-]*", model):
        return registry.named(model)
    raise UsageError(
        f"--model {model}: only registered models are served: champion, challenger, previous, or a version number",
        f"register a run with: {model_command(['promote', 'RUN_ID'], tracking, registry.name)}",
    )


def _announce(version: Version, host: str, port: int) -> None:
    from rnatracker.registry import server

    address = server.address_of(host, port)
    output.tell(f"Serving {version.label} (run {version.run_name}) at {address}; end with Ctrl-C")
    output.tell(f"Try: {server.example_request(address)}")
