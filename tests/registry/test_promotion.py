"""From a run to the champion: who earns it, what is refused, and what is left when it is interrupted."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from rnatracker.app import app
from rnatracker.data import fingerprints
from rnatracker.data.readers import read
from rnatracker.errors import CheckpointError, DataError, RegistryError
from rnatracker.evaluation.weights import WEIGHTS
from rnatracker.registry import comparison, model_files, promotion, test_set
from rnatracker.registry.comparison import PromotionRequest
from rnatracker.registry.mlflow_model import ARTIFACTS, RECORDS_FILE
from rnatracker.registry.promotion import Promotion, promote, roll_back
from rnatracker.registry.registry import Registry
from rnatracker.registry.resolve import resolve
from rnatracker.registry.test_set import DataOptions
from rnatracker.tracking import places, store
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support import paths
from tests.support.candidates import finished_run, measured_by, training_data, with_ids
from tests.support.servers import start_server
from tests.support.toys import toy_transcripts, write_table

_ROOT = paths.ROOT


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tracking(mlflow_store: Path) -> TrackingSettings:
    return TrackingSettings(mlflow_store)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return training_data(tmp_path)


def _promote(tracking: TrackingSettings, run: str, test: str | None = None, **options: Any) -> Promotion:
    chosen = None if test is None else DataOptions(test)
    return promote(PromotionRequest(run, tracking, data=chosen, **options))


def _aliases(tracking: TrackingSettings) -> dict[str, int]:
    return Registry(tracking).aliases()


def test_first_run_becomes_champion_when_there_is_none(tracking: TrackingSettings, data: str) -> None:
    run = finished_run(tracking, data, 1)
    result = _promote(tracking, run.name)
    assert result.verdict is not None and result.verdict.promoted
    assert result.verdict.reason == "there was no champion"
    assert _aliases(tracking) == {"champion": 1}
    version = Registry(tracking).version(1)
    assert (version.run_id, version.run_name, version.sites) == (run.id, "exp1", ["Nucleus", "Cytosol", "ERM"])
    assert version.tags["rnatracker.data_digest"] == read(data).digest()
    assert version.tags["rnatracker.split_digest"] == "0123456789abcdef"
    assert version.metrics["best/pcc_mean"] == 0.5
    assert version.size_bytes > 1000


def test_better_run_becomes_champion_and_the_former_is_previous(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    first, second = finished_run(tracking, data, 1), finished_run(tracking, data, 2)
    _promote(tracking, first.id)
    result = _promote(tracking, second.id, measured_by(2, tmp_path / "test.tsv"))
    assert result.verdict is not None and result.verdict.promoted
    assert (result.verdict.champion, result.verdict.version) == (1, 2)
    difference = result.verdict.differences[-2]
    assert (difference.name, difference.low > 0) == ("pcc_mean", True)
    assert _aliases(tracking) == {"champion": 2, "previous": 1}
    assert result.version.aliases == ("champion",)


def test_worse_run_stays_challenger_on_the_test_set_that_is_kept(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    first, second = finished_run(tracking, data, 1), finished_run(tracking, data, 2)
    test = measured_by(1, tmp_path / "test.tsv")
    digest = read(test).digest()
    _promote(tracking, first.id, test)
    Path(test).unlink()
    result = _promote(tracking, second.id)
    assert result.verdict is not None and not result.verdict.promoted
    assert (result.verdict.data, result.verdict.data_digest, result.verdict.transcripts) == ("test.tsv", digest, 120)
    assert result.verdict.earlier == 1
    assert "not shown to be better" in result.verdict.reason
    assert _aliases(tracking) == {"champion": 1, "challenger": 2}


def test_run_of_the_very_same_weights_is_not_better(tracking: TrackingSettings, data: str, tmp_path: Path) -> None:
    _promote(tracking, finished_run(tracking, data, 1).id, measured_by(1, tmp_path / "test.tsv", noise=0.1))
    verdict = _promote(tracking, finished_run(tracking, data, 1).id).verdict
    assert verdict is not None and not verdict.promoted
    assert {(each.value, each.low, each.high) for each in verdict.differences} == {(0.0, 0.0, 0.0)}


def test_verdict_is_kept_as_a_tag_and_a_file_and_shown_by_mlflow(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    _promote(tracking, finished_run(tracking, data, 1).id, measured_by(1, tmp_path / "test.tsv"))
    result = _promote(tracking, finished_run(tracking, data, 2).id)
    registry = Registry(tracking)
    version = registry.version(2)
    files = list((registry.folder(version) / promotion.FOLDER).iterdir())
    assert result.verdict is not None
    assert [json.loads(file.read_text()) for file in files] == [version.verdict] == [result.verdict.as_json()]
    shown = registry.backend.client.get_model_version("rnatracker", "2").description
    assert "| Nucleus | 0.500 |" in shown and "challenger; it is not shown" in shown


def test_what_a_user_has_typed_above_a_version_stays_when_it_is_judged_again(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    _promote(tracking, finished_run(tracking, data, 1).id, measured_by(1, tmp_path / "test.tsv"))
    second = finished_run(tracking, data, 2)
    _promote(tracking, second.id)
    client = Registry(tracking).backend.client
    ours = client.get_model_version("rnatracker", "2").description
    client.update_model_version("rnatracker", "2", f"Ask Anna.\n\n{ours}\n\nNot for mice.")
    _promote(tracking, second.id, margin=0.5)
    shown = client.get_model_version("rnatracker", "2").description
    assert shown.startswith("Ask Anna.\n\nRun exp2") and shown.endswith("\n\nNot for mice.")
    assert shown.count("Verdict of") == 1 and "above 0.5" in shown


def test_run_stays_challenger_when_there_is_nothing_to_compare_on(tracking: TrackingSettings, data: str) -> None:
    _promote(tracking, finished_run(tracking, data, 1).id)
    result = _promote(tracking, finished_run(tracking, data, 2).id)
    assert result.verdict is not None and not result.verdict.promoted
    assert "--data FILE" in result.verdict.reason
    assert _aliases(tracking) == {"champion": 1, "challenger": 2}


def test_same_run_is_registered_once_when_it_is_promoted_again(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    first, second = finished_run(tracking, data, 1), finished_run(tracking, data, 2)
    _promote(tracking, first.id)
    assert _promote(tracking, first.id).verdict is None
    assert not _promote(tracking, second.id).verdict.promoted  # type: ignore[union-attr]
    assert _promote(tracking, second.id, measured_by(2, tmp_path / "test.tsv")).version.number == 2
    assert [each.number for each in Registry(tracking).versions()] == [2, 1]


def test_cross_validation_is_promoted_as_the_mean_of_its_folds(tracking: TrackingSettings, data: str) -> None:
    run = finished_run(tracking, data, 1, 2, 3)
    version = _promote(tracking, run.id).version
    assert list(version.checksums) == ["model1.pt", "model2.pt", "model3.pt"]
    model = resolve("champion", tracking)
    assert len(model.members) == 3
    assert model.description == "run exp1, mean of 3 folds' models"
    assert model.members[0].optimizer is None
    with pytest.raises(RegistryError, match="fold1 is one fold of exp1; promote that"):
        _promote(tracking, "fold1")


def test_test_set_is_refused_when_a_model_was_trained_on_any_of_it(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    run = finished_run(tracking, data, 1)
    with pytest.raises(DataError, match="exp1 was trained on this very file"):
        _promote(tracking, run.id, data)
    some = with_ids(toy_transcripts(40).take(read(data).lengths.argsort()[:2]), "renamed_")
    test = toy_transcripts(30, seed=1)
    rows = write_table(test, tmp_path / "mixed.tsv").read_text()
    extra = write_table(some, tmp_path / "some.tsv").read_text().split("\n", 1)[1]
    (tmp_path / "mixed.tsv").write_text(rows + extra)
    with pytest.raises(DataError, match=r"mixed.tsv: 2 of its 32 transcripts \(renamed_t\d+, renamed_t\d+\)"):
        _promote(tracking, run.id, str(tmp_path / "mixed.tsv"))
    assert Registry(tracking).versions() == []


def test_test_set_is_refused_when_the_champion_was_trained_on_it_and_its_data_are_gone(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    other = str(write_table(toy_transcripts(40, seed=7), tmp_path / "other.tsv"))
    _promote(tracking, finished_run(tracking, data, 1).id)
    test = str(write_table(toy_transcripts(40).take(read(data).lengths.argsort()), tmp_path / "test.tsv"))
    Path(data).unlink()
    with pytest.raises(DataError, match="40 of its 40 transcripts .* that the champion, rnatracker version 1, was"):
        _promote(tracking, finished_run(tracking, other, 2).id, test)
    assert _aliases(tracking) == {"champion": 1}


def test_run_is_refused_when_its_training_data_are_gone_unless_they_are_given(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    run = finished_run(tracking, data, 1)
    moved, wrong = tmp_path / "moved.tsv", write_table(toy_transcripts(5), tmp_path / "wrong.tsv")
    Path(data).rename(moved)
    for files in ((), (str(wrong),)):
        with pytest.raises(DataError, match="are gone or have changed .*--trained-on FILE"):
            _promote(tracking, run.id, trained_on=files)
    assert _promote(tracking, run.id, trained_on=(str(moved),)).version.number == 1


def test_records_of_the_run_that_gave_the_weights_count_as_trained_on(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    first = finished_run(tracking, data, 1)
    other = str(write_table(toy_transcripts(40, seed=7), tmp_path / "other.tsv"))
    second = finished_run(tracking, other, 2)
    second.set_tags({"rnatracker.weights": str(first.folder / "checkpoints" / "best.pt")})
    with pytest.raises(DataError, match="40 of its 40 transcripts"):
        _promote(tracking, second.id, str(write_table(with_ids(toy_transcripts(40), "x"), tmp_path / "test.tsv")))
    second.set_tags({"rnatracker.weights": "/somewhere/best.pt"})
    with pytest.raises(DataError, match="continued from /somewhere/best.pt"):
        _promote(tracking, second.id)


def test_forced_run_becomes_champion_and_the_reason_is_recorded(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    _promote(tracking, finished_run(tracking, data, 1).id, measured_by(1, tmp_path / "test.tsv"))
    second = finished_run(tracking, data, 2)
    result = _promote(tracking, second.id, force="the assay has changed")
    assert result.verdict is not None and result.verdict.promoted
    assert result.verdict.reason.startswith("forced (the assay has changed); by the rule: it is not shown")
    assert len(result.verdict.differences) == 5
    assert _aliases(tracking) == {"champion": 2, "previous": 1}
    third = finished_run(tracking, data, 3)
    result = _promote(tracking, third.id, data, force="no other data")
    assert result.verdict is not None and "not judged: train.tsv: exp3 was trained on" in result.verdict.reason
    assert Registry(tracking).version(3).verdict["forced"] == "no other data"


def test_trial_is_promoted_under_its_studys_name_and_the_study_itself_is_refused(
    tracking: TrackingSettings, data: str
) -> None:
    tracker = open_tracker(tracking)
    study = tracker.start(log_name="s", params={}, tags={"rnatracker.kind": "study"}, dataset=None)
    trial = finished_run(tracking, data, 1)
    trial.set_tags({"mlflow.parentRunId": study.id, "rnatracker.kind": "trial"})
    with pytest.raises(RegistryError, match="exp1_s is a study, which has no weights of its own; promote one of its"):
        _promote(tracking, study.id)
    version = _promote(tracking, trial.id).version
    assert version.run_name == "exp1_s/exp2"
    assert f"rnatracker promote exp1_s/exp2 --store {tracking.store}, or return" in Registry(tracking).mending(version)


def test_untracked_run_is_refused(tracking: TrackingSettings, data: str) -> None:
    run = finished_run(TrackingSettings(tracking.store, enabled=False), data, 1)
    with pytest.raises(RegistryError, match="exp1 was made with --no-track"):
        _promote(tracking, str(run.folder))


def test_pruned_trial_is_refused_with_what_gives_it_weights(tracking: TrackingSettings, data: str) -> None:
    run = finished_run(tracking, data, 1, status="KILLED")
    run.set_tags({"rnatracker.kind": "trial", "rnatracker.study": "s"})
    with pytest.raises(RegistryError) as caught:
        _promote(tracking, run.id)
    assert caught.value.remedy == "resume its study s, with its tune command"
    run.set_tags({"pruned": "its validation value"})
    with pytest.raises(RegistryError) as caught:
        _promote(tracking, run.id)
    assert "exp1 was pruned" in caught.value.problem
    assert f"rnatracker train --config {run.files.config} " in caught.value.remedy
    assert "--resume" not in str(caught.value)


def test_unfinished_run_is_refused(tracking: TrackingSettings, data: str) -> None:
    run = finished_run(tracking, data, 1, status="KILLED")
    with pytest.raises(
        RegistryError, match="has not finished .KILLED.; finish it first with: rnatracker train --resume"
    ):
        _promote(tracking, run.id)


def test_damaged_champion_is_not_compared_with_and_says_what_to_do(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    registry = Registry(tracking)
    test = measured_by(2, tmp_path / "test.tsv")
    _promote(tracking, finished_run(tracking, data, 1).id, test)
    folder = registry.folder(registry.version(1)) / ARTIFACTS / WEIGHTS
    (folder / "model1.pt").write_bytes(b"damaged")
    second = finished_run(tracking, data, 2)
    with pytest.raises(CheckpointError, match="not what was registered.*rnatracker promote exp1"):
        _promote(tracking, second.id)
    # As the message says: the champion's run is registered again, as a version whose files are whole.
    assert _promote(tracking, "exp1", force="version 1 is damaged").version.number == 2
    assert _promote(tracking, second.id).verdict.promoted  # type: ignore[union-attr]


def test_changed_list_of_what_the_champion_was_trained_on_is_not_believed(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    _promote(tracking, finished_run(tracking, data, 1).name)
    registry = Registry(tracking)
    records = registry.folder(registry.version(1)) / ARTIFACTS / RECORDS_FILE
    fingerprints.write(records, fingerprints.fingerprints(toy_transcripts(2, seed=9)))
    run = finished_run(tracking, data, 2).name
    with pytest.raises(CheckpointError) as raised:
        _promote(tracking, run, measured_by(2, tmp_path / "test.tsv"))
    assert raised.value.problem == f"rnatracker version 1: {records} is not what was registered"
    assert _aliases(tracking) == {"champion": 1}


def test_kept_test_set_is_refused_when_it_was_changed(tracking: TrackingSettings, data: str, tmp_path: Path) -> None:
    _promote(tracking, finished_run(tracking, data, 1).id, measured_by(1, tmp_path / "test.tsv"))
    file = next((tracking.store / "artifacts").rglob("test_set/*/test.tsv"))
    file.write_text(file.read_text().replace("t0\t", "t0x\t"))
    with pytest.raises(RegistryError, match="is not what was kept; give it, or another, with --data FILE"):
        _promote(tracking, finished_run(tracking, data, 2).id)
    file.unlink()
    with pytest.raises(RegistryError, match="no such file.*--data FILE"):
        _promote(tracking, "exp2")


@pytest.mark.parametrize("harm", ["lost", "damaged", "tag"])
def test_kept_test_set_is_whole_again_when_it_was_given_again(
    harm: str, tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    test = measured_by(1, tmp_path / "test.tsv")
    _promote(tracking, finished_run(tracking, data, 1).id, test)
    file = next((tracking.store / "artifacts").rglob("test_set/*/test.tsv"))
    if harm == "lost":
        file.unlink()
    elif harm == "damaged":
        file.write_text(file.read_text().replace("t0\t", "t0x\t"))
    else:
        Registry(tracking).set_model_tags({test_set.TAG: "{"})
    second, third = (finished_run(tracking, data, seed).id for seed in (2, 3))
    with pytest.raises(RegistryError, match="give it, or another, with --data FILE"):
        _promote(tracking, second)
    _promote(tracking, second, test)
    verdict = _promote(tracking, third).verdict
    assert verdict is not None and (verdict.data, verdict.transcripts) == ("test.tsv", 120)


def test_copy_of_an_added_file_is_fetched_anew_when_the_file_is_added_again(
    tracking: TrackingSettings, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a store on a server, of whose files this machine keeps copies."""
    model_id = _promote(tracking, finished_run(tracking, data, 1).id).version.model_id
    backend, file = Registry(tracking).backend, tmp_path / "test.tsv"
    monkeypatch.setattr(model_files, "_local", lambda uri: None)
    for content in ("first", "second"):
        file.write_text(content)
        model_files.add(backend, model_id, file, "test_set/x")
        assert model_files.added(backend, model_id, "test_set/x/test.tsv").read_text() == content


def test_rollback_returns_to_the_previous_champion_and_back(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    registry = Registry(tracking)
    with pytest.raises(RegistryError, match="no previous champion"):
        roll_back(registry)
    _promote(tracking, finished_run(tracking, data, 1).id)
    _promote(tracking, finished_run(tracking, data, 2).id, measured_by(2, tmp_path / "test.tsv"))
    now, before = roll_back(registry)
    assert (now.number, before and before.number) == (1, 2)
    assert registry.aliases() == {"champion": 1, "previous": 2}
    roll_back(registry)
    assert registry.aliases() == {"champion": 2, "previous": 1}
    registry.backend.client.delete_model_version("rnatracker", "2")
    assert roll_back(registry)[1] is None
    assert registry.aliases() == {"champion": 1}


def test_rollback_is_refused_when_the_previous_champion_is_damaged(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    registry = Registry(tracking)
    _promote(tracking, finished_run(tracking, data, 1).id)
    _promote(tracking, finished_run(tracking, data, 2).id, measured_by(2, tmp_path / "test.tsv"))
    folder = registry.folder(registry.version(1)) / ARTIFACTS / WEIGHTS
    (folder / "model1.pt").unlink()
    with pytest.raises(CheckpointError, match="can't be read"):
        roll_back(registry)
    assert registry.aliases() == {"champion": 2, "previous": 1}


# Two at once.


@pytest.mark.parametrize("wins_again", [True, False])
def test_promotion_is_judged_again_when_another_has_won_meanwhile(
    wins_again: bool, tracking: TrackingSettings, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs 2 and 3 both beat run 1, and 2 becomes champion while 3 is being judged."""
    first, second, third = (finished_run(tracking, data, seed) for seed in (1, 2, 3))
    _promote(tracking, first.id, measured_by(1, tmp_path / "test.tsv"))

    def decree(differences: Any, **options: Any) -> tuple[bool, str]:
        return (_aliases(tracking)["champion"] == 1 or wins_again), "by decree"

    monkeypatch.setattr(comparison, "judge", decree)
    record, nested = promotion._record, []

    def record_while_another_wins(*arguments: Any) -> None:
        record(*arguments)
        if not nested:
            nested.append(True)
            assert _promote(tracking, second.id).verdict.promoted  # type: ignore[union-attr]

    monkeypatch.setattr(promotion, "_record", record_while_another_wins)
    verdict = _promote(tracking, third.id).verdict
    assert nested and verdict is not None
    # Run 3's version is the second, since its promotion began first; it was held against run 2's, the third, at last.
    assert (verdict.version, verdict.champion, verdict.promoted) == (2, 3, wins_again)
    expected = {"champion": 2, "previous": 3} if wins_again else {"champion": 3, "previous": 1, "challenger": 2}
    assert _aliases(tracking) == expected


@pytest.mark.slow
def test_one_champion_comes_of_it_when_two_processes_promote_at_once(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    runs = [finished_run(tracking, data, seed) for seed in (1, 2)]
    processes = [
        subprocess.Popen(
            [sys.executable, str(_ROOT / "cli.py"), "promote", run.id, "--store", str(tracking.store), "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for run in runs
    ]  # fmt: skip
    results = [(process.communicate(timeout=120), process.returncode) for process in processes]
    assert sorted(code for _, code in results) == [0, 3], results
    outcomes = {json.loads(out)["verdict"]["outcome"]: json.loads(out)["version"] for (out, _), _ in results}
    assert _aliases(tracking) == {"champion": outcomes["champion"], "challenger": outcomes["challenger"]}


# Interrupted.

_STEPS = (
    "create_logged_model", "log_model_artifacts", "finalize_logged_model", "create_registered_model",
    "create_model_version", "set_logged_model_tags", "log_model_artifact", "set_model_version_tag",
    "set_registered_model_tag", "update_model_version", "set_registered_model_alias", "delete_registered_model_alias",
)  # fmt: skip


class _Interrupt(BaseException):
    pass


class _Fuse:
    """Raises before or after the n-th call that changes the registry; counts them all."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, at: int | None, after: bool, only: tuple[str, ...] = _STEPS
    ) -> None:
        from mlflow import MlflowClient

        self.calls: list[str] = []
        self._at, self._after = at, after
        for name in only:
            monkeypatch.setattr(MlflowClient, name, self._wrapped(name, getattr(MlflowClient, name)))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append(name)
            is_it = len(self.calls) == self._at
            if is_it and not self._after:
                raise _Interrupt(name)
            try:
                return real(*arguments, **options)
            finally:
                if is_it:
                    raise _Interrupt(name)

        return call


def _interrupted_everywhere(
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    test: str,
    run: str,
    only: tuple[str, ...],
    afters: tuple[bool, ...] = (False, True),
) -> int:
    """Interrupt the promotion of a run that wins over version 1 before and after each step; return how many."""
    number = 0
    for after in afters:
        at = 0
        while True:
            at += 1
            folder = tmp_path / f"{'after' if after else 'before'}{at}"
            shutil.copytree(template, folder)
            store.mend_paths(folder / places.DATABASE, folder)
            tracking = TrackingSettings(folder)
            with monkeypatch.context() as patch:
                fuse = _Fuse(patch, at, after, only)
                try:
                    _promote(tracking, run, test)
                except _Interrupt:
                    pass
                else:
                    assert len(fuse.calls) < at
                    shutil.rmtree(folder)
                    break
            number += 1
            where = f"{'after' if after else 'before'} {fuse.calls[-1]}, step {at}"
            aliases = _aliases(tracking)
            assert aliases["champion"] in (1, 2), where
            assert resolve("champion", tracking).members, where
            assert aliases.get("previous") in (None, 1), where
            for version in Registry(tracking).versions():
                assert resolve(str(version.number), tracking).members, where
            _promote(tracking, run, test)  # the same command goes on
            assert _aliases(tracking) == {"champion": 2, "previous": 1}, where
            shutil.rmtree(folder)
    return number


def _contested_store(tracking: TrackingSettings, data: str, tmp_path: Path) -> tuple[str, str]:
    """Make run 1 champion; return a run that beats it on a test set, and that."""
    _promote(tracking, finished_run(tracking, data, 1).id)
    return finished_run(tracking, data, 2).id, measured_by(2, tmp_path / "test.tsv")


@pytest.mark.slow
def test_exactly_one_champion_is_left_when_changing_aliases_is_interrupted(
    tracking: TrackingSettings, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, test = _contested_store(tracking, data, tmp_path)
    only = ("set_registered_model_alias", "delete_registered_model_alias")
    assert _interrupted_everywhere(tracking.store, tmp_path, monkeypatch, test, run, only, (False,)) == 4


@pytest.mark.slow
def test_exactly_one_champion_is_left_when_any_step_is_interrupted(
    tracking: TrackingSettings, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, test = _contested_store(tracking, data, tmp_path)
    assert _interrupted_everywhere(tracking.store, tmp_path, monkeypatch, test, run, _STEPS) >= 28


def test_a_rollback_is_done_whole_or_not_at_all_when_it_is_interrupted(
    tracking: TrackingSettings, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, test = _contested_store(tracking, data, tmp_path)
    _promote(tracking, run, test)
    before, done = {"champion": 2, "previous": 1}, {"champion": 1, "previous": 2}
    for at, after in ((1, False), (1, True), (2, False), (2, True), (3, False), (3, True), (4, False), (4, True)):
        folder = tmp_path / f"{at}{after}"
        shutil.copytree(tracking.store, folder)
        store.mend_paths(folder / places.DATABASE, folder)
        registry = Registry(TrackingSettings(folder))
        with monkeypatch.context() as patch:
            _Fuse(patch, at, after)
            with pytest.raises(_Interrupt):
                roll_back(registry)
        expected = before if (at, after) == (1, False) else done
        assert registry.aliases() == expected, (at, after)
        with registry.locked():  # whoever changes something next finishes it in MLflow too
            pass
        kept = registry.backend.client.get_registered_model("rnatracker").aliases
        assert {alias: int(number) for alias, number in kept.items()} == expected


@pytest.mark.parametrize("step", ["log_model_artifacts", "log_model_artifact"])
def test_nothing_is_half_registered_when_the_disk_is_full(
    step: str, tracking: TrackingSettings, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "model1.pt")

    finished_run(tracking, data, 1)
    test = measured_by(1, tmp_path / "test.tsv")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, full)
        result = _run("promote", "exp1", "--data", test, "--store", str(tracking.store))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "No space left" in result.stderr or "the disk is full" in result.stderr
    assert "champion" not in _aliases(tracking)
    assert len(Registry(tracking).versions()) == (step == "log_model_artifact")
    assert _promote(tracking, "exp1", test).version.aliases == ("champion",)


# As a user types it.


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_commands_say_what_came_of_it_and_what_to_type_next(
    tracking: TrackingSettings, data: str, tmp_path: Path
) -> None:
    at = ("--store", str(tracking.store))
    assert "has no versions yet" in _run("models", *at).stdout
    for seed in (1, 2):
        finished_run(tracking, data, seed)
    test = measured_by(1, tmp_path / "test.tsv")
    result = _run("promote", "exp1", "--data", test, *at)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].strip() == "PCC on test.tsv, 120 transcripts"
    assert lines[-2] == "rnatracker version 1 (run exp1) is now champion: there was no champion"
    assert lines[-1] == f"Next: rnatracker predict FILE --store {tracking.store}"
    result = _run("promote", "exp2", *at)
    assert result.exit_code == 3
    assert "stays challenger: it is not shown to be better: the difference in pcc_mean is -" in result.stdout
    assert "Error" not in result.stderr
    result = _run("promote", "exp2", "--force", "--reason", "a try", *at, "--json")
    assert json.loads(result.stdout)["verdict"]["forced"] == "a try"
    table = _run("models", *at).stdout
    rows = [line.split() for line in table.splitlines() if line.strip()[:1].isdigit()]
    assert [row[:3] for row in rows] == [["2", "champion", "exp2"], ["1", "previous", "exp1"]]
    assert "forced: a try" in table and "the first champion" in table
    shown = _run("models", "show", "2", *at).stdout
    assert "SHA-256 model1.pt" in shown and "Verdict of 20" in shown
    result = _run("models", "--rollback", *at)
    assert result.stdout.startswith(
        "rnatracker version 1 (run exp1) is champion again in place of version 2, which is previous now"
    )
    content = json.loads(_run("models", "--json", *at).stdout)
    assert [each["aliases"] for each in content["versions"]] == [["previous"], ["champion"]]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("promote", "exp1", "--force"), 2, "give both --force and --reason"),
        (("promote", "exp1", "--reason", "x"), 2, "give both --force and --reason"),
        (("promote", "exp1", "--margin", "-1"), 2, "--margin -1: expected"),
        (("promote", "exp1"), 1, "no run with the id, name or folder exp1"),
        (("models", "list"), 2, "expected nothing, show VERSION, or --rollback"),
        (("models", "show", "4"), 1, "has no version 4; it has none"),
        (("models", "show", "champion"), 1, "has no champion"),
        (("models", "--name", "a/b"), 2, "--name 'a/b'"),
    ],
)
def test_commands_refuse_what_makes_no_sense(
    arguments: tuple[str, ...], code: int, words: str, mlflow_store: Path
) -> None:
    result = _run(*arguments, "--store", str(mlflow_store))
    assert result.exit_code == code
    assert words in result.stderr


@pytest.mark.slow
def test_promotion_works_on_a_server_whatever_machine_asks(
    mlflow_store: Path, data: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    mine, other = (TrackingSettings(tmp_path / name, uri) for name in ("mine", "other"))
    with start_server(mlflow_store, tmp_path / "served", port) as server:
        try:
            first = finished_run(mine, data, 1)
            _promote(mine, first.id, measured_by(2, tmp_path / "test.tsv"))
            second = finished_run(mine, data, 2)
            verdict = _promote(other, second.id).verdict  # the other has none of their files
            assert verdict is not None and verdict.promoted
            assert _aliases(mine) == {"champion": 2, "previous": 1}
            for copy in other.store.rglob("model1.pt"):  # what was damaged here is fetched again
                copy.write_bytes(b"damaged")
            assert resolve("champion", other).name == "rnatracker version 2"
            assert capfd.readouterr().err == ""
        finally:
            os.killpg(server.pid, signal.SIGKILL)
