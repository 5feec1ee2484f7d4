"""Learning curves of a run, by epoch.

Owns what stands for a run that is made of several trainings. Must not know how curves are drawn. Read next:
`plots.py`, which draws them over each other.
"""

from __future__ import annotations

from rnatracker.comparing import Side

_CURVES = {"train_loss": "train/loss", "val_loss": "val/loss", "pcc_mean": "val/pcc_mean"}


def curves(side: Side) -> dict[str, dict[int, float]]:
    """Return a run's learning curves by epoch: `train_loss`, `val_loss`, `pcc_mean`.

    Of several folds, the mean over those that have come so far, as long as all have.
    """
    children = list(side.run.children().values()) if side.kind == "cross-validation" else []
    prefixes = sorted({key.partition("/")[0] for key in side.metrics if key.startswith("fold") and "/val/" in key})
    found = {}
    for name, key in _CURVES.items():
        if children:
            histories = [child.history(key) for child in children]
        else:
            histories = [side.run.history(f"{prefix}/{key}") for prefix in prefixes] or [side.run.history(key)]
        epochs = set.intersection(*map(set, histories))
        found[name] = {e: sum(history[e] for history in histories) / len(histories) for e in sorted(epochs)}
    return found
