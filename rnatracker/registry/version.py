"""A version of a registered model: what is recorded of it, and what it is called.

Owns what its tags say, and the names of the aliases. Must not know how MLflow keeps it. Read next: `registry.py`,
which does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rnatracker.tracking.tags import Tag

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

NAME = "rnatracker"
"""What the registered model is called where the user gives no other name."""
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
ALIASES = (CHAMPION, CHALLENGER, PREVIOUS)


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        name: the model's.
        number: from 1, never used twice.
        aliases: those that name it, `champion` first.
        run_id: the run that trained it.
        created: seconds since 1970.
        tags: all its tags.
    """

    name: str
    number: int
    aliases: tuple[str, ...]
    run_id: str
    created: float
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What to call it in messages: `rnatracker version 3`."""
        return f"{self.name} version {self.number}"

    @property
    def run_name(self) -> str:
        """The run's name, or its id where that was not recorded."""
        return self.tags.get(Tag.RUN_NAME) or self.run_id

    @property
    def model_id(self) -> str:
        """The id of MLflow's logged model that holds its files; empty where that was not recorded."""
        return self.tags.get(Tag.MODEL_ID, "")

    @property
    def size_bytes(self) -> int:
        """Bytes of its weights; 0 where that was not recorded."""
        found = self.tags.get(Tag.SIZE, "")
        return int(found) if found.isdigit() else 0

    @property
    def sites(self) -> list[str]:
        """Names of its sites, as they were recorded."""
        found = self._recorded(Tag.SITES, [])
        return [str(site) for site in found] if isinstance(found, list) else []

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of each file of weights; empty where none was recorded."""
        return self._mapping(Tag.CHECKSUMS)

    @property
    def metrics(self) -> dict[str, float]:
        """The run's summary as it was registered: `best/pcc_mean` of a single run, `oof/pcc_mean` of several folds."""
        return {key: float(value) for key, value in self._mapping(Tag.METRICS).items()}

    @property
    def verdict(self) -> dict[str, Any]:
        """The latest verdict on it, as `rnatracker.registry.rule.Verdict` gives it; empty where there was none."""
        return self._mapping(Tag.VERDICT)

    def _mapping(self, tag: str) -> dict[str, Any]:
        found = self._recorded(tag, {})
        return found if isinstance(found, dict) else {}

    def _recorded(self, tag: str, missing: Any) -> Any:
        try:
            return json.loads(self.tags[tag])
        except (KeyError, ValueError):
            return missing


def version_of(found: ModelVersion, aliases: Mapping[str, int]) -> Version:
    """Return a version as MLflow gives it.

    Args:
        found: MLflow's record of it, which lacks its aliases where several were searched for.
        aliases: which version each alias of the model names.
    """
    number = int(found.version)
    own = tuple(sorted((alias for alias, of in aliases.items() if of == number), key=_alias_order))
    return Version(found.name, number, own, found.run_id or "", found.creation_timestamp / 1000, dict(found.tags))


def _alias_order(alias: str) -> tuple[int, str]:
    return (ALIASES.index(alias) if alias in ALIASES else len(ALIASES)), alias
