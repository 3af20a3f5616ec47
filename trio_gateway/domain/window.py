"""Sliding windows over recent calls: how many there were, how many failed, how many were slow.

Both windows keep running totals, so that a rate costs one division and a call costs O(1) amortised,
whatever the size. The count window overwrites the oldest of `size` cells. The time window sums calls
per whole second and forgets seconds, not calls: its memory is bounded by `size` however busy the
endpoint is, and its edge is exact to one second.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from math import floor

from attrs import define, field

from trio_gateway.config.model import SlidingWindow

_FAILED = 1
_SLOW = 2


@define(eq=False)
class Window(ABC):
    """Running totals of the calls in the window, as of the last `record`."""

    size: int
    calls: int = field(init=False, default=0)
    failed: int = field(init=False, default=0)
    slow: int = field(init=False, default=0)

    @property
    def failure_rate(self) -> float:
        """Percent of the calls that failed; 0 when there are none."""
        return 100.0 * self.failed / self.calls if self.calls else 0.0

    @property
    def slow_rate(self) -> float:
        """Percent of the calls that were slow; 0 when there are none."""
        return 100.0 * self.slow / self.calls if self.calls else 0.0

    @abstractmethod
    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """Add one call that ended at `now` (seconds, never running backwards) and drop what is too old."""


@define(eq=False)
class CountWindow(Window):
    """The last `size` calls."""

    _cells: bytearray = field(init=False, factory=bytearray)
    _next: int = field(init=False, default=0)

    def record(self, now: float, *, failed: bool, slow: bool) -> None:  # noqa: ARG002 - time windows need it
        """Add one call, in place of the oldest when the window is full."""
        cell = failed * _FAILED | slow * _SLOW
        if self.calls < self.size:
            self._cells.append(cell)
            self.calls += 1
        else:
            self._replace_oldest(cell)
        self.failed += failed
        self.slow += slow

    def _replace_oldest(self, cell: int) -> None:
        gone = self._cells[self._next]
        self.failed -= gone & _FAILED
        self.slow -= gone >> 1
        self._cells[self._next] = cell
        self._next = (self._next + 1) % self.size


@define
class _Second:
    """The calls of one whole second."""

    number: int
    calls: int = 0
    failed: int = 0
    slow: int = 0


@define(eq=False)
class TimeWindow(Window):
    """The calls of the last `size` seconds, the running one included."""

    _seconds: deque[_Second] = field(init=False, factory=deque)

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """Add one call to the running second and drop the seconds that are too old."""
        second = self._second(floor(now))
        for totals in (second, self):
            totals.calls += 1
            totals.failed += failed
            totals.slow += slow

    def _second(self, number: int) -> _Second:
        seconds = self._seconds
        if not seconds or seconds[-1].number != number:
            self._forget(number - self.size)
            seconds.append(_Second(number))
        return seconds[-1]

    def _forget(self, last: int) -> None:
        while self._seconds and self._seconds[0].number <= last:
            gone = self._seconds.popleft()
            self.calls -= gone.calls
            self.failed -= gone.failed
            self.slow -= gone.slow


def window_of(config: SlidingWindow) -> Window:
    """An empty window as `sliding_window` describes it."""
    return CountWindow(config.size) if config.type == "count" else TimeWindow(config.size)
