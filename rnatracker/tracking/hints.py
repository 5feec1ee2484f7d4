"""The commands that users are told to type next.

Owns their wording, so that each finds the store that the run is in. Must not know what they do.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from rnatracker.processes import identity
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag

_WITH_NO_TRACK = ("train", "baseline", "blend", "tune", "study")
"""Commands that have the option; the others find untracked runs without."""

_BEGINNINGS = {"--weights": Tag.WEIGHTS, "--transfer": Tag.TRANSFER}
"""Options of `train` that say what a run begins from, which its config doesn't."""


def resume_command(run: TrackedRun, tracking: TrackingSettings, jobs: int = 1, *, on_cluster: bool = False) -> str:
    """Return what to type to resume a run that was interrupted; of one whose folds are jobs of a cluster, as such."""
    words = ["--jobs", str(jobs)] if jobs > 1 else []
    words += ["--launcher", "slurm"] if on_cluster else []
    return _about_run(["train", "--resume"], run.name, run.folder, words, tracking)


def finish_advice(run: TrackedRun, tracking: TrackingSettings) -> str:
    """Return what to do with a run that has not finished, to have a whole model of it."""
    tags = run.tags()
    if run.status() == "RUNNING" and identity.is_alive_elsewhere(tags):
        return "wait for its end"
    if tags.get(Tag.KIND) in ("baseline", "blend"):
        return f"run it again with: {retrain_command(run, tracking)}"
    if tags.get(Tag.KIND) != "trial":
        return f"finish it first with: {resume_command(run, tracking, on_cluster=bool(tags.get(Tag.JOBS)))}"
    if Tag.PRUNED in tags:
        return f"train its settings to their end with: {retrain_command(run, tracking)}"
    if Tag.REPLAYS in tags:
        return f"replay it again with: {command(['replay', tags[Tag.REPLAYS]], tracking)}"
    return f"resume its study {tags.get(Tag.STUDY, '')}, with its tune command"


def retrain_command(run: TrackedRun, tracking: TrackingSettings) -> str:
    """Return what to type to make a run like this once more; a fold is trained with the others of its run."""
    tags = run.tags()
    if tags.get(Tag.KIND) == "blend":
        return command(["blend", *json.loads(tags.get(Tag.MEMBERS, "[]"))], tracking)
    if tags.get(Tag.KIND) == "baseline":
        kind = tags.get(Tag.BASELINE, "all")
        return command(["baseline", "--config", str(run.files.config), "--kind", kind], tracking)
    if not run.files.config.is_file():
        return replay_command(run.parent_name() or run.name, run.folder.parent, tracking)
    beginning = [(option, tags[tag]) for option, tag in _BEGINNINGS.items() if tag in tags]
    return command(
        ["train", "--config", str(run.files.config), *(word for pair in beginning for word in pair)], tracking
    )


def cross_validate_command(run: TrackedRun, tracking: TrackingSettings) -> str:
    """Return what to type to cross-validate a run's settings."""
    if run.tags().get(Tag.KIND) == "baseline":
        return f"{retrain_command(run, tracking)} --fold 5"
    tags, config = run.tags(), str(run.files.config) if run.files.config.is_file() else "FILE"
    beginning = ["--transfer", tags[Tag.TRANSFER]] if Tag.TRANSFER in tags else []
    return command(["train", "--config", config, *beginning, "--fold", "5"], tracking)


def evaluate_command(name: str, folder: Path, tracking: TrackingSettings) -> str:
    """Return what to type to measure a run on a file that is still to be named."""
    return f"{_about_run(['evaluate'], name, folder, [], tracking)} --data FILE"


def attention_command(source: str, model: str, out: Path | None, tracking: TrackingSettings) -> str:
    """Return what to type to predict once more, with a file of the attention that is still to be named."""
    words = ["predict", source, *([] if model == "champion" else ["--model", model])]
    return f"{command([*words, *(['--out', str(out)] if out else [])], tracking)} --attention FILE"


def replay_command(name: str, folder: Path, tracking: TrackingSettings) -> str:
    """Return what to type to run a recorded run once more."""
    return _about_run(["replay"], name, folder, [], tracking)


def model_command(words: list[str], tracking: TrackingSettings, name: str) -> str:
    """Return a command about the registered model of this name, as `models show 3`."""
    return command([*words, *(["--name", name] if name != "rnatracker" else [])], tracking)


def ui_command(tracking: TrackingSettings, study: str | None = None) -> str:
    """Return what to type to see the store, or a study in it, in MLflow's UI."""
    return command(["ui", *(["--study", study] if study else [])], tracking)


def _about_run(before: list[str], name: str, folder: Path, after: list[str], tracking: TrackingSettings) -> str:
    """Return a command about a run: one without MLflow is named by its folder, which needs no further option."""
    if tracking.enabled:
        return command([*before, name, *after], tracking)
    return shlex.join(["rnatracker", *before, str(folder), *after])


def command(words: list[str], tracking: TrackingSettings) -> str:
    """Return what to type: these words after `rnatracker`, with the options that lead to this store."""
    options = []
    if tracking.store.resolve() != (Path.cwd() / "mlruns").resolve():
        options += ["--store", str(tracking.store)]
    if not tracking.enabled:
        options += ["--no-track"] if words[0] in _WITH_NO_TRACK else []
    else:
        if tracking.tracking_uri:
            options += ["--tracking-uri", re.sub(r"//[^/@]*@", "//USER:PASSWORD@", tracking.tracking_uri)]
        if tracking.experiment != "rnatracker":
            options += ["--experiment", tracking.experiment]
    return shlex.join(["rnatracker", *words, *options])
