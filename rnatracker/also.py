"""What `data.also` says of a further data set: its file and, where the file doesn't name them, its sites.

Owns that way of writing, `FILE` or `FILE:SITE1,SITE2,...`. Must not know what is in files.
"""

from __future__ import annotations

from pathlib import Path

from rnatracker import site_names


def parts(text: str) -> tuple[str, tuple[str, ...] | None]:
    """Return the file that is named, and the sites; None: the file's own.

    Two sites or more stand behind the last colon; a colon without a comma behind it is one of the file's name.
    """
    file, colon, sites = text.rpartition(":")
    if not colon or "," not in sites:
        return text, None
    return file, tuple(site.strip() for site in sites.split(","))


def fault(text: str) -> str:
    """Return what is wrong with the way in which a data set is written; an empty string where nothing is."""
    file, sites = parts(text)
    if not file.strip():
        return f"{text!r}: expected a file, as in b.fa or b.fa:SITE1,SITE2"
    return site_names.fault(sites or ())


def absolute(text: str) -> str:
    """Return the same with the file's whole path, so that it is found from any folder."""
    file, sites = parts(text)
    path = str(Path(file).expanduser().resolve())
    return path if sites is None else f"{path}:{','.join(sites)}"
