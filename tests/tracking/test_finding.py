"""Runs found by what a user calls them, wherever they are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnatracker.errors import RegistryError, TrackingError
from rnatracker.tracking.contract import TrackedRun, Tracker
from rnatracker.tracking.mlflow_tracker import MlflowTracker
from rnatracker.tracking.open import open_backend, open_tracker, run_of_file, settings_of_run
from rnatracker.tracking.settings import TrackingSettings
from tests.support.trackers import begin


@pytest.fixture
def mlflow_tracker(mlflow_store: Path) -> MlflowTracker:
    tracker = open_tracker(TrackingSettings(mlflow_store))
    assert isinstance(tracker, MlflowTracker)
    return tracker


@pytest.fixture
def folders(mlflow_store: Path) -> Tracker:
    """The untracked runs of the same store."""
    return open_tracker(TrackingSettings(mlflow_store, enabled=False))


class TestInMlflow:
    def test_find_says_so_when_a_run_was_deleted(self, mlflow_tracker: MlflowTracker) -> None:
        run = begin(mlflow_tracker)
        mlflow_tracker._backend.client.delete_run(run.id)
        with pytest.raises(TrackingError) as caught:
            mlflow_tracker.find(run.id)
        assert f"{run.id} was deleted" in caught.value.problem
        uri = f"sqlite:///{mlflow_tracker.location}/mlflow.db"
        command = f"MLFLOW_TRACKING_URI={uri} mlflow runs restore --run-id {run.id}"
        assert caught.value.remedy == f"restore it with: {command}"

    def test_find_finds_a_run_of_another_experiment_by_its_id(
        self, mlflow_tracker: MlflowTracker, mlflow_store: Path
    ) -> None:
        other = open_tracker(TrackingSettings(mlflow_store, experiment="other/one"))
        run = begin(other)
        assert mlflow_tracker.find(run.id).name == "exp1"
        assert run.folder.is_relative_to(mlflow_store / "artifacts" / "other_2Fone")

    def test_next_number_is_behind_all_names_when_the_count_is_lost(self, mlflow_tracker: MlflowTracker) -> None:
        backend = mlflow_tracker._backend
        backend.client.create_run(backend.experiment_id, run_name="exp41_old")
        assert begin(mlflow_tracker).name == "exp42"

    @pytest.mark.parametrize(
        "name", ["lr=0.001 (best!)", "final/v2", "Lauf: 3", 'it\'s "good"', "50% [a]; --", "β", "a/b/c", " x "]
    )
    def test_run_renamed_in_the_ui_is_found_by_that_name(self, name: str, mlflow_tracker: MlflowTracker) -> None:
        run, other = begin(mlflow_tracker), begin(mlflow_tracker)
        child = begin(mlflow_tracker, parent=run, name="fold1")
        client = mlflow_tracker.backend.client
        client.update_run(run.id, name=name)
        client.update_run(other.id, name=name.replace("'", "x").upper() + "2")
        assert mlflow_tracker.find(name).id == run.id
        assert mlflow_tracker.find(f"{name}/fold1").id == child.id
        client.update_run(child.id, name="a/b")
        assert mlflow_tracker.find(f"{name}/a/b").id == child.id

    @pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "none/of/these", "'"])
    def test_name_that_no_run_has_is_said(self, name: str, mlflow_tracker: MlflowTracker) -> None:
        begin(mlflow_tracker)
        with pytest.raises(TrackingError) as caught:
            mlflow_tracker.find(name)
        assert "the latest are exp1" in caught.value.problem


class TestInBoth:
    def test_an_untracked_run_is_found_by_id_prefix_name_and_number(
        self, mlflow_tracker: MlflowTracker, folders: Tracker
    ) -> None:
        begin(mlflow_tracker)
        run = begin(folders, "dry", tags={"a": "b"})
        child = begin(folders, parent=run, name="fold1")
        for key in (run.id, run.id[:10], "exp2_dry", "exp2"):
            assert mlflow_tracker.find(key).id == run.id
        for key in (child.id, "exp2_dry/fold1", "exp2/fold1", "fold1"):
            assert mlflow_tracker.find(key).id == child.id
        assert mlflow_tracker.find("exp2").tags()["a"] == "b"
        assert not mlflow_tracker.find("exp2").can_be_registered
        assert mlflow_tracker.find("exp1").can_be_registered

    def test_new_names_count_both(self, mlflow_store: Path, mlflow_tracker: MlflowTracker, folders: Tracker) -> None:
        made = [begin(mlflow_tracker), begin(folders), begin(folders, "a"), begin(mlflow_tracker), begin(folders)]
        assert [run.name for run in made] == ["exp1", "exp2", "exp3_a", "exp4", "exp5"]
        other = TrackingSettings(mlflow_store, experiment="other")
        assert begin(open_tracker(other)).name == "exp6"

    def test_untracked_names_count_runs_of_another_program_too(
        self, mlflow_tracker: MlflowTracker, folders: Tracker
    ) -> None:
        backend = mlflow_tracker.backend
        backend.client.create_run(backend.experiment_id, run_name="exp41_old")
        assert begin(folders).name == "exp42"

    def test_a_run_is_begun_without_mlflow_when_its_database_is_damaged(self, tmp_path: Path) -> None:
        (tmp_path / "mlflow.db").write_text("not a database")
        assert begin(open_tracker(TrackingSettings(tmp_path, enabled=False))).name == "exp1"

    @pytest.fixture
    def clash(self, mlflow_tracker: MlflowTracker, folders: Tracker) -> tuple[TrackedRun, TrackedRun]:
        """Two runs exp1, as versions that counted each place by itself have left them."""
        return begin(mlflow_tracker), begin(folders, name="exp1")

    def test_a_name_of_both_is_refused_with_what_tells_them_apart(
        self, mlflow_tracker: MlflowTracker, clash: tuple[TrackedRun, TrackedRun]
    ) -> None:
        tracked, untracked = clash
        with pytest.raises(TrackingError) as caught:
            mlflow_tracker.find("exp1")
        assert "exp1 names 2 runs" in caught.value.problem
        assert f"{tracked.id} (exp1), " in caught.value.remedy
        assert f"{untracked.id} (exp1), untracked, in {untracked.folder}" in caught.value.remedy
        for key, run in ((tracked.id, tracked), (untracked.id, untracked), (str(untracked.folder), untracked)):
            assert mlflow_tracker.find(key).id == run.id

    def test_a_child_is_refused_when_both_have_its_parents_name(
        self, mlflow_tracker: MlflowTracker, folders: Tracker, clash: tuple[TrackedRun, TrackedRun]
    ) -> None:
        children = [
            begin(tracker, parent=run, name="fold1")
            for tracker, run in zip((mlflow_tracker, folders), clash, strict=True)
        ]
        with pytest.raises(TrackingError) as caught:
            mlflow_tracker.find("exp1/fold1")
        assert all(child.id in caught.value.remedy for child in children)

    def test_the_exact_name_is_meant_before_a_longer_one(self, mlflow_tracker: MlflowTracker, folders: Tracker) -> None:
        exact = begin(mlflow_tracker)
        begin(folders, name="exp1_longer")
        assert mlflow_tracker.find("exp1").id == exact.id

    def test_a_damaged_record_keeps_no_other_run_from_being_found(
        self, mlflow_tracker: MlflowTracker, folders: Tracker
    ) -> None:
        damaged, whole = begin(folders), begin(folders, "whole")
        (damaged.folder / "run.json").write_text('{"id": ')
        assert mlflow_tracker.find("exp2").id == whole.id
        assert mlflow_tracker.find(whole.id[:8]).id == whole.id
        assert [run.name for run in folders.list_runs().runs] == ["exp2_whole"]


class TestPlaceOfRun:
    def test_an_untracked_run_has_the_settings_of_the_folders(
        self, mlflow_store: Path, mlflow_tracker: MlflowTracker, folders: Tracker
    ) -> None:
        settings = TrackingSettings(mlflow_store)
        begin(mlflow_tracker)
        run = begin(folders)
        for key in ("exp2", run.id, str(run.folder)):
            assert settings_of_run(key, settings) == settings.without_mlflow()
        assert settings_of_run("exp1", settings) == settings
        assert settings_of_run("none", settings) == settings

    def test_a_name_of_both_has_no_place(
        self, mlflow_store: Path, mlflow_tracker: MlflowTracker, folders: Tracker
    ) -> None:
        begin(mlflow_tracker)
        begin(folders, name="exp1")
        with pytest.raises(TrackingError, match="names 2 runs"):
            settings_of_run("exp1", TrackingSettings(mlflow_store))

    def test_no_database_is_made_for_an_untracked_run(self, tmp_path: Path) -> None:
        settings = TrackingSettings(tmp_path)
        begin(open_tracker(settings.without_mlflow()))
        assert settings_of_run("exp1", settings) == settings.without_mlflow()
        assert not (tmp_path / "mlflow.db").exists()

    def test_a_file_of_weights_leads_to_its_run_in_either(
        self, mlflow_tracker: MlflowTracker, folders: Tracker, tmp_path: Path
    ) -> None:
        for run in (begin(mlflow_tracker), begin(folders)):
            found = run_of_file(run.files.training().best, mlflow_tracker)
            assert found is not None
            assert found.id == run.id
        assert run_of_file(tmp_path / "best.pt", mlflow_tracker) is None

    def test_the_registry_needs_mlflow(self, tmp_path: Path) -> None:
        with pytest.raises(RegistryError) as caught:
            open_backend(TrackingSettings(tmp_path, enabled=False))
        assert caught.value.remedy == "leave out --no-track"
