"""The control plane's clock and its breakers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import trio

from tests.admin.control import control


async def test_a_moment_is_the_same_time_each_time(tmp_path: Path) -> None:
    """Jitter between two clocks must not make one moment look like two; a clock that was set is followed."""
    async with control(tmp_path) as gateway:
        plane, wall = gateway.plane, [1_000_000.0]
        plane.wall_clock = lambda: wall[0] + trio.current_time()
        moment = trio.current_time()
        first = plane.wall_time(moment)
        wall[0] += 0.01
        assert plane.wall_time(moment) == first
        wall[0] += 3600
        later = plane.wall_time(moment)
        assert first is not None
        assert later is not None
        assert abs(later - first - timedelta(seconds=3600.01)) < timedelta(milliseconds=1)
        assert plane.wall_time(None) is None


async def test_a_breaker_is_shown_from_its_first_result_on(tmp_path: Path) -> None:
    """One that nobody used says nothing; one that an operator touched does."""
    async with control(tmp_path) as gateway:
        plane = gateway.plane
        assert plane.used_breakers() == []
        await gateway.get("/orchestrator/users")
        assert [id_ for id_, _ in plane.used_breakers()] == ["users"]
        plane.upstream("legacy").breaker.trip(trio.current_time())
        assert [id_ for id_, _ in plane.used_breakers()] == ["legacy", "users"]
        plane.upstream("legacy").breaker.reset(trio.current_time())
        assert [id_ for id_, _ in plane.used_breakers()] == ["legacy", "users"]
