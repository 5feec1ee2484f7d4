"""Watching a study whose workers are jobs of a cluster: it isn't ended by the end of the one who watches.

Owns when to stop watching. Must not know torch or typer. Read next: `slurm.py` for the jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from rnatracker.errors import StudyError
from rnatracker.processes.stop import StopSignal
from rnatracker.search.launchers import slurm
from rnatracker.search.study import Search
from rnatracker.search.tune import StopReason, Watch

_TICK_SECONDS = 0.5
_ASK_SECONDS = 10.0
"""How often SLURM is asked for its queue."""
_SHOWN = 3


class SlurmWorkers:
    """Jobs of SLURM in place of worker processes.

    Args:
        search: the study.
        workers: how many to submit; 0: only watch those that there are.
        options: of sbatch.
        say: told lines for people.
    """

    def __init__(self, search: Search, workers: int, options: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._search, self._workers, self._options, self._say = search, workers, options, say
        self._ended: set[str] = set()

    @property
    def pids(self) -> frozenset[int]:
        """None of this command's processes works on trials."""
        return frozenset()

    def run(self, search: Search, stop: StopSignal, watch: Watch) -> StopReason | None:
        """Submit the jobs, and watch until the study is over, or a stop is asked for.

        Raises:
            StudyError: if they can't be submitted, or all have ended before the study has.
        """
        if self._workers and not self._is_done():
            array = slurm.submit(search, self._workers, self._options)
            self._say(f"submitted {self._workers} workers as job {array.job}; their logs: {array.folder}")
        asked = -_ASK_SECONDS
        while not stop():
            if time.monotonic() - asked >= _ASK_SECONDS:
                asked = time.monotonic()
                with suppress(slurm.SilentError):  # it is asked again
                    if self._is_over(slurm.states(slurm.arrays(search))):
                        return None
            watch(search, None)
            time.sleep(_TICK_SECONDS)
        return StopReason.LEFT

    def _is_done(self) -> bool:
        """Tell whether there is nothing more to do, and nobody works on anything."""
        with self._search.lock():
            self._search.reap()
            return self._search.is_over() and not self._search.running()

    def _is_over(self, alive: Mapping[str, str]) -> bool:
        """Tell whether the study is over; name jobs that have ended before it was."""
        search = self._search
        if self._is_done():
            return True
        arrays = slurm.arrays(search)
        gone = [(name, each.log(name)) for each in arrays for name in each.names if name not in alive]
        for name, log in gone:
            if name not in self._ended and (said := _last_line(log)):
                self._say(f"job {name} has ended: {said} ({log})")
            self._ended.add(name)
        if not alive:
            logs = ", ".join(str(log) for _, log in gone[-_SHOWN:])
            raise StudyError(
                f"study {search.request.name}: all its jobs have ended, and it isn't over; see {logs or 'no logs'}",
                "submit more with --workers N",
            )
        return False


def _last_line(log: Path) -> str:
    """Return what a job has said last, if it was an error."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    told = [line for line in lines if line.startswith(("error:", "Error:")) or "Error: " in line]
    return told[-1].strip() if told else ""
