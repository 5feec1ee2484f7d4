"""Learning rates known by hand."""

from __future__ import annotations

import pytest

from rnatracker.training.steps.schedule import rate


@pytest.mark.parametrize(
    ("schedule", "done", "warmup", "expected"),
    [
        ("constant", 0.0, 0.0, 1.0),
        ("constant", 0.9, 0.0, 1.0),
        ("constant", 0.05, 0.2, 0.25),
        ("constant", 0.2, 0.2, 1.0),
        ("cosine", 0.0, 0.0, 1.0),
        ("cosine", 0.5, 0.0, 0.5),
        ("cosine", 1.0, 0.0, 0.0),
        ("cosine", 0.6, 0.2, 0.5),
        ("cosine", 0.1, 0.2, 0.5),
        ("one-cycle", 0.0, 0.0, 0.04),
        ("one-cycle", 0.15, 0.0, 0.52),
        ("one-cycle", 0.3, 0.0, 1.0),
        ("one-cycle", 0.65, 0.0, 0.5),
        ("one-cycle", 1.0, 0.0, 0.0),
        ("one-cycle", 0.5, 0.5, 1.0),
    ],
)
def test_rate(schedule: str, done: float, warmup: float, expected: float) -> None:
    assert rate(schedule, done, warmup) == pytest.approx(expected, abs=1e-12)  # type: ignore[arg-type]
