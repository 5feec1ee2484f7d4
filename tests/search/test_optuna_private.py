"""What is used of Optuna beyond its public interface: it is there, and does what it is used for."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from tests.support.waiting import wait_until


@contextmanager
def _needs(name: str) -> Iterator[None]:
    """Say which private name has changed, where what uses it fails."""
    try:
        yield
    except (ImportError, AttributeError, TypeError, AssertionError) as error:
        pytest.fail(
            f"Optuna {optuna.__version__}: its private {name} is gone or does something else, and "
            f"search/optuna_private.py uses it ({type(error).__name__}: {error})"
        )


def _study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for value in (0.1, 0.2):
        study.add_trial(create_trial(value=value, params={"x": value}, distributions={"x": FloatDistribution(0, 1)}))
    return study


def test_settings_that_were_given_are_told_from_drawn_ones() -> None:
    with _needs("system attribute fixed_params"):
        from rnatracker.search.optuna_private import is_given

        study = _study()
        study.enqueue_trial({"x": 0.5})
        study.ask()
        study.ask()
        assert [is_given(each) for each in study.trials] == [False, False, True, False]


def test_a_lock_of_our_own_keeps_a_journal(tmp_path: Path) -> None:
    with _needs("optuna.storages.journal._file.BaseJournalFileLock"):
        from rnatracker.search.optuna_private import JournalFileLock

        calls: list[str] = []

        class Lock(JournalFileLock):
            def acquire(self) -> bool:
                calls.append("acquire")
                return True

            def release(self) -> None:
                calls.append("release")

        storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal"), lock_obj=Lock()))
        optuna.create_study(storage=storage, study_name="a")
        assert set(calls) == {"acquire", "release"}


def test_a_shown_study_shares_the_storage_of_its_original() -> None:
    with _needs("Study(name, storage) and Study._storage"):
        from rnatracker.search.optuna_private import ShownStudy

        study = _study()
        shown = ShownStudy(study, lambda trials: trials)
        study.add_trial(create_trial(value=0.3))
        assert [trial.value for trial in shown.get_trials()] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_a_sampler_looks_at_what_is_shown(name: str) -> None:
    with _needs("Study._get_trials, which samplers ask for a study's trials"):
        from rnatracker.search.optuna_private import ShownStudy

        asked = 0

        def show(trials: list[FrozenTrial]) -> list[FrozenTrial]:
            nonlocal asked
            asked += 1
            return trials

        study = _study()
        shown = ShownStudy(study, show)
        samplers = optuna.samplers
        sampler = samplers.TPESampler(multivariate=False) if name == "tpe" else samplers.GPSampler(seed=0)
        trial = create_trial(state=TrialState.RUNNING)
        assert sampler.infer_relative_search_space(shown, trial) is not None
        if name == "tpe":
            sampler.sample_independent(shown, trial, "x", FloatDistribution(0, 1))
        else:
            sampler.sample_relative(shown, trial, {"x": FloatDistribution(0, 1)})
        assert asked


def test_states_are_chosen_among_what_is_shown() -> None:
    with _needs("Study._get_trials(deepcopy, states, use_cache)"):
        from rnatracker.search.optuna_private import ShownStudy

        study = _study()
        shown = ShownStudy(study, lambda trials: trials[:1])
        assert len(shown.get_trials(states=(TrialState.COMPLETE,))) == 1
        assert shown.get_trials(states=(TrialState.FAIL,)) == []


def test_the_logger_of_gp_belongs_to_a_module_that_there_is() -> None:
    from rnatracker.search import optuna_private

    with _needs(optuna_private.GP_LOGGER):
        assert importlib.util.find_spec(optuna_private.GP_LOGGER) is not None
    optuna_private.silence_gp()


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_note_is_kept_as_the_dashboard_reads_it(kind: str, tmp_path: Path) -> None:
    """As optuna-dashboard 0.21 does: a version, and the text in parts, as attributes of the study by a trial's id."""
    with _needs("Study._study_id, FrozenTrial._trial_id and BaseStorage.set_study_system_attr"):
        from rnatracker.search.optuna_private import Notes

        where = (
            JournalStorage(JournalFileBackend(str(tmp_path / "j"))) if kind == "journal" else f"sqlite:///{tmp_path}/x"
        )
        optuna.create_study(storage=where)
        study = optuna.create_study(storage=where)
        study.add_trial(create_trial(value=0.3))
        trial, long = study.trials[0], "x" * 2045 + "y"
        Notes(study).write(trial, long, "mark")
        Notes(study).write(None, "of the study", "")
        storage, study_id = study._storage, study._study_id

        def attributes() -> dict[str, object]:
            return {key: value for key, value in storage.get_study_system_attrs(study_id).items() if "mark" not in key}

        key = f"dashboard:{trial._trial_id}:"
        assert attributes() == {
            f"{key}note_ver": 1, f"{key}note_str:0": "x" * 2045, f"{key}note_str:1": "y",
            "dashboard:note_ver": 1, "dashboard:note_str:0": "of the study",
        }  # fmt: skip
        assert Notes(study).read(trial) == (long, "mark")
        Notes(study).write(trial, long, "mark")
        assert attributes()[f"{key}note_ver"] == 1  # nothing has changed
        Notes(study).write(trial, "short", "mark")
        assert attributes()[f"{key}note_ver"] == 2
        assert attributes()[f"{key}note_str:1"] == ""
        assert Notes(study).read(trial) == ("short", "mark")


def test_objective_has_its_name_without_a_warning() -> None:
    with _needs("Study.set_metric_names and Study.metric_names"):
        from rnatracker.search.optuna_private import name_objective

        study = _study()
        name_objective(study, "pcc_mean")
        assert study.metric_names == ["pcc_mean"]


def test_signs_of_life_are_kept_and_missed_in_a_database(tmp_path: Path) -> None:
    with _needs("RDBStorage._get_stale_trial_ids, _CachedStorage._backend and the model of heartbeats"):
        from rnatracker.search.optuna_private import signs_of_life, silent_trials

        with pytest.warns(ExperimentalWarning):
            kept = RDBStorage(f"sqlite:///{tmp_path}/studies.db", heartbeat_interval=1, grace_period=2)
        storage = get_storage(kept)
        study = optuna.create_study(storage=storage)
        first, _ = (storage.create_new_trial(study._study_id) for _ in range(2))
        storage.record_heartbeat(first)  # type: ignore[attr-defined]
        assert list(signs_of_life(storage, study)) == [0]
        assert not silent_trials(storage, study._study_id)
        wait_until(lambda: silent_trials(storage, study._study_id) == {first}, "it counts as silent")
        assert signs_of_life(storage, study)[0] > 1
        study.tell(0, 0.5)
        study.tell(1, 0.5)
        assert signs_of_life(storage, study) == {}
        kept.remove_session()
        kept.engine.dispose()
    assert signs_of_life(InMemoryStorage(), study) == {}
