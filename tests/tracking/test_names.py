"""How names and descriptions are written."""

from __future__ import annotations

import pytest

from rnatracker.tracking.names import described


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ours", "new"),
        ("", "new"),
        ("mine\n\nours", "mine\n\nnew"),
        ("ours\n\nmine", "new\n\nmine"),
        ("ours, corrected", "new, corrected"),
        ("our own", "our own\n\nnew"),
        ("mine \n", "mine\n\nnew"),
    ],
)
def test_description_of_ours_takes_the_place_of_our_last_and_no_other(typed: str, expected: str) -> None:
    _, mark = described("", "", "ours", 100)
    note, again = described(typed, mark, "new", 100)
    assert note == expected
    assert described(note, again, "newer", 100)[0] == expected.replace("new", "newer")


def test_description_of_ours_is_cut_or_left_out_where_there_is_no_room_for_it() -> None:
    note, mark = described("mine", "", "x" * 1000, 500)
    assert len(note) == 500
    assert note.startswith("mine\n\nxxx") and note.endswith("[cut, 1000 characters]")
    assert described(note, mark, "short", 500)[0] == "mine\n\nshort"
    assert described("m" * 490, "", "x" * 1000, 500) == ("m" * 490, "")


@pytest.mark.parametrize("mark", ["", "nonsense", "0 ", "12", "-3 ab"])
def test_everything_is_a_users_when_the_mark_says_nothing(mark: str) -> None:
    assert described("mine", mark, "ours", 100)[0] == "mine\n\nours"
