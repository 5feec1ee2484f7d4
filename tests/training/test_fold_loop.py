"""The one loop over a run's trainings: where each leaves its files and figures, and who is told what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from rnatracker.processes.stop import StopSignal
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.division import Training, plan
from rnatracker.training.fold_loop import Destination, Trained, Watcher, into, train_all
from rnatracker.training.request import PreparedRun, RunRequest, prepare
from rnatracker.training.trainer import EpochResult, Stopped
from tests.support.toys import SilentReporter, small_config, toy_transcripts, write_table


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedRun:
    data = write_table(toy_transcripts(40), tmp_path / "toy.tsv")
    tracking = TrackingSettings(tmp_path / "mlruns", enabled=False)
    return prepare(RunRequest(small_config(data__path=str(data), data__fold=2), tracking))


@pytest.fixture
def run(prepared: PreparedRun) -> TrackedRun:
    tracker = open_tracker(prepared.request.tracking)
    return tracker.start(log_name=None, params={}, tags={}, dataset=None)


class _Diary(Watcher):
    """Notes what it is told, and breaks off after so many epochs."""

    def __init__(self, epochs: int = 1000) -> None:
        self.told: list[tuple[str, str, int]] = []
        self._left = epochs

    def on_start(self, destination: Destination, history: Sequence[EpochResult]) -> None:
        self.told.append(("start", destination.training.name, len(history)))

    def on_epoch(self, destination: Destination, result: EpochResult) -> None:
        self.told.append(("epoch", destination.training.name, result.epoch))
        self._left -= 1
        if not self._left:
            raise ValueError("enough")

    def on_end(self, trained: Trained) -> None:
        self.told.append(("end", trained.destination.training.name, len(trained.networks[0].history)))


_FOLD1 = [("start", "fold1", 0), *(("epoch", "fold1", epoch) for epoch in (1, 2, 3)), ("end", "fold1", 3)]


def test_trainings_of_one_run_have_a_place_each(prepared: PreparedRun, run: TrackedRun) -> None:
    diary = _Diary()
    results = train_all(prepared, plan(prepared), into(run, SilentReporter()), StopSignal(), [diary])
    assert [each.destination.training.fold for each in results] == [1, 2]
    assert diary.told == _FOLD1 + [(what, "fold2", number) for what, _, number in _FOLD1]
    for place in ("fold1", "fold2"):
        assert run.logged_steps(f"{place}/val/loss") == {1, 2, 3}
        assert run.files.training(place).best.is_file()


def test_resumed_training_tells_of_the_epochs_before_first(prepared: PreparedRun, run: TrackedRun) -> None:
    with pytest.raises(ValueError, match="enough"):
        train_all(prepared, plan(prepared), into(run, SilentReporter()), StopSignal(), [_Diary(epochs=5)])
    again = _Diary()
    train_all(prepared, plan(prepared), into(run, SilentReporter()), StopSignal(), [again])
    assert again.told == [
        *(("start", "fold1", 3), ("end", "fold1", 3)),
        *(("start", "fold2", 2), ("epoch", "fold2", 3), ("end", "fold2", 3)),
    ]


def test_watcher_does_nothing_by_itself(prepared: PreparedRun, run: TrackedRun) -> None:
    (only,) = train_all(prepared, plan(prepared)[:1], into(run, SilentReporter()), StopSignal(), [Watcher()])
    assert len(only.networks[0].history) == 3


def test_no_training_begins_after_a_stop(prepared: PreparedRun, run: TrackedRun) -> None:
    stop = StopSignal()

    class StopAtTheEnd(_Diary):
        def on_end(self, trained: Trained) -> None:
            super().on_end(trained)
            stop.requested = True

    diary = StopAtTheEnd()
    with pytest.raises(Stopped):
        train_all(prepared, plan(prepared), into(run, SilentReporter()), stop, [diary])
    assert diary.told == _FOLD1


def test_destination_is_open_until_the_end_was_told(prepared: PreparedRun, run: TrackedRun) -> None:
    diary = _Diary()

    @contextmanager
    def open_one(training: Training) -> Iterator[Destination]:
        diary.told.append(("open", training.name, 0))
        yield Destination(training, run, SilentReporter())
        diary.told.append(("close", training.name, 0))

    train_all(prepared, plan(prepared)[:1], open_one, StopSignal(), [diary])
    assert diary.told == [("open", "fold1", 0), *_FOLD1, ("close", "fold1", 0)]
    assert run.logged_steps("val/loss") == {1, 2, 3}
