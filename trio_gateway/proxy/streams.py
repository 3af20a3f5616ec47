"""What stays open: WebSockets and event streams, counted against `server.limits.streams`.

A reply that ends by itself is bounded by the client's patience; these are bounded by nothing, so they have
a number of places of their own. The open WebSockets are known one by one, to be told when the gateway stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio
from attrs import define, field

from trio_gateway.errors import ShuttingDown, TooManyStreams
from trio_gateway.observe.metrics import StreamStats
from trio_gateway.proxy.conversation import Conversation
from trio_gateway.proxy.exchange import Reply


@define(eq=False)
class Streams:
    """The places, and who has them. `limit` is asked each time, so a reload shows."""

    limit: Callable[[], int]
    stats: StreamStats
    draining: bool = False
    conversations: dict[Conversation, None] = field(factory=dict)  # eldest first

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place. Raises TooManyStreams when there is none."""
        stats = self.stats
        if stats.active >= self.limit():
            stats.refused += 1
            raise TooManyStreams
        stats.active += 1
        try:
            yield
        finally:
            stats.active -= 1

    @contextmanager
    def holding(self, conversation: Conversation) -> Iterator[None]:
        """Know an open WebSocket for as long as it lasts. Raises ShuttingDown behind `drain`."""
        if self.draining:
            raise ShuttingDown
        self.conversations[conversation] = None
        try:
            yield
        finally:
            del self.conversations[conversation]

    async def drain(self, seconds: float) -> None:
        """Tell every open WebSocket, spread over so many seconds: their clients come back at once."""
        self.draining = True
        told = list(self.conversations)
        for conversation in told:
            conversation.drain()
            await trio.sleep(seconds / len(told))


def is_event_stream(reply: Reply) -> bool:
    """Whether a reply is an event stream (WHATWG HTML 9.2). One with a length ends by itself."""
    return any(
        len(name) == 12 and name.lower() == b"content-type" and value[:17].lower() == b"text/event-stream"
        for name, value in reply.headers
    )
