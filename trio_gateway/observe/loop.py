"""The event loop's health: how late it comes back to a task that is due.

Whatever keeps the loop (a slow callback, a collection of garbage, a thread that holds the interpreter, a
machine without time for us) keeps every request in the same way, and nothing else shows it.
"""

from __future__ import annotations

import trio

from trio_gateway.observe.metrics import Metrics

_INTERVAL = 0.05  # seconds: a stall is seen when a wake-up falls into it


async def watch_loop(metrics: Metrics) -> None:
    """Wake up again and again and note how late; runs until cancelled."""
    woke = metrics.loop.woke
    while True:
        due = trio.current_time() + _INTERVAL
        await trio.sleep_until(due)
        woke(trio.current_time() - due)
