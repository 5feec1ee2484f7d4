"""The settings of a run: what they are, what they may be, where they come from.

Owns the whole of a run's settings, finding the shipped files by name, overrides by dotted key (`train.lr=3e-4`), and
the wording of what is wrong with a setting. Must not know torch, mlflow or optuna. Read next: `sections.py`, which has
every key.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError, model_validator

from rnatracker import also, plain_yaml
from rnatracker.errors import ConfigError, UsageError
from rnatracker.sections import DEFAULT_SITES as DEFAULT_SITES
from rnatracker.sections import FORMER_FORMATS as FORMER_FORMATS
from rnatracker.sections import DataConfig as DataConfig
from rnatracker.sections import EncodingConfig as EncodingConfig
from rnatracker.sections import ModelConfig as ModelConfig
from rnatracker.sections import Section
from rnatracker.sections import TrainConfig as TrainConfig

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
_FORMER_CONFIGS = {"ancestor": "port"}


class Config(Section):
    """All settings of one run.

    The defaults are those of `configs/v1.yaml`, a test holds them equal: what a file leaves out must not change with
    what is found to be better. Where no file is given, a run starts from `configs/default.yaml`.
    """

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
        if self.train.also_weight != 1 and not self.data.also:
            raise ValueError(
                f"train.also_weight: {self.train.also_weight:g} weighs further data sets, and data.also names none; "
                "leave it out, or give one with --also"
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


def starting() -> Settings:
    """Return the settings that a run starts from where neither a config nor weights are given."""
    return read(find("default"))


def assemble(file: str | None, base: Settings, options: Mapping[str, Any], sets: Iterable[str]) -> Config:
    """Put together the settings of a command, later ones over earlier ones.

    Args:
        file: name or path of a config file; None: none. Keys that it leaves out have the defaults above.
        base: what lies below the file: the settings of a file of weights, or nothing. Without a file, sections that it
            lacks are those of `starting()`.
        options: dotted keys with the values of command line options; None where an option was not given.
        sets: texts of `--set`.

    Raises:
        ConfigError: if any of it is wrong.
    """
    settings, source = {**starting(), **base} if file is None else base, "command line"
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
