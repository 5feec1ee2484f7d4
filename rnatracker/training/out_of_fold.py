"""What the folds of a cross-validation come to: figures, a table and a picture of all transcripts, a description.

Owns that summary, of networks and of any other model. Must not know how the folds were trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rnatracker import metrics, plots
from rnatracker.data.transcripts import Fractions, Transcripts
from rnatracker.escapes import markdown
from rnatracker.prediction import run_table
from rnatracker.tracking.contract import SUMMARY_STEP, TrackedRun
from rnatracker.training.division import Training, said_of_folds


@dataclass(frozen=True)
class OutOfFold:
    """All transcripts, each predicted by a model that had not seen it.

    Attributes:
        transcripts: all.
        folds: the division.
        predicted: (N, S).
        by_fold: for each fold its `test/...` figures.
    """

    transcripts: Transcripts
    folds: Sequence[Training]
    predicted: Fractions
    by_fold: Sequence[dict[str, float]]

    def leave(self, run: TrackedRun, below: str = "") -> dict[str, float]:
        """Leave figures, table, picture and description, with this text below it, in a run; return the figures."""
        summary = self.summary()
        run.log_metrics(summary, SUMMARY_STEP)
        self._leave_files(run)
        run.describe(self.note(summary) + below)
        return summary

    def summary(self) -> dict[str, float]:
        """Return `oof/...` of all together, `mean/...` and `sd/...` of the folds, `ceiling/...` of replicates."""
        transcripts = self.transcripts
        out_of_fold = metrics.summarise(self.predicted, transcripts.measured(), transcripts.sites)
        summary = _statistics(self.by_fold) | {f"oof/{name}": value for name, value in out_of_fold.items()}
        if transcripts.replicates is not None:
            ceiling = metrics.summarise(*transcripts.replicates, transcripts.sites)
            summary |= {f"ceiling/{name}": value for name, value in ceiling.items()}
        return summary

    def _leave_files(self, run: TrackedRun) -> None:
        measured, sites, n = self.transcripts.measured(), self.transcripts.sites, len(self.transcripts)
        path = run.files.out_of_fold_predictions
        run_table.write_predictions(path, self.transcripts.ids, sites, self.predicted, measured)
        plots.predicted_against_measured(
            self.predicted,
            measured,
            sites,
            run.files.predicted_against_measured,
            title=f"{run.name}: out-of-fold, {n} transcripts, {len(self.folds)} folds",
        )

    @property
    def cautions(self) -> list[str]:
        """What a reader of the folds' figures should know, in words."""
        measured = self.transcripts.measured()
        return said_of_folds(
            (each.name, text)
            for each in self.folds
            for text in metrics.cautions(measured[each.test], self.transcripts.sites, "test transcript")
        )

    def note(self, summary: dict[str, float]) -> str:
        """Return the description, as Markdown."""
        groups = ("oof", "mean", "sd")
        rows = [
            f"| {markdown(name)} | {' | '.join(metrics.shown(summary[f'{group}/pcc_{name}']) for group in groups)} |"
            for name in (*self.transcripts.sites, "mean", "overall")
        ]
        header = [f"{len(self.folds)}-fold cross-validation, PCC on transcripts that chose nothing:", ""]
        table = ["| site | out-of-fold | mean of folds | sd |", "|---|---|---|---|", *rows]
        return "\n".join([*header, *table, *(f"\n{markdown(text)}." for text in self.cautions)])


def _statistics(by_fold: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return each figure's mean and standard deviation over the folds in which it is defined."""
    summary = {}
    for key in by_fold[0]:
        values = [scores[key] for scores in by_fold]
        name = key.removeprefix("test/")
        summary[f"mean/{name}"] = metrics.mean_of(values)
        summary[f"sd/{name}"] = metrics.sd_of(values)
    return summary
