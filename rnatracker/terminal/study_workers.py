"""Who works on a study, as a table on stdout and as JSON.

Owns its layout. Must not compute. Read next: `search/records/workers.py`.
"""

from __future__ import annotations

from typing import Any

from rnatracker.search.records.workers import WorkerAtWork, workers
from rnatracker.search.study import Search
from rnatracker.terminal import output
from rnatracker.terminal.tables import new_table, show


def print_workers(search: Search) -> None:
    """Print a row for each worker, and the logs of those that are jobs."""
    found = workers(search)
    if not found:
        output.tell(f"Nobody works on study {search.request.name}")
        return
    has_jobs = any(each.job for each in found)
    table = new_table()
    for header in ("host", "process", *(["job"] if has_jobs else []), "trial", "at", "last sign", "threads", "on"):
        table.add_column(header, justify="right" if header in ("process", "last sign", "threads") else "left")
    for each in found:
        table.add_row(*_cells(each, has_jobs=has_jobs))
    show(table, f"{output.amount(len(found), 'worker')} of study {search.request.name}")
    for each in found:
        if each.log:
            output.tell(f"Job {each.job}: {each.log}")


def _cells(each: WorkerAtWork, *, has_jobs: bool) -> list[str]:
    trial = f"{each.trial}, fresh seed" if each.is_fresh else str(each.trial)
    threads = "-" if each.threads is None else str(each.threads)
    job = [each.job or "-"] if has_jobs else []
    return [each.host, str(each.pid), *job, trial, each.reached or "-", f"{each.silent:.0f} s", threads, each.device]


def workers_as_json(search: Search) -> dict[str, Any]:
    """Return them for a script."""
    return {"study": search.request.name, "workers": [vars(each) for each in workers(search)]}
