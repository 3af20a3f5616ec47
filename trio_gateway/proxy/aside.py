"""Slow pure-Python work beside the event loop.

A thread alone is not enough. The loop gives the interpreter away with every system call, six times for a
proxied request, and gets it back only at the end of a switch interval, which is 5 ms. While such work runs
the interval is a tenth of a millisecond: a switch costs a few microseconds, and none happens while nobody
waits. One piece of work at a time: two would only slow the loop twice.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_SWITCH_INTERVAL = 0.0001
_one_at_a_time = trio.CapacityLimiter(1)


class Aside(Protocol):
    """How work is done elsewhere; a test does it at once, since virtual time can't see threads."""

    def __call__(self, work: Callable[[*Ts], T], /, *arguments: *Ts) -> Awaitable[T]:
        """What `work` returns or raises."""
        ...


async def beside_the_loop(work: Callable[[*Ts], T], /, *arguments: *Ts) -> T:
    """What `work` returns or raises. Cancelled, it is waited for."""

    def run() -> T:
        before = sys.getswitchinterval()
        sys.setswitchinterval(min(before, _SWITCH_INTERVAL))
        try:
            return work(*arguments)
        finally:
            sys.setswitchinterval(before)

    return await trio.to_thread.run_sync(run, limiter=_one_at_a_time)
