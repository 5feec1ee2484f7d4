"""The rule of promotion on figures that are known by hand, and on simulated truth."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rnatracker.data import fingerprints
from rnatracker.metrics import Difference
from rnatracker.registry.rule import Verdict, judge
from tests.support import paths
from tests.support.candidates import with_ids
from tests.support.toys import toy_transcripts


def _differences(mean: tuple[float, float], *sites: tuple[float, float]) -> list[Difference]:
    """Return differences of these intervals (low, high), their values in the middle."""
    named = [*((f"site{i}", ends) for i, ends in enumerate(sites)), ("pcc_mean", mean), ("pcc_overall", (-1.0, -0.9))]
    return [Difference(name, (low + high) / 2, low, high, 0.01) for name, (low, high) in named]


@pytest.mark.parametrize(
    ("mean", "sites", "options", "earned", "words"),
    [
        ((0.01, 0.09), [(0.0, 0.1), (0.0, 0.1)], {}, True, "better: the difference in pcc_mean is +0.050"),
        ((0.0, 0.09), [(0.0, 0.1)], {}, False, "its lower end would have to be above 0"),
        ((-0.01, 0.09), [(0.0, 0.1)], {}, False, "not shown to be better"),
        ((0.01, 0.09), [(0.0, 0.1)], {"margin": 0.02}, False, "would have to be above 0.02"),
        # Even at best the site falls by more than 0.02.
        ((0.01, 0.09), [(0.2, 0.3), (-0.2, -0.021)], {}, False, "falls by more than 0.02 at site1 (-0.111, at best"),
        ((0.01, 0.09), [(0.2, 0.3), (-0.2, -0.021)], {"max_drop": 0.03}, True, "better"),
        # It may have fallen, but may as well not have.
        ((0.01, 0.09), [(0.2, 0.3), (-0.2, -0.019)], {}, True, "better"),
        ((math.nan, math.nan), [(0.0, 0.1)], {}, False, "is undefined"),
        # A site that can't be scored says nothing.
        ((0.01, 0.09), [(math.nan, math.nan)], {}, True, "not judged at site0, where the measured"),
    ],
)  # fmt: skip
def test_rule_is_applied_to_the_letter(
    mean: tuple[float, float], sites: list[tuple[float, float]], options: dict[str, float], earned: bool, words: str
) -> None:
    found, reason = judge(_differences(mean, *sites), **options)
    assert found is earned
    assert words in reason


def test_verdict_becomes_json_when_figures_are_missing() -> None:
    found = Verdict(
        "challenger", "so", 3, scores={"challenger": {"pcc_mean": math.nan}}, differences=_differences((0, 1))
    )
    content = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert content["scores"] == {"challenger": {"pcc_mean": None}}
    assert content["differences"][0]["name"] == "pcc_mean"


def test_transcripts_are_told_by_sequence_whatever_their_ids(tmp_path: Path) -> None:
    trained = toy_transcripts(30)
    fingerprints.write(tmp_path / "r.npy", fingerprints.fingerprints(trained))
    kept = fingerprints.load(tmp_path / "r.npy")
    assert kept is not None and kept.dtype == np.uint64 and list(kept) == sorted(set(kept.tolist()))
    assert list(fingerprints.seen(with_ids(trained.take(np.array([3, 1])), "x"), kept)) == [0, 1]
    assert not len(fingerprints.seen(toy_transcripts(30, seed=1), kept))


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_fingerprints_are_unknown_when_their_file_is_no_such(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "r.npy").write_bytes(content)
    assert fingerprints.load(tmp_path / "r.npy") is None
    np.save(tmp_path / "r.npy", np.arange(3.0))
    assert fingerprints.load(tmp_path / "r.npy") is None


def _gate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gate", paths.ROOT / "benchmarks" / "gate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_equal_models_are_hardly_ever_promoted_and_clearly_better_ones_nearly_always() -> None:
    gate = _gate()
    by_words = {case.words: case for case in gate.CASES}
    assert gate.promoted(by_words["equal"], 300, 200, seed=0) <= 10
    assert gate.promoted(by_words["clearly better"], 300, 200, seed=0) >= 190
