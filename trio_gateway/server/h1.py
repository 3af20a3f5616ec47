"""The two halves of an exchange on an HTTP/1.1 connection: its request body and its reply writer."""

from __future__ import annotations

from collections.abc import Callable

import trio

from trio_gateway.errors import (
    ClientGone,
    ClientStalled,
    MalformedRequestBody,
    PayloadTooLarge,
    RequestTimeout,
)
from trio_gateway.proxy.exchange import Reply
from trio_gateway.proxy.link import Link, LinkStalled
from trio_gateway.proxy.pace import Pace
from trio_gateway.wire.body import BodyDecoder, ChunkedDecoder, LengthDecoder, MalformedBody
from trio_gateway.wire.request import RawHeaders, RequestHead
from trio_gateway.wire.serialise import chunk, last_chunk, response_head

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_GATHER = 64 * 1024
_CLOSE = (b"Connection", b"close")
_KEEP_ALIVE = (b"Connection", b"keep-alive")


class NoBody:
    """The body of a request that has none. It has no state, so one serves all."""

    whole = True
    buffered = b""
    complete = True
    length: int | None = None
    received = 0
    owes_continue = False
    limit: int | None = None
    trailers: RawHeaders = []  # noqa: RUF012  never filled

    async def read(self) -> bytes:
        """See RequestBody."""
        await trio.lowlevel.checkpoint()
        return b""


class H1Body:
    """A request body as it comes from the connection. `leftover` is what came behind it.

    `owes_continue`: its client waits to be asked for it (RFC 9110 10.1.1), which the first read does.
    """

    __slots__ = (
        "_decoder",
        "_link",
        "_pace",
        "buffered",
        "complete",
        "length",
        "limit",
        "owes_continue",
        "received",
        "trailers",
        "whole",
    )

    def __init__(self, request: RequestHead, link: Link, received: bytes, min_rate: int) -> None:
        self._link = link
        self._pace = Pace(min_rate)
        self._decoder: BodyDecoder = (
            ChunkedDecoder() if request.chunked else LengthDecoder(request.length or 0)
        )
        self.owes_continue = request.expects_continue
        self.length = None if request.chunked else request.length
        self.limit: int | None = None
        self.received = 0
        self.trailers: RawHeaders = []
        self.complete = False
        self.buffered = self._decode(received) if received else b""
        self._gather()
        self.whole = self.complete

    @property
    def leftover(self) -> bytes:
        """Bytes behind the body: the next request's."""
        return self._decoder.leftover

    def _gather(self) -> None:
        """A small body is often here a moment behind its head: then it needs no task of its own."""
        if self.complete or self.length is None or self.length > _GATHER or self.owes_continue:
            return
        try:
            data = self._link.receive_nowait()
        except OSError as error:
            raise ClientGone(cause=str(error)) from None
        if data:
            self.buffered += self._decode(data)

    async def read(self) -> bytes:
        """See RequestBody."""
        if self.buffered:
            data, self.buffered = self.buffered, b""
            return data
        while not self.complete:
            if self.owes_continue:
                self._ask()
            data = await self._receive()
            if payload := self._decode(data):
                return payload
        return b""

    def _ask(self) -> None:
        """Say 100, but never wait with it: the reply may be on its way, and one link takes one writer."""
        self.owes_continue = False
        try:
            if not self.received and self._link.has_room():
                self._link.send_nowait(_CONTINUE)
        except (OSError, ValueError) as error:
            raise ClientGone(cause=str(error)) from None

    async def _receive(self) -> bytes:
        try:
            data = self._link.receive_nowait()
            if data is None:
                began = trio.current_time()
                data = await self._link.receive()
                if self._pace.too_slow(len(data), trio.current_time() - began):
                    raise RequestTimeout("The request body comes too slowly")
        except OSError as error:
            raise ClientGone(cause=str(error)) from None
        if not data:
            raise ClientGone("The request body ended early")
        return data

    def _decode(self, data: bytes) -> bytes:
        try:
            payload = self._decoder.feed(data)
        except MalformedBody as error:
            raise MalformedRequestBody(f"Malformed request body: {error}") from None
        self.received += len(payload)
        if self.limit is not None and self.received > self.limit:
            raise PayloadTooLarge
        if self._decoder.done:
            self.complete = True
            self.trailers = self._decoder.trailers
        return payload


class H1Writer:
    """Writes one reply to an HTTP/1.x client; it alone decides how the message is framed.

    `keep_alive` tells afterwards whether the connection may carry another request.
    """

    __slots__ = (
        "_body",
        "_body_allowed",
        "_chunked",
        "_closing",
        "_head",
        "_link",
        "_request",
        "_trailers_wanted",
        "aborted",
        "committed",
        "keep_alive",
        "sent",
    )

    def __init__(
        self,
        link: Link,
        request: RequestHead,
        body: H1Body | NoBody,
        *,
        keep_alive: bool,
        closing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._closing = closing  # asked when the reply starts, which may be long after its request
        self._link = link
        self._request = request
        self._body = body
        self._head = b""
        self._chunked = False
        self._body_allowed = True
        self.keep_alive = keep_alive
        self.aborted = False
        self.committed = False
        self.sent = 0

    def start(self, reply: Reply) -> None:
        """See ReplyWriter."""
        headers, status, length = reply.headers, reply.status, reply.length
        if self._body.owes_continue:
            self._body.owes_continue = False  # a 100 would stand behind the final head
        modern = self._request.version == b"1.1"
        self._chunked = False  # an error's reply may take the place of one that has not left
        self._body_allowed = self._request.method != b"HEAD" and status not in (204, 304)
        if length is not None and status != 204:
            headers.append((b"Content-Length", b"%d" % length))
        elif self._body_allowed:
            self._chunked = modern
            if modern:
                headers.append((b"Transfer-Encoding", b"chunked"))
            else:
                self.keep_alive = False  # the end of the connection is the end of the body
        malformed = status == 400 and not reply.proxied  # nobody knows what such a client sends next
        if not self.keep_alive or malformed or not self._body.complete or self._closing():
            self.keep_alive = False  # what is left of the request's body would stand before the next one
            headers.append(_CLOSE)
        elif not modern:
            headers.append(_KEEP_ALIVE)
        self._head = response_head(status, reply.reason, headers)

    async def flush(self) -> None:
        """See ReplyWriter."""
        if self._head:
            head, self._head = self._head, b""
            self.committed = True
            await self._send(head)

    async def write(self, data: bytes) -> None:
        """See ReplyWriter."""
        message = self._framed(data)
        self.committed = True
        await self._send(message)

    async def finish(self, data: bytes, trailers: RawHeaders) -> None:
        """See ReplyWriter. Trailers go only to clients that said `TE: trailers` (RFC 9110 6.5.1)."""
        message = self._framed(data)
        if self._chunked:
            message += last_chunk(trailers if trailers and self._wants_trailers() else [])
        if message:
            self.committed = True
            await self._send(message)

    def _framed(self, data: bytes) -> bytes:
        head, self._head = self._head, b""
        if not data or not self._body_allowed:
            return head
        self.sent += len(data)
        return head + (chunk(data) if self._chunked else data)

    def _wants_trailers(self) -> bool:
        return any(
            name.lower() == b"te" and b"trailers" in value.lower() for name, value in self._request.headers
        )

    async def interim(self, status: int, headers: RawHeaders) -> None:
        """See ReplyWriter. HTTP/1.0 has none. Behind a 101 the connection is HTTP's no more.

        Cut in the middle, it leaves no place for another reply.
        """
        if self._request.version == b"1.1" and not self.committed:
            if status == 101:
                self.committed, self.keep_alive = True, False
            try:
                await self._send(response_head(status, b"", headers))
            except BaseException:
                self.abort()
                raise

    async def _send(self, message: bytes) -> None:
        try:
            if rest := self._link.send_nowait(message):
                await self._link.send_rest(rest)
        except LinkStalled as error:
            raise ClientStalled(cause=str(error)) from None
        except OSError as error:
            raise ClientGone(cause=str(error)) from None

    def abort(self) -> None:
        """See ReplyWriter. Where only the end of the connection ends the body, a reset must show the cut."""
        self.aborted = True
        self.keep_alive = False
        if self.committed and self._body_allowed and not self._chunked and self._request.version == b"1.0":
            self._link.abort()
        else:
            self._link.close()
