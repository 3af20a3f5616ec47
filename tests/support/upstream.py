"""Scripted upstreams: each connection runs a script that says exactly what goes over the wire."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import h11
import trio
from attrs import define, field

from trio_gateway.proxy.link import Link
from trio_gateway.proxy.network import Network


@define
class Received:
    """A request as an independent parser (h11) reads it."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(factory=list)
    complete: bool = False

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Wire:
    """One connection of an upstream's client, which is the gateway."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.raw = b""
        self._parser = h11.Connection(h11.SERVER)
        self._trailers: list[tuple[bytes, bytes]] = []

    async def head(self) -> Received:
        """The next request's head. Raises EOFError when the connection ends first."""
        event = await self._event()
        if type(event) is not h11.Request:
            raise EOFError(repr(event))
        raw = list(event.headers.raw_items())
        return Received(event.method, event.target, raw)

    async def body(self, request: Received) -> Received:
        """Read the request's body to its end. Raises EOFError or h11.RemoteProtocolError when it is cut."""
        while (piece := await self.piece()) is not None:
            request.body += piece
        request.trailers = self._trailers
        request.complete = True
        return request

    async def piece(self) -> bytes | None:
        """The next piece of the body, None at its end. Raises as `body` does."""
        event = await self._event()
        if type(event) is h11.Data:
            return bytes(event.data)
        if type(event) is not h11.EndOfMessage:
            raise EOFError(repr(event))
        self._trailers = list(event.headers.raw_items())
        return None

    async def request(self) -> Received:
        """The next whole request."""
        return await self.body(await self.head())

    def trailing(self) -> bytes:
        """What came behind a request that asks for another protocol."""
        return self._parser.trailing_data[0]

    async def _event(self) -> h11.Event:
        while True:
            if self._parser.their_state is h11.DONE:
                self._restart()
            event = self._parser.next_event()
            if event is not h11.NEED_DATA:
                return event
            data = await self.link.receive()
            self.raw += data
            self._parser.receive_data(data)

    def _restart(self) -> None:
        left, _ = self._parser.trailing_data
        self._parser = h11.Connection(h11.SERVER)
        if left:
            self._parser.receive_data(left)

    async def send(self, data: bytes) -> None:
        """Raw bytes of a reply."""
        await self.link.send(data)

    async def reply(self, body: bytes = b"ok", *headers: bytes, status: bytes = b"200 OK") -> None:
        """A whole reply with a Content-Length."""
        lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", b""]
        await self.send(b"\r\n".join(lines) + body)

    async def closed(self) -> None:
        """Wait until the gateway closes; bytes on the way there are thrown away."""
        with contextlib.suppress(OSError):
            while await self.link.receive():
                pass


Script = Callable[[Wire], Awaitable[None]]


class Upstream:
    """A backend at one address of a network. `connections` counts them, `open` those that live."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.open = 0
        self.requests: list[Received] = []
        self.address = ("", 0)

    async def serve(
        self,
        network: Network,
        host: str,
        port: int,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and run the script for each connection, until cancelled."""
        (listener,) = await network.listen(host, port)
        self.address = listener.address
        async with trio.open_nursery() as nursery:
            task_status.started()
            try:
                while True:
                    nursery.start_soon(self._connection, Wire(await listener.accept()))
            finally:
                listener.close()

    async def _connection(self, wire: Wire) -> None:
        self.connections += 1
        self.open += 1
        try:
            with contextlib.suppress(OSError, EOFError, h11.RemoteProtocolError):
                await self.script(wire)
        finally:
            self.open -= 1
            wire.link.close()


async def answering(wire: Wire) -> None:
    """A well-behaved backend: each request gets 200 and "ok", keep-alive."""
    while True:
        await wire.request()
        await wire.reply()
