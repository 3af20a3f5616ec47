"""Defaults for all endpoints: a top-level block, under what an endpoint says itself.

Mappings merge key by key, at any depth; everything else replaces. That happens before anything is
read, so a null in an endpoint does not fall back to the file's default but stays null, which readers
take for the built-in default.
"""

from __future__ import annotations

from trio_gateway.config.source import Entry, Table, Value


def overlay(base: Value, over: Value) -> Value:
    """`over` on top of `base`; every value keeps its own place in the file."""
    if not isinstance(base, Table) or not isinstance(over, Table):
        return over
    entries = dict(base.entries)
    for key, entry in over.entries.items():
        below = base.entries.get(key)
        entries[key] = Entry(entry.line, entry.col, overlay(below.value, entry.value)) if below else entry
    return Table(entries, over.line, over.col)
