"""Digits for ids: as many as asked for, hexadecimal, never twice."""

from __future__ import annotations

import pytest

from trio_gateway.domain.chance import hex_digits


@pytest.mark.parametrize("count", [1, 32, 48, 8192])
def test_as_many_digits_as_asked_for(count: int) -> None:
    """Across the ends of blocks too."""
    for _ in range(400):
        digits = hex_digits(count)
        assert len(digits) == count
        assert set(digits) <= set("0123456789abcdef")


def test_no_digits_are_given_twice() -> None:
    """Whatever lengths are asked for in between."""
    given = [hex_digits(count) for count in (32, 48) * 2000]
    assert len(set(given)) == len(given)
