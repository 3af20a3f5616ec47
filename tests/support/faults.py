"""Marks that tie tests to the rows of the fault matrix, which tests/test_faults.py keeps.

`pytest -m "fault(row='U3')"` runs the tests of one row.
"""

from __future__ import annotations

from typing import Any

import pytest

COLLECTED = pytest.StashKey[list[pytest.Item]]()  # all tests that were found, before any is left out


def fault(row: str) -> pytest.MarkDecorator:
    """The test shows what this row of the matrix asks for."""
    return pytest.mark.fault(row=row)


def through(door: str) -> pytest.MarkDecorator:
    """Which way the fault comes, where no `door`, `lane` or `h2` fixture says it."""
    return pytest.mark.through(door=door)


def case(row: str, what: str, *values: Any) -> Any:
    """A parameter set that belongs to a row."""
    return pytest.param(*values, id=f"{row} {what}", marks=fault(row))
