r"""Text that others wrote, made harmless where it is shown: names of sites, files, runs and columns.

Owns how it is escaped for terminals and logs, for Markdown and for pictures. Whoever prints, draws or describes calls
it last, once: what is stored, compared and written to tables is the text itself. Must not import any dependency.
"""

from __future__ import annotations

import re

_MARKDOWN = re.compile(r"[\\`*_\[\]|~]")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def printable(text: str) -> str:
    r"""Return text in one line that does nothing but appear: `\x1b` for an escape character, `\n` for a line end.

    What can't be seen is escaped too: marks that turn the direction of writing, odd spaces, half characters.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def printable_lines(text: str) -> str:
    """Return the same for text of ours that may have several lines."""
    return "\n".join(printable(line) for line in text.split("\n"))


def markdown(text: str) -> str:
    """Return text that Markdown shows as it is, within a line of ours and in a cell of a table."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(text)).translate(_ENTITIES)


def picture(text: str) -> str:
    """Return text that Matplotlib draws as it is: a dollar sign begins no formula."""
    return printable(text).replace("$", r"\$")


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
