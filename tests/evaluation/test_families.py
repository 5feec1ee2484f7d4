"""Runs with folds at random and with families kept together: their difference is what came from relatives."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnatracker.baselines.run import BaselineRequest, run_baselines
from rnatracker.blends.members import gather
from rnatracker.choices import BaselineKind
from rnatracker.config import Config
from rnatracker.data import similarity
from rnatracker.data.simulate import simulate
from rnatracker.data.writers import write
from rnatracker.errors import TrackingError
from rnatracker.evaluation.compare import compare
from rnatracker.evaluation.contrast import judge, of_relatives
from rnatracker.metrics import Difference
from rnatracker.tracking.settings import TrackingSettings
from tests.support.toys import SilentReporter, small_config


@pytest.fixture
def tracking(tmp_path: Path) -> TrackingSettings:
    return TrackingSettings(tmp_path / "mlruns", enabled=False)


@pytest.mark.skipif(not similarity.is_installed(), reason="needs MMseqs2, of rnatracker[families]")
@pytest.mark.parametrize("families_first", [False, True])
def test_difference_is_said_to_come_from_relatives(
    tracking: TrackingSettings, tmp_path: Path, families_first: bool
) -> None:
    data = tmp_path / "x.tsv"
    write(simulate(80, relatives=40, seed=1, median_length=300).transcripts, data)

    def run(group_by: str, kind: BaselineKind = "kmer-ridge", **more: object) -> str:
        settings: Config = small_config(data__path=str(data), data__fold=2, data__group_by=group_by, **more)
        (found,) = run_baselines(BaselineRequest(settings, tracking, (kind,)), SilentReporter())
        return found.outcome.name

    random, family = run("group"), run("similarity")
    names = [family, random] if families_first else [random, family]
    found = compare(names, tracking, resamples=200)
    assert (found.problems, found.best, list(found.params)) == ([], {}, ["data.group_by"])
    (contrast,) = found.contrasts
    assert contrast.verdict == "alike"
    said = f"{random} divided its transcripts at random, {family} kept families together: "
    assert contrast.text.startswith(said)
    assert "from relatives." in contrast.text
    mean = contrast.differences[-2].value
    is_family_minus_random = contrast.first == family
    assert f"together: {-mean if is_family_minus_random else mean:+.3f} in mean PCC" in contrast.text
    by_length = run("similarity", kind="length")
    (contrast,) = compare([random, by_length], tracking, resamples=200).contrasts
    assert contrast.text.endswith("relatives and from what else differs in their settings.")
    other = run("similarity", data__split_seed=1)
    assert "divided their data differently" in compare([random, other], tracking, resamples=200).problems[0]
    with pytest.raises(TrackingError, match="divided their data differently"):
        gather([random, by_length], tracking)
    assert gather([family, by_length], tracking).names == [family, by_length]


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ((0.04, 0.01, 0.07), "+0.040 in mean PCC (95 % interval +0.010 to +0.070) came from relatives."),
        (
            (0.01, -0.02, 0.04),
            "+0.010 in mean PCC (95 % interval -0.020 to +0.040), which isn't shown to come from relatives.",
        ),
    ],
)
def test_difference_came_from_relatives_only_where_it_is_shown(
    difference: tuple[float, float, float], said: str
) -> None:
    value, low, high = difference
    names, p = ("site", "pcc_mean", "pcc_overall"), [0.01] * 3
    contrast = judge("exp1", "exp2", [Difference(name, value, low, high, 0.01) for name in names], p)
    found = of_relatives(contrast, first_has_families=False, alone=True)
    assert found.text == f"exp1 divided its transcripts at random, exp2 kept families together: {said}"
    turned = [Difference(name, -value, -high, -low, 0.01) for name in names]
    found = of_relatives(judge("exp2", "exp1", turned, p), first_has_families=True, alone=True)
    assert found.text == f"exp1 divided its transcripts at random, exp2 kept families together: {said}"


def test_no_difference_has_no_sign_of_minus() -> None:
    none = [Difference(name, 0.0, 0.0, 0.0, 1.0) for name in ("site", "pcc_mean", "pcc_overall")]
    found = of_relatives(judge("exp2", "exp1", none, [1.0] * 3), first_has_families=True, alone=True)
    assert "+0.000 in mean PCC (95 % interval +0.000 to +0.000)" in found.text
