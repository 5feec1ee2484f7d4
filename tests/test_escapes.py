"""Text of others where it is shown: on a terminal, in Markdown, in a picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnatracker import escapes, plots


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Kern β, [/red] :cat: $x$", "Kern β, [/red] :cat: $x$"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("abc\u202edef\u2028", r"abc\u202edef\u2028"),
        ("caf\udce9.tsv", r"caf\udce9.tsv"),
    ],
)
def test_printable_text_only_appears(text: str, expected: str) -> None:
    assert escapes.printable(text) == expected
    assert escapes.printable(text).isprintable()


def test_lines_of_ours_stay_lines() -> None:
    assert escapes.printable_lines("one\ntw\x1bo") == "one\ntw\\x1bo"


def test_markdown_shows_text_as_it_is() -> None:
    assert escapes.markdown("a|b <img src=x> *c* `d` [e](f)") == r"a\|b &lt;img src=x&gt; \*c\* \`d\` \[e\](f)"
    assert "\n" not in escapes.markdown("x\n\n# y")


def test_pictures_draw_any_name(tmp_path: Path) -> None:
    """A formula that is none ends Matplotlib."""
    name = r"$\frac$"
    plots.learning_curves([{"epoch": 1, f"pcc_{name}": 0.5}, {"epoch": 2, f"pcc_{name}": 0.6}], tmp_path / "a.png")
    plots.curves_over_each_other({name: {"pcc_mean": {1: 0.5, 2: 0.6}}}, tmp_path / "b.png")
    assert (tmp_path / "a.png").stat().st_size
    assert (tmp_path / "b.png").stat().st_size
