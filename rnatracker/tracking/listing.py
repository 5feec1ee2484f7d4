"""Runs as rows: what a list of them shows of each, folded, sorted, and the parameters in which they differ.

Owns what a run's headline figure is. Must not know MLflow, nor how rows are printed. Read next: `open.py`, which lists
the runs of all places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from rnatracker.errors import UsageError
from rnatracker.tracking.tags import Tag

TAGS = (
    Tag.PARENT,
    Tag.KIND,
    Tag.STUDY,
    Tag.DATA_DIGEST,
    Tag.SPLIT_DIGEST,
    Tag.SEED,
    Tag.REPLAYS,
    Tag.MESSAGE,
    Tag.PRUNED,
    Tag.PAUSED,
)
"""Tags that a list needs."""
SO_FAR = "val/pcc_mean"
"""Metric whose best value is what an unfinished run has to show for itself."""
HEADLINES = {
    "oof/pcc_mean": "out-of-fold",
    "test/pcc_mean": "its fold",
    "best/pcc_mean": "validation",
}
"""Metrics that may be a run's headline, the first that it has; and what they were measured on."""

_STATES = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "stopped", "RUNNING": "running"}
_NOT_SETTINGS = ("data.path", "fold")
"""Parameters that the columns of data and name show already."""


@dataclass
class Listed:
    """One run in a list.

    Attributes:
        run_id: its id.
        name: its name.
        status: MLflow's status.
        started: ms since 1970; 0 if unknown.
        ended: ms since 1970; None if it hasn't.
        tags: those of `TAGS` that it has.
        params: its parameters; until they are filled in only `data.path`.
        metrics: last values; until they are filled in only those of `HEADLINES`.
        so_far: the best value of `SO_FAR`, where there is none of `HEADLINES`.
        matches: whether it is among those asked for.
        is_tracked: whether it is kept in MLflow, and not in a plain folder.
    """

    run_id: str
    name: str
    status: str
    started: int
    ended: int | None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    so_far: float | None = None
    matches: bool = True
    is_tracked: bool = True

    @property
    def parent_id(self) -> str | None:
        """Id of the run that this one was started under."""
        return self.tags.get(Tag.PARENT)

    @property
    def kind(self) -> str:
        """What it is, as `Tag.KIND` says; empty if not ours."""
        return self.tags.get(Tag.KIND, "")

    @property
    def state(self) -> str:
        """Its status in words."""
        if Tag.PRUNED in self.tags:
            return Tag.PRUNED
        is_paused = self.status == "KILLED" and self.tags.get(Tag.PAUSED)
        return Tag.PAUSED if is_paused else _STATES.get(self.status, self.status.lower())

    @property
    def data(self) -> str:
        """Name of the file of its data."""
        return PurePath(self.params.get("data.path", "")).name

    @property
    def headline(self) -> tuple[float | None, str]:
        """Its mean PCC over sites, and on what that was measured."""
        for key, measured_on in HEADLINES.items():
            if key in self.metrics:
                return self.metrics[key], measured_on
        if self.so_far is None:
            return None, ""
        return self.so_far, "validation, with dropout" if self.kind == "imported" else "validation"


@dataclass(frozen=True)
class Row:
    """A run with what is folded under it.

    Attributes:
        run: the run.
        children: runs started under it that are folded, the latest first.
        parent: the run above it, where it is shown by itself.
    """

    run: Listed
    children: tuple[Listed, ...] = ()
    parent: Listed | None = None

    @property
    def name(self) -> str:
        """Its name, after its parent's where it has one: `exp3/fold1`."""
        return f"{self.parent.name}/{self.run.name}" if self.parent else self.run.name

    @property
    def headline(self) -> tuple[float | None, str]:
        """Its figure; of a study the best of its trials'."""
        if self.run.kind != "study":
            return self.run.headline
        values = [value for value, _ in (each.headline for each in self.children) if value is not None]
        return (max(values), "best trial") if values else (None, "")

    @property
    def folded(self) -> str:
        """What is folded, in words: `3 folds`, `2 of 20 trials`."""
        if not self.children:
            return ""
        kinds = {each.kind for each in self.children}
        kind = kinds.pop() if len(kinds) == 1 else ""
        what = f"{kind or 'run'}{'s' if len(self.children) > 1 else ''}"
        matching = sum(each.matches for each in self.children)
        return (
            f"{len(self.children)} {what}"
            if matching in (0, len(self.children))
            else (f"{matching} of {len(self.children)} {what}")
        )


@dataclass(frozen=True)
class RunList:
    """Runs of one place.

    Attributes:
        runs: the latest first.
        is_partial: whether there are more.
    """

    runs: list[Listed]
    is_partial: bool = False


def rows(runs: Sequence[Listed], *, unfold: bool, study: str | None = None) -> list[Row]:
    """Fold runs under the run they were started under, and leave out what wasn't asked for.

    Args:
        runs: all runs, the latest first.
        unfold: a row for each run that matches; else one for each that is nobody's child and matches, or whose child
            does.
        study: only runs of this study.

    Returns:
        Rows in the runs' order.
    """
    by_id = {run.run_id: run for run in runs}
    children: dict[str, list[Listed]] = {}
    for run in runs:
        if run.parent_id in by_id:
            children.setdefault(str(run.parent_id), []).append(run)

    def belongs(run: Listed) -> bool:
        above = by_id.get(run.parent_id or "")
        return study is None or study in (
            run.tags.get(Tag.STUDY),
            above and above.tags.get(Tag.STUDY),
        )

    if unfold:
        return [
            Row(run, parent=by_id.get(run.parent_id or ""))
            if run.kind != "study"
            else Row(run, tuple(children.get(run.run_id, ())))
            for run in runs
            if run.matches and belongs(run)
        ]
    tops = [Row(run, tuple(children.get(run.run_id, ()))) for run in runs if run.parent_id not in by_id]
    return [row for row in tops if belongs(row.run) and any(run.matches for run in (row.run, *row.children))]


def sort(rows: Iterable[Row], key: str, *, reverse: bool) -> list[Row]:
    """Sort rows; those without a value come last either way.

    Args:
        rows: rows, filled in where the key is a metric or a parameter.
        key: `when`, the latest first; `name`; `pcc`, the best first; `metrics.NAME`, the highest first; `params.NAME`.
        reverse: the other way round.

    Raises:
        TrackingError: if there is no such key.
    """
    value = _sort_value(key)
    known = [(value(row), row) for row in rows]
    having = [(each, row) for each, row in known if each is not None]
    down = (key in ("when", "pcc") or key.startswith("metrics.")) is not reverse
    having.sort(key=lambda pair: pair[0], reverse=down)
    return [row for _, row in having] + [row for each, row in known if each is None]


def _sort_value(key: str) -> Callable[[Row], Any]:
    kind, _, name = key.partition(".")
    if key == "when":
        return lambda row: row.run.started
    if key == "name":
        return lambda row: _natural(row.name)
    if key == "pcc":
        return lambda row: row.headline[0]
    if kind in ("metrics", "metric") and name:
        return lambda row: row.run.metrics.get(name)
    if kind in ("params", "param") and name:
        return lambda row: _natural(row.run.params[name]) if name in row.run.params else None
    raise UsageError(
        f"--sort {key}: unknown", "sort by when, name, pcc, metrics.NAME or params.NAME, as in --sort metrics.val/loss"
    )


def _natural(text: str) -> tuple[tuple[int, float, str], ...]:
    """Return what sorts `exp10` behind `exp9`, and numbers by their value."""
    import re

    try:
        return ((0, float(text), ""),)
    except ValueError:
        parts = re.split(r"(\d+)", text)
        return tuple((0, float(part), "") if part.isdigit() else (1, 0.0, part) for part in parts)


def differing(params: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the parameters that have more than one value among runs, in the order in which they were recorded.

    One that some of them don't have at all, being older or of another kind, doesn't differ by that alone.
    """
    keys = dict.fromkeys(key for each in params for key in each)
    return [
        key
        for key in keys
        if key not in _NOT_SETTINGS
        and not key.startswith(("study.", "blend."))
        and len({each[key] for each in params if key in each}) > 1
    ]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return each dotted key's last part, or the whole key where another ends alike."""
    ends = [key.rpartition(".")[2] for key in keys]
    return {key: end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)}


def data_names(runs: Iterable[Listed]) -> dict[str, str]:
    """Return for each run's id how to call its data: the file's name, with a digest where several have that name."""
    listed = list(runs)
    digests: dict[str, set[str]] = {}
    for run in listed:
        digests.setdefault(run.data, set()).add(run.tags.get(Tag.DATA_DIGEST, "")[:6])
    return {
        run.run_id: f"{run.data} ({run.tags.get(Tag.DATA_DIGEST, '')[:6]})"
        if len(digests[run.data] - {""}) > 1
        else run.data
        for run in listed
    }
