"""A blend as a tracked run: what it consists of, what each run counts, how well it predicts.

Owns what such a run leaves. Must not know typer. Read next: `members.py` for what may be blended, `fit.py` for the
weights, `rnatracker/evaluation/weights.py` for the files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rnatracker import files, metrics, plain_yaml
from rnatracker.baselines.beside import beside_data
from rnatracker.blends import members
from rnatracker.blends.fit import cross_fit, fit_weights
from rnatracker.blends.members import Runs
from rnatracker.data import fingerprints
from rnatracker.data.transcripts import Fractions
from rnatracker.errors import DataError
from rnatracker.escapes import markdown
from rnatracker.evaluation import weights
from rnatracker.evaluation.contrast import corrected_p_values, judge
from rnatracker.evaluation.weights import Member
from rnatracker.lineage import training_data
from rnatracker.processes.stop import StopSignal
from rnatracker.tracking import provenance
from rnatracker.tracking.contract import SUMMARY_STEP, DatasetInput, TrackedRun, Tracker
from rnatracker.tracking.hints import retrain_command
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.tracking.tags import Tag
from rnatracker.training.beside import Compared
from rnatracker.training.out_of_fold import OutOfFold
from rnatracker.training.reporting import LogFile, Reporter
from rnatracker.training.request import Outcome
from rnatracker.training.session import describe_data, ending


@dataclass(frozen=True)
class BlendRequest:
    """Which runs are to be blended.

    Attributes:
        runs: two or more.
        tracking: where they are kept, and the blend.
        data: the file that they were trained on, where it isn't found where it was.
        log_name: what to add to the run's name.
        baselines: compare the blend with simple models.
    """

    runs: Sequence[str]
    tracking: TrackingSettings
    data: str | None = None
    log_name: str = "blend"
    baselines: bool = True


@dataclass(frozen=True)
class Share:
    """What one run is to a blend.

    Attributes:
        name: the run.
        weight: what it counts; of all runs together 1.
        low: the least that it counts in a fold.
        high: the most that it counts in a fold.
        scores: its own out-of-fold figures.
    """

    name: str
    weight: float
    low: float
    high: float
    scores: dict[str, float]


@dataclass(frozen=True)
class BlendOutcome:
    """How a blend ended.

    Attributes:
        shares: what each run is to it.
        outcome: its run.
        verdict: how it compares with the best of its runs, in words.
    """

    shares: Sequence[Share]
    outcome: Outcome
    verdict: str


def run_blend(request: BlendRequest, reporter: Reporter) -> BlendOutcome:
    """Blend runs, and leave the blend as a run in the store.

    Args:
        request: which.
        reporter: takes in how it goes.

    Raises:
        Interrupted: if it was stopped; the run is KILLED.
        RNATrackerError: if it can't be done; the run, if there is one already, is FAILED.
    """
    runs = members.gather(request.runs, request.tracking, request.data)
    measured = runs.transcripts.measured()
    blended, of_folds = cross_fit(runs.each, measured, [each.test for each in runs.trainings if each.test is not None])
    counts = fit_weights(runs.each, measured)
    shares = [
        Share(
            name,
            float(counts[i]),
            float(of_folds[:, i].min()),
            float(of_folds[:, i].max()),
            metrics.summarise(runs.each[i], measured, runs.transcripts.sites),
        )
        for i, name in enumerate(runs.names)
    ]
    with StopSignal() as stop:
        tracker = open_tracker(request.tracking)
        with stop.shielded():
            run = _start(tracker, runs, request, shares)
        with (
            ending(run, None, stop, command=retrain_command(run, request.tracking)),
            LogFile(run.files.log, reporter) as log,
        ):
            return _leave(run, runs, shares, blended, request, log)


def _start(tracker: Tracker, runs: Runs, request: BlendRequest, shares: Sequence[Share]) -> TrackedRun:
    """Start a run in the store with all that is known of it."""
    transcripts, first = runs.transcripts, runs.sides[0]
    params: dict[str, object] = {key: value for key, value in first.params.items() if key.startswith("data.")}
    params |= {"blend.members": runs.names, "blend.weights": [round(share.weight, 4) for share in shares]}
    tags = {
        Tag.KIND: "blend",
        Tag.DATA_DIGEST: first.tags[Tag.DATA_DIGEST],
        Tag.SPLIT_DIGEST: first.tags[Tag.SPLIT_DIGEST],
        Tag.SITES: ",".join(transcripts.sites),
        Tag.MEMBERS: json.dumps(runs.names),
    }
    path = Path(str(runs.settings.path))
    return tracker.start(
        log_name=request.log_name,
        params=params,
        tags=tags | provenance.tags(),
        dataset=DatasetInput(path.name, first.tags[Tag.DATA_DIGEST], str(path), len(transcripts)),
    )


def _leave(
    run: TrackedRun,
    runs: Runs,
    shares: Sequence[Share],
    blended: Fractions,
    request: BlendRequest,
    log: Reporter,
) -> BlendOutcome:
    """Leave files, figures and description in a blend's run, and say what it came to."""
    files.write_text(run.files.config, plain_yaml.dump({"data": runs.settings.model_dump(mode="json")}))
    transcripts, measured = runs.transcripts, runs.transcripts.measured()
    describe_data(run, transcripts, log, f"a blend of {', '.join(runs.names)}")
    _leave_model(run, runs, shares)
    _keep_records(run, runs)
    by_fold = []
    for each in runs.trainings:
        scores = metrics.summarise(blended[each.test], measured[each.test], transcripts.sites)
        by_fold.append({f"test/{name}": value for name, value in scores.items()})
        run.log_metrics({f"fold/{name}": value for name, value in scores.items()}, each.fold)
    compared, verdict = Compared(), _against_the_best(run.name, runs, shares, blended)
    if request.baselines:
        compared = beside_data(transcripts, runs.trainings, blended, request.tracking)
    found = OutOfFold(transcripts, runs.trainings, blended, by_fold)
    summary = found.leave(run, f"\n\n{_table(shares)}\n\n{markdown(verdict)}{compared.note}") | compared.metrics
    run.log_metrics(_figures(shares), SUMMARY_STEP)
    if any(runs.seen):
        run.log_metrics({"transfer/seen_of_test": float(max(runs.seen))}, SUMMARY_STEP)
    for text in [*found.cautions, *(_line(share) for share in shares), *_too_good(runs)]:
        log.line(text)
    mean, overall = (metrics.shown(summary[f"oof/pcc_{name}"]) for name in ("mean", "overall"))
    log.line(f"{run.name}: cross-fitted out-of-fold PCC: mean {mean}, overall {overall}")
    log.line(verdict)
    compared.leave(run, log)
    outcome = Outcome(run.id, run.name, "FINISHED", 0, summary, run.folder, transcripts.sites, by_fold, compared.lines)
    return BlendOutcome(shares, outcome, verdict)


def _leave_model(run: TrackedRun, runs: Runs, shares: Sequence[Share]) -> None:
    """Write the models of all runs that count, and what each counts; their digest is recorded."""
    found: list[Member] = []
    counts: list[float] = []
    for share, model in zip(shares, runs.models, strict=True):
        if share.weight:
            found += model.members
            each = model.weights or [1 / len(model.members)] * len(model.members)
            counts += [share.weight * own for own in each]
    checksums = weights.write_weights(run.files.blend, found, counts)
    run.set_tags({Tag.MODEL_DIGEST: files.digest_of_several(checksums)})


def _keep_records(run: TrackedRun, runs: Runs) -> None:
    """Keep what runs have seen besides their data, if that is known: they may be deleted, and the blend has seen it."""
    seen = [side.run.files.seen_ids for side in runs.sides if side.run.files.seen_ids.is_file()]
    if seen:
        lines = {line for path in seen for line in path.read_text("utf-8").split("\n") if line}
        run.files.seen_ids.parent.mkdir(exist_ok=True)
        files.write_text(run.files.seen_ids, "".join(f"{line}\n" for line in sorted(lines)))
    try:
        found = [part for side in runs.sides for part in training_data.parts_beside(side.run, side.tracker)]
    except DataError:
        return
    if found:
        fingerprints.write(run.files.seen_beside, np.concatenate(found))


def _against_the_best(name: str, runs: Runs, shares: Sequence[Share], blended: Fractions) -> str:
    """Word whether the blend is better than the best of its runs."""
    sites, measured = runs.transcripts.sites, runs.transcripts.measured()
    best = int(np.argmax([np.nan_to_num(share.scores["pcc_mean"], nan=-np.inf) for share in shares]))
    differences = metrics.paired_differences(blended, runs.each[best], measured, sites)
    (corrected,) = corrected_p_values([differences])
    return judge(name, shares[best].name, differences, corrected).text


def _figures(shares: Sequence[Share]) -> dict[str, float]:
    """Return what each run counts and reaches, as figures of the blend's run."""
    return {
        f"member{number}/{key}": value
        for number, share in enumerate(shares, start=1)
        for key, value in {"weight": share.weight, **share.scores}.items()
    }


def _too_good(runs: Runs) -> list[str]:
    """Word of which runs the parent had seen transcripts that they are weighed by."""
    return [
        f"{n} of these {len(runs.transcripts)} transcripts were seen by the network whose trunk {name} began from: "
        "what it counts, and the blend's figures, are too good"
        for name, n in zip(runs.names, runs.seen, strict=True)
        if n
    ]


def _line(share: Share) -> str:
    mean, overall = (metrics.shown(share.scores[f"pcc_{name}"]) for name in ("mean", "overall"))
    counted = f"counts {share.weight:.3f} ({share.low:.3f} to {share.high:.3f} in the folds)"
    return f"{share.name} {counted}; its own PCC: mean {mean}, overall {overall}"


def _table(shares: Sequence[Share]) -> str:
    """Return what each run counts and reaches, as Markdown."""
    rows = [
        f"| {markdown(share.name)} | {share.weight:.3f} | {metrics.shown(share.scores['pcc_mean'])} | "
        f"{metrics.shown(share.scores['pcc_overall'])} |"
        for share in shares
    ]
    return "\n".join(["| run | weight | mean PCC | overall |", "|---|---|---|---|", *rows])
