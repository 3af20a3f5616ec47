"""Sliding windows: totals are those of the calls inside, whatever came before."""

from __future__ import annotations

from math import floor
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.config.model import SlidingWindow
from trio_gateway.domain.window import CountWindow, TimeWindow, window_of


class Call(NamedTuple):
    wait: float
    failed: bool
    slow: bool


CALLS = st.lists(
    st.builds(Call, wait=st.floats(0, 3), failed=st.booleans(), slow=st.booleans()), min_size=1, max_size=80
)


def test_empty_windows_have_no_rate() -> None:
    """Without calls both rates are zero, not an error."""
    window = CountWindow(3)
    assert (window.calls, window.failure_rate, window.slow_rate) == (0, 0.0, 0.0)


def test_rates_are_percents() -> None:
    """One failed and two slow calls of four are 25% and 50%."""
    window = CountWindow(10)
    for failed, slow in [(True, True), (False, True), (False, False), (False, False)]:
        window.record(0.0, failed=failed, slow=slow)
    assert (window.failure_rate, window.slow_rate) == (25.0, 50.0)


@given(calls=CALLS, size=st.integers(1, 20))
def test_the_count_window_is_the_last_calls(calls: list[Call], size: int) -> None:
    """The totals are those of the last `size` calls."""
    window = CountWindow(size)
    for call in calls:
        window.record(0.0, failed=call.failed, slow=call.slow)
    last = calls[-size:]
    assert window.calls == len(last)
    assert window.failed == sum(call.failed for call in last)
    assert window.slow == sum(call.slow for call in last)


@given(calls=CALLS, size=st.integers(1, 6))
def test_the_time_window_is_the_last_seconds(calls: list[Call], size: int) -> None:
    """The totals are those of the running second and the `size` - 1 before it."""
    window, now, seen = TimeWindow(size), 0.0, []
    for call in calls:
        now += call.wait
        seen.append((floor(now), call))
        window.record(now, failed=call.failed, slow=call.slow)
    last = [call for second, call in seen if second > floor(now) - size]
    assert window.calls == len(last)
    assert window.failed == sum(call.failed for call in last)
    assert window.slow == sum(call.slow for call in last)


def test_the_time_window_remembers_seconds_not_calls() -> None:
    """A busy endpoint costs no more memory than `size` seconds."""
    window = TimeWindow(3)
    for tick in range(10_000):
        window.record(tick / 100, failed=False, slow=False)
    assert len(window._seconds) == 3


@pytest.mark.parametrize(("kind", "expected"), [("count", CountWindow), ("time", TimeWindow)])
def test_the_config_chooses_the_window(kind: str, expected: type) -> None:
    """`sliding_window.type` says which window it is."""
    window = window_of(SlidingWindow(type=kind, size=7))  # type: ignore[arg-type]
    assert type(window) is expected
    assert window.size == 7
