"""Work beside the event loop."""

from __future__ import annotations

import sys
import threading

import pytest
import trio

from trio_gateway.proxy.aside import beside_the_loop


async def test_it_runs_in_another_thread_at_a_short_interval() -> None:
    """The loop gets the interpreter back within a tenth of a millisecond; afterwards all is as it was."""
    before = sys.getswitchinterval()

    def work(number: int) -> tuple[int, int, float]:
        return number, threading.get_ident(), sys.getswitchinterval()

    number, thread, interval = await beside_the_loop(work, 7)
    assert number == 7
    assert thread != threading.get_ident()
    assert interval == pytest.approx(0.0001)
    assert sys.getswitchinterval() == pytest.approx(before)


async def test_an_error_is_the_caller_s() -> None:
    """And the interval is set back."""
    before = sys.getswitchinterval()
    with pytest.raises(ZeroDivisionError):
        await beside_the_loop(divmod, 1, 0)
    assert sys.getswitchinterval() == pytest.approx(before)


async def test_one_at_a_time() -> None:
    """Two pieces of work never slow the loop at once."""
    running, most = 0, 0

    def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        sum(range(100_000))
        running -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(beside_the_loop, work)
    assert most == 1
