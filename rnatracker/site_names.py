"""What a site may be called: its name becomes a metric, a column of tables and a word of `--sites`.

Owns that rule, for sites from wherever they come: a table's header, an option, a config. Must not know files.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Sequence

LONGEST = 100
"""Characters of a name; with what stands around it a metric's name has at most 250."""
_TAKEN = {
    "mean": "figures over all sites",
    "overall": "figures over all sites",
    "most_likely": "a column of predictions",
    "id": "a column of tables",
    "sequence": "a column of tables",
    "gene": "a column of tables",
    "gene_id": "a column of tables",
    "gene_name": "a column of tables",
    "group": "a column of tables",
}
_DERIVED = {"{}_sd": "the spread of predictions of {}", "measured_{}": "the measured fraction of {}"}
"""Columns of our tables that are named after a site."""


def fault(names: Sequence[str]) -> str:
    """Return what is wrong with the names of the sites of one model or file; an empty string where nothing is.

    Args:
        names: of all its sites.
    """
    often, often_plain = Counter(names), Counter(map(_plain, names))
    derived = {pattern.format(name): what.format(name) for pattern, what in _DERIVED.items() for name in names}
    for name in names:
        reason = _of_one(name)
        if not reason and often[name] > 1:
            reason = "two sites are"
        elif not reason and often_plain[_plain(name)] > 1:
            reason = "another site differs from it in punctuation only"
        elif not reason and name in derived:
            reason = f"that is the name of {derived[name]}"
        if reason:
            shown = name if len(name) <= LONGEST else f"{name[:30]}..."
            return f"a site can't be called {shown!r}: {reason}"
    return ""


def _plain(name: str) -> str:
    """Return a name as all that have to do with it can write it."""
    return re.sub(r"[^\w\-. ]", "_", name)


def _of_one(name: str) -> str:
    """Say why one name alone can't be a site's."""
    if not name.strip():
        return "it has no letters"
    if not name.isprintable():
        return "it has characters that can't be printed"
    if name != name.strip():
        return "it begins or ends with a blank"
    if "," in name:
        return "commas stand between the names of sites"
    if len(name) > LONGEST:
        return f"it has {len(name)} characters, and at most {LONGEST} are allowed"
    if posixpath.normpath(f"_{name}") != f"_{name}":
        return "it has nothing, . or .. between slashes, as paths have"
    taken = _TAKEN.get(name.lower(), "")
    return f"that is the name of {taken}" if taken else ""
