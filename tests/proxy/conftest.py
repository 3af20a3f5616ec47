"""Fixtures of the request path's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.exchange import Made


@pytest.fixture
def made() -> Iterator[Made]:
    """Makes exchanges; their sockets are closed behind the test."""
    made = Made()
    yield made
    for each in made.sockets:
        each.close()
