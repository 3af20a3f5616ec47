"""The Quart route's side of the gateway: the application's own `asgi_http_class`.

Proxied paths never reach a view. Quart decodes paths, buffers bodies and rewrites fields, and a cancel
scope opened in a view can't close in its reply's body: the exchange runs below it, straight over ASGI's
`receive` and `send`. Every other path goes on to Quart's views, with what its connection class lacks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio
from hypercorn.typing import HTTPScope
from quart_trio.asgi import TrioASGIHTTPConnection

from trio_gateway.config.model import GatewayConfig
from trio_gateway.domain.access import within
from trio_gateway.domain.forwarded import address_field, client_address, client_origin
from trio_gateway.domain.headers import Hop, request_id
from trio_gateway.domain.target import split_target
from trio_gateway.errors import BadRequest, ClientError, ClientGone, GatewayError, MethodNotAllowed
from trio_gateway.proxy.exchange import Body, Exchange, Reply
from trio_gateway.proxy.problem import own_headers, problem
from trio_gateway.server.asgi_exchange import (
    AsgiBody,
    AsgiWriter,
    Receive,
    Scope,
    Send,
    read_request,
    stream_of,
)
from trio_gateway.wire.request import RequestHead

_ALLOW = ((b"Allow", b"GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"),)
_NOWHERE = "0.0.0.0"  # noqa: S104  the address of a client that has none, as in a test client

Handler = Callable[[Receive, Send], Awaitable[None]]


def _ignore(error: GatewayError, request_id: bytes, client: str) -> None:
    """Nobody records refused heads."""


class Ingress:
    """Makes one ASGI handler per request. Set it as a Quart application's `asgi_http_class`.

    `serve` runs a proxied exchange to its end and raises no Exception; `config` is asked for each
    request; `refused` is told of heads that are answered here: the error, the request's id, the client.
    Where it does not proxy, as on a listener of the management API, every path goes to a view.
    """

    def __init__(
        self,
        serve: Callable[[Exchange], Awaitable[None]],
        config: Callable[[], GatewayConfig],
        refused: Callable[[GatewayError, bytes, str], None] = _ignore,
        *,
        proxies: bool = True,
    ) -> None:
        self._serve = serve
        self._config = config
        self._refused = refused
        self.proxies = proxies

    def __call__(self, app: Any, scope: Scope) -> Handler:
        """The handler for one request."""

        async def handle(receive: Receive, send: Send) -> None:
            await self._handle(app, scope, receive, send)

        return handle

    async def _handle(self, app: Any, scope: Scope, receive: Receive, send: Send) -> None:
        config, stream = self._config(), stream_of(scope)
        if stream is not None and stream.closed:
            return  # it was reset before it began
        writer = AsgiWriter(send, stream, scope["method"], scope["headers"])
        try:
            request, path, query = _read(scope, config)
        except GatewayError as error:
            await self._refuse(config, scope, writer, error)
            return
        if request.target == b"*":
            name = config.tracing.request_id_header.encode()
            headers = [*_ALLOW, *own_headers(name, request_id(None, trust=False))]
            await _answer(writer, Reply(204, headers, Body()))
        elif self.proxies and _is_proxied(path, config.server.prefix.encode().rstrip(b"/")):
            min_rate = config.server.limits.min_rate
            body = AsgiBody(request, receive, stream, lambda: writer.interim(100, []), min_rate)
            exchange = _exchange(config, scope, request, body, writer)
            exchange.path, exchange.query = path, query
            if stream is None:
                await body.peek()
            else:
                stream.attach(lambda reason: exchange.cancel(ClientGone(cause=reason)), exchange.stand_still)
            await self._serve(exchange)
        else:
            await _View(app, cast("HTTPScope", scope)).serve(receive, send)

    async def _refuse(
        self, config: GatewayConfig, scope: Scope, writer: AsgiWriter, error: GatewayError
    ) -> None:
        """Answer what is no servable request."""
        id_ = request_id(None, trust=False)
        reply = problem(error, id_)
        reply.headers += own_headers(config.tracing.request_id_header.encode(), id_)
        self._refused(error, id_, _peer(scope))
        await _answer(writer, reply)


async def _answer(writer: AsgiWriter, reply: Reply) -> None:
    try:
        writer.start(reply)
        await writer.finish(reply.body.take() or b"", [])
    except ClientError:
        writer.abort()


def _read(scope: Scope, config: GatewayConfig) -> tuple[RequestHead, bytes, bytes | None]:
    """The request, its raw path and its raw query."""
    if scope["method"] in ("CONNECT", "TRACE"):
        raise MethodNotAllowed(headers=_ALLOW)
    request = read_request(scope, config.server.limits)
    if request.target == b"*":
        if request.method != b"OPTIONS":
            raise BadRequest("Only OPTIONS goes with *")
        return request, b"*", None
    path, query, authority = split_target(request.target)
    if authority is not None:
        if request.version == b"2":
            raise BadRequest("A :path begins with a slash")
        request.host = authority  # RFC 9112 3.2.2: it wins over Host
    return request, path, query


def _is_proxied(path: bytes, prefix: bytes) -> bool:
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"/", b"")


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else _NOWHERE


def _exchange(
    config: GatewayConfig, scope: Scope, request: RequestHead, body: AsgiBody, writer: AsgiWriter
) -> Exchange:
    stream = stream_of(scope)
    peer, proxies = _peer(scope), config.server.trusted_proxies
    trusted = bool(proxies) and within(peer, proxies)
    id_header = config.tracing.request_id_header.encode().lower()
    inbound = next((value for name, value in request.headers if name.lower() == id_header), None)
    hop = Hop(
        request_id=request_id(inbound, trust=config.tracing.trust_inbound_request_id),
        peer=address_field(peer),
        trusted=trusted,
        scheme=scope["scheme"].encode(),
        host=request.host,
        prefix=b"",
        version=request.version,
        client_certificate=stream.client_certificate if stream is not None else b"",
    )
    client = peer
    if trusted:
        client = client_address(peer, request.headers, proxies)
        hop.origin = client_origin(request.headers, hop.scheme, hop.host)
    return Exchange(request, body, writer, hop, client, trio.current_time(), "quart")


class _View(TrioASGIHTTPConnection):
    """Quart's own handling of a request that is not proxied."""

    async def serve(self, receive: Any, send: Any) -> None:
        """Run the view. A client that leaves meanwhile is no error."""
        try:
            await self(receive, send)
        except* OSError:
            pass
