"""Who works on a study: host, job, trial, how far it has come, and when it was last heard of.

Owns what is told of a worker. Must not know torch or typer. Read next: `search/faults/handed_out.py` for how a worker
that is silent is found.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from rnatracker.processes import identity
from rnatracker.search import summary
from rnatracker.search.faults.deaths import SEEN, WORKER
from rnatracker.search.launchers import slurm
from rnatracker.search.optuna_private import signs_of_life
from rnatracker.search.scheduling.fresh import is_fresh, source_of
from rnatracker.search.study import PLACE, Search


@dataclass(frozen=True)
class WorkerAtWork:
    """A worker and its trial.

    Attributes:
        host: its host.
        pid: its process there.
        job: what SLURM calls its job; empty if it is none.
        trial: its trial's number; of a training with a fresh seed that of the trial whose settings it trains.
        is_fresh: whether it is such a training.
        reached: how far the trial has come: `fold 1, epoch 4`.
        silent: seconds since it was last heard of.
        threads: CPU threads of its training.
        device: what it trains on.
        log: where its job's messages are; empty if it is none.
    """

    host: str
    pid: int
    job: str
    trial: int
    is_fresh: bool
    reached: str
    silent: float
    threads: int | None
    device: str
    log: str


def workers(search: Search) -> list[WorkerAtWork]:
    """Return who works on a study, by host and process."""
    signs = signs_of_life(search.storage, search.study)
    logs = {name: str(each.log(name)) for each in slurm.arrays(search) for name in each.names}
    found = []
    for trial in search.running():
        worker, place = trial.user_attrs.get(WORKER) or {}, trial.user_attrs.get(PLACE) or {}
        job = str(place.get("job", ""))
        seen = signs.get(trial.number, time.time() - float(trial.user_attrs.get(SEEN, 0.0)))
        found.append(
            WorkerAtWork(
                str(worker.get(identity.HOST, "unknown")),
                int(worker.get(identity.PID, 0)),
                job,
                source_of(trial)[0] if is_fresh(trial) else trial.number,
                is_fresh(trial),
                summary.reached(trial, search.request.config.train.epochs),
                round(max(seen, 0.0), 1),
                place.get("threads"),
                str(place.get("device", "")),
                logs.get(job, ""),
            )
        )
    return sorted(found, key=lambda each: (each.host, each.pid))
