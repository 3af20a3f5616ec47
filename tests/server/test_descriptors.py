"""What the open files allow."""

from __future__ import annotations

import pytest

from trio_gateway.server.descriptors import connection_cap, raise_descriptor_limit


@pytest.mark.parametrize(
    ("configured", "descriptors", "cap"),
    [(10_000, 1_048_576, 10_000), (10_000, 1024, 480), (100, 1024, 100), (10_000, 64, 1), (10_000, 0, 1)],
)
def test_the_cap_leaves_a_descriptor_for_each_upstream(configured: int, descriptors: int, cap: int) -> None:
    """Half of what is open to us, less a reserve, and never nothing."""
    assert connection_cap(configured, descriptors) == cap


def test_the_descriptor_limit_is_raised_once() -> None:
    """Asked again, it answers the same."""
    assert raise_descriptor_limit() == raise_descriptor_limit() > 0
