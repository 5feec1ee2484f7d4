"""Which of a run's transcripts the network has seen that its trunk is from.

Owns counting them among what the run is measured on, and the figures without them; the run keeps its parent's training
records. A transcript is told by its sequence, as `promote` tells it. Read next: `parent.py`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from rnatracker import files, metrics
from rnatracker.data import fingerprints
from rnatracker.data.encoding import Indices
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.tracking.contract import SUMMARY_STEP, TrackedRun
from rnatracker.training.reporting import Reporter

FEWEST = 30
"""Transcripts from which figures of the unseen ones are given: PCC of fewer says little."""


def count(run: TrackedRun, part: Transcripts, what: Literal["validation", "test"], log: Reporter) -> None:
    """Say and record how many of the transcripts that a run is measured on its parent has seen.

    Nothing is said of a run without a parent, or where it isn't known.

    Args:
        run: the run.
        part: what it is measured on.
        what: which part that is.
        log: takes in what is said.
    """
    found = _seen(run, part)
    if found is None:
        return
    run.log_metrics({f"transfer/seen_of_{what}": float(len(found))}, SUMMARY_STEP)
    too_good = ": the figures that count them are too good" if len(found) else ""
    log.line(f"{len(found)} of these {len(part)} {what} transcripts were seen by the trunk's network{too_good}")


def measure(run: TrackedRun, transcripts: Transcripts, predicted: Fractions, log: Reporter) -> dict[str, float]:
    """Record and return out-of-fold figures, `oof_unseen/...`, of the transcripts that the parent had not seen.

    There are none where it had seen none, so that they would be those of all, or where too few remain. The ids of those
    that it had seen are kept: they say nothing of how far a prediction is off.

    Args:
        run: the run.
        transcripts: all.
        predicted: (N, S) out-of-fold predictions.
        log: takes in what is said.
    """
    seen = _seen(run, transcripts)
    if seen is None or not len(seen):
        return {}
    files.write_text(run.files.seen_ids, "".join(f"{transcripts.ids[i]}\n" for i in seen))
    rest = np.setdiff1d(np.arange(len(transcripts)), seen)
    if len(rest) < FEWEST:
        log.line(f"without those that the trunk's network has seen, {len(rest)} remain: too few for figures")
        return {}
    scores = metrics.summarise(predicted[rest], transcripts.measured()[rest], transcripts.sites)
    figures = {f"oof_unseen/{name}": value for name, value in scores.items()}
    run.log_metrics(figures, SUMMARY_STEP)
    mean, overall = (metrics.shown(scores[f"pcc_{name}"]) for name in ("mean", "overall"))
    log.line(f"the same of the {len(rest)} that the trunk's network has not seen: mean {mean}, overall {overall}")
    return figures


def _seen(run: TrackedRun, part: Transcripts) -> Indices | None:
    known = fingerprints.load(run.files.seen_by_parent)
    return None if known is None else fingerprints.seen(part, known)
