"""The table of exchanges in flight: it ends those whose time is up, and those whose client leaves.

Trio's own deadlines would cost an exchange more than its breaker: each move of one is work on a heap. Here it
sets a number, and one task sleeps until the first that it knows of is or was due; then it looks at all that
are in flight. While nothing expires it wakes about once in the shortest timeout.

A quick exchange pays one entry in a dict. Its client's departure is told by the link (EPOLLRDHUP: a FIN or a
reset, behind unread pipelined bytes and through TLS), and a half-close is a departure, as in nginx. But who
sends a request and a FIN right behind it still gets what is quick: no exchange is told before it is 25 ms
old.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import trio

from trio_gateway.proxy.exchange import Exchange

GRACE = 0.025
_REST = 20  # between looks at the deadlines, in looks: 13 ms where 10 000 are in flight, else next to nothing


class InFlight:
    """Every exchange between its head and its end, the eldest first."""

    def __init__(self) -> None:
        self._exchanges: dict[Exchange, None] = {}
        self._left_alone: deque[Exchange] = deque()  # their clients are gone
        self._departure = trio.Event()
        self.due = math.inf  # the next look
        self._alarm = trio.CancelScope()

    def __len__(self) -> int:
        return len(self._exchanges)

    def __iter__(self) -> Iterator[Exchange]:
        return iter(self._exchanges)

    def enter(self, exchange: Exchange) -> None:
        """Note that `exchange` began."""
        self._exchanges[exchange] = None
        exchange.table = self

    def leave(self, exchange: Exchange) -> None:
        """Note that `exchange` ended."""
        del self._exchanges[exchange]

    def client_left(self, exchange: Exchange) -> None:
        """Tell `exchange` that its client is gone, unless it ends while it is young."""
        self._left_alone.append(exchange)
        self._departure.set()

    def hasten(self, deadline: float) -> None:
        """Look at `deadline` already, which is before `due`."""
        self.due = self._alarm.deadline = deadline

    async def watch_deadlines(self) -> None:
        """End each exchange at its deadline; runs until cancelled. Begun again, it goes on."""
        while True:
            with trio.CancelScope(deadline=self.due) as self._alarm:
                await trio.sleep_forever()
            self._end_overdue()

    def _end_overdue(self) -> None:
        """A look is paid for with rest: thousands that expire one by one cost a share of the time."""
        now = trio.current_time()
        for exchange in self._exchanges:
            if exchange.deadline <= now:
                exchange.expire()
        due = min((exchange.deadline for exchange in self._exchanges), default=math.inf)
        done = trio.current_time()
        self.due = max(due, done + _REST * (done - now))

    async def watch_departures(self) -> None:
        """Tell the exchanges whose client left; runs until cancelled. Begun again, it goes on."""
        while True:
            while self._left_alone:  # each waits for 25 ms at most, those behind it included
                await trio.sleep_until(self._left_alone[0].started + GRACE)
                self._tell(self._left_alone.popleft())
            self._departure = trio.Event()
            await self._departure.wait()

    def _tell(self, exchange: Exchange) -> None:
        if exchange in self._exchanges:
            exchange.departed()
