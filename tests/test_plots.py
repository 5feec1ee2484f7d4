"""Pictures: that they are PNGs of what was given, whatever was given."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnatracker import plots

SITES = ["Nucleus", "Cytosol", "ERM"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """The figures that are saved, to look at what is on them."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *args: object, **more: object) -> None:
        figures.append(self)
        save(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", keep)
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # pictures of studies need it
    yield figures
    assert "matplotlib.pyplot" not in sys.modules


def size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    return struct.unpack(">II", content[16:24])  # type: ignore[return-value]


def row(epoch: int, **more: float) -> dict[str, float]:
    return {"epoch": epoch, "train_loss": 1 / epoch, "val_loss": 2 / epoch, "pcc_mean": epoch / 10, **more}


def test_no_picture_needs_pyplot(tmp_path: Path) -> None:
    """Look in a process of its own: in this one other tests may have drawn with it."""
    script = """if True:
        import sys
        from pathlib import Path
        import numpy as np
        from rnatracker import plots
        folder, fractions = Path(sys.argv[1]), np.random.default_rng(0).dirichlet(np.ones(3), 20)
        plots.learning_curves([{"epoch": 1, "train_loss": 1.0}, {"epoch": 2, "train_loss": 0.5}], folder / "1.png", 2)
        plots.curves_over_each_other({"exp1": {"train_loss": {1: 1.0, 2: 0.5}}}, folder / "2.png")
        plots.predicted_against_measured(fractions, fractions, "ABC", folder / "3.png")
        print("matplotlib.figure" in sys.modules, "matplotlib.pyplot" in sys.modules)
    """
    command = [sys.executable, "-c", script, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent)
    assert result.stdout.split() == ["True", "False"], result.stderr
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_learning_curves_show_every_figure_and_the_best_epoch(tmp_path: Path, drawn: list[Figure]) -> None:
    history = [row(epoch, pcc_overall=0.5, pcc_Nucleus=0.4, pcc_ERM=0.3) for epoch in (1, 2, 3)]
    plots.learning_curves(history, tmp_path / "plots" / "curves.png", best_epoch=2)
    assert size(tmp_path / "plots" / "curves.png") == (1650, 630)
    losses, scores = drawn[0].axes
    lines = {str(line.get_label()): list(line.get_ydata()) for axes in (losses, scores) for line in axes.lines}
    assert lines["training"] == [1, 1 / 2, 1 / 3]
    assert lines["validation"] == [2, 1, 2 / 3]
    assert lines["mean over sites"] == [0.1, 0.2, 0.3]
    assert lines["Nucleus"] == [0.4] * 3
    assert lines["ERM"] == [0.3] * 3
    assert {"overall", "best epoch, 2"} <= lines.keys()


def test_learning_curves_leave_out_epochs_when_they_were_not_evaluated(tmp_path: Path, drawn: list[Figure]) -> None:
    history = [{"epoch": 1, "train_loss": 3.0}, row(2), {"epoch": 3, "train_loss": math.nan}]
    plots.learning_curves(history, tmp_path / "curves.png")
    lines = {str(line.get_label()): list(line.get_xdata()) for axes in drawn[0].axes for line in axes.lines}
    assert lines == {"training": [1, 2], "validation": [2], "mean over sites": [2]}


@pytest.mark.parametrize("history", [[], [row(1)], [{"epoch": 1, "train_loss": math.inf}]])
def test_learning_curves_are_drawn_when_there_is_next_to_nothing(
    tmp_path: Path, history: list[dict[str, float]]
) -> None:
    plots.learning_curves(history, tmp_path / "curves.png")
    assert size(tmp_path / "curves.png") == (1650, 630)


def test_scatter_has_a_panel_for_each_site_with_its_pcc(tmp_path: Path, drawn: list[Figure]) -> None:
    measured = np.array([[0.1, 0.2, 0.7], [0.2, 0.2, 0.6], [0.3, 0.2, 0.5], [0.4, 0.2, 0.4]])
    predicted = np.column_stack([measured[:, 0] / 2, measured[:, 0], measured[:, 0]])
    plots.predicted_against_measured(predicted, measured, SITES, tmp_path / "scatter.png", title="exp1")
    assert size(tmp_path / "scatter.png")[0] > 1000
    panels = [axes for axes in drawn[0].axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["Nucleus\nPCC 1.000", "Cytosol\nPCC undefined", "ERM\nPCC -1.000"]
    assert all(axes.get_xlim() == axes.get_ylim() for axes in panels)
    assert "exp1" in drawn[0].get_suptitle()
    points = panels[0].collections[0].get_offsets()
    assert np.allclose(np.asarray(points), np.column_stack([measured[:, 0], predicted[:, 0]]))


@pytest.mark.parametrize(("n", "n_sites"), [(1, 2), (2, 5), (4000, 9)])
def test_scatter_is_drawn_when_there_are_few_or_many(tmp_path: Path, n: int, n_sites: int) -> None:
    fractions = np.random.default_rng(0).dirichlet(np.ones(n_sites), n)
    sites = [f"site{i}" for i in range(n_sites)]
    plots.predicted_against_measured(fractions, fractions, sites, tmp_path / "scatter.png")
    assert size(tmp_path / "scatter.png")[1] == 150 * 35 * math.ceil(n_sites / 4) // 10


@pytest.mark.parametrize("n_sites", [14, 40, 500])
def test_scatter_of_many_sites_shows_what_can_be_read_and_says_so(
    n_sites: int, tmp_path: Path, drawn: list[Figure]
) -> None:
    rng = np.random.default_rng(0)
    measured = rng.random((30, n_sites)) * 0.001
    varied = [1, 3, *range(n_sites - 10, n_sites)]
    measured[:, varied] *= 100
    sites = [f"site{i}" for i in range(n_sites)]
    plots.predicted_against_measured(measured, measured, sites, tmp_path / "scatter.png", title="exp1")
    assert size(tmp_path / "scatter.png") == (1860, 1650)
    shown = [axes.get_title().split("\n")[0] for axes in drawn[0].axes]
    assert shown == [f"site{i}" for i in varied]
    said = f"12 of {n_sites} sites, those whose measured fraction varies most"
    assert drawn[0].get_suptitle() == f"exp1\n{said}\n"


@pytest.mark.parametrize("n_sites", [13, 40, 500])
def test_learning_curves_of_many_sites_stay_readable(n_sites: int, tmp_path: Path, drawn: list[Figure]) -> None:
    history = [row(epoch, **{f"pcc_{'x' * 60}{i}": i / n_sites for i in range(n_sites)}) for epoch in (1, 2, 3)]
    history[1] |= {key: math.nan for key in history[1] if key.startswith("pcc_x")}
    plots.learning_curves(history, tmp_path / "curves.png", best_epoch=2)
    assert size(tmp_path / "curves.png") == (1650, 630)
    scores = drawn[0].axes[1]
    assert _share(scores) > 0.2
    labels = scores.get_legend_handles_labels()[1]
    assert labels[:2] == [f"8 in 10 of the {n_sites} sites", f"half of the {n_sites} sites"]
    assert list(map(str, labels[2:])) == ["mean over sites", "best epoch, 2"]


def _share(axes: Axes) -> float:
    """Return which share of its picture a panel takes."""
    panel, whole = axes.get_window_extent(), axes.figure.bbox
    return float(panel.width * panel.height / (whole.width * whole.height))


def test_long_names_and_many_runs_leave_the_curves_their_place(tmp_path: Path, drawn: list[Figure]) -> None:
    names = [f"exp{i}_{'long-' * 20}" for i in range(40)]
    plots.curves_over_each_other({name: {"train_loss": {1: 1.0, 2: 0.5}} for name in names}, tmp_path / "runs.png")
    plots.learning_curves([row(1, **{f"pcc_{'y' * 90}": 0.5}), row(2)], tmp_path / "curves.png")
    for figure in drawn:
        for axes in figure.axes:
            assert _share(axes) > 0.2
    legend = drawn[0].axes[0].get_legend()
    assert legend is not None
    assert legend.get_window_extent().height < drawn[0].bbox.height


def test_nothing_is_left_when_a_picture_cant_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Figure, file: IO[bytes], **more: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    (tmp_path / "curves.png").write_bytes(b"before")
    with pytest.raises(OSError, match="No space left"):
        plots.learning_curves([row(1)], tmp_path / "curves.png")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("curves.png", b"before")]
