"""Results as tables on stdout.

Owns their layout. Must not compute.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rnatracker.terminal import output
from rnatracker.tracking.tags import Tag

if TYPE_CHECKING:
    from rnatracker.metrics import Score
    from rnatracker.registry.version import Version
    from rnatracker.terminal.layout import PlainTable
    from rnatracker.tracking.settings import TrackingSettings
    from rnatracker.training.request import Outcome

_GROUPS = {"oof": "out-of-fold", "best": "validation"}
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def print_beside(outcome: Outcome) -> None:
    """Print how a run compares with simple models."""
    for line in outcome.beside:
        output.tell(f"{line[0].upper()}{line[1:]}")


def print_outcome(outcome: Outcome, tracking: TrackingSettings) -> None:
    """Print a run's PCC per site, and per fold where it has folds; then what to try next."""
    from rnatracker.tracking.hints import evaluate_command

    if outcome.folds:
        title = f"Cross-validated PCC of {outcome.name}: each fold measured by a model that has not seen it"
        show(_fold_table(outcome), title)
    else:
        several = outcome.networks > 1
        model = f"mean of {outcome.networks} networks" if several else f"epoch {outcome.best_epoch}"
        show(_single_table(outcome), f"Validation PCC of {outcome.name}, {model}")
    print_beside(outcome)
    output.tell(f"Run {outcome.name} ({outcome.run_id}): {outcome.folder}")
    print_ui(tracking)
    output.tell(f"Next: {evaluate_command(outcome.name, outcome.folder, tracking)}")


def print_ui(tracking: TrackingSettings, study: str | None = None) -> None:
    """Print how to see runs, or a study's trials, in MLflow's UI, where there is one to open."""
    from rnatracker.tracking import ui_views
    from rnatracker.tracking.hints import ui_command
    from rnatracker.tracking.open import open_tracker

    if not tracking.has_ui:
        return
    if tracking.tracking_uri:
        tracker = open_tracker(tracking)
        address = tracker.ui_url(view=ui_views.study_key(study) if study else ui_views.RUNS)
        output.tell(f"See it in the MLflow UI: {address or tracker.location}")
    else:
        output.tell(f"To see it in the MLflow UI: {ui_command(tracking, study)}")


def print_scores(scores: list[Score], title: str) -> None:
    """Print PCC, Spearman and MSE of each site with their intervals."""
    table = new_table()
    for header in ("site", "PCC", "95 % interval", "Spearman", "95 % interval", "MSE", "95 % interval"):
        table.add_column(header, justify="left" if header == "site" else "right")
    sites = list(dict.fromkeys(score.site for score in scores))
    by_place = {(score.measure, score.site): score for score in scores}
    for site in sites:
        if site == "mean":
            table.add_section()
        cells: list[str] = []
        for measure in ("pcc", "spearman", "mse"):
            cells += _cells(by_place[measure, site], 4 if measure == "mse" else 3)
        table.add_row(site, *cells)
    show(table, title)


def _cells(score: Score, digits: int) -> tuple[str, str]:
    interval = "-" if score.low != score.low else f"{score.low:.{digits}f} to {score.high:.{digits}f}"
    return "-" if score.value != score.value else f"{score.value:.{digits}f}", interval


def _single_table(outcome: Outcome) -> PlainTable:
    table = new_table()
    ceiling = "ceiling/pcc_mean" in outcome.metrics
    for header in ("site", "PCC", *(("replicates",) if ceiling else ())):
        table.add_column(header, justify="left" if header == "site" else "right")
    for name in (*outcome.sites, "mean", "overall"):
        if name == "mean":
            table.add_section()
        keys = [f"best/pcc_{name}", *([f"ceiling/pcc_{name}"] if ceiling else [])]
        table.add_row(name, *(_number(outcome.metrics.get(key)) for key in keys))
    return table


def _fold_table(outcome: Outcome) -> PlainTable:
    table = new_table()
    ceiling = "ceiling/pcc_mean" in outcome.metrics
    table.add_column("site")
    for number in range(1, len(outcome.folds) + 1):
        table.add_column(f"fold {number}", justify="right")
    for header in ("mean", "sd", "out-of-fold", *(("replicates",) if ceiling else ())):
        table.add_column(header, justify="right")
    for name in (*outcome.sites, "mean", "overall"):
        if name == "mean":
            table.add_section()
        key = f"pcc_{name}"
        cells = [_number(fold.get(f"test/{key}")) for fold in outcome.folds]
        groups = ("mean", "sd", "oof", *(("ceiling",) if ceiling else ()))
        cells += [_number(outcome.metrics.get(f"{group}/{key}")) for group in groups]
        table.add_row(name, *cells)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"


def new_table() -> PlainTable:
    """Return an empty table in our style."""
    from rnatracker.terminal.layout import PlainTable

    return PlainTable()


def show(table: PlainTable, title: str = "") -> None:
    """Print a table under its title; see `rnatracker/terminal/layout.py`."""
    from rnatracker.terminal import layout

    layout.show(table, title)


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
        "model": version.tags.get(Tag.DESCRIPTION, ""),
        "sites": ", ".join(version.sites),
        "mean PCC": _own_pcc(version),
        "data digest": version.tags.get(Tag.DATA_DIGEST, ""),
        "split digest": version.tags.get(Tag.SPLIT_DIGEST, ""),
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
        output.tell(f"Verdict of {verdict.get('time')}: {verdict.get('outcome')}; {verdict.get('reason')}")


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
    for text in verdict_cautions(verdict):
        output.tell(f"Note: {text}")
    for line in verdict.get("beside") or ():
        output.tell(f"{line[0].upper()}{line[1:]}")
    if relatives := _relatives(verdict):
        output.tell(relatives)
    if verdict.get("earlier"):
        output.tell(
            f"This test set has judged {output.amount(verdict['earlier'], 'version')} before. Each makes its verdicts "
            "a little less reliable."
        )


def verdict_cautions(verdict: Mapping[str, Any]) -> list[str]:
    """Return what a reader of a verdict's figures should know."""
    from rnatracker.metrics import few

    scores = (verdict.get("scores") or {}).get("challenger", {})
    undefined = ", ".join(name for name, value in scores.items() if value is None)
    found = few(int(verdict["transcripts"])) if scores else ""
    left_out = f"PCC is undefined at {undefined}, and left out: the measured fraction never varies" if undefined else ""
    return [text for text in (found, left_out) if text]


def _relatives(verdict: Mapping[str, Any]) -> str:
    """Say of how many transcripts of the test set a relative was trained on; nothing where that isn't known."""
    counts = verdict.get("relatives") or {}
    if not counts:
        return ""
    n = verdict["transcripts"]
    each = ", ".join(f"of {count:,} of {n:,} by the {model}" for model, count in counts.items())
    remedy = "; --no-relatives refuses them" if any(counts.values()) else ""
    return (
        f"Relatives of the test set that were trained on (80 % identity over 80 % of the shorter one): {each}{remedy}."
    )


def _rival(verdict: Mapping[str, Any]) -> tuple[str, ...]:
    return (f"champion, version {verdict['champion']}", "difference", "95 % interval") if verdict["champion"] else ()


def _difference(difference: Mapping[str, Any] | None) -> tuple[str, str]:
    if difference is None or difference["value"] is None:
        return "-", "-"
    low, high = difference["low"], difference["high"]
    return f"{difference['value']:+.3f}", "-" if low is None else f"{low:+.3f} to {high:+.3f}"


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
