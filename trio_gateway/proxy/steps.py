"""Work in small steps, done in one go or in slices.

A generator that yields between its steps and returns a result. In slices others get their turn whenever
a slice is over, so that no request waits for the whole.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TypeVar

import trio

T = TypeVar("T")
Steps = Generator[None, None, T]

_SLICE = 0.003  # seconds


def in_one_go(steps: Steps[T]) -> T:
    """The result, at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


async def in_slices(steps: Steps[T]) -> T:
    """The result, with a checkpoint after each slice. Not cancelled midway."""
    until = time.perf_counter() + _SLICE
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if time.perf_counter() >= until:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            until = time.perf_counter() + _SLICE
