"""Runs that begin from the trunk of another network: what they take over, remember, and what was seen before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rnatracker import config, metrics
from rnatracker.app import app
from rnatracker.blends.run import BlendRequest, run_blend
from rnatracker.data.fingerprints import fingerprints
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import CheckpointError, DataError, UsageError
from rnatracker.evaluation.compare import compare
from rnatracker.evaluation.models import residuals_of
from rnatracker.lineage import training_data
from rnatracker.model import checkpoint
from rnatracker.prediction import run_table
from rnatracker.processes.stop import Interrupted
from rnatracker.registry.comparison import PromotionRequest
from rnatracker.registry.promotion import promote
from rnatracker.registry.test_set import DataOptions
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.hints import cross_validate_command, retrain_command
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training import agreement, replay, run
from rnatracker.training.request import Outcome, RunRequest
from rnatracker.training.steps.trunk import is_trunk
from tests.support.toys import SilentReporter, ports_file, small_config, toy_transcripts, write_table

_OLD, _NEW = toy_transcripts(40, seed=5), toy_transcripts(40)
_OWN_SITES = ("Soma", "Neurite")


def _with_two_sites(transcripts: Transcripts) -> Transcripts:
    """Return transcripts measured at two sites: the first of three, and the rest."""
    first = transcripts.measured()[:, :1]
    return replace(transcripts, sites=_OWN_SITES, fractions=np.hstack([first, 1 - first]))


def _joined(first: Transcripts, second: Transcripts) -> Transcripts:
    return replace(
        first,
        ids=(*first.ids, *(f"again_{name}" for name in second.ids)),
        codes=np.concatenate([first.codes, second.codes]),
        offsets=np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]]),
        fractions=np.concatenate([first.measured(), second.measured()]),
    )


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["mlflow", "folders"])
def tracking(request: pytest.FixtureRequest, mlflow_store: Path) -> TrackingSettings:
    return TrackingSettings(mlflow_store, enabled=request.param == "mlflow")


@pytest.fixture(scope="module")
def parents_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `old.tsv`, and a store with exp1, trained on it for an epoch."""
    folder = tmp_path_factory.mktemp("parent")
    data = str(write_table(_OLD, folder / "old.tsv"))
    _train(TrackingSettings(folder / "mlruns", enabled=False), data, train__epochs=1)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> TrackingSettings:
    """A store of its own without runs."""
    return TrackingSettings(tmp_path / "mlruns", enabled=False)


@pytest.fixture
def with_parent(folders: TrackingSettings, parents_store: Path) -> TrackingSettings:
    """A store of its own with exp1, the parent."""
    shutil.copytree(parents_store / "mlruns", folders.store)
    return folders


@pytest.fixture
def old(parents_store: Path, tmp_path: Path) -> str:
    """The parent's data, which a test may delete if it has trained the parent itself."""
    shutil.copy(parents_store / "old.tsv", tmp_path / "old.tsv")
    return str(tmp_path / "old.tsv")


@pytest.fixture
def new(tmp_path: Path) -> str:
    """Write the new data: of two sites, 6 of its 46 transcripts among the old data."""
    return str(write_table(_with_two_sites(_joined(_NEW, _OLD.take(np.arange(6)))), tmp_path / "new.tsv"))


def _train(
    tracking: TrackingSettings, data: str, transfer: str | None = None, reporter: Any = None, **changes: Any
) -> Outcome:
    request = RunRequest(small_config(data__path=data, **changes), tracking, transfer=transfer)
    return run.train(request, reporter or SilentReporter())


def _found(tracking: TrackingSettings, name: str) -> TrackedRun:
    tracker = open_tracker(tracking)
    return tracker.find(name if tracking.enabled else str(tracking.store / "untracked" / name))


def _parents_best(tracking: TrackingSettings) -> Path:
    return _found(tracking, "exp1").files.training().best


def _weights(outcome: Outcome, name: str = "best.pt") -> dict[str, torch.Tensor]:
    return checkpoint.load(outcome.folder / "checkpoints" / name).weights


class _StopsAfter(SilentReporter):
    """Stops a run in the middle of an epoch."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._left = batches

    def batch(self, label: str, epoch: int, epochs: int, done: int, total: int) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


def test_run_begins_from_a_runs_trunk_and_remembers_it(with_parent: TrackingSettings, new: str) -> None:
    parent, reporter = _found(with_parent, "exp1"), SilentReporter()
    made = _train(with_parent, new, "exp1", reporter, train__freeze=9)
    assert made.sites == _OWN_SITES
    assert [result.epoch for result in reporter.epochs] == [1, 2, 3]
    ours, theirs = _weights(made), checkpoint.load(parent.files.training().best).weights
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if is_trunk(name))
    assert ours["output.weight"].shape == (2, 6)
    tags = _found(with_parent, "exp2").tags()
    assert tags["rnatracker.transfer_run"] == parent.id
    assert Path(tags["rnatracker.transfer"]) == parent.files.training().best.resolve()
    assert len(tags["rnatracker.transfer_digest"]) == 64
    assert any("the trunk is that of exp1, epoch" in line for line in reporter.lines)
    beginning = f" --transfer {_parents_best(with_parent).resolve()} "
    for advice in (retrain_command, cross_validate_command):
        assert beginning in advice(_found(with_parent, "exp2"), with_parent)


def test_what_the_parent_has_seen_counts_as_seen(tracking: TrackingSettings, old: str, new: str) -> None:
    """A grandparent's too; and also where the parents and their data are gone."""
    newer = toy_transcripts(30, seed=8)
    more = str(write_table(newer, Path(new).parent / "more.tsv"))
    first = _train(tracking, old, train__epochs=1)
    second = _train(tracking, new, first.run_id, train__epochs=1)
    _train(tracking, more, second.run_id, train__epochs=1)
    tracker, last = open_tracker(tracking), _found(tracking, "exp3")
    expected = {int(each) for part in (_OLD, _NEW, newer) for each in fingerprints(part)}
    assert {int(each) for each in training_data.of_run(last, tracker)} == expected
    assert [len(each) for each in training_data.sources_of_run(last, tracker)] == [30, 46, 40]
    Path(old).unlink()
    Path(new).unlink()
    assert {int(each) for each in training_data.of_run(last, tracker)} == expected


def test_blend_has_seen_what_its_members_parents_have(with_parent: TrackingSettings, new: str) -> None:
    _train(with_parent, new, "exp1", train__epochs=1)
    tracker, member = open_tracker(with_parent), _found(with_parent, "exp2")
    tags = {key: member.tags()[f"rnatracker.{key}"] for key in ("data_digest", "sites")}
    tags |= {"kind": "blend", "members": json.dumps(["exp2", "exp99"])}
    named = {f"rnatracker.{key}": value for key, value in tags.items()}
    blend = tracker.start(log_name=None, params={}, tags=named, dataset=None)
    shutil.copy(member.files.config, blend.files.config)
    blend.finish("FINISHED")
    expected = {int(each) for part in (_OLD, _NEW) for each in fingerprints(part)}
    assert {int(each) for each in training_data.of_run(blend, tracker)} == expected
    assert [len(each) for each in training_data.sources_of_run(blend, tracker)] == [46, 40]


def test_blend_of_a_blend_has_seen_what_the_members_parents_have(with_parent: TrackingSettings, new: str) -> None:
    _train(with_parent, new, "exp1", train__epochs=1)
    tracker, member = open_tracker(with_parent), _found(with_parent, "exp2")
    tags = {key: member.tags()[f"rnatracker.{key}"] for key in ("data_digest", "sites")} | {"kind": "blend"}
    for name in ("exp2", "exp3"):
        named = {f"rnatracker.{key}": value for key, value in (tags | {"members": json.dumps([name])}).items()}
        blend = tracker.start(log_name=None, params={}, tags=named, dataset=None)
        shutil.copy(member.files.config, blend.files.config)
        blend.finish("FINISHED")
    expected = {int(each) for part in (_OLD, _NEW) for each in fingerprints(part)}
    assert {int(each) for each in training_data.of_run(blend, tracker)} == expected
    assert [len(each) for each in training_data.sources_of_run(blend, tracker)] == [46, 40]


def test_blend_has_seen_the_same_when_its_runs_are_gone(with_parent: TrackingSettings, new: str) -> None:
    for transfer in ("exp1", None):
        _train(with_parent, new, transfer, data__fold=2, train__epochs=1)
    tracker = open_tracker(with_parent)
    names = [str(with_parent.store / "untracked" / name) for name in ("exp2", "exp3")]
    reporter = SilentReporter()
    made = run_blend(BlendRequest(names, with_parent, baselines=False), reporter)
    blend = tracker.find(str(made.outcome.folder))
    said = [line for line in reporter.lines if line.startswith("6 of these 46 transcripts were seen")]
    assert len(said) == 1 and "exp2" in said[0]
    assert compare(names, with_parent, resamples=100).remembering == ["exp2"]
    assert compare([blend.name, names[1]], with_parent, resamples=100).remembering == [blend.name]
    for made_of, n in ((blend, 40), (tracker.find(names[0]), 40), (tracker.find(names[1]), 46)):
        residuals = residuals_of(made_of)
        assert residuals is not None and residuals.sizes.shape == (n, 2)  # without those that the parent had seen
    expected = {int(each) for part in (_OLD, _NEW) for each in fingerprints(part)}
    assert {int(each) for each in training_data.of_run(blend, tracker)} == expected
    for name in names:
        shutil.rmtree(name)
    assert {int(each) for each in training_data.of_run(blend, tracker)} == expected
    with pytest.raises(training_data.UnknownTrainingDataError):
        list(training_data.sources_of_run(blend, tracker))


def test_promotion_refuses_a_test_set_that_the_parent_has_seen(mlflow_store: Path, old: str, tmp_path: Path) -> None:
    tracking = TrackingSettings(mlflow_store)
    new = str(write_table(_NEW, tmp_path / "new.tsv"))
    _train(tracking, old)
    _train(tracking, new, "exp1", train__epochs=1)
    fresh = toy_transcripts(30, seed=9)
    test = str(write_table(_joined(fresh, _OLD.take(np.arange(4))), tmp_path / "test.tsv"))
    with pytest.raises(DataError) as caught:
        promote(PromotionRequest("exp2", tracking, data=DataOptions(test), baselines=False))
    assert "4 of its 34 transcripts (again_t0" in caught.value.problem
    found = promote(
        PromotionRequest(
            "exp2", tracking, data=DataOptions(str(write_table(fresh, tmp_path / "fresh.tsv"))), baselines=False
        )
    )
    assert found.verdict is not None and found.verdict.promoted


def test_seen_transcripts_of_the_validation_part_are_counted(with_parent: TrackingSettings, new: str) -> None:
    reporter = SilentReporter()
    made = _train(with_parent, new, "exp1", reporter, train__epochs=1, data__val=0.5)
    ids, _, _ = run_table.read_predictions(made.folder / "predictions" / "validation.tsv")
    n_seen = sum(name.startswith("again_") for name in ids)
    assert n_seen
    assert _found(with_parent, "exp2").metrics()["transfer/seen_of_validation"] == n_seen
    assert any(f"{n_seen} of these {len(ids)} validation transcripts were seen" in line for line in reporter.lines)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_out_of_fold_figures_are_given_without_seen_transcripts_too(
    with_parent: TrackingSettings, new: str, jobs: int
) -> None:
    reporter = SilentReporter()
    settings = small_config(data__path=new, data__fold=2, train__epochs=2)
    made = run.train(RunRequest(settings, with_parent, jobs=jobs, transfer="exp1"), reporter)
    ids, predicted, measured = run_table.read_predictions(made.folder / "predictions" / "out_of_fold.tsv")
    unseen = [i for i, name in enumerate(ids) if not name.startswith("again_")]
    recorded = _found(with_parent, "exp2").metrics()
    assert (recorded["transfer/seen_of_test"], len(unseen)) == (6, 40)
    for name, value in metrics.summarise(predicted[unseen], measured[unseen], _OWN_SITES).items():
        assert recorded[f"oof_unseen/{name}"] == made.metrics[f"oof_unseen/{name}"] == pytest.approx(value, abs=1e-6)
    assert recorded["oof_unseen/pcc_mean"] != recorded["oof/pcc_mean"]
    assert any("6 of these 46 test transcripts were seen" in line for line in reporter.lines)
    assert any("the same of the 40 that the trunk's network has not seen" in line for line in reporter.lines)


@pytest.mark.slow
def test_too_few_unseen_transcripts_have_no_figures_of_their_own(with_parent: TrackingSettings, tmp_path: Path) -> None:
    some = write_table(_joined(toy_transcripts(29, seed=9), _OLD.take(np.arange(11))), tmp_path / "some.tsv")
    reporter = SilentReporter()
    made = _train(with_parent, str(some), "exp1", reporter, data__fold=2, train__epochs=1)
    assert not any(name.startswith("oof_unseen") for name in made.metrics)
    assert any("29 remain: too few" in line for line in reporter.lines)


def test_each_fold_begins_from_the_same_trunk(with_parent: TrackingSettings, new: str) -> None:
    theirs = checkpoint.load(_parents_best(with_parent)).weights
    made = _train(with_parent, new, "exp1", data__fold=2, train__freeze=9, train__epochs=1)
    for name in ("fold1", "fold2"):
        found = checkpoint.load(made.folder / name / "checkpoints" / "best.pt").weights
        assert all(torch.equal(found[key], theirs[key]) for key in found if is_trunk(key))


def test_fold_is_a_parent_that_has_seen_all_of_its_runs_data(folders: TrackingSettings, old: str, new: str) -> None:
    _train(folders, old, data__fold=2, train__epochs=1)
    _train(folders, new, "exp1/fold2", train__epochs=1)
    found = _found(folders, "exp2")
    assert found.metrics()["transfer/seen_of_validation"] >= 0
    expected = {int(each) for part in (_OLD, _NEW) for each in fingerprints(part)}
    assert {int(each) for each in training_data.of_run(found, open_tracker(folders))} == expected


def test_file_of_no_known_run_is_said_to_have_seen_what_nobody_knows(
    with_parent: TrackingSettings, old: str, new: str, tmp_path: Path
) -> None:
    shutil.copy(_parents_best(with_parent), tmp_path / "given.pt")
    reporter = SilentReporter()
    _train(with_parent, new, str(tmp_path / "given.pt"), reporter, train__epochs=1)
    assert any("What it was trained on is not known" in line for line in reporter.lines)
    found, tracker = _found(with_parent, "exp2"), open_tracker(with_parent)
    assert not any(name.startswith("transfer/") for name in found.metrics())
    with pytest.raises(training_data.UnknownTrainingDataError) as caught:
        training_data.of_run(found, tracker)
    assert "given.pt, and what those weights were trained on is not known" in caught.value.reason
    assert len(training_data.of_run(found, tracker, [old])) == 80


def test_ports_file_is_a_parent(folders: TrackingSettings, new: str, tmp_path: Path) -> None:
    ports_file(tmp_path / "epoch7.pt")
    words = ["train", "--data", new, "--transfer", str(tmp_path / "epoch7.pt"), "--no-track", "--epochs", "1"]
    words += ["--store", str(folders.store), "--set", "train.freeze=1", "--fold", "2", "--no-baseline", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    made = checkpoint.load(Path(json.loads(result.stdout)["folder"]) / "fold1" / "checkpoints" / "best.pt")
    theirs = checkpoint.load(tmp_path / "epoch7.pt")
    assert (made.sites, made.model.rnn_hidden, made.model.masked) == (_OWN_SITES, 3, False)
    assert all(torch.equal(made.weights[key], theirs.weights[key]) for key in made.weights if is_trunk(key))
    assert made.settings["train"]["batch_size"] == 32  # only the network is the parent's


def test_command_takes_the_parents_sizes_and_refuses_others(
    with_parent: TrackingSettings, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", "--data", new, "--transfer", "exp1", "--no-track", "--store", str(with_parent.store)]
    words += ["--epochs", "1", "--no-baseline"]
    made = CliRunner().invoke(app, [*words, "--json"])
    assert made.exit_code == 0, made.output
    found = checkpoint.load(Path(json.loads(made.stdout)["folder"]) / "checkpoints" / "best.pt")
    assert (found.model.rnn_hidden, found.encoding.max_length) == (3, 60)
    default = config.starting()
    other = config.merge(default, {"train": {"lr": 0.5}, "model": {"rnn_hidden": 99}})
    monkeypatch.setattr(config, "starting", lambda: other)
    made = CliRunner().invoke(app, [*words, "--json"])
    assert made.exit_code == 0, made.output
    found = checkpoint.load(Path(json.loads(made.stdout)["folder"]) / "checkpoints" / "best.pt")
    assert (found.model.rnn_hidden, found.settings["train"]["lr"]) == (3, 0.5)  # as any run without a config
    for setting, problem in (
        ("model.rnn_hidden=5", "exp1: these weights were trained with model.rnn_hidden 3, but 5 is asked for"),
        ("encoding.keep=3p", "exp1: these weights were trained with encoding.keep 5p, but 3p is asked for"),
    ):
        result = CliRunner().invoke(app, [*words, "--set", setting])
        assert result.exit_code == 1
        assert problem in " ".join(result.stderr.split())
        assert "train without --transfer" in " ".join(result.stderr.split())


def test_trunk_settings_need_a_trunk(with_parent: TrackingSettings, old: str) -> None:
    for changes, key in (({"train__freeze": 1}, "train.freeze"), ({"train__trunk_lr": 0.1}, "train.trunk_lr")):
        with pytest.raises(UsageError) as caught:
            _train(with_parent, old, **changes)
        assert key in caught.value.problem
        assert "--transfer or --weights" in caught.value.remedy
    weights = str(_parents_best(with_parent))
    settings = small_config(data__path=old, train__freeze=1, train__epochs=5)
    assert run.train(RunRequest(settings, with_parent, weights=weights), SilentReporter()).state == "FINISHED"
    with pytest.raises(UsageError) as both:
        run.train(RunRequest(settings, with_parent, weights=weights, transfer=weights), SilentReporter())
    assert "--weights with --transfer" in both.value.problem


def test_of_networks_of_several_seeds_it_is_said_which_is_the_parent(
    folders: TrackingSettings, old: str, new: str
) -> None:
    made = _train(folders, old, train__epochs=1, train__seeds=2)
    second = str(made.folder / "checkpoints" / "seed2" / "best.pt")
    for named, said in (("exp1", "exp1's first network"), (second, "exp1's seed2/best.pt")):
        reporter = SilentReporter()
        _train(folders, new, named, reporter, train__epochs=1)
        assert any(f"the trunk is that of {said}, epoch 1;" in line for line in reporter.lines)


def test_several_networks_are_no_parent(folders: TrackingSettings, old: str, new: str) -> None:
    _train(folders, old, data__fold=2, train__epochs=1)
    with pytest.raises(CheckpointError) as caught:
        _train(folders, new, "exp1")
    assert "a cross-validation has a network for each fold" in caught.value.problem
    assert "--transfer exp1/fold1" in caught.value.remedy
    several = open_tracker(folders).start(log_name=None, params={}, tags={"rnatracker.kind": "trial"}, dataset=None)
    best = next((folders.store / "untracked").glob("exp1/fold1/checkpoints/best.pt"))
    for name in ("fold1", "fold2"):
        several.files.training(name).folder.mkdir(parents=True)
        shutil.copy(best, several.files.training(name).best)
    several.finish("FINISHED")
    with pytest.raises(CheckpointError) as caught:
        _train(folders, new, several.name)
    assert "the run has 2 networks" in caught.value.problem
    assert str(several.files.training("fold1").best) in caught.value.remedy
    with pytest.raises(CheckpointError) as missing:
        _train(folders, new, "none.pt")
    assert "none.pt: no such file of weights" in missing.value.problem


@pytest.mark.parametrize("fold", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_interrupted_run_resumes_to_the_bit_without_its_parent(
    with_parent: TrackingSettings, new: str, tmp_path: Path, fold: int
) -> None:
    weights = tmp_path / "parent.pt"
    shutil.copy(_parents_best(with_parent), weights)
    changes = {"train__freeze": 1, "train__trunk_lr": 0.5, "data__fold": fold}
    whole = _train(with_parent, new, str(weights), **changes)
    with pytest.raises(Interrupted):
        _train(with_parent, new, str(weights), _StopsAfter(14 if fold else 8), **changes)
    weights.unlink()  # fold 1 has ended, and fold 2 has begun: neither needs it
    resumed = run.resume("exp3", with_parent, SilentReporter())
    places = ["checkpoints"] if not fold else ["fold1/checkpoints", "fold2/checkpoints"]
    for place in places:
        one, two = (checkpoint.load(each.folder / place / "last.pt").weights for each in (whole, resumed))
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_second_network_begins_from_the_trunk_after_a_resumption_too(
    with_parent: TrackingSettings, new: str, tmp_path: Path
) -> None:
    weights = tmp_path / "parent.pt"
    shutil.copy(_parents_best(with_parent), weights)
    changes = {"train__trunk_lr": 0.0, "train__seeds": 2}
    with pytest.raises(Interrupted):
        _train(with_parent, new, str(weights), _StopsAfter(3), **changes)  # in the first network
    resumed = run.resume("exp2", with_parent, SilentReporter())
    first, second = (
        checkpoint.load(resumed.folder / "checkpoints" / place / "best.pt").weights for place in ("", "seed2")
    )
    parent = checkpoint.load(weights).weights
    for name in filter(is_trunk, parent):
        assert torch.equal(first[name], parent[name]) and torch.equal(second[name], parent[name])
    assert not torch.equal(first["output.weight"], second["output.weight"])


def test_run_that_was_stopped_before_it_saved_needs_its_parent(
    with_parent: TrackingSettings, new: str, tmp_path: Path
) -> None:
    weights = tmp_path / "parent.pt"
    shutil.copy(_parents_best(with_parent), weights)
    made = _train(with_parent, new, str(weights))
    found = _found(with_parent, "exp2")
    found.reopen(even_finished=True)
    found.finish("KILLED")
    shutil.rmtree(made.folder / "checkpoints")
    weights.rename(tmp_path / "moved.pt")
    with pytest.raises(CheckpointError) as caught:
        run.resume("exp2", with_parent, SilentReporter())
    assert "parent.pt: exp2 began from the trunk of these weights, and they are gone" in caught.value.problem
    (tmp_path / "moved.pt").rename(weights)
    again = run.resume("exp2", with_parent, SilentReporter())
    assert again.metrics == pytest.approx(made.metrics)


def test_replay_needs_the_parent_as_it_was(with_parent: TrackingSettings, new: str, tmp_path: Path) -> None:
    weights = tmp_path / "parent.pt"
    shutil.copy(_parents_best(with_parent), weights)
    _train(with_parent, new, str(weights), data__fold=2, train__trunk_lr=0.1)
    planned = replay.plan("exp2", with_parent)
    again = replay.replay(planned, SilentReporter())
    assert agreement.compare(planned.original, again).words == "bit-identical"
    assert again.tags()["rnatracker.transfer"] == str(weights)
    assert f"--transfer {weights}" in retrain_command(again, with_parent)
    content = weights.read_bytes()
    weights.write_bytes(content + b"changed")
    with pytest.raises(CheckpointError) as other:
        replay.plan("exp2", with_parent)
    assert "digest differs" in other.value.problem
    weights.unlink()
    with pytest.raises(CheckpointError) as gone:
        replay.plan("exp2", with_parent)
    assert "they are gone" in gone.value.problem


def test_replay_finds_a_parent_whose_store_has_moved(with_parent: TrackingSettings, new: str) -> None:
    parent = _found(with_parent, "exp1")
    _train(with_parent, new, "exp1", train__epochs=1)
    found = _found(with_parent, "exp2")
    found.set_tags({"rnatracker.transfer": "/elsewhere/best.pt"})
    planned = replay.plan("exp2", with_parent)
    assert planned.prepared.parent is not None
    assert planned.prepared.parent.path == (parent.folder / "checkpoints" / "best.pt").resolve()


def test_replay_of_a_run_whose_parents_data_are_gone_has_its_figures(
    folders: TrackingSettings, old: str, new: str
) -> None:
    _train(folders, old, train__epochs=1)
    _train(folders, new, "exp1", data__fold=2, train__epochs=1)
    Path(old).unlink()
    planned = replay.plan("exp2", folders)
    again = replay.replay(planned, SilentReporter())
    assert again.metrics()["transfer/seen_of_test"] == 6
    assert agreement.compare(planned.original, again).words == "bit-identical"
    assert len(training_data.of_run(again, open_tracker(folders))) == 80
