"""YAML that people write by hand: plain values only, read in bounded time and memory.

Owns what of YAML is read, in files and in `--set`, and the place and wording of what isn't. Must not know settings.

Numbers, `true`, `false` and `null` are those of YAML 1.2, so that `3e-4` is a number, `no` and `2024-01-01` are text,
and `010` is ten. Left out is what settings have no use for and what makes a file other than it looks: tags of other
kinds, aliases, keys that are there twice, integers that no setting can have.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from rnatracker.errors import ConfigError

LONGEST = 1 << 16
"""Bytes of a file: more than any settings need, and read in less than a second."""
_DEEPEST = 20
"""Lists and mappings in each other."""
_LARGEST = 2**63
"""Integers from here on are none that a setting can have."""
_CORE = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (re.compile(r"(?:~|null|Null|NULL|)$"), "~nN"),
    "bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    "int": (re.compile(r"[-+]?[0-9]+$"), "-+0123456789"),
    "float": (
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        "-+.0123456789",
    ),
}
"""What a word without quotes means, tried in this order, with the characters it may begin with: YAML 1.2's core schema,
without octal and hexadecimal numbers."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 - as PyYAML declares it
    yaml_constructors = {}  # noqa: RUF012

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _problem(event, "aliases are not read", f"write out the value that *{event.anchor} stands for")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _problem(event, f"lists and keys are nested more than {_DEEPEST} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise _problem(key, "expected a word as a key, got a list or a mapping")
            if key.value in seen:
                raise _problem(key, f"key {key.value[:60]} is there twice", "remove one")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_text(self, node: ScalarNode) -> str:
        text = str(self.construct_scalar(node))
        if "\0" in text:
            raise _problem(node, "a text can't hold the character NUL", "remove it")
        return text

    def construct_int(self, node: ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        if not _SCALARS["int"][0].match(text):
            raise _problem(node, f"expected a whole number after !!int, got {text[:60]!r}")
        # Looked at first: Python refuses to read some thousands of digits.
        digits = text.lstrip("+-0")
        if len(digits) > len(str(_LARGEST)) or abs(int(text)) >= _LARGEST:
            raise _problem(node, f"a whole number of {len(digits)} digits is too large for any setting")
        return int(text)

    def construct_float(self, node: ScalarNode) -> float:
        text = str(self.construct_scalar(node))
        if not _SCALARS["float"][0].match(text) and not _SCALARS["int"][0].match(text):
            raise _problem(node, f"expected a number after !!float, got {text[:60]!r}")
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))

    def construct_bool(self, node: ScalarNode) -> bool:
        text = str(self.construct_scalar(node)).lower()
        if text not in ("true", "false"):
            raise _problem(node, f"expected true or false after !!bool, got {text[:60]!r}")
        return text == "true"

    def construct_other(self, node: Node) -> None:
        tag = node.tag.replace(_CORE, "!!")
        raise _problem(node, f"values tagged {tag[:60]} are not read", "write text, a number, true, false or a list")


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would not take for text."""

    yaml_implicit_resolvers = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's
        return True


def _problem(where: Node | yaml.Event, what: str, remedy: str = "") -> yaml.MarkedYAMLError:
    mark = cast(yaml.Mark, where.start_mark)
    return yaml.MarkedYAMLError(problem=what, problem_mark=mark, note=remedy)


for _name, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_CORE + _name, _pattern, [*_first, *([""] if _name == "null" else [])])
for _name, _construct in {
    "null": _Loader.construct_yaml_null,
    "bool": _Loader.construct_bool,
    "int": _Loader.construct_int,
    "float": _Loader.construct_float,
    "str": _Loader.construct_text,
    "seq": _Loader.construct_yaml_seq,
    "map": _Loader.construct_yaml_map,
}.items():
    _Loader.add_constructor(_CORE + _name, _construct)
_Loader.add_constructor(None, _Loader.construct_other)


def load(text: str, source: str) -> Any:
    """Read a text.

    Args:
        text: YAML of plain values.
        source: where it comes from, for the error: a file's name or an option.

    Returns:
        None, bool, int, float, str, and lists and dictionaries of them.

    Raises:
        ConfigError: naming the line, the rule and the value.
    """
    if len(text) > LONGEST:
        raise ConfigError(f"{source}: expected settings in at most {LONGEST:,} characters, got {len(text):,}")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader with less in it
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark is not None else ""
        raise ConfigError(f"{source}: not readable as YAML:{place} {error.problem}", error.note or "") from None
    except yaml.reader.ReaderError as error:
        problem = f"character 0x{error.character:02x} at position {error.position + 1}, which YAML doesn't admit"
        raise ConfigError(f"{source}: not readable as YAML: {problem}", "remove it") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not readable as YAML: {error}") from None


def read(path: Path) -> Any:
    """Read a file.

    Raises:
        ConfigError: if it can't be read, is too large, or as `load`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror or error})", "check the file") from None
    if len(content) > LONGEST:
        raise ConfigError(f"{path.name}: expected settings in at most {LONGEST:,} bytes, got more", "check the file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"expected text in UTF-8, got byte 0x{content[error.start]:02x} at position {error.start + 1}"
        raise ConfigError(f"{path.name}: not readable as YAML: {problem}", "save it as UTF-8") from None
    return load(text, path.name)


def dump(value: Any, *, flow: bool | None = False) -> str:
    """Write plain values so that `load` gives them back.

    Args:
        value: what `load` returns.
        flow: as PyYAML's `default_flow_style`: with brackets throughout, nowhere, or (None) in the innermost only.
    """
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=flow)
    return text


def on_one_line(value: Any) -> str:
    """Write a value as `--set` takes it."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=math.inf)
    return text.splitlines()[0]
