"""A scope for exchange after exchange: each block is as one with a scope of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from trio_gateway.proxy.standing import StandingScope


@contextmanager
def ended(standing: StandingScope) -> Iterator[None]:
    """What an owner does around its blocks."""
    try:
        yield
    finally:
        standing.end()


async def test_one_scope_serves_as_long_as_all_is_well() -> None:
    """Entered once, it stays."""
    standing = StandingScope()
    seen = []
    with ended(standing):
        for _ in range(3):
            with standing as scope:
                await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            assert not scope.cancelled_caught
            seen.append(scope)
    assert len(set(map(id, seen))) == 1


async def test_a_cancelled_block_ends_and_the_next_is_whole() -> None:
    """As often as it happens."""
    standing = StandingScope()
    with ended(standing):
        for _ in range(3):
            with standing as scope:
                scope.cancel()
                await trio.sleep_forever()
            assert scope.cancelled_caught
            with standing as fresh:
                await trio.lowlevel.checkpoint()
            assert not fresh.cancelled_caught


async def test_a_cancellation_that_comes_too_late_harms_nobody() -> None:
    """The block had ended its work: nothing is caught, and what comes behind it is not cancelled."""
    standing = StandingScope()
    with ended(standing):
        with standing as scope:
            scope.cancel()
        assert not scope.cancelled_caught
        await trio.lowlevel.checkpoint()
        with standing:
            await trio.lowlevel.checkpoint()


def fail(scope: trio.CancelScope, cancelled: bool) -> None:
    if cancelled:
        scope.cancel()
    raise ValueError("ours")


async def test_an_error_leaves_it_and_goes_on() -> None:
    """As it is, also when the block is cancelled; then the next block is whole."""
    standing = StandingScope()
    with ended(standing):
        for cancelled in (False, True):
            with pytest.raises(ValueError, match="ours"), standing as scope:
                fail(scope, cancelled)
            assert not scope.cancelled_caught
            with standing:
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("where", ["in a block", "between blocks"])
async def test_a_cancellation_from_outside_goes_through(where: str) -> None:
    """Whether an exchange is under way or not; the task is in the outer scope again behind it."""
    standing = StandingScope()
    with trio.CancelScope() as outer, ended(standing):
        with standing:
            outer.cancel()
            if where == "in a block":
                await trio.sleep_forever()
        await trio.sleep_forever()
    assert outer.cancelled_caught
    await trio.lowlevel.checkpoint()


async def test_a_nursery_in_a_block_is_cancelled_with_it() -> None:
    """Its tasks end too, and their Cancelled, which comes in a group, is caught."""
    standing = StandingScope()
    with ended(standing):
        with standing as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                scope.cancel()
        assert scope.cancelled_caught


async def test_to_end_it_twice_or_unused_is_nothing() -> None:
    """An owner's `finally` needs to know nothing."""
    standing = StandingScope()
    standing.end()
    with standing:
        pass
    standing.end()
    standing.end()
    await trio.lowlevel.checkpoint()
