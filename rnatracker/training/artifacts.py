"""What a training leaves once it has ended: predictions of the part it is measured on, and pictures.

Must not know optuna or typer. Read next: `rnatracker/prediction/run_table.py` for the table's format.
"""

from __future__ import annotations

from rnatracker import plots
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.prediction import run_table
from rnatracker.prediction.predictor import Predictor
from rnatracker.training.fold_loop import Trained
from rnatracker.training.request import PreparedRun


def leave_results(prepared: PreparedRun, trained: Trained) -> tuple[Transcripts, Fractions]:
    """Predict the part that a training is measured on, with its best epoch, and leave table and pictures in its run.

    That is a fold's test part, or else the validation part.

    Returns:
        The transcripts and their predicted fractions.
    """
    run, training = trained.destination.run, trained.destination.training
    files, test = run.files, training.test
    part = prepared.transcripts.take(training.validation if test is None else test)
    predicted = Predictor([trained.best], prepared.device).predict(part)
    table = files.validation_predictions if test is None else files.test_predictions
    run_table.write_predictions(table, part.ids, part.sites, predicted, part.measured())
    plots.learning_curves(_rows(trained), files.learning_curves, best_epoch=trained.best.epoch)
    name = "validation" if test is None else "test"
    plots.predicted_against_measured(
        predicted,
        part.measured(),
        part.sites,
        files.predicted_against_measured,
        title=f"{run.name}: {len(part)} {name} transcripts, epoch {trained.best.epoch}",
    )
    return part, predicted


def _rows(trained: Trained) -> list[dict[str, float]]:
    """Return each epoch's figures, as learning curves are drawn from them."""
    rows = []
    for result in trained.history:
        validation = {} if result.val_loss is None else {"val_loss": result.val_loss}
        rows.append({"epoch": result.epoch, "train_loss": result.train_loss, **validation, **result.scores})
    return rows
