"""`server.limits.streams`: WebSockets and event streams have so many places together."""

from __future__ import annotations

import trio

from tests.gateway.test_websocket import Other
from tests.support.stage import USERS, Door
from tests.support.upstream import Wire
from tests.support.websocket import FIELDS, accepting, open_websocket


async def events(wire: Wire) -> None:
    """An event stream that says nothing yet."""
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n")
    await wire.closed()


async def test_websockets_have_so_many_places(lane: Door) -> None:
    """Beyond `streams` a handshake is answered 503, before the upstream hears of it; a place comes back."""
    other = Other()
    async with lane.stage(accepting(other), server={"limits": {"streams": 2}}) as stage:
        clients = [await open_websocket(stage) for _ in range(2)]
        refused = await stage.fetch("GET", USERS, *FIELDS)
        assert (refused.status, stage.backend.connections) == (503, 2)
        assert b"too_many_streams" in refused.body
        streams = stage.gateway.runtime.metrics.streams
        assert (streams.active, streams.refused) == (2, 1)
        clients[0].link.close()
        other.over.set()
        await trio.sleep(3)
        await open_websocket(stage)


async def test_event_streams_count_too(door: Door) -> None:
    """They have the same places, and so does whoever comes behind them; other replies need none."""
    async with door.stage(events, server={"limits": {"streams": 1}}) as stage:
        call = await stage.open("GET", USERS)
        assert (await call.head()).status == 200
        refused = await stage.get()
        assert (refused.status, stage.gateway.runtime.metrics.streams.refused) == (503, 1)
        assert stage.open_upstream() == 1
        await call.leave()
        await trio.sleep(0.5)
        again = await stage.open("GET", USERS)
        assert (await again.head()).status == 200
