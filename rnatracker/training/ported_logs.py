"""Log folders of the PyTorch port of RNATracker: read, and imported as runs.

Owns the format of its `log.txt`, which its `train.py` writes, and how its settings and figures are named here. Must
not know MLflow: it speaks to a `Tracker`. Read next: `rnatracker/tracking/contract.py`; `configs/port.yaml`, the
settings that are taken where a log doesn't say.

Two of its figures mean something else than ours, so an imported run says it in its tags and its description:
its validation ran with dropout on (it never calls `model.eval()`), and its losses are sums over a batch, averaged over
batches, where ours are means over transcripts.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rnatracker import config, plain_yaml, plots
from rnatracker.errors import CheckpointError, DataError, TrackingError
from rnatracker.escapes import markdown
from rnatracker.files import write_text
from rnatracker.model import checkpoint
from rnatracker.tracking.contract import TrackedRun, Tracker
from rnatracker.tracking.tags import Tag

_NUMBER = r"([-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf))"
_FIGURE = r"([-+]?(?:\d+\.\d{4}|nan|inf))"  # four digits, so that a torn number isn't taken for a whole one
_HEADER: Mapping[str, str] = {
    "data.path": r'^\[ Using data in "(.*)"\]',
    "n_train": r"^Training size : (\d+)",
    "n_val": r"^Valid\w+ size : (\d+)",
    "encoding.max_length": r"^trim and pad to length (\d+)",
    "train.batch_size": r"^output file directory : .*, batch size : (\d+),",
    "train.lr": rf", learning rate : {_NUMBER},",
    "train.epochs": r", total epochs : (\d+)",
}
_NETWORK: Mapping[str, str] = {
    "model.conv1_channels": r"conv_block1.*?Conv1d\(\d+, (\d+)",
    "model.conv1_kernel": r"conv_block1.*?Conv1d\(.*?kernel_size=\((\d+)",
    "model.conv2_channels": r"conv_block2.*?Conv1d\(\d+, (\d+)",
    "model.conv2_kernel": r"conv_block2.*?Conv1d\(.*?kernel_size=\((\d+)",
    "model.pool": r"MaxPool1d\(kernel_size=(\d+)",
    "model.dropout": rf"Dropout\(p={_NUMBER}",
    "model.rnn_hidden": r"\(gru\): GRU\(\d+, (\d+)",
    "model.attention_size": r"\(attention_w\): Linear\(in_features=\d+, out_features=(\d+)",
    "train.weight_decay": rf"weight_decay: {_NUMBER}",
}
_EPOCH = re.compile(rf"Epoch \[(\d+)/\d+\], Loss: {_FIGURE}")
_VAL_LOSS = re.compile(rf"Val Loss={_FIGURE}")
_PCC = re.compile(r"PCC:\{(.*)\}")
_PCC_ENTRY = re.compile(rf"""(['"])(.*?)\1: (?:np\.float\d+\()?{_NUMBER}\)?(?:, |$)""")


@dataclass
class PortedEpoch:
    """One epoch of a log.

    Attributes:
        epoch: its number.
        train_loss: as printed, a sum over a batch.
        val_loss: as printed, if it was evaluated.
        pcc: PCC of each site as printed, and `overall`; empty if it was not evaluated.
    """

    epoch: int
    train_loss: float
    val_loss: float | None = None
    pcc: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, float]:
        """Return its figures as a row of `plots.learning_curves`, with the mean over sites."""
        row = {"epoch": float(self.epoch), "train_loss": self.train_loss}
        if self.val_loss is not None:
            row["val_loss"] = self.val_loss
        row |= {f"pcc_{site}": value for site, value in self.pcc.items()}
        sites = [value for site, value in self.pcc.items() if site != "overall"]
        if sites:
            row["pcc_mean"] = sum(sites) / len(sites)
        return row

    def metrics(self) -> dict[str, float]:
        """Return its figures under the names by which they are tracked."""
        row = self.row()
        named = {"train/loss": row.pop("train_loss")}
        return named | {f"val/{key.removeprefix('val_')}": value for key, value in row.items() if key != "epoch"}


@dataclass(frozen=True)
class PortedLog:
    """What a log says.

    Attributes:
        source: the file's name, for messages.
        settings: settings under our dotted keys, as far as the log says.
        n_train: transcripts trained on.
        n_val: transcripts validated on.
        history: its epochs; they begin behind 1 where it went on from weights.
    """

    source: str
    settings: dict[str, Any]
    n_train: int
    n_val: int
    history: list[PortedEpoch]

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites, empty if nothing was evaluated."""
        evaluated = next((epoch.pcc for epoch in self.history if epoch.pcc), {})
        return tuple(site for site in evaluated if site != "overall")

    @property
    def end(self) -> str:
        """How it ended, if before its last epoch; else an empty string."""
        last, epochs = self.history[-1].epoch, int(self.settings["train.epochs"])
        return "" if last >= epochs else f"its log ends at epoch {last} of {epochs}"

    def resolved(self) -> dict[str, Any]:
        """Return the settings under dotted keys, with the port's own where the log doesn't say.

        Raises:
            ConfigError: if one is out of range.
        """
        known = dict(self.settings)
        known["data.val"] = round(self.n_val / (self.n_train + self.n_val), 4)
        if self.sites:
            known["data.sites"] = list(self.sites)
            known["train.eval_every"] = next(epoch.epoch for epoch in self.history if epoch.pcc)
        settings = config.merge(config.read(config.find("port")), config.nest(known))
        values = config.build(settings, self.source).flat()
        return {key: values[key] for key in config.flatten(settings)}


def parse_log(text: str, source: str) -> PortedLog:
    """Read a log of the port. One that breaks off is read up to its last whole line.

    Args:
        text: the content of its `log.txt`.
        source: the file's name, for messages.

    Raises:
        DataError: if it isn't such a log, or a line in the middle of it is damaged.
    """
    head, _, _ = text.partition("\nEpoch [")
    found = {key: re.search(pattern, head, re.MULTILINE) for key, pattern in _HEADER.items()}
    for key, match in found.items():
        if match is None:
            first = text.strip().partition("\n")[0][:60]
            raise DataError(
                f"{source}: not a log of the port's train.py: no line matches {_HEADER[key]!r}; it begins "
                f"with {first!r}"
            )
    values = {key: _value(match[1]) for key, match in found.items() if match}
    for key, pattern in _NETWORK.items():
        match = re.search(pattern, head, re.DOTALL)
        if match:
            values[key] = _value(match[1])
    n_train, n_val = int(values.pop("n_train")), int(values.pop("n_val"))
    if not n_train or not n_val:
        raise DataError(f"{source}: expected transcripts to train and to validate on, got {n_train} and {n_val}")
    return PortedLog(source, values, n_train, n_val, _parse_epochs(text, source))


def _parse_epochs(text: str, source: str) -> list[PortedEpoch]:
    history: list[PortedEpoch] = []
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            _parse_line(line.rstrip(), history)
        except ValueError as error:
            if number == len(lines):
                break  # the last line of a run that was killed
            raise DataError(f"{source}, line {number}: {error}, got {line[:80]!r}", "use an unchanged copy") from None
    if not history:
        raise DataError(f"{source}: no epoch was completed, there is nothing to import")
    return history


def _parse_line(line: str, history: list[PortedEpoch]) -> None:
    """Add what a line says to the history.

    Raises:
        ValueError: if it begins as one with figures but is damaged, or out of order.
    """
    if line.startswith("Epoch ["):
        match = _EPOCH.fullmatch(line)
        if not match:
            raise ValueError("expected `Epoch [1/100], Loss: 1.1469`")
        epoch = PortedEpoch(int(match[1]), float(match[2]))
        if history and epoch.epoch != history[-1].epoch + 1:
            raise ValueError(f"expected epoch {history[-1].epoch + 1}")
        history.append(epoch)
    elif line.startswith("Val Loss="):
        match = _VAL_LOSS.fullmatch(line)
        if not match or not history:
            raise ValueError("expected `Val Loss=0.9476` behind an epoch")
        history[-1].val_loss = float(match[1])
    elif line.startswith("PCC:"):
        match = _PCC.fullmatch(line)
        scores = {name: float(value) for _, name, value in _PCC_ENTRY.findall(match[1])} if match else {}
        if "overall" not in scores or len(scores) < 3 or not history:
            raise ValueError("expected `PCC:{'Cytosol': 0.6372, ..., 'overall': 0.5303}` behind an epoch")
        history[-1].pcc = scores


def _value(text: str) -> Any:
    if re.fullmatch(_NUMBER, text):
        return int(text) if text.isdigit() else float(text)
    return text


def import_log_folder(folder: Path, tracker: Tracker) -> TrackedRun:
    """Make a run of a log folder: parameters, figures of all epochs, weights byte for byte, its own log.

    Everything is read and checked before the run is started. A training that was stopped becomes a KILLED run; a folder
    without weights is imported without.

    Args:
        folder: the log folder, `logs/exp0` for one.
        tracker: where to.

    Returns:
        The run, ended.

    Raises:
        DataError: if the folder, its log or a file can't be read as the port's.
        CheckpointError: if one of its files of weights is bad.
        TrackingError: if the run can't be recorded; it is then ended as FAILED.
    """
    log = _read_log(folder)
    settings = log.resolved()
    weights = _checked_weights(folder / "weights", log)
    run = tracker.start(
        log_name=re.sub(r"[^\w.+-]", "_", folder.resolve().name)[:80],
        params=settings,
        tags={
            Tag.KIND: "imported",
            Tag.IMPORTED_FROM: str(folder.resolve()),
            Tag.DATA_PATH: str(log.settings["data.path"]),
            Tag.VALIDATION_DROPOUT: "on",
            Tag.LOSS_UNIT: f"sum over a batch of {log.settings['train.batch_size']} transcripts",
            Tag.SITES: ",".join(log.sites),
        },
        dataset=None,
    )
    try:
        _copy(folder, weights, run.folder)
        write_text(run.folder / "config.yaml", plain_yaml.dump(config.nest(settings)))
        rows = [epoch.row() for epoch in log.history]
        plots.learning_curves(rows, run.folder / "plots" / "learning_curves.png")
        for epoch in log.history:
            run.log_metrics(epoch.metrics(), epoch.epoch)
        run.describe(_description(folder, log, weights))
        run.finish("KILLED" if log.end else "FINISHED", log.end)
    except BaseException as error:
        with contextlib.suppress(TrackingError):  # the first failure is the one to tell
            run.finish("FAILED", f"the import failed: {error}")
        if isinstance(error, OSError):
            raise TrackingError(
                f"{run.folder}: {folder.name} can't be copied there ({error})", "free some space"
            ) from None
        raise
    return run


def _read_log(folder: Path) -> PortedLog:
    path = folder / "log.txt"
    if not path.is_file():
        inside = sorted(each.parent.name for each in folder.glob("*/log.txt"))
        hint = f"give one of its folders: {', '.join(inside[:8])}" if inside else "give a folder such as logs/exp0"
        state = "no log.txt in it" if folder.is_dir() else "no such folder"
        raise DataError(f"{folder}: {state}", hint)
    try:
        return parse_log(path.read_text(encoding="utf-8"), f"{folder.name}/log.txt")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as text ({error})", "use another copy") from None


def _checked_weights(folder: Path, log: PortedLog) -> list[Path]:
    """Return the files of weights in the order of their epochs, each loaded once to see that it is good.

    Raises:
        CheckpointError: if one is bad, or isn't of this log.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("*.pt")):
        loaded = checkpoint.load(path)
        if log.sites and len(loaded.sites) != len(log.sites):
            raise CheckpointError(
                f"{path.name}: has {len(loaded.sites)} sites, but {log.source} has {len(log.sites)} "
                f"({', '.join(log.sites)})",
                "put the files of one run into the folder",
            )
        if loaded.epoch > log.history[-1].epoch or loaded.epoch in found:
            raise CheckpointError(
                f"{path.name}: of epoch {loaded.epoch}, which {log.source} doesn't reach or which is there twice",
                "put the files of one run into the folder",
            )
        found[loaded.epoch] = path
    return [found[epoch] for epoch in sorted(found)]


def _copy(folder: Path, weights: list[Path], to: Path) -> None:
    copies = {path: to / "checkpoints" / path.name for path in weights}
    copies |= {path: to / "tensorboard" / path.name for path in sorted(folder.glob("events.out.tfevents.*"))}
    copies[folder / "log.txt"] = to / "log.txt"
    for source, target in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _description(folder: Path, log: PortedLog, weights: list[Path]) -> str:
    files = ", ".join(path.name for path in weights) or "none were in the folder"
    lines = [
        f"Imported from the log folder {markdown(folder.name)} of the PyTorch port of RNATracker.",
        "",
        f"- data: {markdown(str(log.settings['data.path']))}, {log.n_train} transcripts to train on, {log.n_val} to "
        "validate on",
        "- **its validation ran with dropout on**, so `rnatracker evaluate` gives other PCC than it printed",
        f"- its losses are sums over a batch of {log.settings['train.batch_size']}; divide by that to compare",
        f"- weights: {markdown(files)}",
    ]
    if log.history[0].epoch > 1:
        lines.append(f"- it went on from weights of epoch {log.history[0].epoch - 1}")
    return "\n".join([*lines, f"- {markdown(log.end)}"] if log.end else lines) + "\n"
