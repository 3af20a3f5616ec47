"""Exchanges without a gateway around them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from trio_gateway.config.model import Limits
from trio_gateway.domain.headers import Hop
from trio_gateway.proxy.exchange import Exchange
from trio_gateway.proxy.inflight import InFlight
from trio_gateway.proxy.link import Link
from trio_gateway.server.h1 import H1Body, H1Writer, NoBody
from trio_gateway.wire.request import parse_request


class Made:
    """Makes exchanges as the lane does, over socket pairs that it closes."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def __call__(self, method: str = "GET", body: bytes | None = None, sent: bytes = b"") -> Exchange:
        """With a body of `len(body)` bytes, of which `sent` has come with the head."""
        near, far = socket.socketpair()
        self.sockets += [near, far]
        near.setblocking(False)
        link = Link(near, ("127.0.0.1", 9), ("127.0.0.1", 8))
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        request = parse_request(f"{method} / HTTP/1.1\r\nHost: a\r\n{length}\r\n".encode(), Limits())
        reader = H1Body(request, link, sent, 0) if request.has_body else NoBody()
        writer = H1Writer(link, request, reader, keep_alive=True)
        hop = Hop(b"id", b"127.0.0.1", False, b"http", b"a", b"", b"1.1")
        return Exchange(request, reader, writer, hop, "127.0.0.1", 0.0, "lane")


@asynccontextmanager
async def in_flight(exchange: Exchange) -> AsyncIterator[None]:
    """The block is what `exchange` does, in its scope, beside the watch over its deadline."""
    table = InFlight()
    table.enter(exchange)
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.watch_deadlines)
        try:
            with trio.CancelScope() as exchange.scope:
                yield
        except Exception as raised:  # it leaves without a group around it
            error = raised
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
