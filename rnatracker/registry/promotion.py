"""From a run to a version, and from a version to the champion.

Owns the order of the steps: whatever interrupts them, exactly one version is champion, the old or the new one, and the
same command typed again goes on. Must not know mlflow or typer. Read next: `comparison.py` for the comparison,
`rule.py` for the rule, `registry.py` for versions and aliases; `docs/promotion.md`.
"""

from __future__ import annotations

import getpass
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rnatracker import files
from rnatracker.errors import RegistryError, UsageError
from rnatracker.escapes import markdown
from rnatracker.processes import scratch
from rnatracker.registry import model_files, test_set
from rnatracker.registry.comparison import Candidate, OnBatch, PromotionRequest, candidate_of, examine
from rnatracker.registry.register import description, register
from rnatracker.registry.registry import Registry
from rnatracker.registry.rule import Verdict
from rnatracker.registry.version import CHALLENGER, CHAMPION, PREVIOUS, Version
from rnatracker.tracking.tags import Tag

FOLDER = "promotion"
"""Folder beside a version's files that holds each verdict on it."""
_TRIES = 5


@dataclass(frozen=True)
class Promotion:
    """What came of it.

    Attributes:
        version: the version, with its aliases now.
        verdict: the verdict on it; None where it was champion before, so that nothing was done.
    """

    version: Version
    verdict: Verdict | None


def promote(request: PromotionRequest, on_batch: OnBatch | None = None) -> Promotion:
    """Register a run's model as a version, and make it champion if it earns it.

    Args:
        request: what, and how.
        on_batch: told the predictions done so far and how many there will be.

    Raises:
        DataError: if the test set can't be read, or holds transcripts that either model was trained on; nothing is
            then registered.
        RegistryError: if the registry can't be used.
        CheckpointError: if the champion's or the run's weights can't be loaded.
    """
    _check(request)
    registry = Registry(request.tracking, request.name)
    candidate = candidate_of(request)
    champion = registry.aliases().get(CHAMPION)
    held, verdict = examine(registry, candidate, champion, request, on_batch)
    version = register(registry, candidate.run, candidate.model, candidate.trained_on)
    if CHAMPION in version.aliases:
        return _nothing_to_do(registry, version)
    _challenge(registry, version.number)
    for _ in range(_TRIES):
        if held is not None:
            test_set.keep(registry, version, held)
        verdict = replace(verdict, version=version.number, time=_now(), user=_user())
        _record(registry, version, candidate, verdict)
        if not verdict.promoted or _crown(registry, version.number, champion):
            return Promotion(registry.version(version.number), verdict)
        # Another promotion has won in between, and may have had the challenger's alias on its way.
        _challenge(registry, version.number)
        champion = registry.aliases().get(CHAMPION)
        held, verdict = examine(registry, candidate, champion, request, on_batch)
    raise RegistryError(
        f"{version.label}: the champion changed {_TRIES} times meanwhile", "try again when other promotions have ended"
    )


def roll_back(registry: Registry) -> tuple[Version, Version | None]:
    """Make the previous champion champion again, and the champion the previous one.

    Returns:
        The champion now, and the one it replaces, None where there was none.

    Raises:
        RegistryError: if there is no previous one.
        CheckpointError: if its weights can't be loaded; nothing is then changed.
    """
    before = registry.named(PREVIOUS) if PREVIOUS in registry.aliases() else None
    if before is None:
        raise RegistryError(
            f"Model {registry.name!r} has no previous champion to return to",
            f"to make any run champion: {registry.command('promote', 'RUN_ID', '--force', '--reason', 'WHY')}",
        )
    registry.model(before)
    with registry.locked():
        aliases = registry.aliases()
        number, replaced = before.number, aliases.get(CHAMPION)
        if aliases.get(PREVIOUS) != number:
            raise RegistryError(
                f"Model {registry.name!r}: its champion has just been changed", f"look at: {registry.command('models')}"
            )
        if number == replaced:
            raise RegistryError(
                f"Model {registry.name!r}: its previous champion is version {number}, the champion itself, since a "
                "promotion or rollback was interrupted",
                "nothing is left to do, or promote again",
            )
        registry.move_aliases({CHAMPION: number, PREVIOUS: replaced})
    return registry.version(number), None if replaced is None else registry.version(replaced)


def _check(request: PromotionRequest) -> None:
    for option, value in (("--margin", request.margin), ("--max-drop", request.max_drop)):
        if not 0 <= value <= 2:
            raise UsageError(f"{option} {value:g}: expected a difference in PCC, from 0 to 2")


def _nothing_to_do(registry: Registry, version: Version) -> Promotion:
    """Return the champion as it is, tidied up where making it that was interrupted."""
    with registry.locked():
        if registry.aliases().get(CHALLENGER) == version.number:
            registry.delete_alias(CHALLENGER)
    return Promotion(registry.version(version.number), None)


def _challenge(registry: Registry, number: int) -> None:
    with registry.locked():
        registry.set_alias(CHALLENGER, number)


def _crown(registry: Registry, number: int, expected: int | None) -> bool:
    """Make a version champion, and the champion the previous one, if that is still the one it was compared with."""
    with registry.locked():
        aliases = registry.aliases()
        if aliases.get(CHAMPION) != expected:
            return False
        moves: dict[str, int | None] = {CHAMPION: number}
        if expected is not None:
            moves[PREVIOUS] = expected
        if aliases.get(CHALLENGER) == number:
            moves[CHALLENGER] = None
        registry.move_aliases(moves)
    return True


def _record(registry: Registry, version: Version, candidate: Candidate, verdict: Verdict) -> None:
    """Keep a verdict as a tag of the version, beside its files, and in what MLflow shows above it."""
    content = verdict.as_json()
    with scratch.folder() as temporary:
        path = temporary / f"{verdict.time.replace(':', '')}.json"
        files.write_text(path, json.dumps(content, indent=1) + "\n")
        model_files.add(registry.backend, version.model_id, path, FOLDER)
    registry.set_tags(version.number, {Tag.VERDICT: json.dumps(content)})
    about = description(candidate.run, candidate.model)
    said = f"Verdict of {verdict.time}: {verdict.outcome}; {markdown(verdict.reason)}."
    registry.describe(version.number, f"{about}\n\n{said}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
