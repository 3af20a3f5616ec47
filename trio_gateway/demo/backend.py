"""A small HTTP/1.1 server for the sample backends, made of the gateway's own halves of a connection.

An application is a function that gets a `Call` and answers it. It serves the gateway and people with
curl on this machine; for anything else it lacks the timers and limits that a server needs.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

import trio
from attrs import define, field, frozen

from trio_gateway.config.addresses import Address
from trio_gateway.config.model import Limits
from trio_gateway.domain.target import split_target
from trio_gateway.errors import BadRequest, GatewayError
from trio_gateway.proxy.exchange import Body, Reply
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.network import Listener, Network
from trio_gateway.server.h1 import H1Body, H1Writer, NoBody
from trio_gateway.wire.request import RawHeaders, RequestHead, find_head, parse_request

_LIMITS = Limits()


@frozen(eq=False)
class Call:
    """One request of a client, and the way to answer it."""

    request: RequestHead
    body: H1Body | NoBody
    writer: H1Writer
    link: Link
    received: bytes  # from the request's first octet on
    path: str
    query: dict[str, str]

    def start(self, status: int, *headers: tuple[bytes, bytes], length: int | None = None) -> None:
        """Begin a reply; it leaves with its first bytes."""
        self.writer.start(Reply(status, list(headers), Body(), length))

    async def json(self, content: object, status: int = 200) -> None:
        """A whole reply."""
        data = json.dumps(content).encode() + b"\n"
        self.start(status, (b"Content-Type", b"application/json"), length=len(data))
        await self.writer.finish(data, [])

    async def gone(self) -> None:
        """Wait until the client has left. Call it when the request's body is read."""
        with contextlib.suppress(OSError):
            while await self.link.receive():
                await trio.lowlevel.checkpoint()


App = Callable[[Call], Awaitable[None]]


@define(eq=False)
class Backend:
    """Serves one application on one address."""

    app: App
    address: Address = field(init=False, default=("", 0))

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://{self.address[0]}:{self.address[1]}"

    async def serve(
        self, network: Network, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen on a free port of 127.0.0.1 and serve until cancelled. Raises OSError."""
        (listener,) = await network.listen("127.0.0.1", 0)
        self.address = listener.address
        task_status.started()
        try:
            await self._accept(listener)
        finally:
            listener.close()

    async def _accept(self, listener: Listener) -> None:
        async with trio.open_nursery() as connections:
            while True:
                connections.start_soon(self._connection, await listener.accept())
                await trio.lowlevel.checkpoint()

    async def _connection(self, link: Link) -> None:
        """Serve a connection; whatever is wrong with it ends it."""
        buffer: bytes | None = b""
        try:
            with contextlib.suppress(OSError, GatewayError):
                while buffer is not None:
                    buffer = await self._exchange(link, buffer)
        finally:
            link.close()

    async def _exchange(self, link: Link, buffer: bytes) -> bytes | None:
        """Serve one request; what came behind it, or None when it was the last."""
        while (end := find_head(buffer, 0, _LIMITS)) < 0:
            data = await link.receive()
            if not data:
                return None
            buffer += data
        request, rest = parse_request(buffer[:end], _LIMITS), buffer[end:]
        body = H1Body(request, link, rest, 0) if request.has_body else NoBody()
        call = _call(request, body, link, buffer)
        await self.app(call)
        while await body.read():
            pass
        if not call.writer.keep_alive:
            return None
        return body.leftover if isinstance(body, H1Body) else rest


def _call(request: RequestHead, body: H1Body | NoBody, link: Link, received: bytes) -> Call:
    path, query, _ = split_target(request.target)
    pairs = parse_qs((query or b"").decode(), keep_blank_values=True)
    return Call(
        request=request,
        body=body,
        writer=H1Writer(link, request, body, keep_alive=request.keep_alive),
        link=link,
        received=received,
        path=path.decode(),
        query={name: values[-1] for name, values in pairs.items()},
    )


def number(call: Call, name: str, default: float) -> float:
    """A number of the query. Raises BadRequest, which ends the connection."""
    try:
        return float(call.query.get(name, default))
    except ValueError:
        raise BadRequest(f"{name} is no number") from None


def texts(headers: RawHeaders) -> list[list[str]]:
    """Header fields as JSON can carry them."""
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers]
