"""The lane: our own HTTP/1.1 connection loop. It serves proxied paths itself, with keep-alive and
pipelining, and hands everything else over to Hypercorn for the rest of the connection.

No scope of its own guards the wait for a request: `due` says when the sweep may close the connection, and
setting an attribute costs nothing. One exchange runs at a time, so replies leave in order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Protocol

import trio
from attrs import define, field

from trio_gateway.config.model import ServerConfig
from trio_gateway.domain.access import within
from trio_gateway.domain.forwarded import address_field, client_address, client_origin
from trio_gateway.domain.headers import Hop, request_id
from trio_gateway.domain.target import split_target
from trio_gateway.errors import (
    BadRequest,
    ClientGone,
    GatewayError,
    MethodNotAllowed,
    RequestTimeout,
)
from trio_gateway.proxy.exchange import Body, Exchange, Reply, Upgrade
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.problem import own_headers
from trio_gateway.proxy.runtime import Runtime
from trio_gateway.proxy.serve import record, serve
from trio_gateway.proxy.standing import StandingScope
from trio_gateway.server.h1 import H1Body, H1Writer, NoBody
from trio_gateway.server.refusal import linger, refusal
from trio_gateway.wire.handshake import asks_for_websocket
from trio_gateway.wire.request import H2_PREFACE, RequestHead, find_head, parse_request

_NO_BODY = NoBody()
_PREFACE_HEAD = H2_PREFACE[:18]
_without_empty_lines = re.compile(rb"\A(?:\r\n)+").sub
_ALLOW = ((b"Allow", b"GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"),)


class Door(Protocol):
    """Who takes connections that are not the lane's."""

    async def serve(self, link: Link, received: bytes, *, http2: bool) -> None:
        """Serve the connection to its end; `received` was read from it already."""
        ...


@define(slots=True, eq=False)
class Lane:
    """One client connection. `due` is when the sweep may close it, on Trio's clock."""

    link: Link
    runtime: Runtime
    door: Door
    draining: Callable[[], bool]
    proxies: bool = True
    due: float = math.inf
    served: int = 0
    running: bool = False  # what comes before the first request has come
    _retired: bool = False
    _buffer: bytes = b""
    _exchange: Exchange | None = None  # in flight
    _scope: StandingScope = field(factory=StandingScope)
    _peer: bytes = field(init=False, default=b"")
    _trusted: bool = field(init=False, default=False)

    async def run(self) -> None:
        """Serve the connection until it ends. Raises OSError when the peer ends it in mid-air."""
        server = self._server()
        self.link.write_timeout = server.timeouts.write
        self.link.min_rate = server.limits.min_rate
        self._peer = address_field(self.link.peer[0])
        self._trusted = within(self.link.peer[0], server.trusted_proxies)
        self.running = True
        if self.link.alpn == "h2":
            await self.door.serve(self.link, b"", http2=True)
            return
        self.due = trio.current_time() + server.timeouts.head
        self.link.watch_departure(self._client_left)
        try:
            while await self._next():
                pass
        finally:
            self._scope.end()

    def _server(self) -> ServerConfig:
        return self.runtime.plan.config.server

    # ---- heads

    async def _next(self) -> bool:
        """Serve the next request; False when the connection is at its end."""
        try:
            head = await self._read_head()
            if head is None:
                return False
            if self._retired:
                await linger(self.link)
                return False
            if head == _PREFACE_HEAD and not self.served and self._may_be_h2c():
                return await self._hand_over(head, http2=True)
            request = parse_request(head, self._server().limits)
            if request.method in (b"CONNECT", b"TRACE"):
                raise MethodNotAllowed(headers=_ALLOW)
            return await self._dispatch(request, head)
        except ClientGone:
            return False
        except GatewayError as error:
            await self.refuse(error)
            return False

    async def _read_head(self) -> bytes | None:
        """One head, its empty line included; None when the client left between requests."""
        server = self._server()
        searched = 0
        if self._buffer:  # pipelined: others get their turn first
            await trio.lowlevel.checkpoint()
        while True:
            if self._buffer.startswith(b"\r\n"):
                self._buffer = _without_empty_lines(b"", self._buffer)  # RFC 9112 2.2
            if self._buffer:
                end = find_head(self._buffer, searched, server.limits)
                if end >= 0:
                    head, self._buffer = self._buffer[:end], self._buffer[end:]
                    self.due = math.inf
                    return head
                if not searched and not self._retired:  # the head has begun
                    self.due = trio.current_time() + server.timeouts.head
                searched = len(self._buffer)
            if self.served or self._buffer:  # right after a reply nothing can be here yet
                await self.link.readable()
            data = self.link.receive_nowait()
            if data is None:
                await self.link.readable()
            elif not data:
                return None
            else:
                self._buffer += data

    def _may_be_h2c(self) -> bool:
        """Over TLS, HTTP/2 is agreed on by ALPN or not spoken (RFC 9113 3.2)."""
        return self._server().h2c and not self.link.tls

    # ---- dispatch

    async def _dispatch(self, request: RequestHead, head: bytes) -> bool:
        if request.target == b"*":
            return await self._answer_asterisk(request)
        path, query, authority = split_target(request.target)
        if authority is not None:
            request.host = authority  # RFC 9112 3.2.2: it wins over Host
        prefix = self.runtime.plan.prefix
        if self.proxies and path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"/", b""):
            return await self._proxy(request, path, query)
        return await self._hand_over(head, http2=False)

    async def _hand_over(self, head: bytes, *, http2: bool) -> bool:
        received, self._buffer = head + self._buffer, b""
        await self.door.serve(self.link, received, http2=http2)
        return False

    async def _answer_asterisk(self, request: RequestHead) -> bool:
        if request.method != b"OPTIONS":
            raise BadRequest("Only OPTIONS goes with *")
        writer = H1Writer(self.link, request, _NO_BODY, keep_alive=False)
        exchange = self._begin(request, _NO_BODY, writer)
        exchange.status = 204
        headers = own_headers(self.runtime.plan.request_id_header, exchange.hop.request_id)
        writer.start(Reply(exchange.status, [*_ALLOW, *headers], Body()))
        await writer.finish(b"", [])
        record(exchange, self.runtime)
        await linger(self.link)
        return False

    async def _proxy(self, request: RequestHead, path: bytes, query: bytes | None) -> bool:
        self.served += 1
        server = self._server()
        used_up = self.served >= server.limits.requests_per_connection
        if used_up and request.keep_alive:
            self.runtime.metrics.connections_used_up += 1
        keep_alive = request.keep_alive and not used_up
        body = (
            H1Body(request, self.link, self._buffer, server.limits.min_rate) if request.has_body else _NO_BODY
        )
        writer = H1Writer(self.link, request, body, keep_alive=keep_alive, closing=self.draining)
        exchange = self._exchange = self._begin(request, body, writer)
        exchange.path, exchange.query = path, query
        if request.upgrade and asks_for_websocket(request):
            exchange.upgrade = Upgrade(self.link, self._buffer)
            if body is _NO_BODY:
                exchange.body = NoBody()  # one of its own counts what the client says
        self.link.begin_message(exchange.stand_still)
        if self.link.departed:
            self._client_left()
        await serve(exchange, self.runtime, self._scope)
        self._exchange = None
        self.link.begin_message(None)
        if body is not _NO_BODY:
            assert isinstance(body, H1Body)
            self._buffer = body.leftover
        if writer.keep_alive:
            self.due = exchange.ended + server.timeouts.keep_alive
            return True
        if not writer.aborted and (request.keep_alive or self._buffer or not body.complete):
            await linger(self.link)
        return False

    def _client_left(self) -> None:
        if self._exchange is not None:
            self.runtime.in_flight.client_left(self._exchange)

    def _begin(self, request: RequestHead, body: H1Body | NoBody, writer: H1Writer) -> Exchange:
        plan = self.runtime.plan
        peer = self.link.peer[0]
        tracing = plan.config.tracing
        inbound = _field(request, plan.request_id_header) if tracing.trust_inbound_request_id else None
        hop = Hop(
            request_id=request_id(inbound, trust=True),
            peer=self._peer,
            trusted=self._trusted,
            scheme=b"https" if self.link.tls else b"http",
            host=request.host,
            prefix=b"",
            version=request.version,
            client_certificate=self.link.client_certificate,
        )
        client = peer
        if self._trusted:
            client = client_address(peer, request.headers, self._server().trusted_proxies)
            hop.origin = client_origin(request.headers, hop.scheme, hop.host)
        return Exchange(request, body, writer, hop, client, trio.current_time(), "lane")

    # ---- ends

    async def refuse(self, error: GatewayError) -> None:
        """Answer what is no servable request, then close behind it."""
        await self.link.send(self._refusal(error))
        await linger(self.link)

    def _refusal(self, error: GatewayError) -> bytes:
        self.runtime.metrics.head_refused(error.code)
        return refusal(error, self.runtime, self.link.peer[0])

    # ---- the sweep's view

    @property
    def idle(self) -> bool:
        """Waiting for the first byte of a request, be it the first of all."""
        return self.running and self.due != math.inf and not self._buffer and not self._retired

    def retire(self) -> None:
        """Tell the client that no more requests are answered; who is still there at the next sweep is closed.

        A request that crosses this on its way is neither begun nor met by a reset: its client sees an end
        without a byte of a reply.
        """
        self._retired = True
        self.due = -math.inf
        self.link.shutdown_write()

    def expire(self) -> None:
        """The sweep's: time is up for a client that was to send a head."""
        if self._buffer and not self._retired:
            self.link.send_nowait(self._refusal(RequestTimeout()))
        self.link.close()


def _field(request: RequestHead, name: bytes) -> bytes | None:
    length, lower = len(name), name.lower()
    for field_name, value in request.headers:
        if len(field_name) == length and field_name.lower() == lower:
            return value
    return None
