"""Faults at the n-th step of an exchange, found by counting what Trio schedules, not by a list of awaits.

Between two steps a connection's task waits. `Strike` does its deed at the n-th such moment: `asleep`,
when the task has just begun to wait, so that a cancellation interrupts that very wait; or `waking`, when
its wait is over but it has not run yet, so that a cancellation meets whatever it awaits next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import trio
from attrs import define

from trio_gateway.proxy.exchange import Exchange
from trio_gateway.proxy.inflight import InFlight

Moment = Literal["asleep", "waking"]

# The tasks that an exchange runs in: its connection's, and those that upload its body or relay its frames.
_TASKS = ("Server._guard", "relay.upload", "Conversation._relay", "Conversation._part")


@define(eq=False)
class Strike(trio.abc.Instrument):
    """Calls `deed` once, at the n-th step taken while an exchange for `target` is in flight.

    `struck` tells whether that moment came: an exchange that took fewer steps was left alone.
    """

    in_flight: InFlight
    target: bytes
    n: int
    moment: Moment
    deed: Callable[[Exchange], None]
    struck: bool = False
    _steps: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """See trio.abc.Instrument."""
        if self.moment == "waking":
            self._count(task)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """See trio.abc.Instrument."""
        if self.moment == "asleep":
            self._count(task)

    def _count(self, task: trio.lowlevel.Task) -> None:
        if self.struck or not task.name.endswith(_TASKS):
            return
        exchange = self._exchange()
        if exchange is None:
            return
        self._steps += 1
        if self._steps == self.n:
            self.struck = True
            self.deed(exchange)

    def _exchange(self) -> Exchange | None:
        for exchange in self.in_flight:
            if exchange.request.target == self.target:
                return exchange
        return None
