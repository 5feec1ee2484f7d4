"""LightGBM's trees as text, and that they are sound before LightGBM reads them.

Owns the look at the text. LightGBM's reader believes what it is given: an index that leads nowhere makes it read memory
that isn't its own, so each is checked here. Read next: `models.py`, which predicts with them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from rnatracker.errors import CheckpointError, TrainingError

if TYPE_CHECKING:
    from lightgbm import Booster

_SIZES = "tree_sizes="
"""A line that says where each tree's text begins; LightGBM does without it, and would believe a wrong one."""
_OF_NODES = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_CATEGORICAL = 1
"""The bit of a decision that says that it is one between categories; ours never are."""


def lightgbm() -> Any:
    """Return LightGBM's module.

    Raises:
        TrainingError: if it can't be loaded.
    """
    try:
        return importlib.import_module("lightgbm")
    except (ImportError, OSError) as error:  # OSError: where a library that its package expects of the system isn't
        remedy = "install it with: pip install lightgbm; on Linux it needs libgomp too, as by: apt-get install libgomp1"
        raise TrainingError(f"LightGBM, for boosted trees, can't be loaded: {error}", remedy) from None


def as_text(booster: Booster) -> str:
    """Return trained trees in LightGBM's text format, which `lightgbm.Booster(model_str=...)` reads."""
    return _without_sizes(booster.model_to_string(num_iteration=-1))


def booster_of(text: str, n_features: int, n_sites: int) -> Booster:
    """Read trees that `as_text` has written.

    Args:
        text: the trees.
        n_features: how many features they look at.
        n_sites: how many trees there are in each round, one for each site.

    Raises:
        CheckpointError: if they are damaged, or for other features or sites; LightGBM then reads none of it.
    """
    library = lightgbm()
    text = _without_sizes(text)
    try:
        _check(text, n_features, n_sites)
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"its trees are damaged: {error}", "use another copy") from None
    try:
        booster: Booster = library.Booster(model_str=text)
    except library.basic.LightGBMError as error:
        raise CheckpointError(f"its trees can't be read: {error}", "use another copy") from None
    return booster


def _without_sizes(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(_SIZES))


def _check(text: str, n_features: int, n_sites: int) -> None:
    """Check the text as far as LightGBM relies on it.

    Raises:
        ValueError: saying what is wrong.
        KeyError: naming what is missing.
    """
    head, *blocks = text.split("\nTree=")
    last, found, _ = blocks[-1].partition("\nend of trees") if blocks else ("", "", "")
    if not found:
        raise ValueError("they have no end")
    stated = _fields(head)
    for name, expected in (
        ("num_class", n_sites), ("num_tree_per_iteration", n_sites), ("max_feature_idx", n_features - 1)
    ):  # fmt: skip
        if int(stated[name]) != expected:
            raise ValueError(f"{name} is {stated[name]}, expected {expected}")
    if len(stated["feature_names"].split()) != n_features or len(stated["feature_infos"].split()) != n_features:
        raise ValueError("their features are not all named")
    if len(blocks) % n_sites:
        raise ValueError(f"{len(blocks)} trees for {n_sites} sites")
    for number, block in enumerate([*blocks[:-1], last]):
        _check_tree(_fields(f"number={block}"), number, n_features)


def _fields(block: str) -> dict[str, str]:
    return dict(_pairs(block))


def _pairs(block: str) -> Iterator[tuple[str, str]]:
    for line in block.splitlines():
        name, sign, value = line.partition("=")
        if sign:
            yield name, value


def _check_tree(tree: dict[str, str], number: int, n_features: int) -> None:
    """Check one tree: each node leads to later nodes or to leaves, so that every way through it ends."""
    n_leaves = int(tree["num_leaves"])
    if int(tree["number"]) != number or n_leaves < 1 or int(tree["num_cat"]) or int(tree.get("is_linear", "0")):
        raise ValueError(f"tree {number} is none of ours")
    if not np.isfinite(_numbers(tree, "leaf_value", n_leaves)).all():
        raise ValueError(f"a value of tree {number} is no number")
    n_nodes = n_leaves - 1
    if n_nodes == 0:
        return
    feature, _, decision, left, right = (_numbers(tree, name, n_nodes) for name in _OF_NODES)
    if feature.min() < 0 or feature.max() >= n_features or (decision.astype(int) & _CATEGORICAL).any():
        raise ValueError(f"tree {number} looks at what is not there")
    for child in (left, right):
        if (
            not ((child >= -n_leaves) & (child < n_nodes)).all()
            or not ((child < 0) | (child > np.arange(n_nodes))).all()
        ):
            raise ValueError(f"tree {number} leads nowhere")


def _numbers(tree: dict[str, str], name: str, n: int) -> np.ndarray:
    values = np.array(tree[name].split(), np.float64)
    if len(values) != n:
        raise ValueError(f"{name} has {len(values)} values, expected {n}")
    return values
