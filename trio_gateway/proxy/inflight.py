"""The table of exchanges in flight, and what becomes of those whose client leaves.

A quick exchange pays one entry in a dict. Its client's departure is told by the link (EPOLLRDHUP: a FIN or a
reset, behind unread pipelined bytes and through TLS), and a half-close is a departure, as in nginx. But who
sends a request and a FIN right behind it still gets what is quick: no exchange is told before it is 25 ms
old.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import trio

from trio_gateway.proxy.exchange import Exchange

GRACE = 0.025


class InFlight:
    """Every exchange between its head and its end, the eldest first."""

    def __init__(self) -> None:
        self._exchanges: dict[Exchange, None] = {}
        self._left_alone: deque[Exchange] = deque()  # their clients are gone
        self._departure = trio.Event()

    def __len__(self) -> int:
        return len(self._exchanges)

    def __iter__(self) -> Iterator[Exchange]:
        return iter(self._exchanges)

    def enter(self, exchange: Exchange) -> None:
        """Note that `exchange` began."""
        self._exchanges[exchange] = None

    def leave(self, exchange: Exchange) -> None:
        """Note that `exchange` ended."""
        del self._exchanges[exchange]

    def client_left(self, exchange: Exchange) -> None:
        """Tell `exchange` that its client is gone, unless it ends while it is young."""
        self._left_alone.append(exchange)
        self._departure.set()

    async def watch(self) -> None:
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
