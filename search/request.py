"""What is to be searched, and what a worker is given for it: plain values that can be sent to another process.

Must not know optuna or torch. Read next: `study.py`, which works on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rnatracker.config import Config
from rnatracker.search.front.cost import Cost
from rnatracker.search.pruning import SchedulerName
from rnatracker.search.sampling import SamplerName
from rnatracker.search.scheduling.stopping import Until
from rnatracker.search.space import Space
from rnatracker.tracking.settings import TrackingSettings


@dataclass(frozen=True)
class StudyRequest:
    """What is to be searched. Can be pickled: each worker gets it.

    Attributes:
        name: the study.
        config: the starting config; what is searched is laid over it.
        space: what is searched.
        tracking: where runs are kept.
        storage: where the study is kept; None for the store's own journal.
        trials: how many there are to be in all.
        timeout: seconds after which to stop; None: never.
        until: what else ends it before it has all its trials.
        jobs: workers of this command.
        sampler: how settings are chosen.
        scheduler: which trials are paused or pruned.
        seed: the study's seed; that of each training is `train.seed`.
        warm_start: studies and runs whose best settings are tried early.
        keep_weights: how many trials keep their weights; None: all that complete.
        cost: the second objective; None: there is none.
        fresh_seeds: trainings of the best settings with fresh seeds at the end; None: two, if that isn't too much.
    """

    name: str
    config: Config
    space: Space
    tracking: TrackingSettings
    storage: str | None = None
    trials: int = 20
    timeout: float | None = None
    until: Until = field(default_factory=Until)
    jobs: int = 1
    sampler: SamplerName = "tpe"
    scheduler: SchedulerName = "freeze-thaw"
    seed: int = 0
    warm_start: tuple[str, ...] = ()
    keep_weights: int | None = None
    cost: Cost | None = None
    fresh_seeds: int | None = None

    @property
    def folds(self) -> int:
        """Trainings of each trial: the folds, or 1."""
        return max(self.config.data.fold, 1)

    @property
    def maximize(self) -> bool:
        """Whether more of the objective is better."""
        return self.config.train.objective != "val_loss"


@dataclass(frozen=True)
class WorkerTask:
    """What a worker is given.

    Attributes:
        request: the study.
        parent_id: its run.
        data: the shared folder with the transcripts.
        data_digest: what identifies them.
        threads: CPU threads of each training.
        ends_at: when the command's time is over, in seconds since 1970; None: never.
    """

    request: StudyRequest
    parent_id: str
    data: Path
    data_digest: str
    threads: int
    ends_at: float | None = None
