"""Tables for people."""

from __future__ import annotations

import pytest

from trio_gateway.cli.tables import moment, printable, table


def test_columns_are_as_wide_as_they_must_be() -> None:
    """Two spaces stand between them, none at the end of a line."""
    assert table([("a", 100), ("long", 2)], "ID", "N") == "ID    N\na     100\nlong  2"


def test_without_rows_there_are_headings() -> None:
    """And without headings rows."""
    assert table([], "ID", "N") == "ID  N"
    assert table([("a", "b")]) == "a  b"


def test_a_time_is_told_to_the_second() -> None:
    """What has not happened is a dash."""
    assert moment("2026-11-23T16:09:40.841688+00:00") == "2026-11-23 16:09:40Z"
    assert moment(None) == "-"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ü and 漢", "plain, ü and 漢"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb", "a\\nb"),
        ("\u202eevil", "\\u202eevil"),
    ],
)
def test_nothing_reaches_the_terminal_but_text(text: str, shown: str) -> None:
    """A backend's words move no cursor, begin no line and are not read backwards."""
    assert printable(text) == shown
    assert table([(text, "x")]) == f"{shown}  x"
