"""What a training leaves once it has ended: predictions of the part it is measured on, and pictures.

Must not know optuna or typer. Read next: `rnatracker/prediction/run_table.py` for the table's format.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rnatracker import metrics, plots
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.prediction import run_table
from rnatracker.prediction.predictor import Predictor, mean_of
from rnatracker.training.fold_loop import Trained
from rnatracker.training.request import PreparedRun


@dataclass(frozen=True)
class Results:
    """What a training predicts of the part that it is measured on.

    Attributes:
        part: the transcripts.
        each: (K, N, S), what each of its networks predicts.
    """

    part: Transcripts
    each: npt.NDArray[np.float64]

    @cached_property
    def predicted(self) -> Fractions:
        """What the training predicts, (N, S): its networks' mean."""
        return mean_of(self.each, None)

    @cached_property
    def scores(self) -> dict[str, float]:
        """How good that is: `pcc_<site>`, `pcc_mean`, `pcc_overall`."""
        return metrics.summarise(self.predicted, self.part.measured(), self.part.sites)

    def of_single(self) -> dict[str, float]:
        """Return how good one of several networks is by itself, on average: `single/pcc_mean`, ...; of one, nothing."""
        if len(self.each) == 1:
            return {}
        measured, sites = self.part.measured(), self.part.sites
        found = [metrics.summarise(predicted, measured, sites) for predicted in self.each]
        return {f"single/{name}": metrics.mean_of(each[name] for each in found) for name in found[0]}


def leave_results(prepared: PreparedRun, trained: Trained) -> Results:
    """Predict the part that a training is measured on, with its best epochs, and leave table and pictures in its run.

    That is a fold's test part, or else the validation part.
    """
    run, training = trained.destination.run, trained.destination.training
    files, test = run.files, training.test
    part = prepared.transcripts.take(training.validation if test is None else test)
    predictor = Predictor([each.best for each in trained.networks], prepared.device)
    results = Results(part, predictor.predict_each(part))
    table = files.validation_predictions if test is None else files.test_predictions
    run_table.write_predictions(table, part.ids, part.sites, results.predicted, part.measured())
    plots.learning_curves(_rows(trained), files.learning_curves, best_epoch=trained.best_epoch)
    name = "validation" if test is None else "test"
    plots.predicted_against_measured(
        results.predicted,
        part.measured(),
        part.sites,
        files.predicted_against_measured,
        title=f"{run.name}: {len(part)} {name} transcripts, {trained.model}",
    )
    return results


def _rows(trained: Trained) -> list[dict[str, float]]:
    """Return each epoch's figures, as learning curves are drawn from them: of several networks their means.

    They go as far as all networks have come.
    """
    rows = []
    for results in zip(*(each.history for each in trained.networks), strict=False):
        each = [
            {"train_loss": result.train_loss}
            | ({} if result.val_loss is None else {"val_loss": result.val_loss})
            | result.scores
            for result in results
        ]
        means = {name: metrics.mean_of(row[name] for row in each) for name in each[0]}
        rows.append({"epoch": results[0].epoch, **means})
    return rows
