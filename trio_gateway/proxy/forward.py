"""The one attempt: take a connection, send the request, read the reply's head, hand over the body.

Whatever the upstream does ends as a reply or as an `UpstreamError` that says how it failed; whatever
happens in between, the lease ends exactly once, here or in the body that took it over.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio
from attrs import frozen

from trio_gateway.domain.headers import Hop, interim_fields
from trio_gateway.errors import BadUpstreamReply, ConnectionStale, UpstreamReset, UpstreamTruncated
from trio_gateway.proxy.exchange import (
    IDEMPOTENT,
    Body,
    Exchange,
    Reply,
    ReplyBody,
    RequestBody,
    may_replay,
)
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.pool import Lease, Pool
from trio_gateway.proxy.relay import await_upstream, trailers_to_pass, upload
from trio_gateway.wire.body import BodyDecoder, MalformedBody, decoder_of
from trio_gateway.wire.request import RawHeaders
from trio_gateway.wire.response import Framing, ResponseHead, find_response_head, parse_response
from trio_gateway.wire.serialise import chunk, last_chunk, request_head

MAX_INTERIM = 8
# A connection that idled longer may be closing just now; what can't be repeated takes a younger one.
_FRESH_ENOUGH = 1.0
_BODY_METHODS = frozenset((b"POST", b"PUT", b"PATCH"))
_CONNECTION_AUTH = (b"ntlm", b"negotiate")


@frozen(eq=False)
class Attempt:
    """The innermost handler of an endpoint: one try against its target."""

    pool: Pool
    name: str  # host:port, for the log
    request_headers: Callable[[RawHeaders, Hop], RawHeaders]
    join: Callable[[bytes, bytes | None], bytes]
    idle_timeout: float

    async def __call__(self, exchange: Exchange) -> Reply:
        """See Handler. Raises UpstreamError, or ClientError for what must not be forwarded."""
        request = exchange.request
        headers = self.request_headers(request.headers, exchange.hop)
        message = request_head(
            request.method, self.join(exchange.rest, exchange.query), _framed(exchange, headers)
        )
        if exchange.body.whole:
            message += _whole(exchange.body)
        exchange.target = self.name
        exclusive = _binds_connection(headers)
        max_idle = math.inf if request.method in IDEMPOTENT else _FRESH_ENOUGH
        lease = self.pool.take_nowait(max_idle) or await self.pool.take(max_idle)
        lease.connection.exclusive |= exclusive
        try:
            return await self._try(exchange, lease, message)
        except UpstreamReset as error:
            if not lease.reused or not may_replay(exchange, untouched=error.retry_safe):
                raise
        lease = await self.pool.open()
        lease.connection.exclusive = exclusive
        return await self._try(exchange, lease, message)

    async def _try(self, exchange: Exchange, lease: Lease, message: bytes) -> Reply:
        exchange.attempts += 1
        exchange.uploading = True
        try:
            await self._send(exchange, lease.link, message)
            head, rest = await read_head(exchange, lease.link)
            return reply_of(exchange, lease, head, rest)
        except BaseException:
            lease.discard()
            raise

    async def _send(self, exchange: Exchange, link: Link, message: bytes) -> None:
        try:
            rest = link.send_nowait(message)
        except OSError as error:
            raise ConnectionStale(cause=str(error)) from None
        if rest or not exchange.body.whole:  # each piece that it takes arms `timeout` anew
            link.begin_message(lambda: await_upstream(exchange, self.idle_timeout))
        if rest:
            try:
                await link.send_rest(rest)
            except OSError:
                return  # it may have answered before it stopped reading
        if exchange.body.whole:
            exchange.uploading = False
        else:
            assert exchange.nursery is not None
            exchange.nursery.start_soon(upload, exchange, link, self.idle_timeout)


def _whole(body: RequestBody) -> bytes:
    """A body that is here, in the coding that `_framed` announces: trailers need the chunked one."""
    if not body.trailers:
        return body.buffered
    end = last_chunk(trailers_to_pass(body.trailers))
    return chunk(body.buffered) + end if body.buffered else end


def _framed(exchange: Exchange, headers: RawHeaders) -> RawHeaders:
    """Our own framing for the request's body (RFC 9112 6): a length where it is known."""
    body, request = exchange.body, exchange.request
    if body.whole and body.trailers:
        length: int | None = None  # as `_whole` has it, though HTTP/2 may name a length beside trailers
    elif body.whole:
        length = len(body.buffered)
        if not length and not request.has_body and request.method not in _BODY_METHODS:
            return headers
    else:
        length = body.length
    if length is None:
        headers.append((b"Transfer-Encoding", b"chunked"))
    else:
        headers.append((b"Content-Length", b"%d" % length))
    return headers


def _binds_connection(headers: RawHeaders) -> bool:
    """The credentials belong to the connection, not the request: NTLM and Negotiate."""
    for name, value in headers:
        if len(name) == 13 and name.lower() == b"authorization":
            return value[:9].lower().startswith(_CONNECTION_AUTH)
    return False


async def read_head(exchange: Exchange, link: Link) -> tuple[ResponseHead, bytes]:
    """The final reply's head and what came behind it; interim replies pass to the client.

    A 101 is final where the client asked for an upgrade.
    """
    buffer = b""
    came = False
    interim = 0
    while True:
        await link.readable()
        try:
            data = link.receive_nowait()
        except OSError as error:
            raise _ended(came, str(error)) from None
        if data is None:
            continue
        if not data:
            raise _ended(came, "closed without a reply")
        searched, came = len(buffer), True
        buffer += data
        while (end := find_response_head(buffer, searched)) >= 0:
            head = parse_response(buffer[:end], exchange.request.method)
            buffer, searched = buffer[end:], 0
            if head.status >= 200 or (head.status == 101 and exchange.upgrade is not None):
                return head, buffer
            interim += 1
            await _pass_interim(exchange, head, interim)
            if not buffer:
                break


def _ended(came: bool, cause: str) -> UpstreamReset | BadUpstreamReply:
    return (
        BadUpstreamReply(cause=f"the reply's head broke off: {cause}") if came else UpstreamReset(cause=cause)
    )


async def _pass_interim(exchange: Exchange, head: ResponseHead, count: int) -> None:
    """103 and its like go on (RFC 8297); 100 was ours to say; 101 was not asked for."""
    if head.status == 101 or count > MAX_INTERIM:
        raise BadUpstreamReply(cause="101 unasked" if head.status == 101 else "too many interim replies")
    if head.status > 101:
        what, left = exchange.waiting, exchange.deadline - trio.current_time()
        fields = trailers_to_pass(interim_fields(head.headers))
        await exchange.writer.interim(head.status, fields)
        if exchange.still:  # the time that the client took was not the upstream's
            exchange.wait_for(what, left)


def reply_of(exchange: Exchange, lease: Lease, head: ResponseHead, rest: bytes) -> Reply:
    """The reply whose head and first bytes are here; its body owns the lease."""
    return Reply(head.status, head.headers, _body(exchange, lease, head, rest), head.length, head.reason)


def _body(exchange: Exchange, lease: Lease, head: ResponseHead, rest: bytes) -> ReplyBody:
    if head.framing is Framing.LENGTH and len(rest) == head.length:
        _release(exchange, lease, head, b"")
        return Body(rest)
    decoder = decoder_of(head)
    if decoder is None:
        _release(exchange, lease, head, rest)
        return Body()
    return UpstreamBody(exchange, lease, head, decoder, rest)


def _release(exchange: Exchange, lease: Lease, head: ResponseHead, leftover: bytes) -> None:
    """Back to the pool only when both messages are complete and no byte is left over."""
    if head.keep_alive and not leftover and not exchange.uploading:
        lease.give_back(head.keep_alive_timeout)
    else:
        lease.discard()


class UpstreamBody:
    """The body of an upstream's reply. It owns the lease until the last byte is in."""

    __slots__ = ("_decoder", "_exchange", "_head", "_lease", "_pending", "done", "trailers")

    def __init__(
        self, exchange: Exchange, lease: Lease, head: ResponseHead, decoder: BodyDecoder, rest: bytes
    ) -> None:
        self._exchange = exchange
        self._lease = lease
        self._head = head
        self._decoder = decoder
        self._pending = rest
        self.done = False
        self.trailers: RawHeaders = []

    def take(self) -> bytes | None:
        """See ReplyBody."""
        data: bytes | None = self._pending
        if data:
            self._pending = b""
        else:
            try:
                data = self._lease.link.receive_nowait()
            except OSError as error:
                raise UpstreamTruncated(cause=str(error)) from None
            if data is None:
                return None
        return self._decode(data) or (b"" if self.done else None)

    async def read(self) -> bytes:
        """See ReplyBody."""
        while not self.done:
            try:
                await self._lease.link.readable()
            except OSError as error:
                raise UpstreamTruncated(cause=str(error)) from None
            if data := self.take():
                return data
        return b""

    def _decode(self, data: bytes) -> bytes:
        decoder = self._decoder
        if not data:
            if not decoder.end():
                raise UpstreamTruncated(cause="the reply's body ended early")
            payload = b""
        else:
            try:
                payload = decoder.feed(data)
            except MalformedBody as error:
                raise UpstreamTruncated(cause=str(error)) from None
        if decoder.done:
            self.done = True
            self.trailers = decoder.trailers
            _release(self._exchange, self._lease, self._head, decoder.leftover)
        return payload

    def close(self) -> None:
        """See ReplyBody. An unfinished reply costs its connection."""
        self._lease.discard()
