"""From a finding about the config back to the line of the file that caused it."""

from __future__ import annotations

from attrs import field, frozen

from trio_gateway.config.problems import Path, Problem, dotted
from trio_gateway.config.source import Entry, Items, Table, Text, Value, is_null


@frozen
class EndpointSource:
    """Where an endpoint stands: its index in the file, its own mapping, and that on top of the defaults."""

    row: int
    own: Table
    merged: Table


@frozen
class Positions:
    """The source of a config. Paths count endpoints as the config does, problems as the file does."""

    file: str = "config"
    root: Table = field(factory=Table)
    endpoints: tuple[EndpointSource, ...] = ()

    def problem(self, path: Path, message: str) -> Problem:
        """A problem at `path`, or at the nearest thing above it that stands in the file."""
        line, col = self._place(path)
        return Problem(self.file, line, col, dotted(self._in_file(path)), message)

    def given(self, index: int, key: str) -> bool:
        """Whether the endpoint itself has `key`, not null; a default of the file does not count."""
        return index < len(self.endpoints) and _gives(self.endpoints[index].own, key)

    def text(self, path: Path) -> Text | None:
        """The scalar at `path`, or None when the file has none there."""
        value: Value | None = self.root
        start, value = self._start(path)
        for step in path[start:]:
            entry = _child(value, step)
            if entry is None:
                return None
            value = entry.value
        return value if isinstance(value, Text) else None

    def _start(self, path: Path) -> tuple[int, Value]:
        """How many steps lead to the table that the rest of `path` is looked up in, and that table."""
        row = path[1] if len(path) > 1 and path[0] == "endpoints" else None
        if isinstance(row, int) and row < len(self.endpoints):
            return 2, self.endpoints[row].merged
        return 0, self.root

    def _place(self, path: Path) -> tuple[int, int]:
        start, value = self._start(path)
        place = value.line, value.col
        for step in path[start:]:
            entry = _child(value, step)
            if entry is None:
                break
            value = entry.value
            place = value.line, value.col
        return place

    def _in_file(self, path: Path) -> Path:
        start, _ = self._start(path)
        if start and isinstance(path[1], int):
            return ("endpoints", self.endpoints[path[1]].row, *path[2:])
        return path


def _gives(table: Table, key: str) -> bool:
    entry = table.entries.get(key)
    return entry is not None and not is_null(entry.value)


def _child(value: Value, step: str | int) -> Entry | None:
    if isinstance(value, Table) and isinstance(step, str):
        return value.entries.get(step)
    if isinstance(value, Items) and isinstance(step, int) and step < len(value.items):
        item = value.items[step]
        return Entry(item.line, item.col, item)
    return None
