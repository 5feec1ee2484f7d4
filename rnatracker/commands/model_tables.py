"""Registered models as tables on stdout.

Owns their layout. Must not compute. Read next: `rnatracker/commands/models.py`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rnatracker.commands.tables import new_table, show

if TYPE_CHECKING:
    from rnatracker.versions import Version

_GROUPS = {"oof": "out-of-fold", "best": "validation"}
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def print_versions(versions: Sequence[Version], name: str) -> None:
    """Print the list of versions."""
    table = new_table()
    for header in ("version", "aliases", "run", "PCC of the run", "on the test set", "sites", "size", "age", "verdict"):
        table.add_column(header, justify="right" if header in ("version", "size", "age") else "left")
    for each in versions:
        table.add_row(
            str(each.number),
            ", ".join(each.aliases),
            each.run_name,
            _own_pcc(each),
            _test_pcc(each.verdict),
            ", ".join(each.sites),
            _size(each.size_bytes),
            _age(each.created),
            _short(each.verdict),
        )
    show(table, f"Versions of {name}")


def print_version(version: Version) -> None:
    """Print all that is known of one version."""
    table = new_table()
    table.add_column("")
    table.add_column("")
    table.show_header = False
    rows = {
        "aliases": ", ".join(version.aliases) or "none",
        "run": f"{version.run_name} ({version.run_id})",
        "model": version.tags.get("rnatracker.description", ""),
        "sites": ", ".join(version.sites),
        "mean PCC": _own_pcc(version),
        "data digest": version.tags.get("rnatracker.data_digest", ""),
        "split digest": version.tags.get("rnatracker.split_digest", ""),
        "size": _size(version.size_bytes),
        "registered": f"{_date(version.created)} ({_age(version.created)} ago)",
        "address": f"models:/{version.name}/{version.number}",
        **{f"SHA-256 {name}": digest for name, digest in version.checksums.items()},
    }
    for key, value in rows.items():
        table.add_row(key, value)
    show(table, version.label)
    if version.verdict:
        print_verdict(version.verdict)
        verdict = version.verdict
        print(f"Verdict of {verdict.get('time')}: {verdict.get('outcome')}; {verdict.get('reason')}")


def print_verdict(verdict: Mapping[str, Any]) -> None:
    """Print a verdict's figures, where it has any."""
    scores = verdict.get("scores") or {}
    ours, theirs = scores.get("challenger", {}), scores.get("champion", {})
    if not ours:
        return
    differences = {each["name"]: each for each in verdict.get("differences") or ()}
    table = new_table()
    for header in ("site", f"version {verdict['version']}", *_rival(verdict)):
        table.add_column(header, justify="left" if header == "site" else "right")
    for name, value in ours.items():
        if name == "pcc_mean":
            table.add_section()
        cells = [_number(value)]
        if theirs:
            cells += [_number(theirs.get(name)), *_difference(differences.get(name))]
        table.add_row(name.removeprefix("pcc_") if name in ("pcc_mean", "pcc_overall") else name, *cells)
    show(table, f"PCC on {verdict['data']}, {verdict['transcripts']} transcripts")
    if verdict.get("earlier"):
        print(
            f"This test set has judged {verdict['earlier']} version(s) before: each makes it a little less of a test."
        )


def _rival(verdict: Mapping[str, Any]) -> tuple[str, ...]:
    return (f"champion, version {verdict['champion']}", "difference", "95 % interval") if verdict["champion"] else ()


def _difference(found: Mapping[str, Any] | None) -> tuple[str, str]:
    if found is None or found["value"] is None:
        return "-", "-"
    interval = "-" if found["low"] is None else f"{found['low']:+.3f} to {found['high']:+.3f}"
    return f"{found['value']:+.3f}", interval


def _own_pcc(version: Version) -> str:
    for group, words in _GROUPS.items():
        value = version.metrics.get(f"{group}/pcc_mean")
        if value is not None:
            return f"{value:.3f} {words}"
    return "-"


def _test_pcc(verdict: Mapping[str, Any]) -> str:
    value = (verdict.get("scores") or {}).get("challenger", {}).get("pcc_mean")
    return "-" if value is None else f"{value:.3f} on {verdict['transcripts']}"


def _short(verdict: Mapping[str, Any]) -> str:
    if not verdict:
        return "-"
    if verdict.get("forced"):
        return f"forced: {verdict['forced']}"
    if not verdict.get("champion"):
        return "the first champion"
    return f"{'won' if verdict['outcome'] == 'champion' else 'not better'}, against version {verdict['champion']}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1_000_000 else f"{size_bytes / 1000:.0f} KB"


def _date(created: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(created))


def _age(created: float) -> str:
    seconds = max(time.time() - created, 0)
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return "0 s"
