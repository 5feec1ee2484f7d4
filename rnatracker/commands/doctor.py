"""`rnatracker doctor`.

Owns its options, its questions and what it prints. The work is in `rnatracker/doctor.py` and
`rnatracker/orphans.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnatracker.terminal import options, output

if TYPE_CHECKING:
    from rnatracker.doctor import Finding
    from rnatracker.tracking.settings import TrackingSettings


_LISTED = 20


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="End runs that are RUNNING without a process.")] = False,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean", help="List artifacts that belong to no run and no model, and delete them if you agree."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask before deleting.")] = False,
    json_: options.Json = False,
    experiment: options.Experiment = "rnatracker",
    store: options.Store = None,
    tracking_uri: options.TrackingUri = None,
) -> None:
    """Say what is wrong with this installation or store, and what to do; exit 1 if something is broken.

    rnatracker doctor
    """
    from rnatracker import doctor as checks
    from rnatracker.errors import UsageError
    from rnatracker.search.checks import check_trials

    if json_ and clean and not yes:
        raise UsageError("--clean --json: nobody can be asked", "give --yes too, or leave out --json")
    tracking = options.tracking_settings(store, tracking_uri, experiment, False)
    findings = checks.examine(tracking, (check_trials,))
    has_store = checks.has_usable_store(findings)
    if json_:
        done = _mend(tracking, fix=fix, clean=clean, yes=True) if has_store else {}
        broken = any(each.level == "broken" for each in findings)
        output.print_json({"findings": [_record(each) for each in findings], "broken": broken, **done})
    else:
        _print(findings)
        if has_store:
            stale = any(each.id == checks.STALE_RUNS for each in findings)
            _mend(
                tracking,
                fix=fix or (stale and not clean and _agrees("End these runs as FAILED?")),
                clean=clean,
                yes=yes,
            )
        _conclude(findings, tracking)
    if any(each.level == "broken" for each in findings):
        raise typer.Exit(1)


def _record(finding: Finding) -> dict[str, str]:
    """Return a finding for a script."""
    return {
        "id": finding.id,
        "check": finding.check,
        "level": finding.level,
        "text": finding.text,
        "remedy": finding.remedy,
    }


def _print(findings: list[Finding]) -> None:
    signs = {"ok": "ok    ", "note": "note  ", "broken": "BROKEN"}
    for each in findings:
        output.tell(f"{signs[each.level]}  {each.check:<9} {each.text}")
        if each.remedy:
            output.tell(f"{'':<18} -> {each.remedy}")


def _conclude(findings: list[Finding], tracking: TrackingSettings) -> None:
    from rnatracker.tracking.hints import command

    broken = sum(each.level == "broken" for each in findings)
    notes = sum(each.level == "note" for each in findings)
    if broken:
        output.tell(f"{broken} broken. Next: do what stands after ->, then run again: {command(['doctor'], tracking)}")
    else:
        words = f"Nothing is broken; {notes} note{'s' if notes > 1 else ''}." if notes else "All is well."
        output.tell(f"{words}\nNext: {command(['runs'], tracking)}")


def _agrees(question: str) -> bool:
    return sys.stdin.isatty() and typer.confirm(question, default=False, err=True)


def _mend(tracking: TrackingSettings, *, fix: bool, clean: bool, yes: bool) -> dict[str, Any]:
    """End stale runs and delete orphans, as far as asked for; return what was done."""
    from rnatracker import doctor as checks

    done: dict[str, Any] = {}
    if fix:
        done["ended"] = checks.end_stale(tracking, checks.stale_runs(tracking))
        output.say(f"ended as FAILED: {done['ended']}")
    if clean:
        done["deleted"], done["deleted_bytes"] = _clean(tracking, yes=yes)
    return done


def _clean(tracking: TrackingSettings, *, yes: bool) -> tuple[int, int]:
    from rnatracker import orphans
    from rnatracker.doctor import folders, size
    from rnatracker.tracking.hints import command

    why_unknown = orphans.why_unknown(tracking.store) if tracking.tracking_uri is None else ""
    if why_unknown:
        output.say(f"artifacts are left alone: {why_unknown}")
    lone = orphans.find(tracking.store) if tracking.tracking_uri is None else []
    lone += orphans.left_over(tracking.store)
    if not lone:
        output.say("no artifacts to delete")
        return 0, 0
    for each in lone[:_LISTED]:
        output.say(f"  {size(each.size_bytes):>9}  {_day(each.changed)}  {each.path}{_content(each.path)}")
    if len(lone) > _LISTED:
        output.say(f"  and {len(lone) - _LISTED} more")
    total = size(sum(each.size_bytes for each in lone))
    if not yes and not _agrees(f"Delete {folders(len(lone))}, {total}, for good? (mlflow.db knows none of them)"):
        unasked = command(["doctor", "--clean", "--yes"], tracking)
        output.say("nothing was deleted" + ("" if sys.stdin.isatty() else f"; to delete them unasked: {unasked}"))
        return 0, 0
    n_deleted, n_bytes = orphans.delete(tracking.store, lone)
    output.say(f"deleted {folders(n_deleted)}, {size(n_bytes)}")
    return n_deleted, n_bytes


def _day(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d")


def _content(path: Path) -> str:
    names = sorted(each.name for each in path.glob("*/*"))
    return f" ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})" if names else ""
