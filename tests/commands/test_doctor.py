"""What the doctor finds, mends, and leaves alone."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rnatracker import doctor, orphans
from rnatracker.app import app
from rnatracker.doctor import Finding
from rnatracker.errors import RegistryError
from rnatracker.processes import identity, scratch
from rnatracker.search.checks import check_trials
from rnatracker.tracking import places, store
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from tests.support.studies import small_study, work_through
from tests.support.toys import toy_transcripts, write_table
from tests.support.trackers import abandon

_ELSEWHERE = {identity.HOST: "another", identity.PID_NAMESPACE: "other"}
_UNKNOWN_RUN = "0123456789abcdef" * 2


@pytest.fixture
def settings(mlflow_store: Path) -> TrackingSettings:
    return TrackingSettings(mlflow_store)


def _begin(settings: TrackingSettings, **tags: str) -> TrackedRun:
    return open_tracker(settings).start(log_name=None, params={}, tags=tags, dataset=None)


def _of(found: list[Finding], check: str) -> Finding:
    (one,) = [each for each in found if each.check == check]
    return one


def _doctor(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


class TestMachine:
    def test_all_is_well_here(self, settings: TrackingSettings) -> None:
        found = doctor.examine(settings, (check_trials,))
        assert not [each for each in found if each.level == "broken"]
        assert _of(found, "store").text.startswith(str(settings.store))

    def test_a_package_of_another_version_is_broken(
        self, monkeypatch: pytest.MonkeyPatch, settings: TrackingSettings
    ) -> None:
        needed = ["numpy>=99", "torch>=1", "nothing-of-that-name>=1", 'ruff>=99; extra == "dev"']
        monkeypatch.setattr("importlib.metadata.requires", lambda name: needed)
        found = [each for each in doctor.check_machine(settings) if each.level == "broken"]
        assert [each.check for each in found] == ["versions"]
        assert "needed is numpy>=99; nothing-of-that-name is missing" in found[0].text

    @pytest.mark.parametrize(("free", "level"), [(10**8, "broken"), (10**9, "note"), (10**11, "ok")])
    def test_little_free_disk_is_said(
        self, monkeypatch: pytest.MonkeyPatch, settings: TrackingSettings, free: int, level: str
    ) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
        assert _of(doctor.check_machine(settings), "disk").level == level

    def test_kernels_that_cant_be_used_are_noted_with_a_remedy(
        self, monkeypatch: pytest.MonkeyPatch, settings: TrackingSettings
    ) -> None:
        reason = "no C compiler: none is not on the PATH"
        monkeypatch.setenv("CC", "none")
        monkeypatch.setattr("rnatracker.model.kernels.functions.kernel_in_use", lambda *_: ("torch", reason))
        found = _of(doctor.check_machine(settings), "kernels")
        assert (found.id, found.level, reason in found.text) == ("kernels.no-compiler", "note", True)
        assert "gcc" in found.remedy


class TestStore:
    def test_a_store_that_isnt_there_is_noted_and_not_made(self, tmp_path: Path) -> None:
        result = _doctor("--store", str(tmp_path / "none"))
        assert result.exit_code == 0
        assert "no store yet" in result.stdout
        assert f": rnatracker train --data FILE --store {tmp_path / 'none'}\n" in result.stdout
        assert not (tmp_path / "none").exists()

    def test_findings_have_ids_in_json(self, tmp_path: Path) -> None:
        content = json.loads(_doctor("--store", str(tmp_path / "none"), "--json").stdout)
        store_found = [each for each in content["findings"] if each["check"] == "store"]
        assert [(each["id"], each["level"]) for each in store_found] == [("store.missing", "note")]

    def test_a_file_that_is_no_database_is_broken(self, tmp_path: Path) -> None:
        (tmp_path / "mlflow.db").write_text("not a database, really")
        result = _doctor("--store", str(tmp_path))
        assert result.exit_code == 1
        assert "BROKEN  store" in result.stdout
        assert "-> move that file away" in result.stdout

    def test_a_damaged_database_is_broken(self, settings: TrackingSettings) -> None:
        for _ in range(3):
            _begin(settings, long="x" * 4000).finish("FINISHED")
        database = settings.store / places.DATABASE
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tags'").fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
        content = bytearray(database.read_bytes())
        content[(root - 1) * size : root * size] = os.urandom(size)
        database.write_bytes(content)
        assert _of(doctor.check_store(settings), "store").level == "broken"

    def test_a_newer_schema_is_broken(self, settings: TrackingSettings) -> None:
        with closing(sqlite3.connect(settings.store / places.DATABASE)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        found = _of(doctor.check_store(settings), "store")
        assert (found.id, found.level) == ("store.unusable", "broken")
        assert "pip install --upgrade mlflow" in found.remedy

    def test_a_server_that_doesnt_answer_is_broken(self, tmp_path: Path) -> None:
        found = doctor.check_store(TrackingSettings(tmp_path, "http://127.0.0.1:9"))
        assert _of(found, "store").level == "broken"


class TestStaleRuns:
    def _elsewhere(self, settings: TrackingSettings, hours: float) -> TrackedRun:
        run = _begin(settings)
        run.set_tags(_ELSEWHERE)
        with closing(sqlite3.connect(settings.store / places.DATABASE)) as connection, connection:
            connection.execute("UPDATE runs SET start_time = ?", (int((time.time() - hours * 3600) * 1000),))
        return run

    @pytest.mark.parametrize("is_on_network", [False, True])
    def test_a_silent_run_of_another_machine_is_ended_when_asked_for(
        self, settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch, is_on_network: bool
    ) -> None:
        monkeypatch.setattr(store, "is_on_network", lambda folder: is_on_network)
        run = self._elsewhere(settings, 50)
        (stale,) = doctor.stale_runs(settings)
        assert (stale.name, stale.reason) == ("exp1", "nothing heard from another for 2 days")
        assert (
            f"end them: rnatracker doctor --fix --store {settings.store}\n"
            in _doctor("--store", str(settings.store)).stdout
        )
        assert run.status() == "RUNNING"
        result = _doctor("--store", str(settings.store), "--fix")
        assert result.exit_code == 0
        assert (run.status(), "ended by rnatracker doctor" in run.tags()["rnatracker.message"]) == ("FAILED", True)

    def test_a_run_that_has_written_lately_is_left_alone(self, settings: TrackingSettings) -> None:
        run = self._elsewhere(settings, 50)
        run.log_metrics({"train/loss": 1.0}, 1)
        run.flush()
        assert doctor.stale_runs(settings) == []

    def _below(self, settings: TrackingSettings, parent: TrackedRun, **times: int) -> TrackedRun:
        """Begin a child, elsewhere too; end it if it is to have an end."""
        run = open_tracker(settings).start(log_name=None, params={}, tags={}, dataset=None, parent=parent, name="fold1")
        run.set_tags(_ELSEWHERE)
        if "end_time" in times:
            run.finish("FINISHED")
        with closing(sqlite3.connect(settings.store / places.DATABASE)) as connection, connection:
            for column, value in times.items():
                connection.execute(f"UPDATE runs SET {column} = ? WHERE run_uuid = ?", (value, run.id))
        return run

    def test_a_parent_is_left_alone_while_a_child_is_at_work(self, settings: TrackingSettings) -> None:
        parent = _begin(settings)
        child = self._below(settings, parent)
        grandchild = self._below(settings, child)
        self._elsewhere(settings, 50)  # all began that long ago
        parent.set_tags(_ELSEWHERE)
        assert len(doctor.stale_runs(settings)) == 4
        grandchild.log_metrics({"fold1/train/loss": 1.0}, 1)
        grandchild.flush()
        assert [each.name for each in doctor.stale_runs(settings)] == ["exp2"]

    @pytest.mark.parametrize(("hours", "stale"), [(1, False), (30, True)])
    def test_a_parent_is_left_alone_when_a_child_has_ended_lately(
        self, settings: TrackingSettings, hours: int, stale: bool
    ) -> None:
        parent = self._elsewhere(settings, 50)
        now = int(time.time() * 1000)
        self._below(settings, parent, start_time=now - 45 * 3600_000, end_time=now - hours * 3600_000)
        self._below(settings, parent, start_time=now - 40 * 3600_000, end_time=now - 39 * 3600_000)
        dead = self._below(settings, parent, start_time=now - 45 * 3600_000)
        found = {each.run_id: each.reason for each in doctor.stale_runs(settings)}
        assert found.pop(dead.id) == "nothing heard from another for 2 days"
        assert found == ({parent.id: "nothing heard from another for 1 day"} if stale else {})

    def test_a_run_of_this_process_is_left_alone(self, settings: TrackingSettings) -> None:
        run = _begin(settings)
        _doctor("--store", str(settings.store), "--fix")
        assert run.status() == "RUNNING"

    def test_an_untracked_run_without_a_process_is_ended_when_asked_for(self, settings: TrackingSettings) -> None:
        run = _begin(settings.without_mlflow())
        abandon(run)
        (stale,) = doctor.stale_runs(settings)
        assert (stale.run_id, stale.name) == (run.id, "exp1")
        findings = {each.id: each for each in doctor.examine(settings)}
        assert findings["running.stale"].remedy == f"end them: rnatracker doctor --fix --store {settings.store}"
        assert doctor.end_stale(settings, [stale]) == 1
        assert (run.status(), "ended by rnatracker doctor" in run.tags()["rnatracker.message"]) == ("FAILED", True)
        assert doctor.stale_runs(settings) == []

    def test_an_untracked_run_is_left_alone_while_it_writes_or_is_of_this_process(
        self, settings: TrackingSettings
    ) -> None:
        _begin(settings.without_mlflow())
        run = _begin(settings.without_mlflow())
        run.set_tags(_ELSEWHERE)
        assert doctor.stale_runs(settings) == []
        long_ago = time.time() - 50 * 3600
        os.utime(run.folder / "run.json", (long_ago, long_ago))
        assert [each.reason for each in doctor.stale_runs(settings)] == ["nothing heard from another for 2 days"]

    def test_runs_of_all_experiments_are_looked_at(self, settings: TrackingSettings) -> None:
        self._elsewhere(replace(settings, experiment="other"), 50)
        assert len(doctor.stale_runs(settings)) == 1


class TestOrphans:
    def _folder(self, path: Path, hours: float = 2) -> Path:
        (path / "artifacts").mkdir(parents=True)
        (path / "artifacts" / "file.bin").write_bytes(b"x" * 1000)
        return self._aged(path, hours)

    def _aged(self, path: Path, hours: float) -> Path:
        for each in (*path.rglob("*"), path):
            os.utime(each, (time.time() - hours * 3600,) * 2, follow_symlinks=False)
        return path

    def _experiment(self, settings: TrackingSettings) -> Path:
        _begin(settings).finish("FINISHED")  # a database that knows no run says nothing of orphans
        return settings.store / "artifacts" / "rnatracker"

    def test_folders_that_nothing_names_are_found(self, settings: TrackingSettings) -> None:
        run = self._folder(self._experiment(settings) / _UNKNOWN_RUN)
        model = self._folder(self._experiment(settings) / "models" / f"m-{_UNKNOWN_RUN}")
        found = orphans.find(settings.store)
        assert {each.path for each in found} == {run, model}
        assert all(1000 <= each.size_bytes < 20000 for each in found)

    def test_what_is_known_new_or_strange_is_left_alone(self, settings: TrackingSettings, tmp_path: Path) -> None:
        tracker = open_tracker(settings)
        kept = [_begin(settings) for _ in range(3)]
        kept[1].finish("KILLED", "interrupted, to be resumed")
        tracker._backend.client.delete_run(kept[2].id)  # type: ignore[attr-defined]
        for run in kept:
            (run.folder / "checkpoints").mkdir()
            self._aged(run.folder.parent, 100)
        folder = self._experiment(settings)
        self._folder(folder / _UNKNOWN_RUN, hours=0.5)
        self._folder(folder / "notes")
        self._folder(folder / f"{_UNKNOWN_RUN}.keep")
        self._folder(settings.store / _UNKNOWN_RUN)
        outside = self._folder(tmp_path / "elsewhere" / _UNKNOWN_RUN)
        (folder / _UNKNOWN_RUN[::-1]).symlink_to(outside)
        assert orphans.find(settings.store) == []

    def test_files_of_a_registered_version_are_left_alone_whatever_names_them(self, settings: TrackingSettings) -> None:
        client = open_tracker(settings)._backend.client  # type: ignore[attr-defined]
        run = self._folder(self._experiment(settings) / _UNKNOWN_RUN)
        model = self._folder(self._experiment(settings) / "models" / f"m-{_UNKNOWN_RUN}")
        client.create_registered_model("rnatracker")
        with closing(sqlite3.connect(settings.store / places.DATABASE)) as connection, connection:
            insert = (
                "INSERT INTO model_versions (name, version, source, storage_location) VALUES ('rnatracker', ?, ?, ?)"
            )
            connection.execute(insert, (1, f"runs:/{_UNKNOWN_RUN}/model", None))
            connection.execute(insert, (2, None, f"file://{model}"))
        assert orphans.find(settings.store) == []
        assert run.exists()

    def test_a_run_of_a_store_that_was_moved_is_left_alone(self, settings: TrackingSettings, tmp_path: Path) -> None:
        run = _begin(settings)
        run.finish("FINISHED")
        self._aged(run.folder.parent, 100)
        moved = tmp_path / "moved"
        shutil.move(settings.store, moved)
        assert orphans.find(moved) == []

    def test_nothing_is_an_orphan_when_another_database_keeps_its_files_here(self, settings: TrackingSettings) -> None:
        self._folder(self._experiment(settings) / _UNKNOWN_RUN)
        other = replace(settings, tracking_uri=f"sqlite:///{settings.store / 'other.db'}")
        open_tracker(other)
        assert orphans.find(settings.store) == []
        (line,) = places.other_databases(settings.store)
        assert line.endswith("other.db")
        assert "other.db keep their files" in _of(doctor.check_orphans(settings), "orphans").text

    def test_nothing_is_an_orphan_when_the_database_knows_no_run(self, settings: TrackingSettings) -> None:
        open_tracker(settings)
        folder = self._folder(settings.store / "artifacts" / "rnatracker" / _UNKNOWN_RUN)
        assert "knows no run" in _of(doctor.check_orphans(settings), "orphans").text
        result = _doctor("--store", str(settings.store), "--clean", "--yes")
        assert "artifacts are left alone: " in result.stderr
        assert folder.exists()

    @pytest.mark.parametrize("is_empty", [True, False])
    def test_nothing_is_cleaned_when_the_database_is_gone(self, settings: TrackingSettings, is_empty: bool) -> None:
        run = _begin(settings)
        run.finish("FINISHED")
        self._aged(run.folder.parent, 100)
        for each in settings.store.glob("mlflow.db*"):
            each.unlink()
        if is_empty:
            (settings.store / "mlflow.db").touch()
        result = _doctor("--store", str(settings.store), "--clean", "--yes")
        assert (result.exit_code, run.folder.exists()) == (1, True)
        assert "mlflow.db: it is " in result.stdout
        assert "holds the files of 1 run or models that it knew" in result.stdout
        assert "put a copy of the database back" in result.stdout

    def test_what_killed_processes_left_is_found_and_deleted(
        self, settings: TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        run = _begin(settings)
        part = run.folder / ".last.pt.123.part"
        new = run.folder / ".last.pt.456.part"
        for path in (part, new):
            path.write_bytes(b"half")
        os.utime(part, (time.time() - 7200,) * 2)
        run.finish("FINISHED")
        living, dead = scratch.make(), scratch.make()
        with subprocess.Popen(["sleep", "60"]) as other:
            tags = identity.tags_of(other.pid)
            other.kill()
        (dead / "owner.json").write_text(json.dumps(tags))
        finding = _of(doctor.check_orphans(settings), "orphans")
        assert "2 folders or files" in finding.text
        assert _doctor("--store", str(settings.store), "--clean", "--yes").exit_code == 0
        assert (part.exists(), new.exists(), dead.exists(), living.exists()) == (False, True, False, True)

    def test_the_stores_own_database_is_no_other_one(self, settings: TrackingSettings) -> None:
        open_tracker(settings)
        open_tracker(replace(settings, tracking_uri=f"sqlite:///{settings.store / 'mlflow.db'}"))
        assert places.other_databases(settings.store) == []

    def test_deleting_takes_only_what_still_is_one_and_follows_no_link(
        self, settings: TrackingSettings, tmp_path: Path
    ) -> None:
        first = self._folder(self._experiment(settings) / _UNKNOWN_RUN)
        second = self._folder(self._experiment(settings) / _UNKNOWN_RUN[::-1])
        outside = self._folder(tmp_path / "outside")
        (first / "link").symlink_to(outside)
        self._aged(first, 2)
        found = orphans.find(settings.store)
        run = _begin(settings)
        with closing(sqlite3.connect(settings.store / places.DATABASE)) as connection, connection:
            connection.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (f"{second}/artifacts", run.id))
        assert orphans.delete(settings.store, found)[0] == 1
        assert (first.exists(), second.exists()) == (False, True)
        assert (outside / "artifacts" / "file.bin").exists()

    def test_command_lists_and_deletes_only_when_agreed(
        self, settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = self._folder(self._experiment(settings) / _UNKNOWN_RUN)
        result = _doctor("--store", str(settings.store), "--clean")
        assert result.exit_code == 0
        assert str(folder) in result.stderr
        assert "nothing was deleted; to delete them unasked: rnatracker doctor --clean --yes --store" in result.stderr
        assert folder.exists()
        asked: list[str] = []
        monkeypatch.setattr("rnatracker.commands.doctor._agrees", lambda question: bool(asked.append(question)))
        _doctor("--store", str(settings.store), "--clean")
        assert asked[0].startswith("Delete 1 folder or file, ")
        assert folder.exists()
        monkeypatch.setattr("rnatracker.commands.doctor._agrees", lambda question: True)
        assert "deleted 1 folder or file, " in _doctor("--store", str(settings.store), "--clean").stderr
        assert not folder.exists()

    def test_command_deletes_without_a_question_when_told_so(self, settings: TrackingSettings) -> None:
        folder = self._folder(self._experiment(settings) / _UNKNOWN_RUN)
        assert _doctor("--store", str(settings.store), "--clean", "--json").exit_code == 2
        assert folder.exists()
        content = json.loads(_doctor("--store", str(settings.store), "--clean", "--yes", "--json").stdout)
        assert (content["deleted"], content["broken"]) == (1, False)
        assert not folder.exists()


class TestTrials:
    @pytest.fixture
    def studied(self, settings: TrackingSettings, tmp_path: Path) -> TrackingSettings:
        data = write_table(toy_transcripts(40), tmp_path / "toy.tsv")
        work_through(small_study(data, settings, trials=2))
        return settings

    def test_studies_and_runs_agree_after_a_study(self, studied: TrackingSettings) -> None:
        assert [(each.level, each.text) for each in check_trials(studied)] == [
            ("ok", "2 trials of 1 study: each has its run")
        ]

    def test_a_trial_whose_run_was_deleted_is_noted(self, studied: TrackingSettings) -> None:
        tracker = open_tracker(studied)
        tracker._backend.client.delete_run(tracker.find("exp1_toy/trial1").id)  # type: ignore[attr-defined]
        (found,) = check_trials(studied)
        assert (found.id, found.level) == ("trials.without-run", "note")
        assert found.text.startswith("study toy: trial 1 without a run")
        assert found.remedy.endswith(f": rnatracker study toy --store {studied.store}")

    def test_a_run_without_a_trial_is_noted(self, studied: TrackingSettings) -> None:
        run = _begin(studied, **{"rnatracker.kind": "trial", "rnatracker.study": "toy"})
        run.finish("KILLED")
        (found,) = check_trials(studied)
        assert (found.id, found.level) == ("trials.without-trial", "note")
        assert f"run {run.id} without a trial" in found.text
        uri = f"sqlite:///{studied.store}/mlflow.db"
        assert found.remedy.endswith(f"MLFLOW_TRACKING_URI={uri} mlflow runs delete --run-id {run.id}")
        run.set_tags({"rnatracker.replays": "x"})
        assert check_trials(studied)[0].level == "ok"

    def test_nothing_is_said_and_nothing_made_when_there_are_no_studies(self, settings: TrackingSettings) -> None:
        assert check_trials(settings) == []
        assert not (settings.store / "optuna.journal").exists()

    def test_a_damaged_journal_is_broken(self, studied: TrackingSettings) -> None:
        journal = studied.store / "optuna.journal"
        journal.write_text("nonsense\n" + journal.read_text())
        assert check_trials(studied)[0].level == "broken"


class TestChampion:
    def _registered(self, settings: TrackingSettings) -> None:
        client = open_tracker(settings)._backend.client  # type: ignore[attr-defined]
        client.create_registered_model("rnatracker")
        client.create_model_version("rnatracker", str(settings.store / "nothing"))
        client.set_registered_model_alias("rnatracker", "champion", "1")

    def _resolve(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
        def resolve(reference: str, tracking: TrackingSettings) -> Any:
            assert reference == "champion"
            if error:
                raise error

        monkeypatch.setattr("rnatracker.registry.resolve.resolve", resolve)

    def test_a_champion_that_cant_be_loaded_is_broken(
        self, settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._registered(settings)
        self._resolve(
            monkeypatch,
            RegistryError("version 1: its files are gone", "register it again with: rnatracker promote exp1"),
        )
        result = _doctor("--store", str(settings.store))
        assert result.exit_code == 1
        assert "BROKEN  champion  version 1: its files are gone\n" in result.stdout
        assert "-> register it again with: rnatracker promote exp1\n" in result.stdout
        assert result.stdout.splitlines()[-1].startswith("1 broken. Next: ")

    def test_a_champion_that_loads_is_well(self, settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        self._registered(settings)
        self._resolve(monkeypatch, None)
        assert _of(doctor.check_champion(settings), "champion").text == "version 1 loads, its checksums are right"

    def test_no_champion_is_no_trouble(self, settings: TrackingSettings) -> None:
        assert _of(doctor.check_champion(settings), "champion").level == "ok"
