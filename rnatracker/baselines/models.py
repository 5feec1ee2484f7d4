"""Models without a network: linear ones and boosted trees, and the file of one.

Owns what each looks at, how it predicts, and the file's format. Must not know how they are trained, runs, or mlflow.
Read next: `fit.py`, which trains them; `docs/baselines.md`.

A file is numpy's `.npz`: arrays, numbers and texts, read without pickle. LightGBM's trees are in it as the text that
LightGBM itself reads and writes.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
import numpy.typing as npt

from rnatracker.baselines import trees
from rnatracker.choices import BaselineKind
from rnatracker.data.features import codons
from rnatracker.data.features.kmers import Features, columns, words
from rnatracker.data.transcripts import Fractions
from rnatracker.errors import CheckpointError
from rnatracker.files import replacing

SUFFIX = ".npz"
"""How the name of such a file ends."""
KINDS: tuple[BaselineKind, ...] = get_args(BaselineKind)
BOOSTED: tuple[BaselineKind, ...] = ("kmer-boosting", "codon-boosting")
"""Kinds that are boosted trees."""
VERSION = 1
RIDGE_K = 3
"""The longest words that the ridge regression looks at."""
LENGTH_POWERS = 3
"""The highest power of the standardised logarithm of the length."""
_FORMAT = "rnatracker-baseline"
_UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, TypeError, NotImplementedError, RuntimeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What the reading of a damaged file ends with."""
_LEAST = 1e-4
"""The smallest fraction that a linear model predicts: below, it has none of its own."""
_MOST_BYTES = 1 << 30
"""Unpacked size above which a file is none of ours."""
_MOST_SIZED = 3.0
"""Standard deviations from the mean beyond which a length counts as that: a cubic grows without bound."""


class Baseline(Protocol):
    """A model without a network."""

    @property
    def kind(self) -> BaselineKind:
        """What it is."""

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of its outputs."""

    def named(self, sites: tuple[str, ...]) -> Baseline:
        """Return itself: it knows its sites' names."""

    def predict(self, features: Features) -> Fractions:
        """Return predicted fractions, (N, S) float64; rows sum to 1."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what its file holds of it."""


def feature_names(kind: BaselineKind) -> list[str]:
    """Return the names of the columns of `tree_design`."""
    return [*words(), "log_length", *(codons.NAMES if kind == "codon-boosting" else ())]


def tree_design(kind: BaselineKind, features: Features) -> npt.NDArray[np.float32]:
    """Return what boosted trees look at, float32.

    Args:
        kind: which trees.
        features: the transcripts.

    Returns:
        Shares of all words of 1 to 5 letters and log length, (N, 1365); with `codon-boosting` also what the longest
        open reading frames hold, (N, 1437).
    """
    of_words = [features.frequencies, features.log_length[:, None].astype(np.float32)]
    return np.hstack([*of_words, features.frames] if kind == "codon-boosting" else of_words)


def linear_design(kind: BaselineKind, features: Features, center: float, scale: float) -> Fractions:
    """Return what a linear model looks at, (N, C) float64; of the mean, nothing: (N, 0).

    Args:
        kind: which.
        features: the transcripts.
        center: mean of the logarithm of the length where it was trained.
        scale: standard deviation of the same.
    """
    if kind == "mean":
        return np.empty((len(features), 0))
    size = np.clip((features.log_length - center) / scale, -_MOST_SIZED, _MOST_SIZED)
    if kind == "length":
        powers: Fractions = size[:, None] ** np.arange(1, LENGTH_POWERS + 1)
        return powers
    shares = features.frequencies[:, : columns(RIDGE_K).stop].astype(np.float64)
    return np.hstack([shares, size[:, None]])


@dataclass(frozen=True)
class Linear:
    """A linear model of one of the kinds `mean`, `length`, `kmer-ridge`.

    Attributes:
        kind: which.
        sites: names of its outputs.
        weights: (C, S).
        intercept: (S,).
        center: mean of the logarithm of the length where it was trained.
        scale: standard deviation of the same.
        penalty: the ridge penalty; 0 where there is none.
    """

    kind: BaselineKind
    sites: tuple[str, ...]
    weights: Fractions
    intercept: Fractions
    center: float = 0.0
    scale: float = 1.0
    penalty: float = 0.0

    def named(self, sites: tuple[str, ...]) -> Linear:  # noqa: ARG002
        """Return itself: it knows its sites' names."""
        return self

    def predict(self, features: Features) -> Fractions:
        """Return predicted fractions, (N, S) float64: what is linear, at least 1e-4, divided by its sum."""
        raw = linear_design(self.kind, features, self.center, self.scale) @ self.weights + self.intercept
        least = np.maximum(raw, _LEAST)
        fractions: Fractions = least / least.sum(axis=1, keepdims=True)
        return fractions

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what its file holds of it."""
        numbers = {"center": self.center, "scale": self.scale, "penalty": self.penalty}
        return {"weights": self.weights, "intercept": self.intercept, **{k: np.array(v) for k, v in numbers.items()}}


@dataclass(frozen=True)
class Boosted:
    """Boosted trees, one for each site in each round, whose sums a softmax makes fractions.

    Attributes:
        kind: one of `BOOSTED`: what they look at.
        sites: names of its outputs.
        text: the trees, as LightGBM writes them.
        base: (S,) what the sums begin with.
    """

    kind: BaselineKind
    sites: tuple[str, ...]
    text: str
    base: Fractions

    def named(self, sites: tuple[str, ...]) -> Boosted:  # noqa: ARG002
        """Return itself: it knows its sites' names."""
        return self

    @cached_property
    def _booster(self) -> Any:
        return trees.booster_of(self.text, len(feature_names(self.kind)), len(self.sites))

    def check(self) -> None:
        """Let LightGBM read the trees.

        Raises:
            CheckpointError: if they are damaged, or look at other features than their kind does.
        """
        _ = self._booster

    def predict(self, features: Features) -> Fractions:
        """Return predicted fractions, (N, S) float64."""
        if not len(features):
            return np.empty((0, len(self.sites)))
        raw = self._booster.predict(tree_design(self.kind, features), raw_score=True, num_threads=1)
        return softmax(np.asarray(raw, np.float64).reshape(len(features), -1) + self.base)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what its file holds of it."""
        return {"trees": np.frombuffer(self.text.encode(), np.uint8), "base": self.base}


def softmax(raw: Fractions) -> Fractions:
    """Return (N, S) as fractions whose rows sum to 1."""
    exponentials = np.exp(raw - raw.max(axis=1, keepdims=True))
    fractions: Fractions = exponentials / exponentials.sum(axis=1, keepdims=True)
    return fractions


def save(model: Baseline, path: Path) -> None:
    """Write a model's file; the same model gives the same bytes.

    Raises:
        OSError: if it can't be written; `path` is then as it was.
    """
    about = {"format": np.array(_FORMAT), "version": np.array(VERSION), "kind": np.array(model.kind)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **about, sites=np.array(model.sites), **model.arrays())
    with replacing(path) as file:
        file.write(buffer.getbuffer())


def load(path: Path) -> Baseline:
    """Read a model's file.

    Raises:
        CheckpointError: if it is missing, truncated, changed, no such file, or of an unknown version.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file of a model")
    try:
        content = _read(path)
        if content.get("format") is None or str(content["format"]) != _FORMAT:
            raise CheckpointError("not a file of a baseline", "use a file that rnatracker has written")
        if int(content["version"]) != VERSION:
            raise CheckpointError(
                f"version {content['version']} is unknown: this rnatracker reads version {VERSION}",
                "use the rnatracker that wrote it, or a newer one",
            )
        return _model(content)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error.problem}", error.remedy) from None
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path.name}: can't be read ({error}); it is truncated, damaged or no file of a baseline",
            "use another copy",
        ) from None


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(path) as packed:
        size = sum(each.file_size for each in packed.infolist())
    if size > _MOST_BYTES:
        raise CheckpointError(f"it would be {size:,} bytes unpacked, more than any model has", "use another copy")
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def _model(content: Mapping[str, npt.NDArray[Any]]) -> Baseline:
    """Make a model of what its file holds, once its arrays have the sizes that belong to it."""
    kind = str(content["kind"])
    if kind not in KINDS:
        raise CheckpointError(
            f"a baseline of kind {kind!r} is unknown", "use the rnatracker that wrote it, or a newer one"
        )
    if content["sites"].dtype.kind != "U" or content["sites"].ndim != 1 or len(content["sites"]) < 2:
        raise CheckpointError("damaged: sites are not what they should be", "use another copy")
    sites = tuple(str(site) for site in content["sites"])
    if kind in BOOSTED:
        if content["trees"].dtype != np.uint8 or content["trees"].ndim != 1:
            raise CheckpointError("damaged: trees are not what they should be", "use another copy")
        boosted = Boosted(kind, sites, content["trees"].tobytes().decode(), _sized(content, "base", (len(sites),)))
        boosted.check()
        return boosted
    n = {"mean": 0, "length": LENGTH_POWERS, "kmer-ridge": columns(RIDGE_K).stop + 1}[kind]
    center, scale, penalty = (float(_sized(content, name, ())) for name in ("center", "scale", "penalty"))
    if scale <= 0:
        raise CheckpointError("damaged: scale is not what it should be", "use another copy")
    weights, intercept = _sized(content, "weights", (n, len(sites))), _sized(content, "intercept", (len(sites),))
    return Linear(kind, sites, weights, intercept, center, scale, penalty)


def _sized(content: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]) -> Fractions:
    found = content[name]
    if found.dtype != np.float64 or found.shape != shape or not np.isfinite(found).all():
        raise CheckpointError(f"damaged: {name} is not what it should be", "use another copy")
    return found
