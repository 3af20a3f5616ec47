"""The halves of an exchange over ASGI: its head, its request body and its reply writer.

A head is judged by the code that judges the lane's: it is written down as HTTP/1.1 and parsed again, so
that both doors refuse the same things with the same answers. Under our own protocols the body is read,
and the reply cut, through the stream that ASGI's scope carries; any other ASGI server works too, without
resets, trailers and interim replies, and notices a departed client only while a body is read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from trio_gateway.config.model import Limits
from trio_gateway.errors import (
    BadRequest,
    ClientGone,
    ClientStalled,
    PayloadTooLarge,
    RequestTimeout,
)
from trio_gateway.proxy.exchange import Reply
from trio_gateway.proxy.link import LinkStalled
from trio_gateway.proxy.pace import Pace
from trio_gateway.server.asgi_stream import EXTENSION, INTERIM, AsgiStream, Message
from trio_gateway.server.h2_connection import STREAM_WINDOW
from trio_gateway.wire.request import RawHeaders, RequestHead, find_head, parse_request
from trio_gateway.wire.serialise import request_head

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_CONNECTION_BOUND = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)


def stream_of(scope: Scope) -> AsgiStream | None:
    """The stream behind an ASGI scope; None under a server that is not ours."""
    stream = (scope.get("extensions") or {}).get(EXTENSION, {}).get("stream")
    return stream if isinstance(stream, AsgiStream) else None


def target_of(scope: Scope) -> bytes:
    """The request target as the client sent it."""
    target: bytes = scope.get("raw_path") or scope["path"].encode("latin-1", "replace")
    query: bytes = scope.get("query_string", b"")
    stream = stream_of(scope)
    if stream is not None:  # ASGI can't tell an empty query from none
        target, query = scope["extensions"][EXTENSION]["target"], b""
    return target + b"?" + query if query else target


def read_request(scope: Scope, limits: Limits) -> RequestHead:
    """The head behind an ASGI scope. Raises the error that answers a bad one."""
    method, target = scope["method"].encode("latin-1"), target_of(scope)
    headers = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
    head = request_head(method, target, headers)
    lines = len(headers) + 2
    if not head.count(b"\r\n") == head.count(b"\r") == head.count(b"\n") == lines:
        raise BadRequest("Line breaks in the head")
    find_head(head, 0, limits)
    request = parse_request(head, limits)
    if (request.method, request.target) != (method, target) or len(request.headers) != len(headers):
        raise BadRequest("Malformed request line")
    if scope["http_version"] == "2":
        request.version = b"2"
        stream = stream_of(scope)
        request.chunked = request.length is None and not (stream is not None and stream.ended)
    return request


class AsgiBody:
    """A request body from ASGI's `receive`. A piece is credited to the client when the next is asked for."""

    __slots__ = (
        "_ask",
        "_pace",
        "_receive",
        "_stream",
        "buffered",
        "complete",
        "length",
        "limit",
        "received",
        "trailers",
        "whole",
    )

    def __init__(
        self,
        request: RequestHead,
        receive: Receive,
        stream: AsgiStream | None,
        ask: Callable[[], Awaitable[None]],
        min_rate: int,
    ) -> None:
        self._receive = receive
        self._stream = stream
        self._ask: Callable[[], Awaitable[None]] | None = ask if request.expects_continue else None
        self._pace = Pace(min_rate)
        self.length = request.length
        self.limit: int | None = None
        self.trailers: RawHeaders = []
        self.complete = not request.has_body
        self.buffered = b""
        if stream is not None and stream.ended:
            self.complete = True
            self.buffered = stream.take(STREAM_WINDOW)
            self.trailers = stream.trailers
        self.received = len(self.buffered)
        self.whole = self.complete

    async def peek(self) -> None:
        """Wait for the first piece, where a server that is not ours says nothing else of a body."""
        self.complete = False
        self.buffered = await self._next()
        self.whole = self.complete

    async def read(self) -> bytes:
        """See RequestBody. The first read asks for the body when the client waits to be asked."""
        if self.buffered:
            data, self.buffered = self.buffered, b""
            return data
        while not self.complete:
            if self._ask is not None:
                ask, self._ask = self._ask, None
                await ask()
            if data := await self._next():
                return data
        return b""

    async def _next(self) -> bytes:
        began = trio.current_time()
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientGone("The request body ended early")
        data = bytes(message.get("body", b""))
        if self._pace.too_slow(len(data), trio.current_time() - began):
            raise RequestTimeout("The request body comes too slowly")
        self.received += len(data)
        if self.limit is not None and self.received > self.limit:
            raise PayloadTooLarge
        if not message.get("more_body", False):
            self.complete = True
            self.trailers = self._stream.trailers if self._stream is not None else []
        return data


class AsgiWriter:
    """Writes one reply through ASGI's `send`."""

    __slots__ = ("_body_allowed", "_head", "_send", "_stream", "_trailers_wanted", "committed", "sent")

    def __init__(self, send: Send, stream: AsgiStream | None, method: str, headers: RawHeaders) -> None:
        self._send = send
        self._stream = stream
        self._head: Message | None = None
        self._body_allowed = method != "HEAD"
        self._trailers_wanted = any(name == b"te" and b"trailers" in value.lower() for name, value in headers)
        self.committed = False
        self.sent = 0

    def start(self, reply: Reply) -> None:
        """See ReplyWriter. Names go out in lower case, without what belongs to one connection."""
        headers = [(name.lower(), value) for name, value in reply.headers]
        headers = [field for field in headers if field[0] not in _CONNECTION_BOUND]
        if reply.length is not None and reply.status != 204:
            headers.append((b"content-length", b"%d" % reply.length))
        self._body_allowed &= reply.status not in (204, 304)
        self._head = {"type": "http.response.start", "status": reply.status, "headers": headers}

    async def flush(self) -> None:
        """See ReplyWriter."""
        if await self._send_head() and self._stream is None:
            await self._deliver({"type": "http.response.body", "body": b"", "more_body": True})

    async def write(self, data: bytes) -> None:
        """See ReplyWriter."""
        await self._send_head()
        if data and self._body_allowed:
            self.sent += len(data)
            await self._deliver({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes, trailers: RawHeaders) -> None:
        """See ReplyWriter. Trailers go only to clients that said `TE: trailers` (RFC 9110 6.5.1)."""
        await self._send_head()
        body = data if self._body_allowed else b""
        self.sent += len(body)
        message: Message = {"type": "http.response.body", "body": body, "more_body": False}
        if trailers and self._trailers_wanted and self._stream is not None:
            message["trailers"] = [(name.lower(), value) for name, value in trailers]
        await self._deliver(message)

    async def interim(self, status: int, headers: RawHeaders) -> None:
        """See ReplyWriter. Only our own streams can carry one."""
        if self._stream is not None and not self.committed:
            lowered = [(name.lower(), value) for name, value in headers]
            await self._deliver({"type": INTERIM, "status": status, "headers": lowered})

    def abort(self) -> None:
        """See ReplyWriter."""
        if self._stream is not None:
            self._stream.reset()

    async def _send_head(self) -> bool:
        head, self._head = self._head, None
        if head is None:
            return False
        self.committed = True
        await self._deliver(head)
        return True

    async def _deliver(self, message: Message) -> None:
        try:
            await self._send(message)
        except LinkStalled as error:
            raise ClientStalled(cause=str(error)) from None
        except OSError as error:
            raise ClientGone(cause=str(error)) from None
