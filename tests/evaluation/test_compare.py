"""Runs side by side: what makes them comparable, what differs, and which predicts better."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from rnatracker import metrics
from rnatracker.app import app
from rnatracker.errors import UsageError
from rnatracker.evaluation import compare
from rnatracker.evaluation.compare import curves
from rnatracker.evaluation.predictions import Predicted
from rnatracker.metrics import Array
from rnatracker.prediction import run_table
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.request import RunRequest
from rnatracker.training.run import train
from tests.support.toys import SITES, SilentReporter, small_config, toy_transcripts, write_table

_N = 120
_IDS = [f"t{i}" for i in range(_N)]
_MEASURED = np.random.default_rng(0).dirichlet(np.ones(3), _N)
_TABLES = {"train": "validation.tsv", "cross-validation": "out_of_fold.tsv", "fold": "test.tsv"}

Make = Callable[..., TrackedRun]


def _predicted(strength: float, seed: int) -> Array:
    noise = np.random.default_rng(seed).dirichlet(np.ones(3), _N)
    return strength * _MEASURED + (1 - strength) * noise


@pytest.fixture
def settings(tmp_path: Path) -> TrackingSettings:
    return TrackingSettings(tmp_path / "mlruns", enabled=False)


@pytest.fixture
def make(settings: TrackingSettings) -> Make:
    """Make a run that has left predictions of that strength."""
    tracker = open_tracker(settings)

    def begin(
        strength: float | None,
        seed: int = 1,
        kind: str = "cross-validation",
        order: list[int] | None = None,
        figures: dict[str, float] | None = None,
        **tags: str,
    ) -> TrackedRun:
        all_tags = {"kind": kind, "data_digest": "d", "split_digest": "s", "sites": ",".join(SITES)} | tags
        run = tracker.start(
            log_name=None,
            params={"train.lr": seed / 100, "train.epochs": 3, "data.path": "/a.tsv"},
            tags={f"rnatracker.{key}": value for key, value in all_tags.items() if value},
            dataset=None,
        )
        if strength is not None:
            rows = order or list(range(_N))
            run_table.write_predictions(
                run.folder / "predictions" / _TABLES[kind],
                [_IDS[i] for i in rows],
                SITES,
                _predicted(strength, seed)[rows],
                _MEASURED[rows],
            )
        run.log_metrics(figures or {"oof/pcc_mean": strength or 0.0, "val/loss": 1.0}, 0)
        run.finish("FINISHED")
        return run

    return begin


def _compare(*names: str, settings: TrackingSettings) -> compare.Comparison:
    return compare.compare(names, settings, resamples=500)


def test_runs_cant_be_told_apart_when_they_predict_alike(make: Make, settings: TrackingSettings) -> None:
    make(0.5, 1)
    make(0.5, 2)
    (contrast,) = _compare("exp1", "exp2", settings=settings).contrasts
    assert contrast.verdict == "alike"
    assert contrast.text.startswith("exp2 and exp1 can't be told apart (")


def test_runs_are_equal_when_their_predictions_are(make: Make, settings: TrackingSettings) -> None:
    make(0.5)
    make(0.5)
    (contrast,) = _compare("exp1", "exp2", settings=settings).contrasts
    assert [(d.value, d.p) for d in contrast.differences] == [(0, 1)] * 5
    assert contrast.text == "exp2 and exp1 predict the same."


@pytest.mark.parametrize(("strengths", "verdict"), [((0.3, 0.8), "better"), ((0.8, 0.3), "worse")])
def test_second_run_is_better_or_worse_than_the_first(
    make: Make, settings: TrackingSettings, strengths: tuple[float, float], verdict: str
) -> None:
    make(strengths[0], 1)
    make(strengths[1], 2)
    found = _compare("exp1", "exp2", settings=settings)
    (contrast,) = found.contrasts
    assert (contrast.verdict, found.n_records, found.measured_on) == (verdict, _N, "out-of-fold predictions")
    assert contrast.text.startswith(f"exp2 is {verdict} than exp1 (")
    assert f"{'higher' if verdict == 'better' else 'lower'} at Nucleus, Cytosol, ERM" in contrast.text
    expected = metrics.paired_differences(
        _predicted(strengths[1], 2), _predicted(strengths[0], 1), _MEASURED, SITES, resamples=500
    )
    assert [vars(each) for each in contrast.differences] == [pytest.approx(vars(each)) for each in expected]
    assert contrast.corrected[:3] == metrics.holm([each.p for each in expected[:3]])


def test_order_of_transcripts_changes_nothing(make: Make, settings: TrackingSettings) -> None:
    make(0.4, 1)
    make(0.5, 2)
    make(0.5, 2, order=list(np.random.default_rng(0).permutation(_N)))
    straight, mixed = (_compare("exp1", other, settings=settings).contrasts[0] for other in ("exp2", "exp3"))
    assert mixed.differences == straight.differences


def test_several_runs_are_compared_with_the_best_and_corrected_together(make: Make, settings: TrackingSettings) -> None:
    for i, strength in enumerate((0.5, 0.8, 0.45), start=1):
        make(strength, i)
    found = _compare("exp1", "exp2", "exp3", settings=settings)
    assert found.reference == "exp2"
    assert [(each.first, each.second, each.verdict) for each in found.contrasts] == [
        ("exp1", "exp2", "worse"),
        ("exp3", "exp2", "worse"),
    ]
    # The best was chosen by looking, so the pair of the two others counts too.
    assert [each.corrected[3] for each in found.contrasts] == metrics.holm(
        [each.differences[3].p for each in found.contrasts], unseen=1
    )
    of_sites = [each.p for contrast in found.contrasts for each in contrast.differences[:3]]
    corrected = [p for contrast in found.contrasts for p in contrast.corrected[:3]]
    assert corrected == metrics.holm(of_sites, unseen=3)


@pytest.mark.slow
def test_equal_runs_are_seldom_told_apart_however_many_there_are(settings: TrackingSettings) -> None:
    """Of 12 that are equally good the best differs from the others by more than one of two would by chance."""
    run = open_tracker(settings).start(log_name=None, params={}, tags={}, dataset=None)
    sides = [compare.Side(run, open_tracker(settings), f"exp{i}", "FINISHED", {}, {}, {}) for i in range(12)]
    made, ids = compare.Comparison(sides, {}, {}, {}), tuple(map(str, range(100)))
    told_apart = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        measured = rng.standard_normal((100, 1))
        each = [Predicted(ids, ("x",), measured + rng.standard_normal((100, 1)), measured, "toys") for _ in sides]
        contrasts = compare._contrasted(made, each, 4000).contrasts
        told_apart += any(contrast.verdict != "alike" for contrast in contrasts)
    assert told_apart <= 5


def test_too_few_resamples_are_warned_of_when_no_pair_could_be_told_apart_by_them(
    make: Make, settings: TrackingSettings
) -> None:
    for i, strength in enumerate((0.5, 0.9, 0.4, 0.3), start=1):
        make(strength, i)
    names = ("exp1", "exp2", "exp3", "exp4")
    found = compare.compare(names, settings, resamples=200)
    assert {each.verdict for each in found.contrasts} == {"alike"}
    (warning,) = found.warnings
    assert warning.startswith("200 bootstrap samples are too few for 6 pairs of runs and 3 sites: ")
    assert warning.endswith("; give --resamples 720 or more")
    found = compare.compare(names, settings, resamples=720)
    assert ({each.verdict for each in found.contrasts}, found.warnings) == ({"worse"}, [])
    assert "lower at Nucleus, Cytosol, ERM" in found.contrasts[0].text


def test_parameters_and_figures_are_those_that_differ_with_the_best_marked(
    make: Make, settings: TrackingSettings
) -> None:
    make(0.5, 1, figures={"oof/pcc_mean": 0.5, "best/loss": 0.2, "best/epoch": 3.0, "val/loss": 9.0})
    make(0.5, 2, figures={"oof/pcc_mean": 0.4, "best/loss": 0.1, "best/epoch": 4.0, "val/loss": 9.0})
    found = _compare("exp1", "exp2", settings=settings)
    assert found.params == {"train.lr": ["0.01", "0.02"]}
    assert found.metrics == {"oof/pcc_mean": [0.5, 0.4], "best/loss": [0.2, 0.1], "best/epoch": [3, 4]}
    assert found.best == {"oof/pcc_mean": 0, "best/loss": 1}


def test_sections_of_settings_that_only_one_run_has_are_left_out() -> None:
    network, other = {"data.val": "0.2", "train.lr": "0.1"}, {"data.val": "0.3", "train.lr": "0.1", "train.ema": "0"}
    assert compare._differing([network, other]) == {"data.val": ["0.2", "0.3"], "train.ema": [None, "0"]}
    assert compare._differing([network, {"data.val": "0.3", "baseline.kind": "mean"}]) == {"data.val": ["0.2", "0.3"]}


def test_weights_that_a_run_began_from_are_among_what_differs(make: Make, settings: TrackingSettings) -> None:
    make(0.5, 1)
    make(0.5, 1, transfer="/trunk.pt")
    make(0.5, 1, weights="/last.pt")
    found = _compare("exp1", "exp2", "exp3", settings=settings)
    assert found.params == {"--transfer": [None, "/trunk.pt", None], "--weights": [None, None, "/last.pt"]}


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        ({"data_digest": "other"}, "exp1 and exp2 were trained on different data: /a.tsv (digest d; Nucleus"),
        ({"data_digest": ""}, "exp1 and exp2: on which transcripts exp2 was trained is not recorded"),
        ({"split_digest": "other"}, "exp1 and exp2 divided their data differently: "),
        ({"kind": "train"}, "measured in different ways: a cross-validation and a single training"),
        ({"kind": "study", "strength": None}, "exp2 is a study, which predicts nothing itself"),
    ],
)
def test_runs_are_not_comparable_when_they_had_other_data_or_parts(
    make: Make, settings: TrackingSettings, tags: dict[str, str], problem: str
) -> None:
    make(0.5)
    make(tags.pop("strength", 0.5), **tags)  # type: ignore[arg-type]
    found = _compare("exp1", "exp2", settings=settings)
    assert problem in found.problems[0]
    assert (found.contrasts, found.best) == ([], {})


def test_runs_are_not_comparable_when_one_has_no_predictions_yet(make: Make, settings: TrackingSettings) -> None:
    make(0.5)
    make(None)
    assert "exp2 has left no out_of_fold.tsv: it is FINISHED" in _compare("exp1", "exp2", settings=settings).problems[0]


@pytest.mark.parametrize(
    ("names", "message"),
    [(["exp1"], "give two runs or more"), (["exp1", "exp1"], "exp1 is a run that was named already")],
)
def test_compare_refuses_fewer_than_two_runs(
    make: Make, settings: TrackingSettings, names: list[str], message: str
) -> None:
    make(0.5)
    with pytest.raises(UsageError, match=message):
        _compare(*names, settings=settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrackingSettings:
    """A store with exp1 to exp3, which several tests share; `toy.tsv`, their data, lies beside it."""
    folder = tmp_path_factory.mktemp("trained")
    settings = TrackingSettings(folder / "mlruns", enabled=False)
    data = write_table(toy_transcripts(60), folder / "toy.tsv")
    for changes in ({}, {"train__lr": 0.03}, {"data__fold": 3}):
        train(RunRequest(small_config(data__path=str(data), **changes), settings), SilentReporter())
    return settings


class TestTrained:
    """Runs that were really trained, in a few blinks."""

    def test_runs_are_compared_on_a_test_file_whatever_they_were_trained_on(
        self, trained: TrackingSettings, tmp_path: Path
    ) -> None:
        test = write_table(toy_transcripts(50, seed=9), tmp_path / "test.tsv")
        found = compare.compare(["exp1", "exp3"], trained, data=str(test), resamples=200)
        assert "a single training and a cross-validation" in found.problems[0]
        assert (found.n_records, found.measured_on) == (50, "test.tsv")
        one, two = found.metrics["test.tsv/pcc_mean"]
        assert one is not None and two is not None
        assert found.contrasts[0].differences[3].value == pytest.approx(two - one)
        assert "test.tsv/pcc_mean" in found.best and "best/pcc_mean" not in found.best

    def test_a_test_file_that_a_run_was_trained_on_in_part_is_warned_of(
        self, trained: TrackingSettings, tmp_path: Path
    ) -> None:
        fresh, known = toy_transcripts(20, seed=9), toy_transcripts(60)
        mixed = write_table(fresh, tmp_path / "mixed.tsv")
        known_rows = write_table(known.take(np.arange(5)), tmp_path / "known.tsv").read_text().splitlines()[1:]
        with mixed.open("a") as file:
            file.writelines(f"again_{row}\n" for row in known_rows)
        notes = compare.compare(["exp1", "exp2"], trained, data=str(mixed), resamples=100).warnings
        expected = "it was trained on 5 of these 25 transcripts: its figures are too good"
        assert [note for note in notes if "trained on" in note] == [f"{name}: {expected}" for name in ("exp1", "exp2")]
        data = trained.store.parent / "toy.tsv"
        data.rename(tmp_path / "toy.tsv")
        notes = compare.compare(["exp1", "exp2"], trained, data=str(mixed), resamples=100).warnings
        (tmp_path / "toy.tsv").rename(data)
        unknown = "whether it was trained on some of these transcripts can't be told: its data, "
        assert [note.partition(str(data))[0] for note in notes if "be told" in note] == [
            f"{name}: {unknown}" for name in ("exp1", "exp2")
        ]
        assert not any("--trained-on" in note for note in notes)  # no option of this command

    def test_no_run_is_recommended_on_transcripts_that_it_was_trained_on(self, trained: TrackingSettings) -> None:
        at = [str(trained.store / "untracked" / name) for name in ("exp1", "exp2")]
        at += ["--data", str(trained.store.parent / "toy.tsv"), "--resamples", "200"]
        result = _invoke(*at)
        assert result.exit_code == 0, result.stderr
        assert "This is not a fair test: exp1, exp2 had some of these transcripts in training" in result.stdout
        last = result.stdout.splitlines()[-1]
        assert last.startswith("Next: rnatracker compare exp1 exp2")
        assert last.endswith("--data FILE")
        told = json.loads(_invoke(*at, "--json").stdout)
        assert told["trained_on_some"] == ["exp1", "exp2"]

    def test_picture_is_refused_before_anything_is_done_where_it_can_not_be(
        self, trained: TrackingSettings, tmp_path: Path
    ) -> None:
        for name, code, message in (("c.pdf", 2, "must end in .png"), ("none/c.png", 1, "there is no folder")):
            result = _invoke("exp1", "exp2", "--store", str(trained.store), "--plot", str(tmp_path / name))
            assert result.exit_code == code
            assert message in result.stderr
        assert not (tmp_path / "none").exists()

    def test_a_test_file_that_a_runs_first_weights_were_trained_on_is_warned_of(
        self, trained: TrackingSettings, tmp_path: Path
    ) -> None:
        tracker, other = open_tracker(trained), toy_transcripts(40, seed=5)
        config = small_config(data__path=str(write_table(other, tmp_path / "other.tsv")), train__epochs=5)
        weights = tracker.find("exp1").folder / "checkpoints" / "best.pt"
        train(RunRequest(config, trained, weights=str(weights)), SilentReporter())
        test = write_table(toy_transcripts(60).take(np.arange(7)), tmp_path / "test.tsv")
        notes = compare.compare(["exp4", "exp2"], trained, data=str(test), resamples=100).warnings
        expected = "it was trained on 7 of these 7 transcripts: its figures are too good"
        assert [note for note in notes if "trained on" in note] == [f"{name}: {expected}" for name in ("exp4", "exp2")]
        # What is known of its own data is said, also where the weights' are not.
        tracker.find("exp4").set_tags({"rnatracker.weights": "/somewhere/best.pt"})
        names, origin = ["exp4", "exp2"], "it continued from /somewhere/best.pt, and what those weights were trained on"
        notes = compare.compare(names, trained, data=str(test), resamples=100).warnings
        assert any(note.endswith(f"these transcripts can't be told: {origin} is not known") for note in notes)
        own = write_table(other.take(np.arange(3)), tmp_path / "own.tsv")
        notes = compare.compare(names, trained, data=str(own), resamples=100).warnings
        assert "exp4: it was trained on 3 of these 3 transcripts: its figures are too good" in notes

    def test_curves_of_a_cross_validation_are_the_mean_of_its_folds(self, trained: TrackingSettings) -> None:
        found = compare.compare(["exp1", "exp3"], trained, resamples=100)
        single, folds = (curves(side) for side in found.sides)
        tracker = open_tracker(trained)
        assert single["pcc_mean"] == tracker.find("exp1").history("val/pcc_mean")
        children = tracker.find("exp3").children().values()
        values = [child.history("val/pcc_mean")[2] for child in children]
        assert folds["pcc_mean"][2] == pytest.approx(np.mean(values))
        assert set(folds["train_loss"]) == {1, 2, 3}

    def test_single_trainings_are_compared_on_their_validation_part(self, trained: TrackingSettings) -> None:
        found = compare.compare(["exp1", "exp2"], trained, resamples=100)
        assert found.measured_on.startswith("the validation part, on which networks chose")
        scores = [value for value in found.metrics["best/pcc_mean"] if value is not None]
        assert found.contrasts[0].differences[3].value == pytest.approx(scores[1] - scores[0], abs=1e-6)

    def test_command_prints_the_verdict_and_draws_the_curves(self, trained: TrackingSettings, tmp_path: Path) -> None:
        folders = [str(trained.store / "untracked" / name) for name in ("exp1", "exp2")]
        result = _invoke(*folders, "--plot", str(tmp_path / "curves.png"), "--resamples", "200")
        assert result.exit_code == 0, result.stderr
        assert "train.lr" in result.stdout and "train.epochs" not in result.stdout
        assert "PCC of exp2 minus that of exp1: 12 transcripts, the validation part" in result.stdout
        assert result.stdout.splitlines()[-1].startswith("Next: rnatracker ")
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")

    def test_command_gives_json(self, trained: TrackingSettings) -> None:
        folders = [str(trained.store / "untracked" / name) for name in ("exp1", "exp2")]
        content = json.loads(_invoke(*folders, "--json", "--resamples", "200").stdout)
        assert content["comparable"] is True
        assert content["params"] == {"train.lr": ["0.01", "0.03"]}
        assert [d["name"] for d in content["contrasts"][0]["differences"]][-2:] == ["pcc_mean", "pcc_overall"]
        assert content["contrasts"][0]["differences"][-1]["p_corrected"] is None


def _invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["compare", *arguments])


def test_command_says_that_runs_are_not_comparable(make: Make) -> None:
    folders = [str(make(0.5, **tags).folder) for tags in ({}, {"split_digest": "other"})]
    result = _invoke(*folders)
    assert result.exit_code == 0
    assert "Not comparable: exp1 and exp2 divided their data differently" in result.stdout


def test_aligning_refuses_other_sites_transcripts_and_measurements() -> None:
    from rnatracker.evaluation.predictions import align

    one = Predicted(("a", "b"), ("x", "y"), np.eye(2), np.eye(2), "")
    names = ["first", "second"]
    assert (
        align([one, replace(one, sites=("x", "z"))], names)[1]
        == "first and second predict different sites: x, y and x, z"
    )
    assert align([one, replace(one, ids=("a", "c"))], names)[1] == "first and second predicted different transcripts"
    assert "different measured" in align([one, replace(one, measured=np.eye(2)[::-1])], names)[1]
    other = replace(one, ids=("b", "a"), sites=("y", "x"), measured=np.eye(2))
    aligned = align([one, other], names)[0][1]
    assert (aligned.ids, aligned.sites, aligned.predicted.tolist()) == (one.ids, one.sites, np.eye(2).tolist())
