"""Work in steps."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
import trio

from trio_gateway.proxy.steps import Steps, in_one_go, in_slices


def work(done: list[int], seconds: float = 0.0) -> Steps[str]:
    for number in range(10):
        done.append(number)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass
        yield
    return "result"


def broken() -> Steps[str]:
    yield
    raise ValueError("no")


def test_in_one_go() -> None:
    """All steps, then the result."""
    done: list[int] = []
    assert in_one_go(work(done)) == "result"
    assert done == list(range(10))
    with pytest.raises(ValueError, match="no"):
        in_one_go(broken())


async def test_in_slices_others_get_their_turn() -> None:
    """Steps that take longer than a slice are each followed by everybody else's."""
    done: list[int] = []
    seen: list[int] = []

    async def other() -> None:
        while True:
            seen.append(len(done))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await in_slices(work(done, 0.004)) == "result"
        nursery.cancel_scope.cancel()
    # Whose turn is first in a round is chance: two steps may stand between two turns of the other, no more.
    assert max(later - before for before, later in pairwise([0, *seen, 10])) <= 2


async def test_quick_work_is_one_slice() -> None:
    """Nobody waits for turns that are not needed; the error of a step is the caller's."""
    with trio.testing.assert_no_checkpoints():
        assert await in_slices(work([])) == "result"
        with pytest.raises(ValueError, match="no"):
            await in_slices(broken())


async def test_a_cancellation_does_not_stop_it_midway() -> None:
    """What has begun is done."""
    done: list[int] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        assert await in_slices(work(done, 0.004)) == "result"
    assert len(done) == 10
