"""The settings of a run: what they are, what they may be, where they come from.

Owns the pydantic models of a run's settings, finding the shipped files by name, overrides by dotted key
(`train.lr=3e-4`), and the wording of what is wrong with a setting. Must not know torch, mlflow or optuna. Read next:
`configs/default.yaml`, which lists every key.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rnatracker import also, plain_yaml, site_names
from rnatracker.choices import Device, Format, GroupBy, Keep, Kernel, Labels, Objective, Pooling, Schedule
from rnatracker.errors import ConfigError, UsageError

Settings = dict[str, Any]
"""A nested mapping of settings as it stands in a YAML file, perhaps with keys missing."""

_OTHER_WORDS = {
    "learning_rate": "lr",
    "num_epochs": "epochs",
    "n_epochs": "epochs",
    "batch": "batch_size",
    "optim": "optimizer",
    "hidden": "rnn_hidden",
    "hidden_size": "rnn_hidden",
    "channels": "conv1_channels",
    "kernel_size": "conv1_kernel",
    "max_len": "max_length",
    "folds": "fold",
}
"""What others call our settings, for those who type it."""
DEFAULT_SITES = ("Cytosol", "Insoluble", "Membrane", "Nuclear")


class _Section(BaseModel):
    # Strict: `true` is not 1, and a text in quotes is no number.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


FORMER_FORMATS = {"ancestor3": "port3", "ancestor6": "port6"}
"""Formats by the names that they once had, and have in the settings of older runs."""
_FORMER_CONFIGS = {"ancestor": "port"}


class DataConfig(_Section):
    """Which transcripts, and how they are divided."""

    path: str | None = None
    """File of transcripts with measured fractions."""
    format: Format = "auto"
    """Format of the file; `auto` recognises it by its content."""
    sites: Annotated[tuple[str, ...], Field(min_length=2, strict=False)] | None = None
    """Names of the sites, in the order of the file's values; None: the file's own, else the default four."""
    labels: Labels = "mean"
    """Which replicate to learn, where the file has two."""
    id_column: str | None = None
    """Column of a table that holds the id; None: id, transcript_id or name."""
    sequence_column: str | None = None
    """Column of a table that holds the sequence; None: sequence, seq or cdna."""
    group_column: str | None = None
    """Column of a table whose records are never divided where they share its value; None: group, gene, gene_id or
    gene_name, where there is one."""
    group_by: GroupBy = "group"
    """What is never divided: `group`, the file's groups and equal sequences; `similarity`, similar sequences too."""
    identity: float = Field(0.8, ge=0.5, le=1)
    """Share of identical nucleotides from which two sequences are similar."""
    coverage: float = Field(0.8, ge=0.5, le=1)
    """Share of the shorter of two sequences that must be aligned for it."""
    also: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    """Further data sets that the same trunk is trained on, each `FILE` or `FILE:SITE1,SITE2`; None: none."""
    val: float = Field(0.2, gt=0, lt=1)
    """Share of the transcripts on which a single run is validated."""
    fold: int = Field(0, ge=0)
    """Number of folds of a cross-validation; 0: a single run."""
    inner_val: float = Field(0.1, gt=0, lt=1)
    """Share of a fold's training part on which its best epoch is chosen."""
    split_seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the division into folds or training and validation, apart from `train.seed`, so that runs
    with different seeds can be compared."""

    @field_validator("format", mode="before")
    @classmethod
    def _rename(cls, value: object) -> object:
        return FORMER_FORMATS.get(value, value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.fold == 1:
            raise ValueError("fold: 1 fold leaves nothing to train on; use 2 or more, or 0 for a single run")
        fault = site_names.fault(self.sites or ())
        if fault:
            raise ValueError(f"sites: {fault}; use another name")
        fault = next(filter(None, map(also.fault, self.also or ())), "")
        if fault:
            raise ValueError(f"also: {fault}")
        return self


class EncodingConfig(_Section):
    """How a sequence becomes the network's input."""

    max_length: int = Field(4000, ge=1)
    """Nucleotides of a transcript that the network sees; longer ones are cut."""
    full_length: bool = False
    """Nothing is cut: batches are made of transcripts of like length. Needs `model.masked`."""
    keep: Keep = "5p"
    """Which end is kept: the 5' end, the 3' end, or half of each."""


class ModelConfig(_Section):
    """Sizes of the network. Every one is a setting."""

    conv1_channels: int = Field(32, ge=1)
    conv2_channels: int = Field(32, ge=1)
    conv1_kernel: int = Field(10, ge=1)
    """Width of the first convolution, in nucleotides."""
    conv2_kernel: int = Field(10, ge=1)
    """Width of the second convolution, in pooled positions."""
    pool: int = Field(3, ge=1)
    """Width and stride of the max pooling after each convolution."""
    dropout: float = Field(0.25, ge=0, lt=1)
    """Dropout after each pooling."""
    rnn_dropout: float | None = Field(None, ge=0, lt=1)
    """Dropout of the recurrent layer's inputs, that is after the second pooling; None: as `dropout`."""
    output_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of the pooled states that go to the last layer; the length input is never dropped."""
    dropout_kind: Literal["entry", "channel"] = "entry"
    """What is dropped after the poolings: single entries, or channels of a transcript over all its positions."""
    rnn: Literal["gru", "lstm"] = "gru"
    rnn_hidden: int = Field(32, ge=1)
    """Hidden units of each direction of the recurrent layer."""
    rnn_activation: Literal["relu", "none"] = "relu"
    """What the recurrent layer's outputs pass before the attention: ReLU in the PyTorch port, nothing in
    the original."""
    attention: bool = True
    """False: the last state of each direction goes to the last layer instead."""
    attention_size: int = Field(50, ge=1)
    pooling: Pooling = "attention"
    """How the states along a transcript become one: their mean by attention, their plain mean, the largest of each, or
    the first two side by side."""
    masked: bool = True
    """True: padding is not seen by the recurrent layer and the attention."""
    length_input: bool = False
    """True: the logarithm of the whole transcript's length is one more input of the last layer."""
    reading_frame: bool = False
    """True: the first convolution is told where in the codons of the longest open reading frame its windows begin."""
    kernel: Kernel = "auto"
    """What computes the network: fused CPU kernels, plain PyTorch, or what suits the machine. Weights are the same."""

    @property
    def dropouts(self) -> tuple[float, float]:
        """Dropout after the first and after the second pooling."""
        return self.dropout, self.dropout if self.rnn_dropout is None else self.rnn_dropout

    @property
    def attends(self) -> bool:
        """Whether there are attention weights."""
        return self.attention and "attention" in self.pooling

    @model_validator(mode="after")
    def _check_pooling(self) -> ModelConfig:
        if not self.attention and self.pooling != "attention":
            raise ValueError(
                f"pooling: {self.pooling} needs attention: true: without it the last state of each direction is used"
            )
        return self

    @property
    def receptive_field(self) -> int:
        """Nucleotides under one step of the recurrent layer: the shortest input that gives a step."""
        return (self.pool + self.conv2_kernel - 1) * self.pool + self.conv1_kernel - 1


class TrainConfig(_Section):
    """How the network is trained."""

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(32, ge=1)
    lr: float = Field(1e-3, gt=0)
    """Learning rate."""
    trunk_lr: float = Field(1.0, ge=0)
    """What the learning rate of all but the last layer is multiplied with; only with weights to begin from."""
    freeze: int = Field(0, ge=0)
    """Epochs at the start in which only the last layer is trained; only with weights to begin from."""
    optimizer: Literal["adam", "adamw", "nadam"] = "adam"
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled from the gradient with `adamw`."""
    schedule: Schedule = "constant"
    """How the learning rate changes from step to step."""
    warmup: float = Field(0.0, ge=0, lt=1)
    """Share of all steps in which the learning rate rises from 0."""
    clip: float = Field(0.0, ge=0)
    """Largest norm of a step's gradient; 0: any."""
    ema: float = Field(0.0, ge=0, lt=1)
    """What the average of the weights keeps of itself in each step; it is what is validated and kept. 0: no average."""
    mask: float = Field(0.0, ge=0, lt=1)
    """Share of nucleotides that are hidden in each step."""
    exchange: float = Field(0.0, ge=0, lt=1)
    """Share of nucleotides that are exchanged for random ones in each step."""
    window: int = Field(0, ge=0)
    """Nucleotides of a random stretch that a step sees of longer transcripts; 0: all that is seen at prediction."""
    shift: int = Field(0, ge=0)
    """Most nucleotides that a step leaves out at the start of a transcript."""
    pcc_weight: float = Field(0.0, ge=0)
    """What 1 minus the batch's mean PCC counts in the loss, beside the divergence."""
    calibrate: bool = False
    """True: the last layer is calibrated on the validation part, whenever that is predicted."""
    objective: Objective = "pcc_mean"
    """What the best epoch is chosen by, on the validation part."""
    patience: int = Field(0, ge=0)
    """Stop after this many evaluations without improvement; 0: never."""
    eval_every: int = Field(1, ge=1)
    """Epochs from one evaluation to the next."""
    save_every: int = Field(0, ge=0)
    """Epochs from one numbered checkpoint to the next, beside `best.pt` and `last.pt`; 0: none."""
    also_weight: float = Field(1.0, gt=0)
    """What the loss of the further data sets (`data.also`) is multiplied with."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of initial weights, order of batches and dropout."""
    device: Device = "auto"
    amp: bool = False
    """Mixed precision (bfloat16) on a GPU."""
    threads: int = Field(0, ge=0)
    """CPU threads; 0: as many as are found to be fastest, one in each of several parallel folds."""

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.mask + self.exchange >= 1:
            raise ValueError(f"mask {self.mask:g} and exchange {self.exchange:g}: together they must be below 1")
        return self


class Config(_Section):
    """All settings of one run. The defaults are those of `configs/default.yaml`; a test holds them equal."""

    data: DataConfig = DataConfig()
    encoding: EncodingConfig = EncodingConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.encoding.full_length and not self.model.masked:
            raise ValueError(
                "encoding.full_length: needs model.masked: true, since an unmasked network would read "
                "the padding of its batch"
            )
        if not self.encoding.full_length and self.encoding.max_length < self.model.receptive_field:
            raise ValueError(
                f"encoding.max_length: {self.encoding.max_length} is shorter than the network's receptive "
                f"field of {self.model.receptive_field} nucleotides; use at least that, or smaller kernels"
            )
        return self

    def flat(self) -> dict[str, Any]:
        """Return the settings under dotted keys, as they are logged: `{"train.lr": 0.0001, ...}`."""
        return flatten(self.model_dump(mode="json"))

    def to_yaml(self) -> str:
        """Return the settings as the text of a config file."""
        return plain_yaml.dump(self.model_dump(mode="json"))


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into one with dotted keys; lists stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def keys() -> list[str]:
    """Return every dotted key that a config may have."""
    return [
        f"{section}.{key}"
        for section, field in Config.model_fields.items()
        for key in cast(type[BaseModel], field.annotation).model_fields
    ]


def shipped_folder() -> Path:
    """Return the folder of the shipped configs; that of the search spaces is its `search/`.

    In a wheel it is the package `rnatracker.configs`; in a checkout it lies beside the package.

    Raises:
        ConfigError: if it is missing.
    """
    package = Path(__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "default.yaml").is_file():
            return folder
    raise ConfigError(f"{package}: the shipped configs are missing", "install rnatracker again")


def shipped() -> dict[str, Path]:
    """Return the shipped config files by name (`default`, `port`, `paper`)."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.yaml"))}


def find(name_or_path: str) -> Path:
    """Return the config file of that name or path; `ancestor`, as `port` was called once, is found too.

    Raises:
        ConfigError: if there is neither a file nor a shipped config of that name.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    named = shipped()
    name = _FORMER_CONFIGS.get(path.stem, path.stem)
    if name in named and (path.name == name_or_path or path.parts[:-1] == ("configs",)):
        return named[name]
    raise ConfigError(f"--config {name_or_path}: no such file", f"the shipped configs are {', '.join(named)}")


def read(path: Path) -> Settings:
    """Read a config file as nested settings, its keys checked, its values not yet.

    Raises:
        ConfigError: if the file can't be read, isn't YAML, or has an unknown key.
    """
    content = plain_yaml.read(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path.name}: expected sections ({', '.join(Config.model_fields)}), got {shown(content)}")
    for section, value in content.items():
        if section in Config.model_fields and not isinstance(value, dict):
            raise ConfigError(f"{path.name}: section {section} must hold keys and values, got {shown(value)}")
    check_keys(flatten({str(key): value for key, value in content.items()}), path.name)
    return content


def shown(value: object) -> str:
    """Return a value as an error shows it: cut where it is long."""
    return reprlib.repr(value)


def parse_override(text: str) -> tuple[str, Any]:
    """Split `train.lr=3e-4` into its key and its value, read as YAML.

    Raises:
        ConfigError: if there is no `=` in it, the key is unknown, or the value is no value in YAML.
    """
    key, sign, value = text.partition("=")
    key = key.strip()
    if not sign:
        raise ConfigError(f"--set {text}: expected KEY=VALUE, as in train.lr=3e-4")
    check_keys([key], "--set")
    read_as = plain_yaml.load(value, f"--set {key}")
    if isinstance(read_as, dict):
        raise ConfigError(f"--set {key}: expected one value, got {shown(read_as)}", "leave out the braces and colons")
    return key, read_as


def merge(base: Settings, overlay: Mapping[str, Any]) -> Settings:
    """Return `base` with the values of `overlay` over it, section by section; neither is changed."""
    merged = dict(base)
    for key, value in overlay.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return merged


def nest(flat: Mapping[str, Any]) -> Settings:
    """Turn dotted keys into nested settings; the reverse of `flatten`."""
    nested: Settings = {}
    for dotted, value in flat.items():
        section, _, key = dotted.partition(".")
        nested.setdefault(section, {})[key] = value
    return nested


def build(settings: Settings, source: str) -> Config:
    """Validate settings; missing keys take the defaults of the models above.

    Args:
        settings: nested settings.
        source: where they come from, for the error message: a file's name or `command line`.

    Raises:
        ConfigError: naming the key, the rule and the value.
    """
    check_keys(flatten(settings), source)
    try:
        return Config.model_validate({s: v for s, v in settings.items() if v is not None})
    except ValidationError as error:
        raise ConfigError(f"{source}: {_word(error)}") from None


def assemble(file: str | None, base: Settings, options: Mapping[str, Any], sets: Iterable[str]) -> Config:
    """Put together the settings of a command, later ones over earlier ones.

    Args:
        file: name or path of a config file; None: none.
        base: what lies below the file: the settings of a file of weights, or nothing.
        options: dotted keys with the values of command line options; None where an option was not given.
        sets: texts of `--set`.

    Raises:
        ConfigError: if any of it is wrong.
    """
    settings, source = base, "command line"
    build(base, "the settings kept with the weights")
    if file is not None:
        path = find(file)
        source = path.name
        settings = merge(settings, read(path))
    with _typed():
        given = {key: value for key, value in options.items() if value is not None} | dict(map(parse_override, sets))
    try:
        found = build(merge(settings, nest(given)), "command line" if given else source)
    except ConfigError as error:
        build(settings, source)  # what is wrong in the file by itself is said of the file
        raise UsageError(error.problem, error.remedy) from None
    return found if found.data.path is None else with_data(found, found.data.path)


@contextmanager
def _typed() -> Iterator[None]:
    """Make errors those of what was typed: what lies below it has been checked."""
    try:
        yield
    except ConfigError as error:
        raise UsageError(error.problem, error.remedy) from None


def with_data(settings: Config, path: str) -> Config:
    """Return the settings with these data, all paths made absolute, so that a run is resumed from any folder."""
    others = settings.data.also
    update = {
        "path": str(Path(path).expanduser().resolve()),
        "also": None if others is None else tuple(map(also.absolute, others)),
    }
    return settings.model_copy(update={"data": settings.data.model_copy(update=update)})


def check_value(key: str, value: Any, source: str) -> None:
    """Check that a key may have a value, whatever the other keys are.

    Raises:
        ConfigError: naming the key, the rule and the value.
    """
    section, _, name = key.partition(".")
    model = cast(type[BaseModel], Config.model_fields[section].annotation)
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        raise ConfigError(f"{source}: {section}.{_word(error)}") from None


def is_whole(key: str) -> bool:
    """Tell whether a key takes whole numbers only."""
    section, _, name = key.partition(".")
    return cast(type[BaseModel], Config.model_fields[section].annotation).model_fields[name].annotation is int


def _word(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{place}.{message}" if place else message
    return f"{place}: {message[0].lower()}{message[1:]}, got {shown(first['input'])}"


def check_keys(given: Iterable[str], source: str) -> None:
    """Check that all these dotted keys exist.

    Raises:
        ConfigError: for the first that doesn't, with the nearest that does.
    """
    known = keys()
    for key in given:
        if key in known:
            continue
        word = _OTHER_WORDS.get(key.split(".")[-1], "")
        near = [k for k in known if k.split(".")[1] == word] or difflib.get_close_matches(key, known, 1, cutoff=0.5)
        same_section = [k for k in known if k.split(".")[0] == key.split(".")[0]]
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(same_section or known)}"
        raise ConfigError(f"{source}: unknown key {key}", hint)
