"""A run compared with the champion on transcripts that neither was trained on.

Owns the conditions of a fair comparison, and the comparison. Changes nothing in the registry. Must not know mlflow or
typer. Read next: `rule.py` for the rule, `test_set.py` for the test set, `promotion.py`, which acts on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rnatracker import metrics
from rnatracker.baselines.beside import attempted, compared, on_test_set
from rnatracker.choices import Device
from rnatracker.config import TrainConfig
from rnatracker.data import fingerprints, similarity
from rnatracker.data.fingerprints import Fingerprints
from rnatracker.data.transcripts import Fractions
from rnatracker.errors import CheckpointError, DataError, RegistryError, TrackingError
from rnatracker.evaluation import evaluate, models
from rnatracker.evaluation.models import Model
from rnatracker.lineage import training_data
from rnatracker.model.device import pick_device
from rnatracker.registry import mlflow_model, test_set
from rnatracker.registry.registry import Registry
from rnatracker.registry.rule import MARGIN, MAX_DROP, RESAMPLES, Verdict, judge
from rnatracker.registry.test_set import DataOptions, HeldOut
from rnatracker.registry.version import CHALLENGER, CHAMPION, NAME, Version
from rnatracker.tracking.contract import TrackedRun
from rnatracker.tracking.hints import finish_advice, model_command
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from rnatracker.training.beside import Compared

OnBatch = Callable[[int, int], None]


@dataclass(frozen=True)
class PromotionRequest:
    """What is to be promoted, and how it is judged.

    Attributes:
        run: the run's id or name.
        tracking: where runs and models are kept.
        name: the registered model.
        data: the test set; None: the one that the model keeps.
        trained_on: data files of the run, where they aren't found where they were.
        margin: what the difference in `pcc_mean` must surely exceed.
        max_drop: what no site may surely fall by.
        force: why it shall be champion whatever the rule says; empty: it is judged.
        device: where to predict.
        baselines: compare it with simple models trained on the same data.
        no_relatives: refuse a test set with relatives of what either model was trained on.
    """

    run: str
    tracking: TrackingSettings
    name: str = NAME
    data: DataOptions | None = None
    trained_on: tuple[str, ...] = ()
    margin: float = MARGIN
    max_drop: float = MAX_DROP
    force: str = ""
    device: Device = "auto"
    baselines: bool = False
    no_relatives: bool = False


@dataclass(frozen=True)
class Candidate:
    """A run that is to be promoted.

    Attributes:
        run: the run.
        model: its models.
        trained_on: what they were trained on; None where that can't be known, which only --force passes.
    """

    run: TrackedRun
    model: Model
    trained_on: Fingerprints | None

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of its sites."""
        return self.model.sites


def candidate_of(request: PromotionRequest) -> Candidate:
    """Return the run that is to be promoted.

    Raises:
        RegistryError: if it is no run of which a model can be made.
        TrackingError: if there is no such run.
        CheckpointError: if its weights can't be loaded.
        DataError: if what it was trained on can't be told.
    """
    tracker = open_tracker(request.tracking)
    run = tracker.find(request.run)
    if not run.can_be_registered:
        raise RegistryError(
            f"run {run.name} was made with --no-track, and a version belongs to a run in MLflow",
            "run its command again without --no-track",
        )
    kind, status = run.tags().get(Tag.KIND, ""), run.status()
    if kind == "fold":
        raise RegistryError(f"run {run.name} is one fold of {run.parent_name()}", "promote that: the mean of its folds")
    if kind == "study":
        winner = run.tags().get(Tag.WINNER)
        promote = model_command(["promote", winner], request.tracking, request.name) if winner else ""
        remedy = f"promote its winner: {promote}" if winner else "promote one of its trials or runs"
        raise RegistryError(f"run {run.name} is a study, which has no weights of its own", remedy)
    if status != "FINISHED":
        state = "was pruned, so it keeps no weights" if Tag.PRUNED in run.tags() else f"has not finished ({status})"
        raise RegistryError(f"run {run.name} {state}", finish_advice(run, request.tracking))
    model = models.model_of_run(run.id, request.tracking)
    try:
        trained_on: Fingerprints | None = training_data.of_run(run, tracker, request.trained_on)
    except DataError:
        if not request.force:
            raise
        trained_on = None
    return Candidate(run, model, trained_on)


def examine(
    registry: Registry,
    candidate: Candidate,
    champion: int | None,
    request: PromotionRequest,
    on_batch: OnBatch | None = None,
) -> tuple[HeldOut | None, Verdict]:
    """Compare a candidate with the champion, or look at it alone where there is none.

    Args:
        registry: the model.
        candidate: the run.
        champion: number of the champion.
        request: how it is judged.
        on_batch: told the predictions done so far and how many there will be.

    Returns:
        The test set, None where there was none, and the verdict, still without the candidate's number.

    Raises:
        DataError: if the test set can't be read, nothing can be measured on it, or either model was trained on some of
            it, or on relatives of it where that is refused.
        CheckpointError: if the champion's weights can't be loaded.
        RegistryError: if the champion's files or the test set are gone. None of these where it is forced.
    """
    try:
        held = _test_set(registry, candidate, request)
        verdict = _compare(registry, candidate, champion, held, request, on_batch)
    except (DataError, CheckpointError, RegistryError) as error:
        if not request.force:
            raise
        held, verdict = None, Verdict("challenger", f"not judged: {error}", 0, champion)
    if request.force and not verdict.promoted:
        verdict = verdict.force(request.force)
    return held, verdict


def _test_set(registry: Registry, candidate: Candidate, request: PromotionRequest) -> HeldOut | None:
    sites = candidate.sites
    held = test_set.kept(registry, sites) if request.data is None else test_set.read(request.data, sites)
    if held is not None:
        test_set.check_measurable(held)
        test_set.check_unseen(held, candidate.model.name, candidate.model.data_digest, candidate.trained_on)
    return held


def _compare(
    registry: Registry,
    candidate: Candidate,
    champion: int | None,
    held: HeldOut | None,
    request: PromotionRequest,
    on_batch: OnBatch | None,
) -> Verdict:
    """Return the verdict by the rule."""
    verdict = Verdict("challenger", "", 0, champion, margin=request.margin, max_drop=request.max_drop)
    if held is not None:
        verdict = replace(verdict, data=held.name, data_digest=held.digest, transcripts=len(held.transcripts))
        verdict = _with_relatives(verdict, CHALLENGER, candidate.run.id, candidate.model.name, held, request)
    if champion is None:
        scores = {}
        if held is not None:
            predicted = _TestPredictions(held, candidate.sites, request, on_batch, len(candidate.model.members))
            ours = predicted.of(candidate.model)
            scores = {CHALLENGER: predicted.scores(ours)}
            verdict = _beside(verdict, candidate, predicted, ours, request)
        return replace(verdict, outcome="champion", reason="there was no champion", scores=scores)
    if held is None:
        reason = (
            "it could not be compared with the champion, since the model keeps no test set; give labelled transcripts "
            "that neither was trained on with --data FILE"
        )
        return replace(verdict, reason=reason)
    return _compare_with_champion(registry, candidate, registry.version(champion), held, request, verdict, on_batch)


def _compare_with_champion(
    registry: Registry,
    candidate: Candidate,
    champion: Version,
    held: HeldOut,
    request: PromotionRequest,
    verdict: Verdict,
    on_batch: OnBatch | None,
) -> Verdict:
    rival = registry.model(champion)
    called = f"the champion, {rival.name},"
    test_set.check_unseen(held, called, rival.data_digest, _trained_on(registry, champion))
    verdict = _with_relatives(verdict, CHAMPION, champion.run_id, called, held, request)
    if sorted(rival.sites) != sorted(candidate.sites):
        raise RegistryError(
            f"the champion, {rival.name}, predicts {', '.join(rival.sites)}, and {candidate.model.name} "
            f"{', '.join(candidate.sites)}: they can't be compared",
            "register it under another --name",
        )
    predictions = _TestPredictions(
        held, candidate.sites, request, on_batch, len(candidate.model.members) + len(rival.members)
    )
    ours, theirs = predictions.of(candidate.model), predictions.of(rival)
    differences = metrics.paired_differences(ours, theirs, predictions.measured, candidate.sites, resamples=RESAMPLES)
    better, reason = judge(differences, margin=request.margin, max_drop=request.max_drop)
    return replace(
        _beside(verdict, candidate, predictions, ours, request),
        outcome="champion" if better else "challenger",
        reason=reason,
        scores={CHALLENGER: predictions.scores(ours), CHAMPION: predictions.scores(theirs)},
        differences=differences,
        earlier=sum(
            each.verdict.get("data_digest") == held.digest and each.run_id != candidate.run.id
            for each in registry.versions()
        ),
    )


def _with_relatives(
    verdict: Verdict, which: str, run_id: str, called: str, held: HeldOut, request: PromotionRequest
) -> Verdict:
    """Add of how many transcripts of the test set a model was trained on a relative, where that can be known.

    Raises:
        DataError: where relatives are refused, and there are some, or that can't be known.
        TrackingError: where they are refused, and the model's run is gone.
    """
    try:
        similarity.program()
        tracker = open_tracker(request.tracking)
        trained_on = training_data.sources_of_run(tracker.find(run_id), tracker, request.trained_on)
        found = test_set.relatives(held, trained_on)
    except (DataError, TrackingError):
        if request.no_relatives:
            raise
        return verdict
    if request.no_relatives:
        test_set.check_unrelated(held, called, found)
    return replace(verdict, relatives={**verdict.relatives, which: len(found)})


def _beside(
    verdict: Verdict, candidate: Candidate, predictions: _TestPredictions, ours: Fractions, request: PromotionRequest
) -> Verdict:
    """Add how simple models do that are trained on the candidate's data, and how it compares with them."""
    if not request.baselines:
        return verdict
    train = training_data.transcripts_of_run(candidate.run, request.trained_on)
    if train is None or sorted(train.sites) != sorted(predictions.sites):
        reason = "baselines: not shown, since the data that the run was trained on are not found"
        return replace(verdict, beside=(reason,))
    own = evaluate.match_sites(train, predictions.sites, candidate.model.name)

    def compare() -> Compared:
        theirs = on_test_set(own, predictions.transcripts, request.tracking)
        return compared(ours, theirs, predictions.measured, predictions.sites)

    found = attempted(compare)
    return replace(verdict, baselines=found.metrics, beside=found.lines)


def _trained_on(registry: Registry, version: Version) -> Fingerprints | None:
    """Return what a version was trained on, None where that wasn't recorded.

    Raises:
        CheckpointError: if the file that tells isn't what was registered.
    """
    return fingerprints.load(registry.checked_file(version, mlflow_model.RECORDS_FILE, Tag.RECORDS_DIGEST))


class _TestPredictions:
    """Predictions of one test set by several models, their columns in one order."""

    def __init__(
        self, held: HeldOut, sites: tuple[str, ...], request: PromotionRequest, on_batch: OnBatch | None, networks: int
    ) -> None:
        self.sites = sites
        self.transcripts = evaluate.match_sites(held.transcripts, sites, request.run)
        self.measured = self.transcripts.measured()
        self._device = pick_device(TrainConfig(device=request.device))
        self._on_batch = on_batch
        self._total = networks * len(self.transcripts)
        self._done = 0

    def of(self, model: Model) -> Fractions:
        """Return what a model predicts, (N, S) in the order of the sites here."""
        predictor = model.predictor(self._device)
        before = self._done

        def tell(done: int) -> None:
            self._done = before + done
            if self._on_batch:
                self._on_batch(self._done, self._total)

        predicted = predictor.predict(self.transcripts, on_batch=tell)
        return predicted[:, [predictor.sites.index(site) for site in self.sites]]

    def scores(self, predicted: Fractions) -> dict[str, float]:
        """Return PCC of each site under its name, `pcc_mean` and `pcc_overall`."""
        found = metrics.summarise(predicted, self.measured, self.sites)
        return {name.removeprefix("pcc_") if name[4:] in self.sites else name: value for name, value in found.items()}
