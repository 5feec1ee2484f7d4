"""Settings: defaults, files, overrides, and the wording of what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnatracker import config, plain_yaml
from rnatracker.errors import ConfigError


def test_v1_lists_every_key_with_its_default() -> None:
    assert config.read(config.find("v1")) == config.Config().model_dump(mode="json")


def test_default_config_lists_every_key_and_is_what_a_run_starts_from(tmp_path: Path) -> None:
    """A file that leaves a key out means what it meant when it was written."""
    listed = config.read(config.find("default"))
    assert sorted(config.flatten(listed)) == sorted(config.keys())
    assert config.assemble(None, {}, {}, []) == config.assemble("default", {}, {}, []) == config.build(listed, "")
    partial = tmp_path / "mine.yaml"
    partial.write_text("train: {lr: 0.5}")
    assert config.assemble(str(partial), {}, {}, []) == config.build({"train": {"lr": 0.5}}, "")
    kept = config.assemble(None, {"train": {"lr": 0.5}}, {}, [])
    assert kept.train == config.build({"train": {"lr": 0.5}}, "").train  # what weights are kept with, as a file does
    assert kept.model == config.build(listed, "").model != config.Config().model


@pytest.mark.parametrize("name", ["default", "v1", "port", "paper"])
def test_shipped_config_is_found_by_name_and_by_its_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.find(name) == config.find(f"{name}.yaml") == config.find(f"configs/{name}.yaml")


def test_port_config_has_the_ports_settings() -> None:
    settings = config.assemble("port", {}, {}, [])
    assert (settings.train.batch_size, settings.train.lr, settings.train.optimizer) == (8, 1e-4, "adam")
    assert (settings.encoding.max_length, settings.encoding.keep, settings.model.masked) == (4000, "5p", False)
    assert (settings.model.rnn, settings.model.rnn_hidden, settings.train.epochs) == ("gru", 32, 100)


def test_former_names_of_the_port_are_still_understood() -> None:
    assert config.find("ancestor") == config.find("port")
    assert config.find("configs/ancestor.yaml") == config.find("port")
    assert "ancestor" not in config.shipped()
    for former, name in (("ancestor3", "port3"), ("ancestor6", "port6"), ("original", "original")):
        assert config.build({"data": {"format": former}}, "x.yaml").data.format == name


def test_paper_config_has_the_originals_settings() -> None:
    settings = config.assemble("paper", {}, {}, [])
    assert (settings.model.rnn, settings.model.rnn_hidden, settings.model.dropout) == ("lstm", 32, 0.2)
    assert (settings.train.optimizer, settings.train.batch_size, settings.data.fold) == ("nadam", 256, 10)
    assert (settings.encoding.keep, settings.model.masked, settings.train.objective) == ("3p", True, "val_loss")


def test_receptive_field_is_that_of_two_convolutions_and_poolings() -> None:
    # One step sees 3 pooled positions of the second convolution, so 12 of the first, so 36 + 9 nucleotides.
    assert config.ModelConfig(conv1_kernel=10, conv2_kernel=10, pool=3).receptive_field == 45
    assert config.ModelConfig(conv1_kernel=1, conv2_kernel=1, pool=1).receptive_field == 1


def test_dropout_of_the_recurrent_layer_is_that_of_the_convolutions_unless_it_is_set() -> None:
    assert config.ModelConfig().dropouts == (0.25, 0.25)
    for sets, dropouts in (
        (["model.dropout=0.5"], (0.5, 0.5)),
        (["model.dropout=0.5", "model.rnn_dropout=0"], (0.5, 0.0)),
        (["model.dropout=0", "model.rnn_dropout=0.3"], (0.0, 0.3)),
        (["model.rnn_dropout=null"], (0.25, 0.25)),
    ):
        assert config.assemble(None, {}, {}, sets).model.dropouts == dropouts


@pytest.mark.parametrize("name", ["port", "paper"])
def test_configs_of_earlier_programs_drop_after_the_poolings_only_and_single_entries(name: str) -> None:
    model = config.assemble(name, {}, {}, []).model
    assert model.dropouts == (model.dropout, model.dropout)
    assert (model.output_dropout, model.dropout_kind) == (0.0, "entry")


def test_override_reads_exponents_as_numbers() -> None:
    assert config.parse_override("train.lr=3e-4") == ("train.lr", 3e-4)
    assert config.parse_override("data.sites=[A, B]") == ("data.sites", ["A", "B"])
    assert config.parse_override("model.masked=false") == ("model.masked", False)


def test_later_settings_win_over_earlier_ones(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("train: {lr: 0.5, epochs: 7}\n")
    settings = config.assemble(str(file), {"train": {"lr": 0.1, "seed": 3}}, {"train.lr": 0.6}, ["train.lr=0.7"])
    assert (settings.train.lr, settings.train.epochs, settings.train.seed) == (0.7, 7, 3)


@pytest.mark.parametrize(
    ("sets", "problem", "remedy"),
    [
        (["train.learning_rate=1"], "--set: unknown key train.learning_rate", "did you mean train.lr?"),
        (["train.lr=-1"], "command line: train.lr: input should be greater than 0, got -1", ""),
        (["train.lr"], "--set train.lr: expected KEY=VALUE", ""),
        (["train.epochs=0"], "train.epochs: input should be greater than or equal to 1, got 0", ""),
        (["model.rnn=gruu"], "model.rnn: input should be 'gru' or 'lstm', got 'gruu'", ""),
        (["train.lr=.nan"], "train.lr: input should be", ""),
        (["model.rnn_dropout=1"], "model.rnn_dropout: input should be less than 1, got 1", ""),
        (["model.output_dropout=-0.1"], "model.output_dropout: input should be greater than or equal to 0", ""),
        (["model.dropout_kind=spatial"], "model.dropout_kind: input should be 'entry' or 'channel', got 'spatial'", ""),
        (["data.fold=1"], "data.fold: 1 fold leaves nothing to train on", ""),
        (["data.sites=[A, A]"], "data.sites: a site can't be called 'A': two sites are; use another name", ""),
        (["encoding.max_length=44"], "44 is shorter than the network's receptive field of 45 nucleotides", ""),
        (["train.also_weight=0.5"], "train.also_weight: 0.5 weighs further data sets, and data.also names none", ""),
        (["encoding.full_length=true", "model.masked=false"], "encoding.full_length: needs model.masked: true", ""),
    ],
)
def test_wrong_setting_is_named_with_rule_and_value(sets: list[str], problem: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.assemble(None, {}, {}, sets)
    assert problem in error.value.problem
    assert error.value.remedy == remedy


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("train: {lrr: 1}", "bad.yaml: unknown key train.lrr", "did you mean train.lr?"),
        ("trian: {lr: 1}", "bad.yaml: unknown key trian.lr", "did you mean train.lr?"),
        ("train: 3", "bad.yaml: section train must hold keys and values, got 3", ""),
        ("- 1", "bad.yaml: expected sections", ""),
        (
            "train: {lr: [",
            "bad.yaml: not readable as YAML: line 1, column 14: expected",
            "",
        ),
        ("train: {epochs: many}", "bad.yaml: train.epochs: input should be a valid integer", ""),
    ],
)
def test_wrong_config_file_is_named_with_what_is_wrong(text: str, problem: str, remedy: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        config.assemble(str(file), {}, {}, [])
    assert problem in error.value.problem
    assert error.value.remedy == remedy


def test_settings_are_checked_once_all_are_there(tmp_path: Path) -> None:
    """Each of them is refused alone, since the network's receptive field is 82 nucleotides."""
    small = {"model": {"conv1_kernel": 4, "conv2_kernel": 3, "pool": 2}}
    path = tmp_path / "short.yaml"
    path.write_text("encoding: {max_length: 40}")
    assert config.assemble(None, small, {"encoding.max_length": 40}, []).encoding.max_length == 40
    assert config.assemble(str(path), small, {}, []).encoding.max_length == 40
    sets = [f"model.{key}={value}" for key, value in small["model"].items()]
    assert config.assemble(str(path), {}, {}, sets).encoding.max_length == 40
    with pytest.raises(ConfigError, match=r"short\.yaml: encoding\.max_length: 40 is shorter"):
        config.assemble(str(path), {}, {"train.epochs": 3}, [])
    with pytest.raises(ConfigError, match=r"command line: encoding\.max_length: 40 is shorter"):
        config.assemble(None, {}, {"encoding.max_length": 40}, [])


def test_unknown_config_name_lists_the_shipped_ones() -> None:
    with pytest.raises(ConfigError) as error:
        config.find("defualt")
    assert error.value.problem == "--config defualt: no such file"
    assert error.value.remedy == "the shipped configs are default, paper, port, v1"


def test_flat_settings_nest_back_to_the_same() -> None:
    settings = config.Config()
    assert config.nest(settings.flat()) == settings.model_dump(mode="json")
    assert config.build(plain_yaml.load(settings.to_yaml(), "again"), "again") == settings


def test_data_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.assemble(None, {}, {}, ["data.path=a.tsv"]).data.path == str(tmp_path / "a.tsv")
