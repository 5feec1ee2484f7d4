"""The contract of tracking: what a tracker and a tracked run do, whichever keeps them.

Owns the two base classes, whose docstrings are the contract, what a run is started with, and how one is found by what
a user calls it. Must not know MLflow, the trainer or Optuna. Read next: `rnatracker/tracking/mlflow_tracker.py`, which
keeps runs in MLflow, and `rnatracker/tracking/folders.py`, which keeps them in plain folders.
"""

from __future__ import annotations

import abc
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rnatracker.errors import TrackingError
from rnatracker.processes import identity
from rnatracker.tracking import ui_views
from rnatracker.tracking.filters import Kind
from rnatracker.tracking.listing import Listed, RunList
from rnatracker.tracking.names import MAX_TAG, described
from rnatracker.tracking.run_files import RunFiles
from rnatracker.tracking.tags import Tag

Status = Literal["FINISHED", "FAILED", "KILLED"]
"""How a run may end; KILLED is one that was stopped, by a user or by pruning."""

SUMMARY_STEP = 0
"""Step of figures that a run has once: MLflow draws those of step 0 as bars, run beside run, all others as curves."""


_log = logging.getLogger("rnatracker")


@dataclass(frozen=True)
class DatasetInput:
    """A file of transcripts as the input of a run.

    Attributes:
        name: the file's name.
        digest: what identifies its content, 36 characters at most.
        source: where it lies.
        n_records: how many transcripts it holds.
        context: what the run used it for.
    """

    name: str
    digest: str
    source: str
    n_records: int
    context: str = "training"


@dataclass(frozen=True)
class RunningRun:
    """A run that is RUNNING as far as is recorded.

    Attributes:
        run_id: its id.
        name: its name, after its parent's where it has one.
        tags: its tags.
        last_sign: returns when it, or what was started under it, last wrote something, in seconds since 1970.
    """

    run_id: str
    name: str
    tags: Mapping[str, str]
    last_sign: Callable[[], float]


class NoExperimentError(TrackingError):
    """There is no experiment of that name."""

    def __init__(self, name: str, location: str, names: Sequence[str]) -> None:
        known = ", ".join(sorted(names)[:10]) or "none"
        super().__init__(f"{location}: no experiment {name!r}; there are: {known}", "choose one with --experiment")


class NoRunError(TrackingError):
    """There is no run that is called so; where one was deleted and can be restored, `DeletedRunError`."""


class DeletedRunError(NoRunError):
    """The run was deleted, and can be restored."""


class TrackedRun(abc.ABC):
    """One run: what is known of it, and what is still to be recorded.

    Attributes:
        id: 32 hexadecimal digits.
        name: `exp<N>` or `exp<N>_<log name>`; for a child what it was started as (`fold1`).
    """

    id: str
    name: str

    @property
    @abc.abstractmethod
    def folder(self) -> Path:
        """The local folder whose content is the run's artifacts; `files` names what lies in it."""

    @property
    def files(self) -> RunFiles:
        """The names of its files."""
        return RunFiles(self.folder)

    def check_own(self) -> None:  # noqa: B027 (most runs need no check)
        """Check that its files may be written and deleted: that they lie in its store, not in another one.

        Raises:
            TrackingError: if they don't.
        """

    @property
    @abc.abstractmethod
    def can_be_registered(self) -> bool:
        """Whether a version of a registered model can be made of it."""

    @abc.abstractmethod
    def status(self) -> str:
        """Return RUNNING, FINISHED, FAILED or KILLED."""

    @abc.abstractmethod
    def params(self) -> dict[str, str]:
        """Return the parameters as text (see `as_text`), long ones cut."""

    @abc.abstractmethod
    def tags(self) -> dict[str, str]:
        """Return all tags."""

    @abc.abstractmethod
    def metrics(self) -> dict[str, float]:
        """Return the value of each metric at its last step."""

    @abc.abstractmethod
    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics of one step; cheap, and never the end of a training.

        Values that are not finite are left out. Characters that MLflow doesn't admit in a name become `_`.
        Values may wait until `flush`. Where they can't be written they are kept for the next try, and a
        warning goes to the logger `rnatracker`, once.
        """

    @abc.abstractmethod
    def flush(self) -> None:
        """Write what `log_metrics` still keeps, under the same promise."""

    @abc.abstractmethod
    def history(self, key: str) -> dict[int, float]:
        """Return a metric's values by step; empty if there is no such metric."""

    def logged_steps(self, key: str) -> set[int]:
        """Return the steps at which a metric has been recorded."""
        return set(self.history(key))

    @abc.abstractmethod
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; values beyond MLflow's limit are cut, and say so.

        Raises:
            TrackingError: if the store can't be written.
        """

    def describe(self, markdown: str) -> None:
        """Set the description that MLflow shows above the run, the pictures in `plots/` below it.

        What a user has typed there stays, and ours stands below it. Never the end of a training: what can't be written
        is warned of.
        """
        try:
            tags, text = self.tags(), "\n\n".join([markdown, *self._picture_links()])
            note, mark = described(tags.get(Tag.NOTE, ""), tags.get(Tag.OWN_NOTE, ""), text, MAX_TAG)
            self.set_tags({Tag.NOTE: note, Tag.OWN_NOTE: mark})
        except TrackingError as error:
            _log.warning("%s. The run goes on without its description.", error)

    def _picture_links(self) -> list[str]:
        """Return Markdown for each picture, with the address under which MLflow's UI serves it."""
        names = sorted(path.name for path in self.files.plots.glob("*.png"))
        return [f"![{name}](get-artifact?path=plots%2F{name}&run_uuid={self.id})" for name in names]

    @abc.abstractmethod
    def parent_name(self) -> str | None:
        """Return the name of the run that this one was started under, or None."""

    @abc.abstractmethod
    def children(self) -> dict[str, TrackedRun]:
        """Return the runs started with this one as parent, by name; of one name the latest."""

    @abc.abstractmethod
    def publish(self, *, now: bool = False) -> bool:
        """Upload what has changed in `folder` to a remote store; with a local one it is there already.

        Return whether all is there.

        Cheap enough for every epoch: it does nothing within a minute of the last time, or longer where that took
        long. `finish` uploads all. Never the end of a training: what can't be uploaded is warned of, once, and tried
        again later.

        Args:
            now: upload however short ago the last time was.
        """

    @abc.abstractmethod
    def reopen(self, *, even_finished: bool = False) -> None:
        """Make an interrupted run RUNNING again, as this process's.

        Args:
            even_finished: also one that is FINISHED, as that of a study which is to have more trials.

        Raises:
            TrackingError: if it is FINISHED, or another live process of this machine still runs it.
        """

    @abc.abstractmethod
    def finish(self, status: Status, message: str = "") -> None:
        """End the run and write everything; once both are done, nothing happens.

        The status is written first, and if one thing can't be written the others still are, unless a server has
        stopped answering. After a failure it may be called again. A message from before, as that the run's process
        had died, gives way to this one, even an empty one.

        Raises:
            TrackingError: if the store can't be written; it names the folder where the run's files lie.
        """


class Tracker(abc.ABC):
    """A place that keeps runs.

    Attributes:
        location: what to call that place in messages.
    """

    location: str

    @property
    def is_remote(self) -> bool:
        """Whether other hosts reach its runs and their files too: it is a server."""
        return False

    @abc.abstractmethod
    def start(
        self,
        *,
        log_name: str | None,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        dataset: DatasetInput | None,
        parent: TrackedRun | None = None,
        name: str | None = None,
    ) -> TrackedRun:
        """Start a run, with its parameters and tags recorded and its folder there.

        Args:
            log_name: what the user wants to see in the name: `exp<N>_<log_name>`. N counts up from 1.
            params: parameters; see `as_text` for how values are written.
            tags: tags, beside those that name this process.
            dataset: the data it is trained on.
            parent: the run that this one belongs under.
            name: the whole name, for children (`fold1`); `log_name` is then not looked at.

        Raises:
            ConfigError: if the name can't be a folder's name.
            TrackingError: if the store can't be written. Whatever it is that stops it, no run is left RUNNING.
        """

    @abc.abstractmethod
    def find(self, run: str) -> TrackedRun:
        """Return a run by its id, the first 6 or more characters of it, its name, or an untracked run's folder.

        `exp12` finds `exp12_name` too, and `exp12/fold1` its child. Untracked runs of the store are found beside those
        of MLflow.

        Raises:
            NoRunError: if there is none; it says which there are, or that it was deleted.
            TrackingError: if there is more than one, or the place can't be read.
        """

    @abc.abstractmethod
    def list_runs(self, where: str | None = None, enough: int | None = None) -> RunList:
        """Return the runs that are not deleted, the latest first, with what a list needs of each.

        Args:
            where: a filter; all runs are returned, with whether each matches.
            enough: so many that are nobody's child will do, the latest; all that were started under them are there.

        Raises:
            NoExperimentError: if the experiment isn't there.
            TrackingError: if the filter is bad, or the place can't be read.
        """

    @abc.abstractmethod
    def known_names(self) -> dict[Kind, set[str]]:
        """Return the names of all metrics, parameters and tags that runs which are not deleted have.

        Raises:
            TrackingError: if the place can't be read.
        """

    @abc.abstractmethod
    def fill(self, runs: Sequence[Listed]) -> None:
        """Fill in all parameters and metrics of runs that `list_runs` has returned.

        Raises:
            TrackingError: if the place can't be read.
        """

    @abc.abstractmethod
    def running_runs(self) -> list[RunningRun]:
        """Return the runs, of all experiments, that are RUNNING.

        Raises:
            TrackingError: if the place can't be read.
        """

    @abc.abstractmethod
    def end_stale(self, run_id: str, message: str) -> None:
        """End as FAILED a run whose process is gone; it can be resumed.

        Raises:
            TrackingError: if the place can't be written.
        """

    @abc.abstractmethod
    def model_aliases(self, model: str) -> dict[str, int]:
        """Return which version each alias of a registered model names; empty where there is no such model.

        Raises:
            TrackingError: if the place can't be read.
        """

    @abc.abstractmethod
    def ui_command(self, port: int = 5000) -> str | None:
        """Return the shell command that opens MLflow's UI on this place, or None where it needs none."""

    @abc.abstractmethod
    def ui_url(self, port: int = 5000, view: str = ui_views.RUNS) -> str | None:
        """Return the address of this place's runs in MLflow's UI, or None where there is none.

        Args:
            port: of the UI on this machine.
            view: which view of the runs; see `rnatracker/tracking/ui_views.py`.
        """

    @abc.abstractmethod
    def has_view(self, key: str) -> bool:
        """Tell whether a view of that key is kept."""

    @abc.abstractmethod
    def keep_view(self, key: str, view: str) -> None:
        """Keep a view of the runs, so that `ui_url` can open on it.

        Raises:
            TrackingError: if the store can't be written.
        """


def check_reopenable(run: TrackedRun, *, even_finished: bool = False) -> None:
    """Check that a run may be continued by this process.

    Raises:
        TrackingError: if it has finished, or another live process of this machine runs it.
    """
    status, tags = run.status(), run.tags()
    if status == "FINISHED" and not even_finished:
        raise TrackingError(
            f"run {run.name} ({run.id}) has finished, there is nothing to resume",
            "to train its model further, start a new run with --weights and its checkpoints/last.pt",
        )
    if status == "RUNNING" and identity.is_alive_elsewhere(tags):
        raise TrackingError(
            f"run {run.name} ({run.id}) is still being run by process {tags[identity.PID]} on this machine",
            "stop that first, with Ctrl-C in its terminal",
        )


def rank(run: TrackedRun, called: str) -> int:
    """Return how exactly a run is meant by what a user calls it: 0 by its id, 3 by the number in its name."""
    if run.id == called:
        return 0
    if len(called) >= 6 and run.id.startswith(called):
        return 1
    return 3 if re.fullmatch(r"exp\d+", called) and run.name.startswith(f"{called}_") else 2


def one_of(
    matches: Sequence[TrackedRun], called: str, location: str, latest: Sequence[str], listing: str
) -> TrackedRun:
    """Return the one run that is meant; of several those that are meant most exactly count.

    Args:
        matches: the runs that may be meant.
        called: what the user calls it.
        location: where it was looked for.
        latest: names of the latest runs.
        listing: the command that lists all runs.

    Raises:
        NoRunError: if there is none, naming the latest ones.
        TrackingError: if there are several, naming their ids and parents.
    """
    ranks = [rank(each, called) for each in matches]
    closest = [each for each, own in zip(matches, ranks, strict=True) if own == min(ranks)]
    if len(closest) == 1:
        return closest[0]
    if closest:
        ids = ", ".join(_description(each) for each in closest[:10])
        raise TrackingError(f"{location}: {called} names {len(closest)} runs", f"give one of the ids {ids}")
    if not latest:
        raise NoRunError(f"{location}: no run with the id, name or folder {called}", "there are no runs yet")
    raise NoRunError(
        f"{location}: no run with the id, name or folder {called}; the latest are {', '.join(latest)}",
        f"see all with: {listing}",
    )


def _description(run: TrackedRun) -> str:
    """Return a run's id, and what tells it from others of its name."""
    parent = run.parent_name()
    name = f"{run.name} of {parent}" if parent else run.name
    return f"{run.id} ({name})" if run.can_be_registered else f"{run.id} ({name}), untracked, in {run.folder}"
