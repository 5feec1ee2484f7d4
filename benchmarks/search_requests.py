"""What a study asks of its servers: requests to MLflow and statements to the database, for each trial.

    python benchmarks/search_requests.py FILE --tracking-uri http://HOST:PORT --storage ADDRESS [--trials 5]

Runs a study of small networks in this process, on the first transcripts of a file, and counts. What is asked once for
the study is not counted. The servers are the user's: see docs/cluster.md for how to start them.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import sqlalchemy

from rnatracker import config
from rnatracker.processes.stop import StopSignal
from rnatracker.search import space, tune
from rnatracker.search.definition import open_search
from rnatracker.search.study import StudyRequest, WorkerTask
from rnatracker.search.worker import run_trials, set_up
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.reporting import NullReporter

_SMALL = {"encoding": {"max_length": 200}, "model": {"rnn_hidden": 4}}


class _Count:
    """Counts what is sent from now on."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.statements: Counter[str] = Counter()
        send = requests.Session.send

        def counted(session: requests.Session, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            self.requests[f"{request.method} {_kind(str(request.url))}"] += 1
            return send(session, request, **kwargs)

        requests.Session.send = counted  # type: ignore[assignment, method-assign]
        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", self._statement)

    def _statement(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.statements[statement.split(maxsplit=1)[0].upper()] += 1

    def clear(self) -> None:
        self.requests.clear()
        self.statements.clear()


def _kind(url: str) -> str:
    """Return what a request asks for: its path without what differs between runs."""
    path = re.sub(r"/[0-9a-f]{32}/.*", "/...", urlsplit(url).path)
    path = re.sub(r"^/(api|ajax-api)/2.0/(mlflow/|mlflow-artifacts/)?", "", path)
    return re.sub(r"artifacts/.*", "artifacts/...", path)


def main() -> None:
    """Count what a study of a few trials asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sites", help="names of the sites, with commas")
    parser.add_argument("--tracking-uri", required=True)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    data = {"path": str(options.data)} | ({"sites": options.sites.split(",")} if options.sites else {})
    settings = config.build({"data": data, "train": {"epochs": options.epochs}, **_SMALL}, "benchmark")
    with tempfile.TemporaryDirectory() as name:
        tracking = TrackingSettings(Path(name), options.tracking_uri)
        study = f"requests-{uuid.uuid4().hex[:6]}"
        request = StudyRequest(
            study, settings, space.load("smoke"), tracking, options.storage, options.trials, sampler="random"
        )
        request = type(request)(**{**vars(request), "scheduler": "none"})
        transcripts = tune.read_transcripts(request)
        search = open_search(request, transcripts.digest())
        run = tune.own_run(search, open_tracker(tracking), transcripts)
        context = set_up(WorkerTask(request, run.id, Path(), transcripts.digest(), 1), transcripts, search)
        count, begun = _Count(), time.monotonic()
        run_trials(context, NullReporter(), StopSignal())
        seconds = time.monotonic() - begun
    for what, found in (("requests to MLflow", count.requests), ("statements to the database", count.statements)):
        print(f"{what}, for each of {options.trials} trials: {sum(found.values()) / options.trials:.1f}")
        for kind, n in found.most_common():
            print(f"  {n / options.trials:6.1f}  {kind}")
    print(f"{options.epochs} epochs a trial; {seconds / options.trials:.1f} s a trial")


if __name__ == "__main__":
    main()
