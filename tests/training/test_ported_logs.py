"""The port's logs: read, and imported whole or not at all."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rnatracker import config
from rnatracker.errors import CheckpointError, DataError, TrackingError
from rnatracker.tracking.open import open_tracker
from rnatracker.tracking.settings import TrackingSettings
from rnatracker.training.ported_logs import import_log_folder, parse_log
from tests.support import paths

SEED = paths.SEED / "logs" / "exp0"

HEAD = """\
[ Using data in "data/my set.fa"]
Training size : 90
Validataion size : 30
trim and pad to length 3000

[ Training information ]
output file directory : logs/exp7, batch size : 4, learning rate : 0.0005, total epochs : 6
RNATracker_model(
  (conv_block1): Sequential(
    (0): Conv1d(4, 16, kernel_size=(9,), stride=(1,), bias=False)
    (2): MaxPool1d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
    (3): Dropout(p=0.1, inplace=False)
  )
  (conv_block2): Sequential(
    (0): Conv1d(16, 8, kernel_size=(7,), stride=(1,), bias=False)
  )
  (gru): GRU(8, 12, batch_first=True, bidirectional=True)
  (attention): Attention(
    (attention_w): Linear(in_features=24, out_features=20, bias=True)
  )
)
Adam (
    lr: 0.0005
    weight_decay: 0
)
"""
BODY = """\
Epoch [1/6], Loss: 1.5000
Epoch [2/6], Loss: 1.2500
Val Loss=1.1000
PCC:{'Nucleus': 0.5, 'ERM': -0.1, 'overall': 0.4}
Epoch [3/6], Loss: 1.2000
Epoch [4/6], Loss: 1.1500
Val Loss=1.0500
PCC:{'Nucleus': np.float64(0.6), 'ERM': nan, 'overall': 0.45}
Epoch [5/6], Loss: nan
Epoch [6/6], Loss: 1.1000
"""
LOG = HEAD + BODY


def folder_with(tmp_path: Path, log: str | bytes | None) -> Path:
    folder = tmp_path / "logs" / "exp7"
    folder.mkdir(parents=True)
    if log is not None:
        (folder / "log.txt").write_bytes(log.encode() if isinstance(log, str) else log)
    return folder


def port_weights(path: Path, epoch: int = 4, n_sites: int = 2) -> None:
    """Write a file as the port's train.py does, with the sizes of `HEAD`."""
    gru = torch.nn.GRU(8, 12, batch_first=True, bidirectional=True)
    model = {
        "conv_block1.0.weight": torch.randn(16, 4, 9),
        "conv_block2.0.weight": torch.randn(8, 16, 7),
        **{f"gru.{name}": tensor for name, tensor in gru.state_dict().items()},
        "attention.attention_w.weight": torch.randn(20, 24),
        "attention.attention_w.bias": torch.randn(20),
        "attention.attention_w2.weight": torch.randn(1, 20),
        "output.weight": torch.randn(n_sites, 24),
        "output.bias": torch.randn(n_sites),
    }
    path.parent.mkdir(exist_ok=True)
    torch.save({"epoch": epoch, "model": model, "optimizer": {"state": {}, "param_groups": []}}, path)


class TestParse:
    def test_settings_are_those_the_log_prints(self) -> None:
        log = parse_log(LOG, "exp7/log.txt")
        assert log.settings == {
            "data.path": "data/my set.fa",
            "encoding.max_length": 3000,
            "train.batch_size": 4,
            "train.lr": 0.0005,
            "train.epochs": 6,
            "model.conv1_channels": 16,
            "model.conv1_kernel": 9,
            "model.conv2_channels": 8,
            "model.conv2_kernel": 7,
            "model.pool": 2,
            "model.dropout": 0.1,
            "model.rnn_hidden": 12,
            "model.attention_size": 20,
            "train.weight_decay": 0,
        }
        assert (log.n_train, log.n_val, log.sites, log.end) == (90, 30, ("Nucleus", "ERM"), "")

    def test_resolved_settings_are_the_ports_where_the_log_says_nothing(self) -> None:
        settings = parse_log(LOG, "exp7/log.txt").resolved()
        assert settings["model.masked"] is False
        assert settings["encoding.keep"] == "5p"
        assert settings["model.rnn_activation"] == "relu"
        assert settings["train.eval_every"] == 2
        assert settings["data.val"] == 0.25
        assert settings["data.sites"] == ["Nucleus", "ERM"]
        assert "train.seed" not in settings

    def test_history_has_every_epoch_and_scores_where_printed(self) -> None:
        history = parse_log(LOG, "x").history
        assert [epoch.epoch for epoch in history] == [1, 2, 3, 4, 5, 6]
        assert history[0].metrics() == {"train/loss": 1.5}
        assert history[1].metrics() == {
            "train/loss": 1.25,
            "val/loss": 1.1,
            "val/pcc_Nucleus": 0.5,
            "val/pcc_ERM": -0.1,
            "val/pcc_overall": 0.4,
            "val/pcc_mean": 0.2,
        }
        assert math.isnan(history[3].metrics()["val/pcc_mean"])
        assert math.isnan(history[4].train_loss)

    def test_history_begins_later_when_the_run_went_on_from_weights(self) -> None:
        more = HEAD.replace("[ Training", "[ Loaded model and optimizer stat]\nstart epoch : 5\n\n[ Training")
        log = parse_log(more + "Epoch [5/6], Loss: 1.5000\nEpoch [6/6], Loss: 1.2500\n", "x")
        assert [epoch.epoch for epoch in log.history] == [5, 6]

    @pytest.mark.parametrize(
        "torn", ["Epoch [7/6], Los", "Epoch [7/6], Loss: 1.1", "Epoch [7/6], Loss: ", "Val Loss=1.0"]
    )
    def test_last_line_is_left_out_when_a_kill_has_torn_it(self, torn: str) -> None:
        log = parse_log(LOG + torn, "x")
        assert log.history[-1].epoch == 6
        assert log.history[-1].val_loss is None

    def test_scores_are_left_out_when_a_kill_came_before_them(self) -> None:
        log = parse_log(LOG[: LOG.rindex("PCC:") + 20], "x")
        assert log.history[-1].metrics() == {"train/loss": 1.15, "val/loss": 1.05}
        assert log.end == "its log ends at epoch 4 of 6"

    def test_windows_line_ends_are_read(self) -> None:
        text = LOG.replace("nan", "0.5000")
        assert parse_log(text.replace("\n", "\r\n"), "x") == parse_log(text, "x")

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("Loss: 1.2000", "Loss: oops", r"x, line 30: expected `Epoch .*got 'Epoch \[3/6\], Loss: oops'"),
            ("Epoch [3/6]", "Epoch [1/6]", "x, line 30: expected epoch 3"),
            ("Val Loss=1.1000", "Val Loss=", "line 28: expected `Val Loss"),
            ("'overall': 0.4}", "", "line 29: expected `PCC"),
            ("batch size : 4,", "", "not a log of the port's train.py"),
            ("Training size : 90", "Training size : 0", "got 0 and 30"),
        ],
    )
    def test_log_is_refused_when_it_is_damaged_inside(self, old: str, new: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            parse_log(LOG.replace(old, new, 1), "x")

    @pytest.mark.parametrize("text", ["", "\n\n", "Epoch 1/10\nloss: 0.5\n", "Epoch [1/6], Loss: 1.0000\n"])
    def test_log_is_refused_when_it_is_another_programs(self, text: str) -> None:
        with pytest.raises(DataError, match="not a log of the port's"):
            parse_log(text, "x")

    def test_log_is_refused_when_no_epoch_was_completed(self) -> None:
        with pytest.raises(DataError, match="no epoch was completed"):
            parse_log(HEAD, "x")

    @given(st.text() | st.lists(st.sampled_from([*LOG.splitlines(), "", "PCC:{}"])).map("\n".join))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        for content in (text, HEAD + text):
            with contextlib.suppress(DataError):
                assert parse_log(content, "x").history


@pytest.fixture(params=["mlflow", "folders"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> TrackingSettings:
    if request.param == "folders":
        return TrackingSettings(tmp_path / "mlruns", enabled=False)
    return TrackingSettings(request.getfixturevalue("mlflow_store"))


class TestImport:
    def test_run_has_all_of_the_folder(self, tmp_path: Path, settings: TrackingSettings) -> None:
        folder = folder_with(tmp_path, LOG)
        port_weights(folder / "weights" / "epoch4.pt")
        (folder / "events.out.tfevents.1.host").write_bytes(b"events")
        import_log_folder(folder, open_tracker(settings))
        run = open_tracker(settings).find("exp1_exp7")
        assert run.status() == "FINISHED"
        assert run.params()["train.lr"] == "0.0005"
        assert run.params()["model.masked"] == "false"
        assert run.logged_steps("train/loss") == {1, 2, 3, 4, 6}
        assert run.logged_steps("val/pcc_mean") == {2}
        assert run.logged_steps("val/pcc_overall") == {2, 4}
        assert run.tags()["rnatracker.validation_dropout"] == "on"
        assert run.tags()["rnatracker.imported_from"] == str(folder)
        assert run.tags()["rnatracker.data_path"] == "data/my set.fa"
        assert "dropout on" in run.tags()["mlflow.note.content"]
        weights = (folder / "weights" / "epoch4.pt").read_bytes()
        assert (run.folder / "checkpoints" / "epoch4.pt").read_bytes() == weights
        assert (run.folder / "log.txt").read_text() == LOG
        assert (run.folder / "tensorboard" / "events.out.tfevents.1.host").read_bytes() == b"events"
        assert (run.folder / "plots" / "learning_curves.png").stat().st_size > 1000
        resolved = config.build(config.read(run.folder / "config.yaml"), "config.yaml")
        assert (resolved.train.batch_size, resolved.model.conv1_channels, resolved.model.masked) == (4, 16, False)
        assert yaml.safe_load((run.folder / "config.yaml").read_text())["data"]["sites"] == ["Nucleus", "ERM"]

    def test_run_is_killed_when_the_training_was_stopped(self, tmp_path: Path, settings: TrackingSettings) -> None:
        folder = folder_with(tmp_path, LOG[: LOG.index("Epoch [4")])
        run = import_log_folder(folder, open_tracker(settings))
        assert (run.status(), run.tags()["rnatracker.message"]) == ("KILLED", "its log ends at epoch 3 of 6")

    def test_run_has_no_checkpoints_when_there_is_no_folder_of_weights(
        self, tmp_path: Path, settings: TrackingSettings
    ) -> None:
        run = import_log_folder(folder_with(tmp_path, LOG), open_tracker(settings))
        assert not (run.folder / "checkpoints").exists()
        assert "weights: none were in the folder" in run.tags()["mlflow.note.content"]

    def test_name_is_made_fit_when_the_folders_is_strange(self, tmp_path: Path, settings: TrackingSettings) -> None:
        folder = folder_with(tmp_path, LOG)
        strange = folder.rename(folder.with_name("lr=1e-4, "))
        assert import_log_folder(strange, open_tracker(settings)).name == "exp1_lr_1e-4__"

    @pytest.mark.parametrize("damage", ["truncated", "text", "sites", "epoch", "twice"])
    def test_no_run_is_made_when_a_file_of_weights_is_bad(
        self, tmp_path: Path, settings: TrackingSettings, damage: str
    ) -> None:
        folder = folder_with(tmp_path, LOG)
        path = folder / "weights" / "epoch4.pt"
        port_weights(path, epoch=9 if damage == "epoch" else 4, n_sites=3 if damage == "sites" else 2)
        if damage == "truncated":
            path.write_bytes(path.read_bytes()[:-2000])
        elif damage == "text":
            path.write_text("no weights")
        elif damage == "twice":
            port_weights(path.with_name("epoch5.pt"))
        tracker = open_tracker(settings)
        with pytest.raises(CheckpointError, match=r"epoch[45]\.pt"):
            import_log_folder(folder, tracker)
        with pytest.raises(TrackingError, match="there are no runs yet"):
            tracker.find("exp1")

    def test_run_has_failed_when_the_disk_is_full(
        self, tmp_path: Path, settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(source: Path, target: Path) -> None:
            raise OSError(28, "No space left on device", str(target))

        monkeypatch.setattr("shutil.copyfile", fail)
        tracker = open_tracker(settings)
        with pytest.raises(TrackingError, match=r"No space left on device.*free some space"):
            import_log_folder(folder_with(tmp_path, LOG), tracker)
        run = tracker.find("exp1")
        assert run.status() == "FAILED"
        assert "No space left" in run.tags()["rnatracker.message"]

    def test_folder_is_refused_when_it_holds_no_log(self, tmp_path: Path) -> None:
        tracker = open_tracker(TrackingSettings(tmp_path, enabled=False))
        folder = folder_with(tmp_path, LOG)
        with pytest.raises(DataError, match=r"no log.txt in it; give one of its folders: exp7"):
            import_log_folder(folder.parent, tracker)
        (folder / "log.txt").unlink()
        with pytest.raises(DataError, match=r"exp7: no log.txt in it; give a folder such as logs/exp0"):
            import_log_folder(folder, tracker)
        with pytest.raises(DataError, match="no such folder"):
            import_log_folder(folder / "nowhere", tracker)

    def test_folder_is_refused_when_its_log_is_no_text(self, tmp_path: Path) -> None:
        tracker = open_tracker(TrackingSettings(tmp_path, enabled=False))
        with pytest.raises(DataError, match="not readable as text"):
            import_log_folder(folder_with(tmp_path, b"\xff\xfe\x00\x80"), tracker)

    @pytest.mark.shared
    @pytest.mark.skipif(not SEED.is_dir(), reason="../shared is not there")
    def test_the_published_log_gives_its_published_figures(self, settings: TrackingSettings) -> None:
        run = import_log_folder(SEED, open_tracker(settings))
        assert run.name == "exp1_exp0"
        assert run.logged_steps("train/loss") == set(range(1, 101))
        assert run.logged_steps("val/pcc_overall") == set(range(5, 101, 5))
        assert run.metrics() == pytest.approx(
            {
                "train/loss": 0.7959,
                "val/loss": 0.7787,
                "val/pcc_Cytosol": 0.7119,
                "val/pcc_Insoluble": 0.6356,
                "val/pcc_Membrane": 0.5675,
                "val/pcc_Nuclear": 0.5575,
                "val/pcc_overall": 0.6333,
                "val/pcc_mean": 0.618125,
            }
        )
        assert {path.name for path in (run.folder / "checkpoints").iterdir()} == {"epoch5.pt", "epoch50.pt"}
        port = config.read(config.find("port"))
        params = run.params()
        assert {key: params[key] for key in ("train.batch_size", "train.lr", "encoding.max_length")} == {
            "train.batch_size": "8",
            "train.lr": "0.0001",
            "encoding.max_length": "4000",
        }
        logged = config.read(run.folder / "config.yaml")
        assert all(logged[section] == port[section] for section in ("encoding", "model", "train"))
