"""What a study does next: the scheduler's decision within the study's limits of trials, time and epochs.

Owns that, for all schedulers. Must not know torch, mlflow or a storage: it is given trials. Read next: `freeze_thaw.py`
for the scheduler, `search/study.py`, which carries a decision out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from optuna.trial import FrozenTrial, TrialState

from rnatracker.search.request import StudyRequest
from rnatracker.search.scheduling import courses
from rnatracker.search.scheduling.courses import EPOCHS, SECONDS
from rnatracker.search.scheduling.freeze_thaw import LEAST, Course, Decision, Forecast, FreezeThaw, State, What, stages
from rnatracker.search.scheduling.fresh import not_fresh
from rnatracker.search.scheduling.stopping import GAIN_TRIALS, expected_gain
from rnatracker.search.scheduling.true_value import Estimate

_SURE = 0.5
"""Share of the time that is left which trials are planned for: the good ones, which are trained longest, are slower."""

Trials = Sequence[FrozenTrial]
"""All trials of a study that count, and its trainings with fresh seeds."""


class Planner:
    """Decides what a study does next.

    Args:
        request: what is searched.

    Attributes:
        request: the same.
        ends_at: when this command's time is over, in seconds since 1970; None: never.
        is_used_up: whether no settings were found any more that had not been tried.
    """

    def __init__(self, request: StudyRequest) -> None:
        self.request, self.is_used_up = request, False
        self.ends_at: float | None = None
        self._freeze_thaw = FreezeThaw(request.config.train.epochs, request.folds)
        sign = 1.0 if request.maximize else -1.0
        self._seen = courses.SeenTrials(request.space, request.config.train.epochs, sign)

    def courses(self, trials: Trials) -> list[Course]:
        """Return how far each trial that was begun has come, more being better."""
        return courses.courses_of(trials, self._seen)

    @property
    def forecasts_ahead(self) -> bool:
        """Whether forecasts can be needed at all."""
        return self.request.scheduler == "freeze-thaw"

    def ahead(self, trials: Trials) -> Forecast | None:
        """Forecast where trials will come to before others are kept waiting; None if it isn't needed.

        What others do until the decision isn't in it: that can be by forecasts of half a second ago.
        """
        if not self.forecasts_ahead:
            return None
        found = self.courses(trials)
        is_asked = self._freeze_thaw.is_asked(found, self.request.trials) or self.request.until.gain is not None
        return self._freeze_thaw.forecast(found) if is_asked and any(each.values for each in found) else None

    def next(self, trials: Trials, ahead: Forecast | None = None) -> Decision:
        """Return the next piece of work.

        Args:
            trials: the study's.
            ahead: what was forecast a moment ago.
        """
        interrupted = next((t.number for t in trials if courses.is_interrupted(t)), None)
        if self.forecasts_ahead or self._has_limit:
            found = self.courses(trials)
            if interrupted is None and self._enough(found, ahead) is not None:
                return Decision(What.NOTHING)
            if self.forecasts_ahead:
                return self._decide(trials, found, ahead) if interrupted is None else self._go_on(interrupted, found)
        begun = sum(trial.state != TrialState.WAITING for trial in not_fresh(trials))
        if begun >= self.request.trials:
            return Decision(What.NOTHING)
        paused = (t.number for t in trials if courses.is_paused(t))  # by another scheduler
        number = interrupted if interrupted is not None else next(paused, None)
        if number is None:
            return Decision(What.NOTHING if self.is_used_up else What.NEW)
        return Decision(What.RESUME, number)

    def look(self, trials: Trials, number: int, ahead: Forecast | None = None) -> tuple[Decision, str]:
        """Decide about a trial that has come to where it was to go: what is to be done now, and why.

        Args:
            trials: the study's.
            number: the trial.
            ahead: what was forecast a moment ago.
        """
        found = self.courses(trials)
        enough = self._enough(found, ahead)
        if enough is not None:
            return Decision(What.NOTHING), enough
        as_paused = [replace(each, state=State.PAUSED) if each.number == number else each for each in found]
        return self._decide(trials, as_paused, ahead), self._freeze_thaw.outlook(number)

    def enough(self, trials: Trials) -> str | None:
        """Return why the study ends before it has all its trials; None if it doesn't."""
        return self._enough(self.courses(trials)) if self._has_limit else None

    @property
    def _has_limit(self) -> bool:
        return self.request.until.epochs is not None or self.request.until.gain is not None

    def expected_gain(self, trials: Trials) -> float | None:
        """Return how far ten more trials are expected to come above the best; None before there are enough."""
        return self._expected_gain(self.courses(trials))

    def estimate(self, trials: Trials) -> Estimate | None:
        """Return the true values of the best complete trials; None with too few trials, or where there is a cost."""
        found = [each for each in self.courses(trials) if each.values]
        if self.request.cost or len(found) < LEAST or all(each.state != State.COMPLETE for each in found):
            return None
        return self._freeze_thaw.estimate(found)

    def forecasts(self, trials: Trials, ahead: Forecast | None = None) -> dict[int, float]:
        """Return the values that trials would come to that were paused or pruned, by their numbers, for samplers."""
        if self.request.sampler not in ("tpe", "gp"):
            return {}
        found = [each for each in self.courses(trials) if each.values]
        if all(each.state == State.COMPLETE for each in found):
            return {}
        sign = 1.0 if self.request.maximize else -1.0
        forecast = self._freeze_thaw.forecast(found, ahead)
        return {each.number: sign * forecast.of(each.number)[0] for each in found}

    def fitting(self, trials: Trials) -> int:
        """Return how many trials the study can bring to an end in the time and the epochs that it has."""
        return self._fitting(trials, self.courses(trials))

    def _enough(self, found: list[Course], ahead: Forecast | None = None) -> str | None:
        until = self.request.until
        if until.epochs is not None and sum(each.epochs + each.fresh_epochs for each in found) >= until.epochs:
            return f"its {until.epochs} epochs are spent"
        gain = self._expected_gain(found, ahead) if until.gain is not None else None
        if gain is not None and until.gain is not None and gain < until.gain:
            return f"{GAIN_TRIALS} more trials are expected to gain {gain:.4f}, less than {until.gain:g}"
        return None

    def _expected_gain(self, found: list[Course], ahead: Forecast | None = None) -> float | None:
        found = [each for each in found if each.values]
        return expected_gain([float(m) for m in self._freeze_thaw.forecast(found, ahead).means]) if found else None

    def _decide(self, trials: Trials, found: list[Course], ahead: Forecast | None) -> Decision:
        """Ask the scheduler."""
        most = 0 if self.request.cost else self.request.fresh_seeds  # with a cost there is no single best
        wanted = 0 if self.is_used_up else self.request.trials
        fitting = self._fitting(trials, found)
        planned, hurry = min(wanted, fitting), fitting < wanted
        decision = Decision(What.NOTHING)
        for n in (*stages(planned), planned, wanted):  # the last where some of its time is left
            decision = self._freeze_thaw.decide(found, n, most if n >= planned else 0, in_a_hurry=hurry, ahead=ahead)
            if decision.what != What.NOTHING:
                break
        return decision

    def _fitting(self, trials: Trials, found: list[Course]) -> int:
        left = float("inf")
        if self.ends_at is not None:
            known = [trial.user_attrs for trial in not_fresh(trials) if trial.user_attrs.get(SECONDS)]
            epochs = sum(int(each[EPOCHS]) for each in known)
            pace = sum(float(each[SECONDS]) for each in known) / epochs if epochs else 0.0
            left = _SURE * max(self.ends_at - time.time(), 0.0) * self.request.jobs / pace if pace else left
        spent = sum(each.epochs for each in found)
        if self.request.until.epochs is not None:
            left = min(left, self.request.until.epochs - spent)
        return self._freeze_thaw.fits(spent + left) if left < float("inf") else self.request.trials

    def _go_on(self, number: int, found: list[Course]) -> Decision:
        """Return how far a trial goes that was interrupted."""
        course = next((each for each in found if each.number == number), None)
        if course is None:  # one with a fresh seed
            return Decision(What.RESUME, number)
        return self._freeze_thaw.on_to_next_look(course)
