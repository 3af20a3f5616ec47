"""The event loop's lag, on a clock that the test moves."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trio_gateway.observe.loop import watch_loop
from trio_gateway.observe.metrics import Metrics


async def watched(mock_clock: MockClock, stall: float) -> Metrics:
    """The numbers of a loop that was kept for `stall` seconds once within ten."""
    metrics = Metrics()
    mock_clock.autojump_threshold = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_loop, metrics)
        await trio.sleep(5)
        mock_clock.jump(stall)  # as if a callback had taken so long
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    return metrics


async def test_a_loop_without_work_is_never_late(mock_clock: MockClock) -> None:
    """Every wake-up is counted, each within the first bucket."""
    loop = (await watched(mock_clock, 0.0)).loop
    assert loop.times[0] == sum(loop.times) >= 190
    assert loop.take_longest() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("stall", [0.3, 4.0])
async def test_a_stall_is_seen(stall: float, mock_clock: MockClock) -> None:
    """Its length shows but for the part before the next wake-up was due."""
    loop = (await watched(mock_clock, stall)).loop
    assert sum(loop.times) - loop.times[0] == 1
    assert stall - 0.05 <= loop.seconds <= stall + 0.001
    assert loop.take_longest() == pytest.approx(loop.seconds, abs=0.001)
