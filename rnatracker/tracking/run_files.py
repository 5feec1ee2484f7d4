"""The names of a run's files.

Owns them, for whoever writes a run and whoever reads one. Must not know what is in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


def seed_place(number: int) -> str:
    """Return the place that one of a training's networks of different seeds has in the training's.

    A folder beside the first's files, and what its metrics' names begin with.

    Args:
        number: which network, from 1: the first has no place of its own, as the only one has none.
    """
    return f"seed{number}" if number > 1 else ""


@dataclass(frozen=True)
class RunFiles:
    """Where each file of a run lies.

    Attributes:
        folder: the run's.
    """

    folder: Path

    @property
    def config(self) -> Path:
        """All settings, as YAML."""
        return self.folder / "config.yaml"

    def transcripts(self, digest: str) -> Path:
        """Of a study: its transcripts, for workers on other hosts.

        Args:
            digest: what identifies them.
        """
        return self.folder / "transcripts" / f"{digest}.npz"

    @property
    def log(self) -> Path:
        """What the run has said."""
        return self.folder / "log.txt"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard events."""
        return self.folder / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of the weights; a run with several trainings has a folder for each in it."""
        return self.folder / "checkpoints"

    def training(self, place: str = "") -> TrainingFiles:
        """Return the files of weights of one training.

        Args:
            place: its name where a run has several (`fold1`); empty for the only one.
        """
        return TrainingFiles(self.checkpoints / place)

    def trainings_of_folds(self) -> list[TrainingFiles]:
        """Return the trainings of folds that have left weights in this run, in the folds' order."""
        folders = [TrainingFiles(path) for path in self.checkpoints.glob("fold*") if path.is_dir()]
        with_weights = (each for each in folders if each.best.is_file() or each.baseline.is_file())
        return sorted(with_weights, key=lambda each: int(each.folder.name.removeprefix("fold")))

    @property
    def blend(self) -> Path:
        """Of a blend: the folder of its members and of what each counts."""
        return self.checkpoints / "blend"

    @property
    def validation_predictions(self) -> Path:
        """Predicted and measured fractions of the validation part."""
        return self._predictions("validation")

    @property
    def test_predictions(self) -> Path:
        """Predicted and measured fractions of a fold's test part."""
        return self._predictions("test")

    @property
    def out_of_fold_predictions(self) -> Path:
        """Predicted and measured fractions of all transcripts, each by the fold that had not seen it."""
        return self._predictions("out_of_fold")

    def _predictions(self, name: str) -> Path:
        return self.folder / "predictions" / f"{name}.tsv"

    @property
    def seen_by_parent(self) -> Path:
        """Of a run that began from another's trunk: fingerprints of what that had been trained on."""
        return self.folder / "records" / "parent.npy"

    @property
    def seen_beside(self) -> Path:
        """Of a run with further data sets: fingerprints of what these hold; of a blend, what its runs have seen so."""
        return self.folder / "records" / "also.npy"

    @property
    def seen_ids(self) -> Path:
        """Of a cross-validation, or a blend: the ids, a line each, of transcripts that a parent had seen, if any."""
        return self.folder / "records" / "seen_ids.txt"

    @property
    def plots(self) -> Path:
        """Folder of the pictures."""
        return self.folder / "plots"

    @property
    def learning_curves(self) -> Path:
        """Picture of loss and PCC by epoch."""
        return self.plots / "learning_curves.png"

    @property
    def predicted_against_measured(self) -> Path:
        """Picture of each site's fractions."""
        return self.plots / "predicted_against_measured.png"

    @property
    def space(self) -> Path:
        """Of a study: its search space, as YAML."""
        return self.folder / "space.yaml"

    @property
    def trials(self) -> Path:
        """Of a study: a table of its trials."""
        return self.folder / "trials.csv"

    @property
    def best_config(self) -> Path:
        """Of a study: the config of its best trial, as YAML."""
        return self.folder / "best.yaml"

    @property
    def refit(self) -> Path:
        """Of a study: a table of what fresh seeds gave."""
        return self.folder / "refit.csv"

    @property
    def winner_config(self) -> Path:
        """Of a study: the config that fresh seeds showed to be best, as YAML."""
        return self.folder / "winner.yaml"


@dataclass(frozen=True)
class TrainingFiles:
    """Where the weights of one training lie.

    Attributes:
        folder: the training's.
    """

    folder: Path

    @property
    def best(self) -> Path:
        """Weights of the best epoch."""
        return self.folder / "best.pt"

    @property
    def baseline(self) -> Path:
        """A model without a network."""
        return self.folder / "best.npz"

    @property
    def last(self) -> Path:
        """All that is needed to resume."""
        return self.folder / "last.pt"

    def networks(self, number: int) -> list[TrainingFiles]:
        """Return the files of a training's networks of different seeds: those of the first lie in its own folder."""
        return [TrainingFiles(self.folder / seed_place(each)) for each in range(1, number + 1)]

    def of_epoch(self, epoch: int) -> Path:
        """Return where the numbered weights of an epoch lie."""
        return self.folder / f"epoch{epoch}.pt"

    def numbered(self) -> dict[int, Path]:
        """Return the numbered weights that there are, by epoch."""
        found = {path.stem.removeprefix("epoch"): path for path in self.folder.glob("epoch*.pt")}
        return {int(epoch): path for epoch, path in sorted(found.items()) if epoch.isdigit()}
