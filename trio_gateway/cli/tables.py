"""Plain tables for people, safe for their terminals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(rows: Iterable[Sequence[object]], *headings: str) -> str:
    """Rows below their headings, in columns as wide as they must be."""
    lines = [[printable(str(cell)) for cell in row] for row in rows]
    if headings:
        lines.insert(0, list(headings))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def moment(time: str | None) -> str:
    """A time of the API to the second; a dash for what has not happened."""
    return f"{time[:10]} {time[11:19]}Z" if time else "-"


def printable(text: str) -> str:
    """The same text; what would move the cursor or reorder the line is escaped."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    )
