"""Models without a network: what they learn, their file, and files that are cut, changed or made to harm."""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnatracker.baselines import models
from rnatracker.baselines.features import whole
from rnatracker.baselines.fit import PENALTIES, fit
from rnatracker.baselines.models import Baseline, Boosted, Linear
from rnatracker.choices import BaselineKind
from rnatracker.data.features.kmers import Features
from rnatracker.data.sequences import from_sequences
from rnatracker.errors import CheckpointError, TrainingError
from tests.support.toys import SITES, toy_transcripts

_ALL = np.arange(200)
Trained = dict[BaselineKind, Baseline]


@pytest.fixture(scope="module")
def features() -> Features:
    return Features(whole(toy_transcripts(200)))


@pytest.fixture(scope="module")
def trained(features: Features) -> Trained:
    measured = toy_transcripts(200).measured()
    return {kind: fit(kind, features, measured, SITES, _ALL[:150]) for kind in models.KINDS}


def test_mean_predicts_the_mean_of_what_it_was_trained_on(trained: Trained, features: Features) -> None:
    predicted = trained["mean"].predict(features)
    assert predicted == pytest.approx(np.tile(toy_transcripts(200).measured()[:150].mean(axis=0), (200, 1)))


@pytest.mark.parametrize("kind", models.KINDS)
def test_predictions_are_fractions(kind: BaselineKind, trained: Trained, features: Features) -> None:
    predicted = trained[kind].predict(features)
    assert predicted.shape == (200, 3) and (predicted > 0).all()
    assert predicted.sum(axis=1) == pytest.approx(np.ones(200))


@pytest.mark.parametrize("kind", ["kmer-ridge", "kmer-boosting", "codon-boosting"])
def test_models_of_kmers_learn_what_follows_from_the_sequence(
    kind: BaselineKind, trained: Trained, features: Features
) -> None:
    predicted, measured = trained[kind].predict(features)[150:], toy_transcripts(200).measured()[150:]
    assert min(np.corrcoef(predicted[:, i], measured[:, i])[0, 1] for i in range(3)) > 0.9


def test_length_is_learnt_where_it_tells(features: Features) -> None:
    share = (features.log_length - features.log_length.min()) / np.ptp(features.log_length) * 0.8 + 0.1
    measured = np.stack([share, 1 - share, np.zeros(200)], axis=1)
    model = fit("length", features, measured, SITES, _ALL[:150])
    assert np.corrcoef(model.predict(features)[150:, 0], share[150:])[0, 1] > 0.99


def test_ridge_chooses_its_penalty(trained: Trained) -> None:
    ridge = trained["kmer-ridge"]
    assert isinstance(ridge, Linear) and ridge.penalty in PENALTIES


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_transcripts_are_enough_but_for_trees(n: int, features: Features) -> None:
    for kind in models.KINDS:
        if kind in models.BOOSTED:
            with pytest.raises(TrainingError, match=f"{kind}: LightGBM can't train"):
                fit(kind, features, toy_transcripts(200).measured(), SITES, _ALL[:n])
        else:
            model = fit(kind, features, toy_transcripts(200).measured(), SITES, _ALL[:n])
            assert np.isfinite(model.predict(features)).all()


def test_codon_boosting_learns_what_no_word_tells() -> None:
    """A start and a stop among random C and T: only how far they lie apart decides."""
    rng = np.random.default_rng(0)

    def filled(n: int) -> str:
        return "".join(rng.choice(list("CT"), n))

    apart = rng.choice([30, 120], 160)
    sequences = [f"{filled(20)}ATG{filled(n)}TAA{filled(150 - n)}" for n in apart]
    measured = np.where(apart[:, None] > 60, [[0.8, 0.2]], [[0.2, 0.8]])
    features = Features(whole(from_sequences(sequences)))
    fitted = {kind: fit(kind, features, measured, ("A", "B"), np.arange(100)) for kind in models.BOOSTED}
    error = {kind: np.abs(each.predict(features)[100:] - measured[100:]).mean() for kind, each in fitted.items()}
    assert error["codon-boosting"] < 0.05 and error["kmer-boosting"] > 0.2


@pytest.mark.parametrize(("kind", "n"), [("kmer-boosting", 1365), ("codon-boosting", 1437)])
def test_trees_look_at_the_columns_of_their_kind(
    kind: BaselineKind, n: int, trained: Trained, features: Features
) -> None:
    """Those of kmer-boosting are what they were before there were others: its files hold no more than the trees."""
    import lightgbm

    boosted = trained[kind]
    assert isinstance(boosted, Boosted)
    columns = [features.frequencies, features.log_length[:, None], features.frames][: 2 + (kind == "codon-boosting")]
    booster = lightgbm.Booster(model_str=boosted.text)
    assert booster.num_feature() == n and len({*booster.feature_name()}) == n
    assert booster.feature_name()[1364:1366] == ["log_length", "codon_AAA"][: n - 1364]
    raw = booster.predict(np.hstack(columns, dtype=np.float32), raw_score=True) + boosted.base
    expected = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    assert boosted.predict(features) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", models.BOOSTED)
def test_trees_of_another_kind_are_refused(kind: BaselineKind, trained: Trained, tmp_path: Path) -> None:
    (other,) = {*models.BOOSTED} - {kind}
    assert models.load(_with(trained[kind], tmp_path / "sound.npz")).kind == kind
    assert "max_feature_idx" in _refused(_with(trained[kind], tmp_path / "m.npz", kind=other))


@pytest.mark.slow
def test_the_seed_and_the_number_of_threads(features: Features) -> None:
    measured = toy_transcripts(200).measured()
    found = [
        fit("kmer-boosting", features, measured, SITES, _ALL[:60], seed=seed, threads=threads).predict(features)
        for seed, threads in ((0, 1), (0, 2), (1, 1))
    ]
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


@pytest.mark.parametrize("kind", models.KINDS)
def test_file_gives_the_same_model(kind: BaselineKind, trained: Trained, features: Features, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.npz", "b.npz")]
    for path in paths:
        models.save(trained[kind], path)
    loaded = models.load(paths[0])
    assert (loaded.kind, loaded.sites) == (kind, SITES)
    assert np.array_equal(loaded.predict(features), trained[kind].predict(features))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_trees_in_the_file_are_what_lightgbm_reads(trained: Trained, tmp_path: Path) -> None:
    import lightgbm

    models.save(trained["kmer-boosting"], tmp_path / "m.npz")
    text = np.load(tmp_path / "m.npz", allow_pickle=False)["trees"].tobytes().decode()
    assert lightgbm.Booster(model_str=text).num_trees() == 400 * 3


def _refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as found:
        models.load(path)
    assert found.value.problem.startswith(path.name) and found.value.remedy
    return found.value.problem


@pytest.mark.parametrize("kind", ["kmer-ridge", "kmer-boosting"])
def test_cut_and_damaged_files_are_refused(kind: BaselineKind, trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    models.save(trained[kind], path)
    whole_file = path.read_bytes()
    for part in (0, 10, len(whole_file) // 2, len(whole_file) - 1):
        path.write_bytes(whole_file[:part])
        _refused(path)
    for place in np.random.default_rng(0).integers(200, len(whole_file) * 3 // 4, 5):
        path.write_bytes(whole_file[:place] + bytes([whole_file[place] ^ 0xFF]) + whole_file[place + 1 :])
        _refused(path)


class _Harm:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('unpickled')",))


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    path.write_bytes(pickle.dumps(_Harm()))
    _refused(path)
    np.savez(path, format=np.array([_Harm()], dtype=object))
    _refused(path)


@pytest.mark.slow
def test_bombs_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed, packed.open("trees.npy", "w") as entry:
        for _ in range(1025):
            entry.write(bytes(1 << 20))
    assert "unpacked" in _refused(path)


def _with(model: Baseline, path: Path, **changes: object) -> Path:
    """Write a model's file as version 1 has it, with other content, whole and well-formed otherwise."""
    about = {"format": "rnatracker-baseline", "version": 1, "kind": model.kind, "sites": np.array(model.sites)}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(value) for name, value in (about | model.arrays() | changes).items()})
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"kind": "forest"},
        {"kind": "length"},
        {"format": "other"},
        {"sites": np.array(["A", "B"])},
        {"weights": np.zeros((2, 3))},
        {"intercept": np.array([0.0, np.nan, 0.0])},
        {"scale": np.array(0.0)},
    ],
)
def test_changed_fields_are_refused(changes: dict[str, object], trained: Trained, tmp_path: Path) -> None:
    ridge = trained["kmer-ridge"]
    assert models.load(_with(ridge, tmp_path / "sound.npz")).kind == "kmer-ridge"
    _refused(_with(ridge, tmp_path / "m.npz", **changes))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("left_child=", "left_child=900000 "),
        ("right_child=", "right_child=0 "),
        ("split_feature=", "split_feature=99999 "),
        ("num_leaves=", "num_leaves=9"),
        ("num_cat=0", "num_cat=1"),
        ("num_class=3", "num_class=30"),
        ("max_feature_idx=1364", "max_feature_idx=5"),
        ("leaf_value=", "leaf_value=nan "),
        ("end of trees", "end of"),
    ],
)
def test_trees_that_would_lead_lightgbm_astray_are_refused(
    before: str, after: str, trained: Trained, tmp_path: Path
) -> None:
    boosted = trained["kmer-boosting"]
    assert isinstance(boosted, Boosted)
    text = boosted.text.replace(before, after, 1)
    assert text != boosted.text
    if after.endswith(" "):  # one value more or in place of the first: both are refused
        values = text.split(after, 1)[1].split(" ", 1)
        models.save(replace(boosted, text=text.split(after, 1)[0] + after + values[1]), tmp_path / "n.npz")
        _refused(tmp_path / "n.npz")
    models.save(replace(boosted, text=text), tmp_path / "m.npz")
    _refused(tmp_path / "m.npz")


def test_what_says_where_trees_begin_is_not_believed(trained: Trained, features: Features) -> None:
    boosted = trained["kmer-boosting"]
    assert isinstance(boosted, Boosted) and "tree_sizes" not in boosted.text
    misled = boosted.text.replace("\nfeature_infos=", "\ntree_sizes=999999999 5\nfeature_infos=", 1)
    assert np.array_equal(replace(boosted, text=misled).predict(features), boosted.predict(features))
