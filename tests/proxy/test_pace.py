"""`min_rate`: who is too slow, and who is not judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.proxy.pace import GRACE, Pace


@pytest.mark.parametrize(
    ("waits", "verdicts"),
    [
        ([(0, 5.0)], [False]),  # the grace
        ([(0, 5.1)], [True]),
        ([(10, 5.1)], [False]),
        ([(100, 6.0), (0, 0.1)], [False, True]),  # exactly the rate, then less
        ([(1, 1.0)] * 6, [False] * 5 + [True]),
        ([(100, 1.0)] * 100, [False] * 100),
        ([(5000, 1.0)] + [(1, 1.0)] * 54, [False] * 55),  # what came early counts on
    ],
)
def test_bytes_over_all_waits_are_judged(waits: list[tuple[int, float]], verdicts: list[bool]) -> None:
    """At a hundred bytes a second, after five seconds of waiting."""
    pace = Pace(100)
    assert [pace.too_slow(moved, waited) for moved, waited in waits] == verdicts


def test_zero_switches_it_off() -> None:
    """Nobody is too slow then."""
    assert not Pace(0).too_slow(0, 1e9)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 100)), max_size=50), st.integers(1, 1000))
def test_whoever_keeps_the_rate_in_each_wait_is_never_too_slow(
    waits: list[tuple[int, float]], rate: int
) -> None:
    """However the waits are cut."""
    pace = Pace(rate)
    for moved, waited in waits:
        assert not pace.too_slow(max(moved, int(waited * rate) + 1), waited)


@given(st.lists(st.floats(0, 10), max_size=50))
def test_nobody_is_judged_within_the_grace(waits: list[float]) -> None:
    """The grace is for all waits of a message together."""
    pace, total = Pace(1e9), 0.0
    for waited in waits:
        total += waited
        assert pace.too_slow(0, waited) is (total > GRACE)
