"""The second door by itself: connections straight into Hypercorn's handler, exchanges into a function."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define, field
from quart_trio import QuartTrio

from tests.support.h2client import H2Client, open_h2
from trio_gateway.admin.app import make_app
from trio_gateway.config.model import GatewayConfig
from trio_gateway.errors import GatewayError
from trio_gateway.observe.metrics import Metrics
from trio_gateway.proxy.exchange import Body, Exchange, Reply
from trio_gateway.proxy.link import Link
from trio_gateway.server.hypercorn import HypercornDoor
from trio_gateway.server.ingress import Ingress

Serve = Callable[[Exchange], Awaitable[None]]


async def echo(exchange: Exchange) -> None:
    """Answer with the request's body."""
    data = bytearray()
    while piece := await exchange.body.read():
        data += piece
    await answer(exchange, bytes(data))


async def answer(
    exchange: Exchange, data: bytes = b"ok", status: int = 200, *headers: tuple[bytes, bytes]
) -> None:
    """Answer whole and at once."""
    exchange.writer.start(Reply(status, list(headers), Body(), len(data)))
    await exchange.writer.finish(data, [])


def guarded(serve: Serve) -> Serve:
    """As the proxy does it: departures end in an abort, nothing is raised."""

    async def run(exchange: Exchange) -> None:
        try:
            exchange.scope = trio.CancelScope()
            with exchange.scope:
                await serve(exchange)
            if exchange.scope.cancelled_caught:
                exchange.writer.abort()
        except GatewayError as error:
            exchange.error = error
            exchange.writer.abort()

    return run


def link_pair() -> tuple[Link, Link]:
    """Both ends of a connection, the client's first."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    here.setblocking(False)
    there.setblocking(False)
    client, server = ("192.0.2.7", 40_000), ("198.51.100.1", 8000)
    return Link(here, server, client), Link(there, client, server)


@define(eq=False)
class SecondDoor:
    """A door whose connections run in `nursery`. `bugs` are what it raised; `open` counts connections."""

    door: HypercornDoor
    app: QuartTrio
    nursery: trio.Nursery
    exchanges: list[Exchange]
    refused: list[GatewayError]
    bugs: list[BaseException] = field(factory=list)
    open: int = 0
    _none_open: trio.Event = field(factory=trio.Event)

    async def connect(
        self, received: bytes = b"", *, http2: bool = True, write_timeout: float = 30.0
    ) -> Link:
        """A client's link; the door serves the other end."""
        client, server = link_pair()
        server.write_timeout = write_timeout
        self.nursery.start_soon(self._serve, server, received, http2)
        await trio.lowlevel.checkpoint()
        return client

    async def _serve(self, link: Link, received: bytes, http2: bool) -> None:
        self.open += 1
        try:
            await self.door.serve(link, received, http2=http2)
        except Exception as bug:
            self.bugs.append(bug)
        finally:
            self.open -= 1
            link.close()
            if not self.open:
                self._none_open.set()

    async def all_closed(self) -> None:
        """Wait until the door has left every connection."""
        await self._none_open.wait()

    @asynccontextmanager
    async def h2(self, **options: Any) -> AsyncIterator[H2Client]:
        """A client of a new HTTP/2 connection."""
        async with open_h2(await self.connect(), **options) as client:
            yield client

    async def h1(self, data: bytes) -> bytes:
        """All that comes back over HTTP/1.1 until the connection ends."""
        link = await self.connect(data, http2=False)
        try:
            return await read_all(link)
        finally:
            link.close()


async def read_all(link: Link) -> bytes:
    """Everything until the end of the stream."""
    data = b""
    while piece := await link.receive():
        data += piece
    return data


@asynccontextmanager
async def second_door(
    serve: Serve = echo, config: GatewayConfig | None = None, asgi: Any = None
) -> AsyncIterator[SecondDoor]:
    """A running door. Afterwards no connection is left and nothing was raised, unless the test looked."""
    settings = config or GatewayConfig()
    exchanges: list[Exchange] = []
    refused: list[GatewayError] = []

    async def noted(exchange: Exchange) -> None:
        exchanges.append(exchange)
        await guarded(serve)(exchange)

    ingress = Ingress(noted, lambda: settings, lambda error, _id, _client: refused.append(error))
    app = make_app(lambda: settings, ingress)
    door = HypercornDoor(asgi or app, lambda: settings.server, Metrics())
    async with trio.open_nursery() as nursery:
        world = SecondDoor(door, app, nursery, exchanges, refused)
        yield world
        nursery.cancel_scope.cancel()
    assert world.open == 0
    assert not world.bugs
