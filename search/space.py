"""A search space: which settings are searched, over which values.

Owns the YAML file, its checks, and how a trial becomes a config. Must not know torch or mlflow. Read next:
`docs/search.md` for the format, `rnatracker/config.py` for the keys.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial

from rnatracker import config, plain_yaml
from rnatracker.config import Config, shown
from rnatracker.errors import ConfigError

Kind = Literal["float", "int", "categorical"]
Value = bool | int | float | str

_KINDS = ("float", "int", "categorical")
_OPTIONS = {"float": {"log", "when"}, "int": {"log", "step", "when"}, "categorical": {"when"}}
_FIXED = {
    "train.epochs": ("it is what pruning saves", "set it with --epochs"),
    "train.seed": ("a lucky seed is no better setting", "set it with --seed"),
    "train.seeds": (
        "a trial trains one network: more are better whatever the settings are, and cost as much more",
        "set it with --set train.seeds=N, for --refit",
    ),
    "train.objective": ("it is what trials are compared by", "set it with --objective"),
    "train.eval_every": ("trials are compared at the same epochs", ""),
    "train.patience": ("it does nothing for the model that pruning does not", ""),
    "train.save_every": ("it does nothing for the model", ""),
    "train.trunk_lr": ("a trial begins from random weights, not from another network's trunk", ""),
    "train.freeze": ("a trial begins from random weights, not from another network's trunk", ""),
    "train.also_weight": ("a study's trials are trained on one data set", ""),
    "train.device": ("it does nothing for the model", ""),
    "train.threads": ("it does nothing for the model", ""),
    "train.amp": ("it does nothing for the model that is worth a trial", ""),
}
"""Keys that can't be searched: why, and what to do instead."""
_DATA_IS_FIXED = ("trials are compared on the same data and the same division", "")


@dataclass(frozen=True)
class Dimension:
    """One searched key.

    Attributes:
        key: the config's key, dotted.
        kind: float, int or categorical.
        values: lowest and highest value, or the choices.
        log: draw on a logarithmic scale.
        step: distance of neighbouring values of an int.
        when: keys of the space and their values under which this key exists.
    """

    key: str
    kind: Kind
    values: tuple[Value, ...]
    log: bool = False
    step: int = 1
    when: dict[str, tuple[Value, ...]] = field(default_factory=dict)

    def contains(self, value: object) -> bool:
        """Tell whether this value can be drawn."""
        if self.kind == "categorical":
            return any(value == choice and type(value) is type(choice) for choice in self.values)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low, high = (float(end) for end in self.values if not isinstance(end, str))
        on_grid = self.kind == "float" or (float(value).is_integer() and (value - low) % self.step == 0)
        return low <= value <= high and on_grid

    def nearest(self, value: object) -> Value:
        """Return the value nearest to this one that can be drawn; of choices the first where it is none of them."""
        if self.contains(value):
            return value  # type: ignore[return-value]
        if self.kind == "categorical" or isinstance(value, bool) or not isinstance(value, int | float):
            return self.values[0]
        low, high = (float(end) for end in self.values if not isinstance(end, str))
        near = min(max(float(value), low), high)
        return near if self.kind == "float" else int(low) + round((near - low) / self.step) * self.step

    def distribution(self) -> BaseDistribution:
        """Return what Optuna draws from."""
        if self.kind == "categorical":
            return CategoricalDistribution(self.values)
        if self.kind == "int":
            low, high = int(self.values[0]), int(self.values[1])
            return IntDistribution(low, high, log=self.log, step=self.step)
        return FloatDistribution(float(self.values[0]), float(self.values[1]), log=self.log)

    def exists(self, values: Mapping[str, Any]) -> bool:
        """Tell whether it exists beside these values of other keys."""
        return all(key in values and values[key] in allowed for key, allowed in self.when.items())

    def scaled(self, value: object) -> list[float]:
        """Return a value as numbers between 0 and 1; the middle for what can't be drawn."""
        if self.kind == "categorical":
            return [float(value == choice and type(value) is type(choice)) for choice in self.values]
        if isinstance(value, bool) or not isinstance(value, int | float):
            return [0.5]
        low, high = (float(end) for end in self.values if not isinstance(end, str))
        place = (math.log(value / low), math.log(high / low)) if self.log else (value - low, high - low)
        return [min(max(place[0] / place[1], 0.0), 1.0) if place[1] else 0.5]


@dataclass(frozen=True)
class Space:
    """All searched keys, those that others depend on first.

    Attributes:
        name: what to call it in messages: the file's name.
        dimensions: the keys.
    """

    name: str
    dimensions: tuple[Dimension, ...]

    def __iter__(self) -> Iterator[Dimension]:
        return iter(self.dimensions)

    @property
    def has_conditions(self) -> bool:
        """Whether some key exists only under another's value."""
        return any(dimension.when for dimension in self)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return the space as plain values, in the file's format: two spaces are the same if these are."""
        described = {}
        for each in sorted(self, key=lambda dimension: dimension.key):
            entry: dict[str, Any] = {each.kind: list(each.values)}
            entry |= {"log": True} if each.log else {}
            entry |= {"step": each.step} if each.step != 1 else {}
            entry |= {"when": {key: list(values) for key, values in sorted(each.when.items())}} if each.when else {}
            described[each.key] = entry
        return described

    def params_of(self, flat: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return a config's values of the searched keys, and the keys whose value lies outside of the space."""
        inside: dict[str, Any] = {}
        outside = []
        for each in self:
            if not each.exists(inside) or each.key not in flat:
                continue
            if each.contains(flat[each.key]):
                inside[each.key] = flat[each.key]
            else:
                outside.append(each.key)
        return inside, outside

    def nearest(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """Return a value of every key that can be drawn, the nearest to a config's."""
        return {each.key: each.nearest(flat.get(each.key)) for each in self}

    def scaled(self, params: Mapping[str, Any]) -> list[float]:
        """Return settings as numbers between 0 and 1: one for each key, of a categorical one for each choice.

        A key that doesn't exist in them, or whose value lies outside, has the middle.
        """
        return [number for each in self for number in each.scaled(params.get(each.key))]

    def draw(self, trial: BaseTrial, without: tuple[str, ...] = ()) -> dict[str, Any]:
        """Let a trial draw a value for each key that exists; those of `without` are left as the config has them."""
        drawn: dict[str, Any] = {}
        for each in self:
            if each.key in without or not each.exists(drawn):
                continue
            if each.kind == "categorical":
                drawn[each.key] = trial.suggest_categorical(each.key, each.values)
            elif each.kind == "int":
                low, high = int(each.values[0]), int(each.values[1])
                drawn[each.key] = trial.suggest_int(each.key, low, high, step=each.step, log=each.log)
            else:
                drawn[each.key] = trial.suggest_float(
                    each.key, float(each.values[0]), float(each.values[1]), log=each.log
                )
        return drawn


def of_trial(settings: Config) -> Config:
    """Return settings as a trial trains them: one network, since a search should spend no epochs on seeds."""
    return settings.model_copy(update={"train": settings.train.model_copy(update={"seeds": 1})})


def apply(base: Config, drawn: Mapping[str, Any]) -> Config:
    """Return the base settings with drawn values in place.

    Raises:
        ConfigError: if the values contradict each other.
    """
    return config.build(config.merge(base.model_dump(mode="json"), config.nest(drawn)), "trial")


def shipped() -> dict[str, Path]:
    """Return the shipped spaces by name (`default`, `wide`, `smoke`)."""
    return {path.stem: path for path in sorted((config.shipped_folder() / "search").glob("*.yaml"))}


def load(name_or_path: str) -> Space:
    """Read a search space, a file or a shipped one by its name, and check all of it.

    Raises:
        ConfigError: if there is none, or something in it is wrong.
    """
    path = Path(name_or_path)
    if not path.is_file():
        named = shipped()
        if name_or_path not in named:
            raise ConfigError(f"--space {name_or_path}: no such file", f"the shipped spaces are {', '.join(named)}")
        path = named[name_or_path]
    return parse(plain_yaml.read(path), path.name)


def parse(content: object, source: str) -> Space:
    """Make a space of a YAML file's content.

    Raises:
        ConfigError: naming the key, the rule and the value.
    """
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{source}: expected keys to search, as in train.lr: {{float: [1e-4, 1e-2], log: true}}")
    dimensions = [_dimension(str(key), entry, source) for key, entry in content.items()]
    return Space(source, tuple(_in_order(dimensions, source)))


def _dimension(key: str, entry: object, source: str) -> Dimension:
    config.check_keys([key], source)
    fixed = _DATA_IS_FIXED if key.startswith("data.") else _FIXED.get(key)
    if fixed is not None:
        raise ConfigError(f"{source}: {key} can't be searched: {fixed[0]}", fixed[1])
    place = f"{source}: {key}"
    kinds = [kind for kind in _KINDS if isinstance(entry, dict) and kind in entry]
    if not isinstance(entry, dict) or len(kinds) != 1:
        raise ConfigError(f"{place}: expected one of {', '.join(_KINDS)} with its values, got {shown(entry)}")
    kind: Kind = kinds[0]  # type: ignore[assignment]
    for option in entry:
        if option != kind and option not in _OPTIONS[kind]:
            near = difflib.get_close_matches(str(option), _OPTIONS[kind], n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(_OPTIONS[kind]))}"
            raise ConfigError(f"{place}: unknown option {option} for {kind}", hint)
    if kind == "float" and config.is_whole(key):
        raise ConfigError(f"{place}: this key takes whole numbers", "use int")
    values = _values(entry[kind], kind, place)
    for value in values:
        config.check_value(key, value, source)
    made = Dimension(key, kind, values, _log(entry, place), _step(entry, place), _when(entry.get("when"), place))
    _check_range(made, place)
    return made


def _values(given: object, kind: Kind, place: str) -> tuple[Value, ...]:
    if not isinstance(given, list):
        raise ConfigError(f"{place}: {kind} takes a list, got {shown(given)}")
    if kind == "categorical":
        if len(given) < 2 or any(not isinstance(value, bool | int | float | str) for value in given):
            raise ConfigError(f"{place}: categorical takes two or more choices, got {shown(given)}")
        if len({(type(value), value) for value in given}) < len(given):
            raise ConfigError(f"{place}: the choices must differ, got {shown(given)}")
        return tuple(given)
    known = [n for n in given if isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n)]
    if len(given) != 2 or len(known) != 2:
        raise ConfigError(f"{place}: {kind} takes the lowest and the highest value, got {shown(given)}")
    if kind == "int" and not all(float(number).is_integer() for number in known):
        raise ConfigError(f"{place}: int takes whole numbers, got {shown(given)}", "use float")
    return tuple(int(number) if kind == "int" else float(number) for number in known)


def _log(entry: Mapping[Any, Any], place: str) -> bool:
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise ConfigError(f"{place}: log must be true or false, got {shown(log)}")
    return log


def _step(entry: Mapping[Any, Any], place: str) -> int:
    step = entry.get("step", 1)
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise ConfigError(f"{place}: step must be a whole number of 1 or more, got {shown(step)}")
    return step


def _when(given: object, place: str) -> dict[str, tuple[Value, ...]]:
    if given is None:
        return {}
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"{place}: when takes a key of this space and its value, got {shown(given)}")
    return {str(key): tuple(value) if isinstance(value, list) else (value,) for key, value in given.items()}


def _check_range(dimension: Dimension, place: str) -> None:
    """Check that a range has values, that its scale fits, and that it is of the key's own type."""
    if dimension.kind == "categorical":
        return
    low, high = (float(value) for value in dimension.values if not isinstance(value, str))
    if low > high:
        raise ConfigError(f"{place}: the lowest value {low:g} is above the highest {high:g}", "swap them")
    if low == high:
        raise ConfigError(f"{place}: a range of one value, {low:g}, leaves nothing to search", "set it in the config")
    if dimension.log and low <= 0:
        raise ConfigError(f"{place}: a logarithmic scale begins above 0, got {low:g}", "raise it, or leave log out")
    if dimension.log and dimension.step != 1:
        raise ConfigError(f"{place}: log and step exclude each other", "leave one of them out")
    if (high - low) % dimension.step and dimension.kind == "int":
        fitting = int(high - (high - low) % dimension.step)
        raise ConfigError(
            f"{place}: {high:g} can't be reached from {low:g} in steps of {dimension.step}", f"use {fitting}"
        )


def _in_order(dimensions: list[Dimension], source: str) -> list[Dimension]:
    """Return the dimensions with those that others depend on first, and check that each `when` can come true."""
    known = {dimension.key: dimension for dimension in dimensions}
    for each in dimensions:
        for key, values in each.when.items():
            if key not in known:
                near = difflib.get_close_matches(key, known.keys() - {each.key}, n=1, cutoff=0.8)
                hint = f"did you mean {near[0]}?" if near else "add it to the space, or leave out when"
                raise ConfigError(f"{source}: {each.key}: when names {key}, which is not in this space", hint)
            bad = [value for value in values if not known[key].contains(value)]
            if bad:
                raise ConfigError(f"{source}: {each.key}: when {key} is {bad[0]!r}: it never is in this space")
    ordered: list[Dimension] = []
    while len(ordered) < len(dimensions):
        done = {dimension.key for dimension in ordered}
        ready = [each for each in dimensions if each.key not in done and each.when.keys() <= done]
        if not ready:
            circle = ", ".join(sorted(known.keys() - done))
            raise ConfigError(f"{source}: {circle}: each exists only under another's value, in a circle")
        ordered += ready
    return ordered
