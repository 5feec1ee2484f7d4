"""Files of weights: saving and loading ours, and loading the port's.

Owns the file format and its version, and how what another version has kept is read. Must not know mlflow. Read next:
`rnatracker/training/trainer.py`, which says what is kept for a resumption; `docs/formats.md`.

A file is `torch.save` of one dictionary of plain values and tensors, so that it loads with `weights_only=True`:
nothing is ever unpickled. The port's files (`epoch`, `model`, `optimizer`) are told by their keys. Their
channels G A T C are permuted to ours, in the weights and in the optimizer's averages alike; that they keep the
5' end, pad in front and have no mask follows from their origin, and their sizes from their tensors' shapes.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from pydantic import BaseModel
from torch import Tensor

from rnatracker import plain_yaml
from rnatracker.config import DEFAULT_SITES, EncodingConfig, ModelConfig
from rnatracker.data.encoding import CHANNELS
from rnatracker.errors import CheckpointError
from rnatracker.files import replacing
from rnatracker.model.network import RNATracker

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

VERSION = 1
_FORMAT = "rnatracker-checkpoint"
_FIELDS = ("model", "encoding", "sites", "weights", "epoch")
_PORT_CHANNELS = "GATC"
_PORT_NAMES = {
    "conv_block1.0": "conv1",
    "conv_block2.0": "conv2",
    "gru": "rnn",
    "attention.attention_w2": "attention_score",
    "attention.attention_w": "attention_hidden",
    "output": "output",
}


@dataclass(frozen=True)
class Checkpoint:
    """All that is needed to predict, and perhaps to resume training.

    Attributes:
        model: sizes of the network.
        encoding: how sequences become its input.
        sites: names of its outputs; for the port's files the default four, or `site1`, `site2`, ...
        weights: the network's tensors by name, on the CPU.
        epoch: epochs completed.
        metrics: validation metrics at that epoch.
        optimizer: the optimizer's state, None where it was not kept.
        progress: what the trainer needs to resume, None where it was not kept.
        settings: all settings of the run as nested plain values; empty for the port's files.
        origin: who wrote the file.
    """

    model: ModelConfig
    encoding: EncodingConfig
    sites: tuple[str, ...]
    weights: dict[str, Tensor]
    epoch: int
    metrics: dict[str, float] = field(default_factory=dict)
    optimizer: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    origin: Literal["rnatracker", "port"] = "rnatracker"

    def named(self, sites: tuple[str, ...]) -> Checkpoint:
        """Return the port's checkpoint with these sites as its outputs, since its files name none.

        Any other checkpoint, or another number of sites, is returned as it is.
        """
        if self.origin != "port" or len(sites) != len(self.sites):
            return self
        return replace(self, sites=sites)

    def network(self) -> RNATracker:
        """Build the network with these weights, on the CPU, in evaluation mode.

        Whichever kernel it was trained with, it is computed with what suits this machine.
        """
        model = RNATracker(self.model.model_copy(update={"kernel": "auto"}), len(self.sites))
        model.load_state_dict(self.weights)
        return model.eval()


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint to a temporary name beside `path`, flush it to the disk, and rename it.

    Raises:
        OSError: if it can't be written, a full disk among the reasons; `path` is then as it was.
    """
    content = {
        "format": _FORMAT,
        "version": VERSION,
        "model": checkpoint.model.model_dump(mode="json"),
        "encoding": checkpoint.encoding.model_dump(mode="json"),
        "sites": list(checkpoint.sites),
        "weights": checkpoint.weights,
        "epoch": checkpoint.epoch,
        "metrics": checkpoint.metrics,
        "optimizer": checkpoint.optimizer,
        "progress": checkpoint.progress,
        "settings": checkpoint.settings,
    }
    buffer = io.BytesIO()  # torch.save would hide what went wrong with a file
    torch.save(content, buffer)
    with replacing(path) as file:
        file.write(buffer.getbuffer())


def load(path: Path) -> Checkpoint:
    """Read a file of weights, ours or the PyTorch port's, onto the CPU.

    Raises:
        CheckpointError: if it is missing, truncated, no checkpoint, of an unknown version, holds anything but
            plain values and tensors, or its tensors don't have the sizes that it states.
    """
    content = _read(path)
    if content.get("format") == _FORMAT:
        checkpoint = _ours(content, path)
    elif "format" not in content and {"epoch", "model"} <= content.keys() and isinstance(content["model"], dict):
        checkpoint = _from_port(content, path)
    else:
        raise CheckpointError(
            f"{path.name}: not a file of RNATracker weights; its keys are {', '.join(map(str, content))[:200]}"
        )
    _check_weights(checkpoint, path)
    return checkpoint


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file of weights")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PyTorch warns of is refused below, in our words
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f" (it asks for {named[1]})" if named else ""
        raise CheckpointError(
            f"{path.name}: refused, since it holds more than plain values and tensors, or is no checkpoint at "
            f"all{what}: loading it could run code",
            "use a file that rnatracker or the PyTorch port has written",
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
        raise CheckpointError(
            f"{path.name}: can't be read{reason}; it is truncated or no checkpoint at all", "use another copy"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name}: not a checkpoint: expected a dictionary, got {type(content).__name__}")
    return content


def _ours(content: dict[str, Any], path: Path) -> Checkpoint:
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path.name}: checkpoint version {content.get('version')!r} is unknown: this rnatracker reads version "
            f"{VERSION}",
            "use the rnatracker that wrote it, or a newer one",
        )
    missing = [name for name in _FIELDS if name not in content]
    if missing:
        raise CheckpointError(f"{path.name}: incomplete checkpoint, {missing[0]} is missing", "use another copy")
    _check_kinds(content, path)
    for section, settings in (("model", ModelConfig), ("encoding", EncodingConfig)):
        _check_known(section, content[section], settings, path)
    try:
        return Checkpoint(
            model=ModelConfig.model_validate(content["model"]),
            encoding=EncodingConfig.model_validate(content["encoding"]),
            sites=tuple(content["sites"]),
            weights=content["weights"],
            epoch=int(content["epoch"]),
            metrics=content.get("metrics") or {},
            optimizer=content.get("optimizer"),
            progress=content.get("progress"),
            settings=content.get("settings") or {},
        )
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split("\n")[1:3]) or str(error)
        raise CheckpointError(f"{path.name}: damaged checkpoint: {reason}", "use another copy") from None


def _check_known(section: str, values: object, settings: type[BaseModel], path: Path) -> None:
    """Check that a file has no settings that this version doesn't have: the network would be another one."""
    unknown = sorted(map(str, values.keys() - settings.model_fields.keys())) if isinstance(values, dict) else []
    if unknown:
        names = ", ".join(f"{section}.{name}" for name in unknown)
        raise CheckpointError(
            f"{path.name}: it was trained with {names}, which this rnatracker does not know",
            "use the rnatracker that wrote it, or a newer one",
        )


def from_fields(kind: type[T], values: object, place: str) -> T:
    """Make a dataclass of what a file of any version has kept of it.

    Fields that this version doesn't have are left out, those that the file doesn't have get their defaults.

    Args:
        kind: the dataclass.
        values: its fields' values by name.
        place: what to call it in an error.

    Raises:
        CheckpointError: if a field without a default is missing, or these are no values by name.
    """
    if not isinstance(values, Mapping):
        raise CheckpointError(f"damaged checkpoint: {place} is not what it should be", "use another copy")
    known = [each for each in fields(kind) if each.init]
    for each in known:
        if each.name not in values and each.default is MISSING and each.default_factory is MISSING:
            raise CheckpointError(f"damaged checkpoint: {place}.{each.name} is missing", "use another copy")
    return kind(**{each.name: values[each.name] for each in known if each.name in values})


def _check_kinds(content: dict[str, Any], path: Path) -> None:
    """Check that what a file keeps is of the kind that is expected, however it came to be."""
    optimizer = content.get("optimizer")
    sound = {
        "weights": isinstance(content["weights"], dict),
        "settings": isinstance(content.get("settings") or {}, dict),
        "metrics": isinstance(content.get("metrics") or {}, dict),
        "progress": isinstance(content.get("progress") or {}, dict),
        "optimizer": optimizer is None or (isinstance(optimizer, dict) and {"state", "param_groups"} <= set(optimizer)),
    }
    for name, is_sound in sound.items():
        if not is_sound:
            raise CheckpointError(
                f"{path.name}: damaged checkpoint: {name} is not what it should be", "use another copy"
            )


def _from_port(content: dict[str, Any], path: Path) -> Checkpoint:
    weights = {_rename(name, path): tensor for name, tensor in content["model"].items()}
    try:
        n_sites, _ = weights["output.weight"].shape
        model = ModelConfig(
            conv1_channels=weights["conv1.weight"].shape[0],
            conv1_kernel=weights["conv1.weight"].shape[2],
            conv2_channels=weights["conv2.weight"].shape[0],
            conv2_kernel=weights["conv2.weight"].shape[2],
            rnn_hidden=weights["rnn.weight_hh_l0"].shape[1],
            attention_size=weights["attention_hidden.weight"].shape[0],
            masked=False,
        )
        order = [_PORT_CHANNELS.index(channel) for channel in CHANNELS]
        weights["conv1.weight"] = weights["conv1.weight"][:, order].contiguous()
        optimizer = _permute_optimizer(content.get("optimizer"), order)
    except (KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{path.name}: not the port's network: {error} is missing or of another shape; expected two "
            "convolutions, a GRU, attention and an output layer"
        ) from None
    sites = DEFAULT_SITES if n_sites == len(DEFAULT_SITES) else tuple(f"site{i + 1}" for i in range(n_sites))
    return Checkpoint(
        model=model,
        encoding=EncodingConfig(max_length=4000, keep="5p"),
        sites=sites,
        weights=weights,
        epoch=int(content["epoch"]),
        optimizer=optimizer,
        origin="port",
    )


def _rename(name: str, path: Path) -> str:
    for old, new in _PORT_NAMES.items():
        if str(name).startswith(old + "."):
            return new + str(name).removeprefix(old)
    raise CheckpointError(f"{path.name}: not the port's network: unknown tensor {name}")


def _permute_optimizer(optimizer: dict[str, Any] | None, order: list[int]) -> dict[str, Any] | None:
    """Permute the channels of the first convolution in its running averages; it is parameter 0 there and here."""
    if not optimizer or 0 not in optimizer.get("state", {}):
        return optimizer
    first = {
        key: value[:, order].contiguous() if isinstance(value, Tensor) and value.ndim == 3 else value
        for key, value in optimizer["state"][0].items()
    }
    return {**optimizer, "state": {**optimizer["state"], 0: first}}


def _check_weights(checkpoint: Checkpoint, path: Path) -> None:
    with torch.device("meta"):
        expected = RNATracker(checkpoint.model, len(checkpoint.sites)).state_dict()
    for name, tensor in expected.items():
        in_file = checkpoint.weights.get(name)
        shape = tuple(in_file.shape) if isinstance(in_file, Tensor) else "none"
        if shape != tuple(tensor.shape):
            raise CheckpointError(
                f"{path.name}: tensor {name} should have the shape {tuple(tensor.shape)} by the file's own settings, "
                f"got {shape}",
                "use another copy",
            )
        if not torch.isfinite(checkpoint.weights[name]).all():
            raise CheckpointError(
                f"{path.name}: tensor {name} holds values that are no numbers: its training had diverged",
                "use weights of an earlier epoch",
            )
    extra = sorted(set(checkpoint.weights) - set(expected))
    if extra:
        raise CheckpointError(f"{path.name}: tensor {extra[0]} has no place in the network its settings describe")


def check_fits(
    checkpoint: Checkpoint,
    model: ModelConfig,
    encoding: EncodingConfig,
    sites: tuple[str, ...] | None,
    file: str,
    option: str = "--weights",
) -> None:
    """Check that a checkpoint, read from a file of this name, can be trained further under these settings.

    Args:
        checkpoint: what was read.
        model: sizes of the network that is to be trained.
        encoding: how it is to see sequences.
        sites: its sites; None: they may be others.
        file: the file's name.
        option: what asked for the checkpoint.

    Raises:
        CheckpointError: naming the first setting that differs, with both values.
    """
    pairs = [
        *((f"model.{key}", value, getattr(model, key)) for key, value in checkpoint.model if key != "kernel"),
        *((f"encoding.{key}", value, getattr(encoding, key)) for key, value in checkpoint.encoding),
    ]
    if sites is not None:
        pairs.append(("sites", ",".join(checkpoint.sites), ",".join(sites)))
    for key, in_file, asked in pairs:
        if in_file != asked:
            before, now = (each if key == "sites" else plain_yaml.on_one_line(each) for each in (in_file, asked))
            remedy = f"--sites {before}" if key == "sites" else f"--set {key}={before}"
            raise CheckpointError(
                f"{file}: these weights were trained with {key} {before}, but {now} is asked for",
                f"use {remedy}, or train without {option}",
            )
